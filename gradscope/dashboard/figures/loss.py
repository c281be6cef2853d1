"""The loss and the global gradient norm over steps, and the marks where findings begin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.plotly import Figure, typed
from gradscope.reports.loss_line import LossData, Onset, scale_of
from gradscope.reports.theme import Theme


def loss_scale(values: NDArray[np.float64]) -> Figure:
    """The loss axis, see `scale_of`."""
    scale = scale_of(values)
    if scale is None:
        return {}
    if not scale.logarithmic:
        return {"range": [scale.low, scale.high], "nticks": 4}
    return {
        "type": "log",
        "range": [scale.low, scale.high],
        "tickmode": "linear",
        "dtick": max(1, round((scale.high - scale.low) / 1.1 / 3)),
        "exponentformat": "power",
    }


def decade_range(values: NDArray[np.float64]) -> list[int]:
    """A log axis' range in whole decades, at least one."""
    known = np.log10(values[np.isfinite(values) & (values > 0)])
    if not len(known):
        return [-1, 1]
    low, high = int(np.floor(known.min())), int(np.ceil(known.max()))
    return [low, max(high, low + 1)]


def loss_traces(data: LossData, theme: Theme) -> list[Figure]:
    """The two lines, told apart by dash as well as by colour."""
    return [
        {
            "type": "scatter",
            "mode": "lines" if len(data.loss[0]) > 1 else "markers",
            "name": "loss",
            "x": typed(data.loss[0]),
            "y": typed(data.loss[1]),
            "xaxis": "x",
            "yaxis": "y",
            "line": {"color": theme.first_line, "width": 1.6},
            "hovertemplate": "step %{x:,d}<br>loss %{y:.4g}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines" if len(data.gradient_norm[0]) > 60 else "lines+markers",
            "marker": {"size": 4},
            "name": "gradient norm",
            "x": typed(data.gradient_norm[0]),
            "y": typed(np.where(data.gradient_norm[1] > 0, data.gradient_norm[1], np.nan)),
            "xaxis": "x",
            "yaxis": "y3",
            "line": {"color": theme.second_line, "width": 1.4, "dash": "dash"},
            "hovertemplate": "step %{x:,d}<br>‖gradient‖ %{y:.4g}<extra></extra>",
        },
    ]


def draw_onsets(
    layout: Figure,
    marks: tuple[Onset, ...],
    data: LossData,
    theme: Theme,
    shown: tuple[float, float] | None = None,
) -> None:
    """Adds a dotted line and a label for each onset, and shades where the loss is not a number.

    Args:
        layout: what is added to.
        marks: the onsets.
        data: the loss.
        theme: the colours.
        shown: the first and the last step that are drawn; None: all.
    """
    first, last = shown or (0.0, float(data.last_step or 1))
    close = 0.03 * (last - first)  # labels nearer than this would overlap: they share one
    labelled = -np.inf
    for mark in marks:
        colour = theme.severity[mark.severity]
        layout["shapes"].append(
            {
                "type": "line",
                "xref": "x",
                "yref": "paper",
                "x0": mark.step,
                "x1": mark.step,
                "y0": 0,
                "y1": 1,
                "line": {"color": colour, "width": 1.5, "dash": "dot"},
            }
        )
        text = f'<span style="color:{colour}">{mark.label}</span>'
        if mark.step - labelled < close:
            layout["annotations"][-1]["text"] += f" {text}"
            continue
        labelled = mark.step
        layout["annotations"].append(_annotation(text, mark.step, "paper", 1, "bottom", colour))
    if data.non_finite_since is not None and data.last_step is not None:
        layout["shapes"].append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "y domain",
                "x0": data.non_finite_since - 0.5,
                "x1": data.last_step + 0.5,
                "y0": 0,
                "y1": 1,
                "fillcolor": theme.non_finite,
                "opacity": 0.12,
                "line": {"width": 0},
                "layer": "below",
            }
        )
        middle = (max(data.non_finite_since, first) + min(data.last_step, last)) / 2
        layout["annotations"].append(_annotation("NaN", middle, "y domain", 0.5, "middle", theme.text))


def _annotation(text: str, x: float, yref: str, y: float, yanchor: str, colour: str) -> Figure:
    return {
        "text": f"<b>{text}</b>",
        "xref": "x",
        "x": x,
        "yref": yref,
        "y": y,
        "xanchor": "center",
        "yanchor": yanchor,
        "showarrow": False,
        "font": {"color": colour, "size": 12},
    }
