"""The map: one number by layer and step, in forward order, under the loss that it explains."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradscope.dashboard.figures.loss import LossData, Onset, decade_range, draw_onsets, loss_scale, loss_traces
from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.dashboard.history import all_cells, recorded_steps
from gradscope.reports.cells import MEASURED as MEASURED
from gradscope.reports.cells import NON_FINITE as NON_FINITE
from gradscope.reports.cells import NOT_RECORDED as NOT_RECORDED
from gradscope.reports.cells import ZERO as ZERO
from gradscope.reports.layer_map import MapData as MapData
from gradscope.reports.layer_map import box, layer_map, named_rows, short
from gradscope.reports.layer_map import cell_colours as cell_colours
from gradscope.reports.layer_map import marked_rows as marked_rows
from gradscope.reports.metrics import METRICS, Metric
from gradscope.reports.theme import Theme
from gradscope.signals import Signals


def map_data(signals: Signals, metric: Metric) -> MapData:
    """The map of one metric over all steps of the run."""
    sites, recorded = metric.rows(signals), recorded_steps(signals)
    last = int(signals.run.steps["step"][-1]) if len(signals.run.steps) else -1
    return layer_map(metric, [signals.sites[i] for i in sites], recorded, all_cells(signals, metric, sites), last)


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
    rows, shown = data.rows, named_rows(data.rows, marks)
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
