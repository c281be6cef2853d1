"""Two runs on one axis: their losses, and the map of B minus A."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradscope.comparison import Difference, difference, positions
from gradscope.comparison.difference import (
    BOTH_BROKEN,
    NOT_IN_BOTH,
    ONLY_A_BROKEN,
    ONLY_A_ZERO,
    ONLY_B_BROKEN,
    ONLY_B_ZERO,
)
from gradscope.dashboard.figures.loss import loss_scale
from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.reports.layer_map import short
from gradscope.reports.loss_line import Line, downsample
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import Theme
from gradscope.signals import Signals

_LOSS_HEIGHT, _GAP, _MARGINS = 190, 26, 58  # pixels
_ROW, _SHORTEST_MAP, _TALLEST_MAP = 16, 200, 620
_MOST_NAMES = 26
AXES = {"step": "optimizer step", "share": "share of the training", "time": "seconds since the start"}
_FORMATS = {"step": ",d", "share": ".1%", "time": ",.3~f"}
_AT = {"step": "step %{x:,d}", "share": "%{x:.1%} of the training", "time": "after %{x:,.3~f} s"}


@dataclass(frozen=True)
class DifferenceData:
    """What is drawn of two runs.

    Attributes:
        metric: its id.
        by: how they are aligned, a key of `comparison.ALIGNMENTS`.
        names: of the runs, A and B.
        cells: B minus A.
        loss_a, loss_b: where on the axis, and the loss.
    """

    metric: str
    by: str
    names: tuple[str, str]
    cells: Difference
    loss_a: Line
    loss_b: Line


def difference_data(a: Signals, b: Signals, names: tuple[str, str], metric: str, by: str) -> DifferenceData:
    """The losses and the difference of one metric."""
    return DifferenceData(metric, by, names, difference(a, b, METRICS[metric], by), _loss(a, by), _loss(b, by))


def _loss(signals: Signals, by: str) -> Line:
    seen = signals.run.steps[signals.run.steps["has_loss"]]
    return downsample(positions(signals, by, seen["step"]), seen["loss"])


def span_of(metric: str) -> float:
    """Decades to each end of the scale, fixed for every pair of runs: as many as on the metric's own map."""
    return METRICS[metric].span


def difference_height(data: DifferenceData) -> int:
    """Pixels of the whole figure."""
    return _LOSS_HEIGHT + _GAP + min(_TALLEST_MAP, max(_SHORTEST_MAP, _ROW * len(data.cells.layers))) + _MARGINS


def state_colours(metric: str, theme: Theme) -> dict[int, tuple[str, str]]:
    """For each state that is no difference: its colour and what it says."""
    zero = METRICS[metric].zero.partition(":")[0]
    return {
        NOT_IN_BOTH: (theme.not_recorded, "not recorded in both"),
        ONLY_A_ZERO: (theme.diverging[-1], f"{zero} in A only"),
        ONLY_B_ZERO: (theme.diverging[0], f"{zero} in B only"),
        ONLY_A_BROKEN: (theme.dimmed, "NaN or Inf in A only"),
        ONLY_B_BROKEN: (theme.non_finite, "NaN or Inf in B only"),
        BOTH_BROKEN: (theme.non_finite, "NaN or Inf in both"),
    }


def draw_difference(data: DifferenceData, theme: Theme) -> Figure:
    """The losses above, the difference below, one axis for both."""
    layout = frame(theme) | _axes(data, theme)
    traces = [_line(data, "A", theme), _line(data, "B", theme)]
    cells = data.cells
    if cells.decades.size:
        traces += [_values(data, theme), *_states(data, theme)]
    else:
        text = "No common layer was recorded in both" if cells.layers else "No layer has the same name in both"
        note = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.2, "showarrow": False, "text": text}
        layout["annotations"].append({**note, "font": {"size": 14, "color": theme.dimmed}})
    return {"data": traces, "layout": layout}


def _line(data: DifferenceData, which: str, theme: Theme) -> Figure:
    """A solid, B dashed, each with its letter at its end."""
    at, loss = data.loss_a if which == "A" else data.loss_b
    name = data.names[0 if which == "A" else 1]
    colour = theme.first_line if which == "A" else theme.second_line
    known = np.flatnonzero(np.isfinite(loss))
    letters = [""] * len(loss)
    if len(known):
        letters[int(known[-1])] = f"<b>{which}</b>"
    return {
        "type": "scatter",
        "mode": "lines+text" if len(known) > 1 else "markers+text",
        "name": f"loss {which}",
        "x": typed(at),
        "y": typed(loss),
        "xaxis": "x",
        "yaxis": "y",
        "text": letters,
        "textposition": "middle right",
        "cliponaxis": False,
        "textfont": {"color": colour, "size": 13},
        "line": {"color": colour, "width": 1.8, "dash": "solid" if which == "A" else "dash"},
        "marker": {"color": colour, "size": 7, "symbol": "circle" if which == "A" else "diamond"},
        "hovertemplate": f"{which} {plain(short(name, 40))}<br>{_AT[data.by]}<br>loss %{{y:.4g}}<extra></extra>",
    }


