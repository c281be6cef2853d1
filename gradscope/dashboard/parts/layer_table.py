"""The layers as a table: one row each, a page at a time, every name and every heading a link."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.sparkline import SparklineData, draw_sparkline
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.layer_rows import LayerRow, LayerState
from gradscope.dashboard.wording import ABSENT, number, percent
from gradscope.reports.loss_line import downsample
from gradscope.signals import Signals

PAGE_ROWS = 100
_SPARK_POINTS = 48


class Column(NamedTuple):
    """A column of the table."""

    id: str  # as in ?sort=
    title: str
    help: str


COLUMNS = (
    Column("state", "State", "The worst finding that names it; else whether its backward gain is in the healthy band"),
    Column("gain", "Backward gain", "How much of the loss gradient reaches its output, relative to the model's output"),
    Column("gradient_norm", "‖gradient‖", "L2 norm of the gradient over all its parameters"),
    Column("update_ratio", "Update ratio", "How far the last step moved its parameters, relative to their size"),
    Column("activation_rms", "Output rms", "Root mean square of what it puts out"),
    Column("zeros", "Zeros", "Share of its output that is exactly 0"),
    Column("dead", "Dead units", "Share of its units that let nothing through for all samples of the last looks"),
    Column("non_finite", "NaN or Inf", "Recorded steps of the whole run at which any of its tensors held NaN or Inf"),
)
_NARROW = ("state", "gain")  # while a layer is open beside the table


def selected(rows: tuple[LayerRow, ...], address: Address) -> list[LayerRow]:
    """The rows that the address' filters leave, in the order that it asks for."""
    text = (address.find or "").casefold()
    kept = [
        row
        for row in rows
        if (not text or text in row.name.casefold() or text in row.kind.casefold())
        and (address.kind is None or row.kind == address.kind)
        and (not address.unhealthy or row.state.is_unhealthy)
    ]
    column, descending = (address.sort or "").removeprefix("-"), (address.sort or "").startswith("-")
    if column not in {each.id for each in COLUMNS}:
        return kept
    known = [row for row in kept if not math.isnan(value(row, column))]
    known.sort(key=lambda row: value(row, column), reverse=descending)
    return known + [row for row in kept if math.isnan(value(row, column))]


def value(row: LayerRow, column: str) -> float:
    """The number of a row that a column shows and sorts by."""
    if column == "state":
        return float(row.state.rank)
    return float(row.non_finite_steps if column == "non_finite" else getattr(row.measures, column))


def cell(row: LayerRow, column: str) -> str:
    """What a column says of a row."""
    shown = value(row, column)
    if math.isnan(shown):
        return ABSENT
    if math.isinf(shown):
        return "NaN or Inf"
    if column == "non_finite":
        return f"{row.non_finite_steps:,} steps" if row.non_finite_steps > 1 else ("1 step" if shown else "none")
    return percent(shown) if column in ("zeros", "dead") else number(shown)


def state_tag(state: LayerState) -> Component:
    """A layer's state: `▲ Error`."""
    return html.Span(
        [html.Span(state.shape, **aria(hidden="true")), f" {state.word}"], className=f"severity state-{state.tone}"
    )


def layer_table(signals: Signals, rows: list[LayerRow], address: Address) -> list[Component]:
    """The page of the table that the address asks for, and the way to the others."""
    if not rows:
        return [html.P(["No layer is like that. ", _everything(address)], className="dimmed nothing")]
    start = min(address.after or 0, (len(rows) - 1) // PAGE_ROWS * PAGE_ROWS)
    columns = [column for column in COLUMNS if address.layer is None or column.id in _NARROW]
    body = [_row(signals, row, columns, address) for row in rows[start : start + PAGE_ROWS]]
    table = html.Table([_head(columns, address), html.Tbody(body)], className="table layer-table")
    return [html.Div(table, className="table-frame"), *_pages(len(rows), start, address)]


def _everything(address: Address) -> Component:
    return html.A("Show all layers", href=address.at(find=None, kind=None, unhealthy=False, after=None).href)


def _head(columns: list[Column], address: Address) -> Component:
    heads = [_heading(None, "Layer", "In the order in which they run", address)]
    heads += [_heading(column.id, column.title, column.help, address) for column in columns]
    return html.Thead(html.Tr([*heads, html.Th("Gain over steps", scope="col", className="spark-head")]))


def _heading(column: str | None, title: str, help_text: str, address: Address) -> Component:
    """A heading that sorts: largest first, then smallest first; the layer's name leads back to the order of execution."""
    sort, is_sorted = address.sort, column is not None and (address.sort or "").removeprefix("-") == column
    descends = (sort or "").startswith("-")
    target = None if column is None else column if is_sorted and descends else f"-{column}"
    mark = [html.Span(" ▾" if descends else " ▴", **aria(hidden="true"))] if is_sorted else []
    link = html.A([title, *mark], href=address.at(sort=target, after=None).href, title=help_text, className="sort")
    state = aria(sort="descending" if descends else "ascending") if is_sorted else {}
    return html.Th(link, scope="col", className=_class(column), **state)


def _class(column: str | None) -> str:
    return "" if column in (None, "state") else f"amount column-{column}"


def _row(signals: Signals, row: LayerRow, columns: list[Column], address: Address) -> Component:
    here = address.layer in (row.name, row.path) and address.layer is not None
    link = html.A(
        row.name,
        href=address.at(layer=row.name).href,
        className="mono layer-link",
        **(aria(current="true") if here else {}),
    )
    cells: list[Component] = [html.Th([link, html.Span(f" {row.kind}", className="dimmed kind")], scope="row")]
    for column in columns:
        if column.id == "state":
            cells.append(html.Td([state_tag(row.state), *_findings(row.state, address)], className="state"))
        else:
            cells.append(html.Td(cell(row, column.id), className=f"value {_class(column.id)}"))
    return html.Tr([*cells, html.Td(_spark(signals, row, address))], className="here" if here else "")


def _findings(state: LayerState, address: Address) -> list[Component | str]:
    links: list[Component | str] = []
    for finding in state.findings:
        links += [" ", html.A(finding, href=address.of_run("finding", finding=finding).href)]
    return links


def _spark(signals: Signals, row: LayerRow, address: Address) -> Component | None:
    """Its backward gain over the run, as a line the size of a word."""
    if row.site is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        steps, points = downsample(signals.steps, np.log10(signals.unpooled_gain[row.site]), _SPARK_POINTS)
    last = int(signals.steps[-1]) if len(signals.steps) else 0
    image = draw_sparkline(SparklineData("", steps, points, last if address.step is None else address.step))
    known = points[np.isfinite(points)]
    said = f"from {number(10 ** known[0])} to {number(10 ** known[-1])}" if len(known) else ""
    return html.Img(src=image, alt=said, className="sparkline") if image else None


def _pages(total: int, start: int, address: Address) -> list[Component]:
    if total <= PAGE_ROWS:
        return []
    stop = min(start + PAGE_ROWS, total)
    parts: list[Component] = [html.Span(f"Rows {start + 1:,} to {stop:,} of {total:,}")]
    if start:
        earlier = max(0, start - PAGE_ROWS) or None
        parts.append(html.A("‹ Previous", href=address.at(after=earlier).href, className="button"))
    if stop < total:
        parts.append(html.A("Next ›", href=address.at(after=stop).href, className="button"))
    return [html.Nav(parts, className="table-pages", **aria(label="Pages of the table"))]
