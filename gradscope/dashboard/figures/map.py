"""The map: one number by layer and step, in forward order, under the loss that it explains."""

from __future__ import annotations

import dataclasses
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gradscope.dashboard.figures.loss import decade_range, draw_onsets, loss_scale, loss_traces
from gradscope.dashboard.figures.map_blocks import rows_of
from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.dashboard.history import all_cells, recorded_steps
from gradscope.records import Site
from gradscope.reports.cells import NOT_RECORDED, Cells
from gradscope.reports.layer_map import MapData, box, cell_colours, layer_map, named_rows, short
from gradscope.reports.loss_line import MOST_POINTS, LossData, Onset
from gradscope.reports.metrics import METRICS, Metric
from gradscope.reports.theme import Theme
from gradscope.signals import Signals

_FEW = 12  # columns, each of which has its own tick
_MOST_KEPT = 6  # maps of one run: a page asks for the same one several times

_kept: WeakKeyDictionary[Signals, dict[tuple[object, ...], MapData]] = WeakKeyDictionary()


def map_data(
    signals: Signals, metric: Metric, window: tuple[int, int] | None = None, block: str | None = None
) -> MapData:
    """The map of one metric.

    Args:
        signals: of the run.
        metric: what the cells show.
        window: the first and the last step to show, in as many columns as all of them would get; None: all.
        block: the part of the model to show, see `map_blocks`; None, or one that this model does not have: all of it.
    """
    kept, asked = _kept.setdefault(signals, {}), (metric.id, window, block)
    if asked not in kept:
        while len(kept) >= _MOST_KEPT:
            kept.pop(next(iter(kept), ()), None)
        kept[asked] = _map_data(signals, metric, window, block)
    return kept[asked]


def _map_data(signals: Signals, metric: Metric, window: tuple[int, int] | None, block: str | None) -> MapData:
    sites, recorded = metric.rows(signals), recorded_steps(signals)
    cells, rows = all_cells(signals, metric, sites), map_rows(signals, metric)
    if inside := rows_of(rows, block) if block is not None else []:
        rows, cells = [rows[row] for row in inside], Cells(cells.decades[inside], cells.states[inside])
    last = int(signals.run.steps["step"][-1]) if len(signals.run.steps) else -1
    data = layer_map(metric, rows, recorded, cells, last, window)
    return dataclasses.replace(data, block=block if inside else None)


def map_rows(signals: Signals, metric: Metric) -> list[Site]:
    """The sites that a metric has a row for, first layer first."""
    return [signals.sites[site] for site in metric.rows(signals)]


def step_span(signals: Signals) -> tuple[int, int] | None:
    """The first and the last step of the map; None where nothing was recorded."""
    recorded, steps = recorded_steps(signals), signals.run.steps["step"]
    if not len(recorded):
        return None
    return int(recorded[0]), max(int(recorded[-1]), int(steps[-1]) if len(steps) else 0)


def detail(
    signals: Signals, metric: Metric, window: tuple[int, int] | None, block: str | None
) -> tuple[int, int] | None:
    """The window, if a map or a line of it alone says more than that of all steps; None where those are all there."""
    if window is None or (
        map_data(signals, metric, None, block).per_column == 1 and len(signals.run.steps) <= MOST_POINTS
    ):
        return None
    return window


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
    draw_onsets(layout, onsets, loss, theme, _shown_steps(data))
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
            # one more than there are steps: what plotly takes for no more than a tick a step; a fixed distance would
            # be kept for the moment in which a double-click leads to all steps
            nticks=len(data.steps) + 1 if len(data.steps) <= _FEW and data.per_column == 1 else None,
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
    """All steps of the run, also where the map shows some of them."""
    first, last = data.span or (0, last_step or 0)
    return {"minallowed": first - 0.5, "maxallowed": last + 0.5}


def _shown_steps(data: MapData) -> tuple[float, float] | None:
    """The first and the last step that the cells are of."""
    return (float(data.steps[0]), float(data.steps[-1]) + data.per_column - 1) if len(data.steps) else None


def _row_ticks(data: MapData, marks: dict[str, str]) -> dict[str, Any]:
    """At most 24 names beside the map, evenly spread, the marked ones first; all of them are in the tooltip."""
    rows, shown = data.rows, named_rows(data.rows, marks)
    names = {i: plain(_beside(data, i)) for i in shown}
    return {
        "tickmode": "array",
        "tickvals": [plain(rows[i]) for i in shown],
        "ticktext": [f"<b>{marks[rows[i]]} ▸ {names[i]}</b>" if rows[i] in marks else names[i] for i in shown],
    }


def _beside(data: MapData, row: int) -> str:
    """A row's name where there is little room: without the block that is shown, of several layers the first."""
    names = data.names[row]
    label = data.labels[row] if len(names) == 1 else names[0]
    label = label.removeprefix(f"{data.block}.") if data.block is not None else label
    return short(label, 24) if len(names) == 1 else f"{short(label, 22)} …"


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
        "x": typed(data.places),
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
        return f"{data.per_column:,} steps around %{{x:,d}}, the one farthest from healthy"
    worst = ", the layer farthest from healthy" if data.per_row > 1 else ""
    return f"{'step' if data.every_step else 'last recorded at or before step'} %{{x:,d}}{worst}"


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
                "x": typed(data.places[columns]),
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
