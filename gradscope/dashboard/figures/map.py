"""The map: one number by layer and step, in forward order, under the loss that it explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.loss import LossData, Onset, draw_onsets, loss_traces
from gradscope.dashboard.figures.metrics import METRICS, Mask, Matrix, Metric
from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, short, typed
from gradscope.dashboard.theme import Theme
from gradscope.signals import Signals

MOST_CELLS = 150_000  # exact float32 values up to here: 0.8 MB as base64
MOST_COLUMNS = 1000
MOST_ROWS = 600  # a screen has no more

# states of a cell
MEASURED, NOT_RECORDED, ZERO, NON_FINITE = 0, 1, 2, 3


@dataclass(frozen=True)
class MapData:
    """The cells of the map.

    Attributes:
        metric: its id.
        rows: the name that each row shows, first layer first; "first … last" where neighbours share a row.
        steps: the first step of each column.
        per_column: recorded steps that share a column.
        per_row: layers that share a row.
        decades: log10 of the metric, shape `[rows, columns]`; NaN where the state is not MEASURED. Where cells are
            shared, the one farthest from healthy, so that no event is averaged away.
        states: MEASURED, NOT_RECORDED, ZERO or NON_FINITE, shape `[rows, columns]`.
    """

    metric: str
    rows: tuple[str, ...]
    steps: NDArray[np.int64]
    per_column: int
    per_row: int
    decades: NDArray[np.float32]
    states: NDArray[np.uint8]


def map_data(signals: Signals, metric: Metric) -> MapData:
    """The map of one metric over everything recorded."""
    sites = metric.rows(signals)
    values = metric.values(signals)[sites]
    cells, states = _classify(values, metric.non_finite(signals)[sites])
    names = [signals.sites[site].name for site in sites]
    per_row = -(-len(sites) // MOST_ROWS) or 1
    columns = max(1, min(MOST_COLUMNS, MOST_CELLS * per_row // max(1, len(sites))))
    per_column = -(-len(signals.steps) // columns) or 1
    cells, states = _fold(cells, states, metric.centre, per_column)
    cells, states = _fold(cells.T, states.T, metric.centre, per_row)
    cells, states = cells.T, states.T
    rows = [
        names[i] if per_row == 1 else f"{names[i]} … {names[min(i + per_row, len(names)) - 1]}"
        for i in range(0, len(names), per_row)
    ]
    return MapData(
        metric.id, tuple(rows), signals.steps[::per_column], per_column, per_row, cells.astype(np.float32), states
    )


def _classify(values: Matrix, broken: Mask) -> tuple[Matrix, NDArray[np.uint8]]:
    states = np.full(values.shape, MEASURED, np.uint8)
    states[~np.isfinite(values)] = NOT_RECORDED
    states[values == 0] = ZERO
    states[broken] = NON_FINITE
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = np.where(states == MEASURED, np.log10(np.where(values > 0, values, np.nan)), np.nan)
    return cells, states


def _fold(cells: Matrix, states: NDArray[np.uint8], centre: float, size: int) -> tuple[Matrix, NDArray[np.uint8]]:
    """Joins each `size` neighbouring columns: non-finite wins, then the value farthest from the centre, then zero."""
    if size == 1 or not cells.size:
        return cells, states
    padding = -cells.shape[1] % size
    shape = (cells.shape[0], -1, size)
    cells = np.pad(cells, ((0, 0), (0, padding)), constant_values=np.nan).reshape(shape)
    states = np.pad(states, ((0, 0), (0, padding)), constant_values=NOT_RECORDED).reshape(shape)
    farthest = np.nan_to_num(np.abs(cells - centre), nan=-1.0).argmax(axis=2)
    folded = np.take_along_axis(cells, farthest[..., None], axis=2)[..., 0]
    state = np.where((states == ZERO).any(axis=2), ZERO, NOT_RECORDED)
    state = np.where((states == MEASURED).any(axis=2), MEASURED, state)
    state = np.where((states == NON_FINITE).any(axis=2), NON_FINITE, state)
    return np.where(state == MEASURED, folded, np.nan), state.astype(np.uint8)


def cell_colours(metric: Metric, theme: Theme) -> dict[int, tuple[str, str]]:
    """For each state that is not a number: its colour and what it says."""
    return {
        NON_FINITE: (theme.non_finite, "non-finite: NaN or Inf"),
        ZERO: (theme.diverging[0], metric.zero),
        NOT_RECORDED: (theme.not_recorded, "not recorded or undefined here"),
    }


def draw_map(data: MapData, loss: LossData, onsets: tuple[Onset, ...], theme: Theme) -> Figure:
    """The loss above, the map below, one step axis for both, so that they share every zoom."""
    metric = METRICS[data.metric]
    layout = frame(theme)
    layout |= {
        "margin": {"l": 8, "r": 8, "t": 22, "b": 36},
        "xaxis": axis(
            theme,
            anchor="y2",
            title={"text": "optimizer step", "standoff": 6},
            showgrid=False,
            tickformat=",d",
            hoverformat=",d",
        ),
        "yaxis": axis(theme, domain=[0.79, 1.0], title={"text": "loss", "standoff": 6}, nticks=4),
        "yaxis2": axis(
            theme,
            domain=[0.0, 0.74],
            type="category",
            autorange="reversed",
            showgrid=False,
            ticks="outside",
            tickfont={"size": 11},
            **_row_ticks(data.rows),
        ),
        "yaxis3": axis(
            theme,
            overlaying="y",
            side="right",
            type="log",
            showgrid=False,
            nticks=4,
            tickmode="auto",
            exponentformat="power",
            title={"text": "‖gradient‖", "standoff": 6},
        ),
    }
    traces = [*loss_traces(loss, theme), _values(data, metric, theme), *_states(data, metric, theme)]
    draw_onsets(layout, onsets, loss, theme)
    return {"data": traces, "layout": layout}


def _row_ticks(rows: tuple[str, ...]) -> dict[str, Any]:
    """At most 24 names beside the map, evenly spread; all of them are in the tooltip."""
    every = -(-len(rows) // 24) or 1
    shown = rows[::every]
    return {
        "tickmode": "array",
        "tickvals": [plain(name) for name in shown],
        "ticktext": [plain(short(name, 24)) for name in shown],
    }


def _values(data: MapData, metric: Metric, theme: Theme) -> dict[str, Any]:
    low, centre, high = metric.centre - metric.span, metric.centre, metric.centre + metric.span
    ticks = [low, (low + centre) / 2, centre, (centre + high) / 2, high]
    words = [metric.words[0], "", metric.words[1], "", metric.words[2]]
    labels = [f"{value:g} {word}".replace("-", "−").strip() for value, word in zip(ticks, words, strict=True)]
    span = "" if data.per_column == 1 else f" and the next {data.per_column - 1} recorded (farthest from healthy)"
    return {
        "type": "heatmap",
        "name": "map",
        "xaxis": "x",
        "yaxis": "y2",
        "x": typed(data.steps.astype(np.float64)),
        "y": [plain(name) for name in data.rows],
        "z": typed(data.decades),
        "zmin": low,
        "zmax": high,
        "colorscale": [[i / (len(theme.diverging) - 1), colour] for i, colour in enumerate(theme.diverging)],
        "hoverongaps": False,
        "hovertemplate": f"%{{y}}<br>step %{{x:,d}}{span}<br>{metric.symbol} %{{z:.2f}}<extra></extra>",
        "colorbar": {
            "title": {"text": metric.symbol, "side": "top", "font": {"size": 11}},
            "tickvals": ticks,
            "ticktext": labels,
            "tickfont": {"size": 11},
            "thickness": 12,
            "len": 0.76,
            "y": 0.0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "ypad": 0,
        },
    }


def _states(data: MapData, metric: Metric, theme: Theme) -> list[dict[str, Any]]:
    """One trace for each state that occurs; gaps do not answer the mouse, so each cell speaks for itself only."""
    traces = []
    for state, (colour, words) in cell_colours(metric, theme).items():
        here = data.states == state
        if not here.any():
            continue
        traces.append(
            {
                "type": "heatmap",
                "name": words,
                "xaxis": "x",
                "yaxis": "y2",
                "x": typed(data.steps.astype(np.float64)),
                "y": [plain(name) for name in data.rows],
                "z": typed(np.where(here, 1.0, np.nan).astype(np.float32)),
                "zmin": 0,
                "zmax": 1,
                "colorscale": [[0, colour], [1, colour]],
                "showscale": False,
                "hoverongaps": False,
                "hovertemplate": f"%{{y}}<br>step %{{x:,d}}<br>{words}<extra></extra>",
            }
        )
    return traces
