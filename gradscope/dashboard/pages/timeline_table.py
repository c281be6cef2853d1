"""The timeline's numbers without a mouse: the chosen cell in a sentence, and the map as a table."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.runs import Snapshot
from gradscope.dashboard.wording import decades, number, step
from gradscope.reports.cells import MEASURED, NON_FINITE, NOT_RECORDED, ZERO
from gradscope.reports.layer_map import MapData
from gradscope.reports.metrics import METRICS

_MOST_ROWS, _MOST_STEPS = 100, 8
_WORDS = {NON_FINITE: "NaN or Inf", ZERO: "exactly 0", NOT_RECORDED: "—"}


def cell_words(snapshot: Snapshot, address: Address) -> list[Component | str]:
    """What the chosen layer shows at the chosen step, with the way to more; nothing when none is chosen."""
    signals, metric = snapshot.signals, METRICS[address.metric]
    if address.step is None:
        return []
    if address.layer is None:
        return [f"At step {step(address.step)}. ", _more(address, "All layers at this step")]
    rows = {signals.sites[i].name: i for i in metric.rows(signals)}
    before = np.flatnonzero(signals.steps <= address.step)
    if address.layer not in rows or not len(before):
        return [f"This map has no row {address.layer!r} recorded by step {step(address.step)}."]
    row, column = rows[address.layer], before[-1]
    value, broken = metric.values(signals)[row, column], metric.non_finite(signals)[row, column]
    if broken:
        said = "is NaN or Inf"
    elif not np.isfinite(value):
        said = "was not recorded"
    else:
        said = f"is {number(float(value))}" + (f", {decades(float(np.log10(value)))} decades" if value > 0 else "")
    return [
        html.Span(_capital(signals.sites[row].title), className="mono"),
        f" at step {step(int(signals.steps[column]))}: {metric.title.lower()} {said}. ",
        _more(address, "Open this layer"),
    ]


def _capital(title: str) -> str:
    """The title at the start of a sentence; names of the user's stay as they are."""
    return f"L{title[1:]}" if title.startswith("layer ") else title


def _more(address: Address, text: str) -> Component:
    return html.A(text, href=address.of_run("layers", layer=address.layer, step=address.step).href)


def numbers_table(cells: MapData, address: Address) -> Component:
    """The map's cells as a table: at most 100 rows, the ones farthest from healthy, at 8 steps of those shown."""
    metric = METRICS[cells.metric]
    rows, columns = _picked_rows(cells), _picked_columns(cells, address)
    body = [
        [cells.labels[row], *(_cell(cells.decades[row, column], cells.states[row, column]) for column in columns)]
        for row in rows
    ]
    head = ["Layer", *(f"step {step(int(cells.steps[column]))}" for column in columns)]
    left_out = len(cells.rows) - len(rows)
    more = f" The {len(rows)} rows farthest from healthy; {left_out:,} more are in the map." if left_out else ""
    per_column = f" Each stands for {cells.per_column:,} steps." if cells.per_column > 1 else ""
    table: Any = dmc.Table(data={"head": head, "body": body}, className="timeline-numbers", withRowBorders=True)
    return html.Details(
        [
            html.Summary("The same numbers as a table"),
            html.P(f"{metric.symbol}, in decades.{per_column}{more}", className="dimmed"),
            html.Div(table, className="table-frame", tabIndex=0),
        ],
        className="card",
    )


def _cell(value: float, state: int) -> str:
    return decades(float(value)) if state == MEASURED else _WORDS[state]


def _picked_rows(cells: MapData) -> list[int]:
    if len(cells.rows) <= _MOST_ROWS:
        return list(range(len(cells.rows)))
    far = np.where(cells.states == NON_FINITE, np.inf, np.abs(np.nan_to_num(cells.decades)))
    far = np.where(cells.states == ZERO, np.inf, far).max(axis=1, initial=0.0)
    return sorted(np.argsort(-far, kind="stable")[:_MOST_ROWS].tolist())


def _picked_columns(cells: MapData, address: Address) -> list[int]:
    first = -np.inf if address.first is None else address.first
    last = np.inf if address.last is None else address.last
    recorded = (cells.states != NOT_RECORDED).any(axis=0) if cells.states.size else np.zeros(len(cells.steps), bool)
    shown = np.flatnonzero((cells.steps >= first - cells.per_column + 1) & (cells.steps <= last) & recorded)
    if len(shown) <= _MOST_STEPS:
        return [int(column) for column in shown]
    return np.unique(shown[np.linspace(0, len(shown) - 1, _MOST_STEPS).round().astype(int)]).tolist()  # type: ignore[no-any-return]