def _axes(data: DifferenceData, theme: Theme) -> Figure:
    inner = difference_height(data) - _MARGINS
    loss_low = 1 - _LOSS_HEIGHT / inner
    both = np.concatenate([data.loss_a[1], data.loss_b[1]])
    return {
        "height": difference_height(data),
        "margin": {"l": 8, "r": 8, "t": 22, "b": 36},
        "xaxis": axis(
            theme,
            anchor="y2" if data.cells.decades.size else "free",
            title={"text": AXES[data.by], "standoff": 6},
            showgrid=False,
            tickformat=",~f" if data.by != "share" else ".0%",
            hoverformat=_FORMATS[data.by],
            autorangeoptions=_range(data),
        ),
        "yaxis": axis(
            theme,
            domain=[loss_low, 1.0],
            fixedrange=True,
            title={"text": "loss", "standoff": 6},
            **loss_scale(both),
        ),
        "yaxis2": axis(
            theme,
            domain=[0.0, loss_low - _GAP / inner],
            type="category",
            autorange="reversed",
            showgrid=False,
            ticks="outside",
            visible=bool(data.cells.decades.size),
            tickfont={"size": 11},
            **_names(data),
        ),
    }


def _range(data: DifferenceData) -> dict[str, float] | None:
    """What the axis shows: both losses, which may go on where the other run has ended."""
    ends = [line[0] for line in (data.loss_a, data.loss_b) if len(line[0])]
    ends += [data.cells.at] if len(data.cells.at) else []
    if not ends:
        return None
    first, last = min(float(at[0]) for at in ends), max(float(at[-1]) for at in ends)
    margin = 0.5 if data.by == "step" else 0.005 * (last - first)
    return {"minallowed": first - margin, "maxallowed": last + margin}


def _names(data: DifferenceData) -> dict[str, Any]:
    rows = data.cells.layers
    shown = range(0, len(rows), -(-len(rows) // _MOST_NAMES) or 1)
    return {
        "tickmode": "array",
        "tickvals": [plain(rows[i]) for i in shown],
        "ticktext": [plain(short(data.cells.labels[i], 26)) for i in shown],
    }


def _map(data: DifferenceData) -> dict[str, Any]:
    cells = data.cells
    return {
        "type": "heatmap",
        "xaxis": "x",
        "yaxis": "y2",
        "x": typed(cells.at),
        "y": [plain(name) for name in cells.layers],
        "hoverongaps": False,
    }


def _values(data: DifferenceData, theme: Theme) -> dict[str, Any]:
    span = span_of(data.metric)
    ticks = [-span, -span / 2, 0.0, span / 2, span]
    words = ["B smaller", "", "alike", "", "B larger"]
    labels = [f"{_signed(value)} {word}".strip() for value, word in zip(ticks, words, strict=True)]
    return {
        **_map(data),
        "name": "difference",
        "z": typed(data.cells.decades),
        "zmin": -span,
        "zmax": span,
        "colorscale": [[i / (len(theme.diverging) - 1), colour] for i, colour in enumerate(theme.diverging)],
        "hovertemplate": f"%{{y}}<br>{_AT[data.by]}<br>B − A: %{{z:+.2f}} decades<extra></extra>",
        "colorbar": {
            "tickvals": ticks,
            "ticktext": labels,
            "tickfont": {"size": 11},
            "thickness": 12,
            "len": 1 - (_LOSS_HEIGHT + _GAP) / (difference_height(data) - _MARGINS),
            "y": 0.0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "ypad": 0,
        },
    }


def _states(data: DifferenceData, theme: Theme) -> list[dict[str, Any]]:
    traces = []
    for state, (colour, words) in state_colours(data.metric, theme).items():
        here = data.cells.states == state
        if here.any():
            traces.append(
                {
                    **_map(data),
                    "name": words,
                    "z": typed(np.where(here, 1.0, np.nan).astype(np.float32)),
                    "zmin": 0,
                    "zmax": 1,
                    "colorscale": [[0, colour], [1, colour]],
                    "showscale": False,
                    "hovertemplate": f"%{{y}}<br>{_AT[data.by]}<br>{words}<extra></extra>",
                }
            )
    return traces


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"
