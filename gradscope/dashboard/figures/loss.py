"""The loss and the global gradient norm over steps, and the marks where findings begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.plotly import Figure, typed
from gradscope.dashboard.theme import Theme
from gradscope.records import SEVERITIES, Finding, Run, Severity

MOST_POINTS = 1000
_DECADES_FROM = 10.0  # largest over smallest loss

Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps, values


@dataclass(frozen=True)
class LossData:
    """Two lines of at most about 1,000 points each, and since when the loss is not a number."""

    loss: Line
    gradient_norm: Line
    non_finite_since: int | None  # the first step of the non-finite end of the loss
    last_step: int | None


@dataclass(frozen=True)
class Onset:
    """Where findings begin: one mark for all that begin at one step."""

    step: int
    label: str  # "F1" or "F1 F3"
    severity: Severity  # of the worst


def loss_data(run: Run) -> LossData:
    """The lines of a run; extremes are kept when there are more steps than points."""
    steps = run.steps
    seen = steps[steps["has_loss"]]
    known = steps[~np.isnan(steps["gradient_norm"])]
    finite = np.flatnonzero(np.isfinite(seen["loss"]))
    ends_broken = len(seen) and not np.isfinite(seen["loss"][-1])
    since = int(seen["step"][finite[-1] + 1 if len(finite) else 0]) if ends_broken else None
    return LossData(
        downsample(seen["step"], seen["loss"]),
        downsample(known["step"], known["gradient_norm"]),
        since,
        int(steps["step"][-1]) if len(steps) else None,
    )


def downsample(steps: NDArray[Any], values: NDArray[Any], most: int = MOST_POINTS) -> Line:
    """The smallest and the largest value of each stretch, so that no spike is lost; NaN where all is not finite."""
    steps, values = steps.astype(np.float64), values.astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(values) <= most:
        return steps, values
    size = -(-len(values) * 2 // most)
    padding = -len(values) % size
    padded = np.pad(values, (0, padding), constant_values=np.nan).reshape(-1, size)
    start = np.arange(len(padded)) * size
    low = start + np.nan_to_num(padded, nan=np.inf).argmin(axis=1)
    high = start + np.nan_to_num(padded, nan=-np.inf).argmax(axis=1)
    picked = np.unique(np.concatenate([low, high]))
    return steps[picked], values[picked]


def loss_scale(values: NDArray[np.float64]) -> Figure:
    """The loss axis: wide enough that a wobble of a few percent reads as the flat line that it is.

    A loss that falls by more than a decade and is never 0 is drawn in decades, else its end would be a line at 0.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    low, high = float(known.min()), float(known.max())
    if low > 0 and high / low > _DECADES_FROM:
        bottom, top = np.log10(low), np.log10(high)
        return {
            "type": "log",
            "range": [bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom)],
            "tickmode": "linear",
            "dtick": max(1, round((top - bottom) / 3)),
            "exponentformat": "power",
        }
    missing = max(0.0, 0.2 * max(abs(low), abs(high)) - (high - low)) or (0.0 if high > low else 1.0)
    margin = missing / 2 + 0.05 * (high - low)
    return {"range": [low - margin, high + margin], "nticks": 4}


def decade_range(values: NDArray[np.float64]) -> list[int]:
    """A log axis' range in whole decades, at least one."""
    known = np.log10(values[np.isfinite(values) & (values > 0)])
    if not len(known):
        return [-1, 1]
    low, high = int(np.floor(known.min())), int(np.ceil(known.max()))
    return [low, max(high, low + 1)]


def onsets(findings: tuple[Finding, ...]) -> tuple[Onset, ...]:
    """The marks of findings, in the order of their steps."""
    starting: dict[int, list[int]] = {}
    for index, finding in enumerate(findings):
        starting.setdefault(finding.first_step, []).append(index)
    marks = []
    for step, indices in sorted(starting.items()):
        worst = max((findings[i].severity for i in indices), key=SEVERITIES.index)
        marks.append(Onset(step, " ".join(f"F{i + 1}" for i in indices), worst))
    return tuple(marks)


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


def draw_onsets(layout: Figure, marks: tuple[Onset, ...], data: LossData, theme: Theme) -> None:
    """Adds a dotted line and a label for each onset, and shades where the loss is not a number."""
    close = 0.03 * (data.last_step or 1)  # labels nearer than this would overlap: they share one
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
        middle = (data.non_finite_since + data.last_step) / 2
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
