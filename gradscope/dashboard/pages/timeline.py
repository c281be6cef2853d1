"""The timeline: when did it begin, and what changed then?"""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, html

from gradscope.dashboard.address import Address
from gradscope.dashboard.downloads import data_links
from gradscope.dashboard.figures.map import detail, step_span
from gradscope.dashboard.figures.map_marks import in_place, mark, marks_only, window
from gradscope.dashboard.figures.plotly import Figure
from gradscope.dashboard.figures.timeline import TimelineData, draw_timeline, timeline_data, timeline_height
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.pages.timeline_changes import changes_card, suspects_card
from gradscope.dashboard.pages.timeline_layout import ID, layout
from gradscope.dashboard.pages.timeline_table import cell_words, numbers_table
from gradscope.dashboard.parts.map_card import block_choices, explained, folded, legend
from gradscope.dashboard.runs import Runs
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import Theme, theme

OUTPUTS = {
    "metric": Output(ID["metric"], "value"),
    "order": Output(ID["order"], "value"),
    "block": Output(ID["block"], "value"),
    "block_data": Output(ID["block"], "data"),
    "block_display": Output(ID["block"], "display"),
    "first": Output(ID["first"], "value"),
    "last": Output(ID["last"], "value"),
    "brush_first": Output(ID["brush-first"], "value"),
    "brush_last": Output(ID["brush-last"], "value"),
    "map": Output(ID["map"], "figure"),
    "map_style": Output(ID["map"], "style"),
    "map_title": Output(ID["map-title"], "children"),
    "map_help": Output(ID["map-help"], "children"),
    "map_folded": Output(ID["map-folded"], "children"),
    "map_legend": Output(ID["map-legend"], "children"),
    "onsets": Output(ID["onsets"], "data-onsets"),
    "cell": Output(ID["cell"], "children"),
    "links": Output(ID["links"], "children"),
    "changes": Output(ID["changes"], "children"),
    "suspects": Output(ID["suspects"], "children"),
    "table": Output(ID["table"], "children"),
}


def areas(view: View) -> dict[str, Area]:
    """The timeline's parts, and what each is drawn from."""
    snapshot, address, versions = view.snapshot, view.address, list(view.versions)
    chosen = [address.metric, address.order, address.block, snapshot.name]
    marked = [address.layer, address.step, address.first, address.last, address.rows, address.brush]
    charted = [versions, chosen, view.scheme, _detail(view)]
    return {
        "controls": Area([chosen, marked[2:]], lambda: _controls(address)),
        "blocks": Area([chosen, len(snapshot.signals.sites)], lambda: _blocks(view)),
        "links": Area([chosen, marked], lambda: {"links": data_links(address, "map")}),
        "marks": Area([snapshot.name, marked], lambda: {"map": marks_only(_figure(view))}),
        "map": Area(charted, lambda: _map(view, chosen, marked)),
        "map-view": Area(chosen, dict),
        "folded": Area([charted, marked[2:5]], lambda: {"map_folded": folded(_data(view).cells, address)}),
        "cell": Area([versions, address.metric, marked[:2]], lambda: {"cell": cell_words(snapshot, address)}),
        "changes": Area([versions, address.brush], lambda: {"changes": changes_card(snapshot, address)}),
        "suspects": Area([versions, address.metric], lambda: {"suspects": suspects_card(snapshot, address)}),
        "table": Area([versions, chosen, marked[2:4]], lambda: {"table": _table(view)}),
    }


def _controls(address: Address) -> Outputs:
    first, last = address.brush or ("", "")
    return {
        "metric": address.metric,
        "order": address.order,
        "first": "" if address.first is None else address.first,
        "last": "" if address.last is None else address.last,
        "brush_first": first,
        "brush_last": last,
    }


def _window(view: View) -> tuple[int, int] | None:
    """The steps that the map shows."""
    return window(step_span(view.snapshot.signals), None, view.address.first, view.address.last)


