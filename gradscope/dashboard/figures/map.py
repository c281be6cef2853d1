"""The map: one number by layer and step, in forward order, under the loss that it explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.cells import MEASURED as MEASURED
from gradscope.dashboard.figures.cells import NON_FINITE as NON_FINITE
from gradscope.dashboard.figures.cells import NOT_RECORDED as NOT_RECORDED
from gradscope.dashboard.figures.cells import ZERO as ZERO
from gradscope.dashboard.figures.cells import fold, turned
from gradscope.dashboard.figures.loss import LossData, Onset, decade_range, draw_onsets, loss_scale, loss_traces
from gradscope.dashboard.figures.metrics import METRICS, Metric
from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, short, typed
from gradscope.dashboard.history import all_cells, recorded_steps
from gradscope.dashboard.theme import Theme
from gradscope.dashboard.wording import layer_label
from gradscope.records import Finding
from gradscope.signals import Signals

MOST_CELLS = 90_000  # exact float32 values up to here, those of the traces for states included: 0.5 MB as base64
MOST_COLUMNS = 1000
MOST_ROWS = 600  # a screen has no more


@dataclass(frozen=True)
class MapData:
    """The cells of the map.

    Attributes:
        metric: its id.
        rows: the name that each row shows, first layer first; "first … last" where neighbours share a row.
        labels: the same for people, with the layer's kind where the name is only a number.
        steps: the first step of each column; columns are equally wide.
        per_column: steps that share a column.
        every_step: whether each column shows a step that was recorded, so that none shows an earlier one.
        decades: log10 of the metric, shape `[rows, columns]`; NaN where the state is not MEASURED. Where cells are
            shared, the one farthest from healthy, so that no event is averaged away.
        states: MEASURED, NOT_RECORDED, ZERO or NON_FINITE, shape `[rows, columns]`.
    """

    metric: str
    rows: tuple[str, ...]
    labels: tuple[str, ...]
    steps: NDArray[np.int64]
    per_column: int
    every_step: bool
    decades: NDArray[np.float32]
    states: NDArray[np.uint8]


def map_data(signals: Signals, metric: Metric) -> MapData:
    """The map of one metric over all steps of the run."""
    data = _of_size(signals, metric, MOST_CELLS)
    size = _size(data)
    return data if size <= MOST_CELLS else _of_size(signals, metric, MOST_CELLS * MOST_CELLS // size)


def _size(data: MapData) -> int:
    """Cells that are sent: the values, and for each other state the part of the map where it is."""
    size = int(data.states.size)
    for state in (NOT_RECORDED, ZERO, NON_FINITE):
        rows, columns = box(data.states == state)
        size += (rows.stop - rows.start) * (columns.stop - columns.start)
    return size


def box(here: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest part of the map that holds all these cells: its rows and columns, two of them where there are two,
    for plotly takes a column's width from its neighbour's place.
    """
    rows, columns = (np.flatnonzero(here.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    first, last = int(columns[0]), int(columns[-1])
    first = max(0, first - (first == last))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(first, max(last + 1, min(first + 2, here.shape[1])))


def _of_size(signals: Signals, metric: Metric, most: int) -> MapData:
    """The map in at most so many cells, more where there are more rows."""
    sites, recorded = metric.rows(signals), recorded_steps(signals)
    names = [signals.sites[site].name for site in sites]
    kinds = [layer_label(signals.sites[site]) for site in sites]
    per_row = -(-len(sites) // MOST_ROWS) or 1
    cells = turned(all_cells(signals, metric, sites))
    cells = turned(fold(cells, np.arange(len(names)) // per_row, metric.centre))
    rows, labels = _shared(names, per_row), _shared(kinds, per_row)
    steps, per_column = _columns(signals, recorded, max(1, min(MOST_COLUMNS, most // max(1, len(rows)))))
    if not len(steps):
        return MapData(metric.id, rows, labels, steps, 1, True, *cells)
    cells = fold(cells, (recorded - steps[0]) // per_column, metric.centre)
    shown = _shown(recorded, steps, per_column)
    every_step = bool((recorded[shown.clip(0)] >= steps).all() and (shown >= 0).all())
    group = np.unique((recorded - steps[0]) // per_column, return_inverse=True)[1]
    picked = np.where(shown < 0, -1, group[shown])
    decades = np.where(picked < 0, np.float32(np.nan), cells.decades[:, picked])
    states = np.where(picked < 0, NOT_RECORDED, cells.states[:, picked]).astype(np.uint8)
    return MapData(metric.id, rows, labels, steps, per_column, every_step, decades, states)


def _shared(names: list[str], per_row: int) -> tuple[str, ...]:
    """The names of rows that `per_row` neighbours share."""
    if per_row == 1:
        return tuple(names)
    return tuple(f"{names[i]} … {names[min(i + per_row, len(names)) - 1]}" for i in range(0, len(names), per_row))


def _columns(signals: Signals, recorded: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], int]:
    """The first step of each column, and how many steps share one."""
    if not len(recorded):
        return recorded, 1
    first, last = int(recorded[0]), int(recorded[-1])
    if len(signals.run.steps):
        last = max(last, int(signals.run.steps["step"][-1]))
    per_column = -(-(last - first + 1) // most)
    return np.arange(first, last + 1, per_column), per_column


def _shown(recorded: NDArray[np.int64], columns: NDArray[np.int64], per_column: int) -> NDArray[np.int64]:
    """For each column the recorded step that it shows, as an index; -1 for none.

    A recorded step is shown until the next one, never before it was taken, and no longer than twice the distance that
    is usual in this run or was usual just before: a map of every tenth step has no stripes, a real gap stays visible.
    """
    last = np.searchsorted(recorded, columns + per_column - 1, side="right") - 1
    distance = columns - recorded[last]
    gaps = np.diff(recorded, prepend=recorded[0] - 1)
    usual = np.median(gaps[1:]) if len(gaps) > 1 else 1
    hold = 2 * np.maximum(gaps, usual)
    return np.where((last >= 0) & (distance < hold[last]), last, -1)


def cell_colours(metric: Metric, theme: Theme) -> dict[int, tuple[str, str]]:
    """For each state that is not a number: its colour and what it says."""
    return {
        NON_FINITE: (theme.non_finite, "non-finite: NaN or Inf"),
        ZERO: (theme.diverging[0], metric.zero),
        NOT_RECORDED: (theme.not_recorded, "not recorded or undefined here"),
    }


def marked_rows(rows: tuple[str, ...], findings: tuple[Finding, ...]) -> dict[str, str]:
    """For each finding the row where it is worst: row -> "F1", or "F1 F3" where two share it."""
    marks: dict[str, str] = {}
    for number, finding in enumerate(findings, 1):
        worst = next(iter(finding.layers), None)
        row = next((row for row in rows if worst is not None and (row == worst or row.startswith(f"{worst}."))), None)
        if row is not None:
            marks[row] = f"{marks[row]} F{number}" if row in marks else f"F{number}"
    return marks


def draw_map(data: MapData, loss: LossData, onsets: tuple[Onset, ...], marks: dict[str, str], theme: Theme) -> Figure:
    """The loss above, the map below, one step axis for both, so that they share every zoom.

    Args:
        data: the cells.
        loss: the lines above them.
        onsets: where findings begin.
        marks: rows to name in any case, and with what, see `marked_rows`.
        theme: the colours.
    """
    metric, layout = METRICS[data.metric], frame(theme) | _axes(data, loss, marks, theme)
    traces = loss_traces(loss, theme)
    draw_onsets(layout, onsets, loss, theme)
    if data.decades.size:
        traces += [_values(data, metric, theme), *_states(data, metric, theme)]
    else:
        layout["annotations"].append(
            {
                "xref": "paper",
                "yref": "paper",
                "x": 0.5,
                "y": 0.37,
                "showarrow": False,
                "text": f"No {metric.title.lower()} is recorded yet",
                "font": {"size": 14, "color": theme.dimmed},
            }
        )
    return {"data": traces, "layout": layout}


def _axes(data: MapData, loss: LossData, marks: dict[str, str], theme: Theme) -> Figure:
    """One step axis; the loss and the gradient norm above, the layers below."""
    norms = decade_range(loss.gradient_norm[1])
    return {
        "margin": {"l": 8, "r": 8, "t": 22, "b": 36},
        "xaxis": axis(
            theme,
            anchor="y2",
            title={"text": "optimizer step", "standoff": 6},
            showgrid=False,
            tickformat=",~f",
            dtick=1 if len(data.steps) <= 12 and data.per_column == 1 else None,
            hoverformat=",d",
            # not `range`, so that double-click leads to all steps
            autorangeoptions=_step_range(data, loss.last_step),
        ),
        "yaxis": axis(
            theme,
            domain=[0.79, 1.0],
            fixedrange=True,
            title={"text": "loss", "standoff": 6},
            **loss_scale(loss.loss[1]),
        ),
        "yaxis2": axis(
            theme,
            domain=[0.0, 0.74],
            type="category",
            autorange="reversed",
            showgrid=False,
            ticks="outside",
            visible=bool(data.decades.size),
            tickfont={"size": 11},
            **_row_ticks(data, marks),
        ),
        "yaxis3": axis(
            theme,
            overlaying="y",
            fixedrange=True,
            side="right",
            type="log",
            showgrid=False,
            tickmode="linear",
            dtick=max(1, -(-(norms[1] - norms[0]) // 3)),
            range=norms,
            exponentformat="power",
            title={"text": "‖gradient‖", "standoff": 6},
        ),
    }


def _step_range(data: MapData, last_step: int | None) -> dict[str, float]:
    """The step axis: from half a column before the first to half a column after the last."""
    if not len(data.steps):
        first, last, half = 0.0, float(last_step or 0), 0.5
    else:
        first, last, half = float(data.steps[0]), float(data.steps[-1]), data.per_column / 2
    return {"minallowed": first - half, "maxallowed": last + half}


def _row_ticks(data: MapData, marks: dict[str, str]) -> dict[str, Any]:
    """At most 24 names beside the map, evenly spread, the marked ones first; all of them are in the tooltip."""
    rows = data.rows
    every = -(-len(rows) // 24) or 1
    marked = [i for i, row in enumerate(rows) if row in marks]
    even = [i for i in range(0, len(rows), every) if all(abs(i - taken) >= every for taken in marked)]
    shown = sorted([*marked, *even])
    names = {i: plain(short(data.labels[i], 24)) for i in shown}
    return {
        "tickmode": "array",
        "tickvals": [plain(rows[i]) for i in shown],
        "ticktext": [f"<b>{marks[rows[i]]} ▸ {names[i]}</b>" if rows[i] in marks else names[i] for i in shown],
    }


def _values(data: MapData, metric: Metric, theme: Theme) -> dict[str, Any]:
    low, centre, high = metric.centre - metric.span, metric.centre, metric.centre + metric.span
    ticks = [low, (low + centre) / 2, centre, (centre + high) / 2, high]
    words = [metric.words[0], "", metric.words[1], "", metric.words[2]]
    labels = [f"{value:g} {word}".replace("-", "−").strip() for value, word in zip(ticks, words, strict=True)]
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
        "hovertemplate": f"%{{y}}<br>{_step_words(data)}<br>{metric.symbol} %{{z:.2f}}<extra></extra>",
        "colorbar": {
            "tickvals": ticks,
            "ticktext": labels,
            "tickfont": {"size": 11},
            "thickness": 12,
            "len": 0.74,
            "y": 0.0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "ypad": 0,
        },
    }


def _step_words(data: MapData) -> str:
    """Which step a cell shows, for its tooltip."""
    if data.per_column > 1:
        return f"{data.per_column:,} steps from %{{x:,d}}, the one farthest from healthy"
    return "step %{x:,d}" if data.every_step else "last recorded at or before step %{x:,d}"


def _states(data: MapData, metric: Metric, theme: Theme) -> list[dict[str, Any]]:
    """One trace for each state that occurs; gaps do not answer the mouse, so each cell speaks for itself only."""
    traces = []
    for state, (colour, words) in cell_colours(metric, theme).items():
        here = data.states == state
        if not here.any():
            continue
        rows, columns = box(here)
        traces.append(
            {
                "type": "heatmap",
                "name": words,
                "xaxis": "x",
                "yaxis": "y2",
                "x": typed(data.steps[columns].astype(np.float64)),
                "y": [plain(name) for name in data.rows[rows]],
                "z": typed(np.where(here[rows, columns], 1.0, np.nan).astype(np.float32)),
                "zmin": 0,
                "zmax": 1,
                "colorscale": [[0, colour], [1, colour]],
                "showscale": False,
                "hoverongaps": False,
                "hovertemplate": f"%{{y}}<br>{'step %{x:,d}' if state == NOT_RECORDED else _step_words(data)}"
                f"<br>{words}<extra></extra>",
            }
        )
    return traces