def _detail(view: View) -> tuple[int, int] | None:
    """Those of them that are folded for themselves."""
    return detail(view.snapshot.signals, METRICS[view.address.metric], _window(view), view.address.block)


def _blocks(view: View) -> Outputs:
    choices = block_choices(view.snapshot.signals, view.address)
    return {"block": choices.value, "block_data": choices.data, "block_display": choices.display}


def _data(view: View) -> TimelineData:
    snapshot, address = view.snapshot, view.address
    found, part = snapshot.diagnosis.findings, _detail(view)
    return timeline_data(snapshot.run, snapshot.signals, found, address.metric, address.order, part, address.block)


def _figure(view: View, data: TimelineData | None = None) -> Figure:
    address, colours = view.address, theme(view.scheme)
    data = data or _data(view)
    figure = draw_timeline(data, colours, lambda number: address.of_run("finding", finding=number).href)
    cell = (address.layer, address.step) if address.layer is not None and address.step is not None else None
    figure["layout"]["shapes"] += [*_brushed(figure, address, colours), *_cursor(address, colours)]
    return mark(figure, data.cells, _window(view), address.rows, (), cell, colours)


def _brushed(figure: Figure, address: Address, colours: Theme) -> list[Figure]:
    """The chosen steps between two lines, shaded above the map, whose colours mean something."""
    if address.brush is None:
        return []
    top = figure["layout"]["yaxis2"]["domain"][1]
    edges = {"x0": address.brush[0] - 0.5, "x1": address.brush[1] + 0.5, "y0": top, "y1": 1}
    line = {"color": colours.first_line, "width": 2}
    shape = {"type": "rect", "xref": "x", "yref": "paper", "fillcolor": colours.first_line, "opacity": 0.16}
    sides = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line}
        for at in (edges["x0"], edges["x1"])
    ]
    return [{**shape, **edges, "line": {"width": 0}}, *sides]


def _cursor(address: Address, colours: Theme) -> list[Figure]:
    """The step that the address names."""
    if address.step is None:
        return []
    line = {"color": colours.text, "width": 1.5}
    at = {"x0": address.step, "x1": address.step, "y0": 0, "y1": 1}
    return [{"type": "line", "xref": "x", "yref": "paper", **at, "line": line}]


def _map(view: View, chosen: list[Any], marked: list[Any]) -> Outputs:
    metric, colours, data = METRICS[view.address.metric], theme(view.scheme), _data(view)
    figure = _figure(view, data)
    same = view.shows("map-view", chosen)
    unmoved = view.shows("marks", [view.snapshot.name, marked])
    return {
        "map": in_place(figure, not unmoved) if same else figure,
        "map_style": {"height": timeline_height(data)},
        "map_title": [f"Loss, findings, and {metric.title.lower()} by layer and step ", _symbol(metric.symbol)],
        "map_help": explained(data.cells),
        "map_legend": legend(data.cells, colours),
        "onsets": " ".join(str(onset.step) for onset in data.onsets),
    }


def _symbol(symbol: str) -> html.Span:
    return html.Span(f"· {symbol}", className="dimmed")


def _table(view: View) -> Any:
    return numbers_table(_data(view).cells, view.address)


def register(app: Dash, runs: Runs) -> None:
    """Wires the controls and the figure to the address."""
    for function, inputs in (
        ("go_metric", [(ID["metric"], "value")]),
        ("go_order", [(ID["order"], "value")]),
        ("go_block", [(ID["block"], "value")]),
        ("go_cell", [(ID["map"], "clickData")]),
        ("go_zoom", [(ID["map"], "relayoutData")]),
        ("go_window", [(ID["first"], "value"), (ID["last"], "value")]),
        ("go_brush", [(ID["brush-first"], "value"), (ID["brush-last"], "value")]),
    ):
        go = ClientsideFunction("gradscope", function)
        app.clientside_callback(go, *(Input(*each) for each in inputs), prevent_initial_call=True)  # type: ignore[no-untyped-call]


PAGE = Page("timeline", "Timeline", OUTPUTS, layout, areas, register=register)
