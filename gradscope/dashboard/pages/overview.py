"""The overview: in three seconds what is wrong, in thirty what to do."""

from __future__ import annotations

import time
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.address import parse
from gradscope.dashboard.downloads import data_links
from gradscope.dashboard.figures.depth import depth_data, depth_help, draw_depth, latest, nearest
from gradscope.dashboard.figures.lanes import lanes_data, with_lanes
from gradscope.dashboard.figures.map import detail, draw_map, map_data, step_span
from gradscope.dashboard.figures.map_marks import in_place, mark, marks_only, reorder, window
from gradscope.dashboard.figures.plotly import Figure
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.pages.overview_layout import ID, MAP_HEIGHT, layout
from gradscope.dashboard.parts import finding_drawer, finding_list, findings, layer_drawer, numbers, verdict
from gradscope.dashboard.parts.how_to_read import how_to_read
from gradscope.dashboard.parts.map_card import block_choices, explained, folded, legend
from gradscope.dashboard.parts.notice import no_step_yet
from gradscope.dashboard.parts.waterfall import waterfall_outputs, waterfall_values
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.wording import duration, step
from gradscope.records import Finding
from gradscope.reports.layer_map import MapData, marked_rows
from gradscope.reports.loss_line import loss_data, onsets
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import theme
from gradscope.store.mutes import read_mutes

_MOST_LANES = 4  # the timeline shows them all

OUTPUTS = {
    "status": Output(ID["status"], "children"),
    "tone": Output(ID["verdict"], "className"),
    "next": Output(ID["next"], "children"),
    "empty": Output(ID["empty"], "children"),
    "body": Output(ID["body"], "style"),
    "numbers": Output(ID["numbers"], "children"),
    "findings": Output(ID["findings"], "children"),
    "list_controls": Output(ID["controls"], "children"),
    "checks": Output(ID["checks"], "children"),
    "metric": Output(ID["metric"], "value"),
    "order": Output(ID["order"], "value"),
    "block": Output(ID["block"], "value"),
    "block_data": Output(ID["block"], "data"),
    "block_display": Output(ID["block"], "display"),
    "map": Output(ID["map"], "figure"),
    "map_title": Output(ID["map-title"], "children"),
    "map_help": Output(ID["map-help"], "children"),
    "map_folded": Output(ID["map-folded"], "children"),
    "map_legend": Output(ID["map-legend"], "children"),
    "map_links": Output(ID["map-links"], "children"),
    "depth_links": Output(ID["depth-links"], "children"),
    "onsets": Output(ID["onsets"], "data-onsets"),
    "depth": Output(ID["depth"], "figure"),
    "depth_help": Output(ID["depth-help"], "children"),
    **waterfall_outputs(),
    "depth_title": Output(ID["depth-title"], "children"),
    "slider": Output(ID["slider"], "value"),
    "slider_end": Output(ID["slider"], "max"),
    "drawer_title": Output(ID["drawer"], "title"),
    "drawer": Output(ID["drawer-body"], "children"),
}


def areas(view: View) -> dict[str, Area]:
    """The overview's parts, and what each is drawn from."""
    snapshot, address, versions = view.snapshot, view.address, list(view.versions)
    diagnosis, chosen = snapshot.diagnosis, address.at(finding=None, layer=None)
    always = {
        "status": Area([diagnosis.verdict, diagnosis.headline], lambda: _status(snapshot)),  # announced once
        "page": Area([versions, chosen.href], lambda: _page(view)),
    }
    if snapshot.is_empty:
        return always
    chosen_map = [address.metric, address.order, address.block, snapshot.name]
    charted = [versions, chosen_map, view.scheme, _detail(view)]
    marked = [address.finding, address.layer, address.step, address.first, address.last, address.rows]
    return {
        **always,
        "controls": Area([address.metric, address.order], lambda: {"metric": address.metric, "order": address.order}),
        "blocks": Area([chosen_map, len(snapshot.signals.sites)], lambda: _blocks(view)),
        "map-links": Area([chosen_map, marked], lambda: {"map_links": data_links(address, "map")}),
        "marks": Area([snapshot.name, marked], lambda: {"map": marks_only(_map_figure(view, _cells(view)))}),
        "map": Area(charted, lambda: _map(view, chosen_map, marked)),
        "map-view": Area(chosen_map, dict),
        "folded": Area([charted, marked[3:]], lambda: {"map_folded": folded(_cells(view), address)}),
        "slider": Area([versions, address.step], lambda: _slider(snapshot, address.step)),
        "depth": Area([versions, address.step, view.scheme], lambda: _depth(view)),
        "budget": Area(
            [versions, address.step, view.scheme], lambda: waterfall_values(snapshot.signals, address.step, view.scheme)
        ),
        "drawer": Area(_drawer_source(view), lambda: _drawer(view)),
    }


def _status(snapshot: Snapshot) -> Outputs:
    return {"status": verdict.headline(snapshot.diagnosis), "tone": verdict.verdict_tone(snapshot.diagnosis)}


def _page(view: View) -> Outputs:
    snapshot, signals = view.snapshot, view.snapshot.signals
    recorded = int(signals.steps[-1]) if len(signals.steps) else None
    muted = read_mutes(view.runs.folder(snapshot.name))
    age = time.time() - view.runs.stamp(snapshot.name).written
    return {
        "next": verdict.next_step(snapshot.diagnosis, view.address),
        "empty": no_step_yet(duration(age)) if snapshot.is_empty else [],
        "body": {"display": "none"} if snapshot.is_empty else {},
        "numbers": numbers.draw_cards(numbers.cards(snapshot.numbers, recorded), view.address),
        "findings": findings.finding_cards(snapshot.diagnosis, signals, recorded, view.address, muted),
        "list_controls": finding_list.controls(snapshot.diagnosis.findings, muted, view.address),
        "checks": findings.checks(snapshot.diagnosis),
        "onsets": " ".join(str(onset.step) for onset in onsets(snapshot.diagnosis.findings)),
    }


def _opened(view: View) -> Finding | None:
    return finding_drawer.find(view.snapshot.diagnosis, view.address.finding or "")


def _window(view: View) -> tuple[int, int] | None:
    """The steps that the map shows."""
    return window(step_span(view.snapshot.signals), _opened(view), view.address.first, view.address.last)


def _detail(view: View) -> tuple[int, int] | None:
    """Those of them that are folded for themselves."""
    return detail(view.snapshot.signals, METRICS[view.address.metric], _window(view), view.address.block)


def _blocks(view: View) -> Outputs:
    choices = block_choices(view.snapshot.signals, view.address)
    return {"block": choices.value, "block_data": choices.data, "block_display": choices.display}


def _cells(view: View) -> MapData:
    signals, address = view.snapshot.signals, view.address
    cells = map_data(signals, METRICS[address.metric], _detail(view), address.block)
    return reorder(cells, address.order, view.snapshot.diagnosis.findings)


def _map_figure(view: View, data: MapData) -> Figure:
    snapshot, address, colours = view.snapshot, view.address, theme(view.scheme)
    found = snapshot.diagnosis.findings
    loss = loss_data(snapshot.run, _detail(view))
    figure = draw_map(data, loss, onsets(found), marked_rows(data, found), colours)
    recorded = snapshot.signals.steps
    lanes = lanes_data(found, int(recorded[-1]) if len(recorded) else None)[:_MOST_LANES]
    with_lanes(figure, lanes, colours, lambda number: address.at(finding=number, layer=None).href, MAP_HEIGHT)
    opened = _opened(view)
    cell = (address.layer, address.step) if address.layer is not None and address.step is not None else None
    return mark(figure, data, _window(view), address.rows, opened.layers if opened else (), cell, colours)


def _map(view: View, chosen: list[Any], marked: list[Any]) -> Outputs:
    address, data = view.address, _cells(view)
    metric, figure = METRICS[address.metric], _map_figure(view, data)
    same = view.shows("map-view", chosen)
    unmoved = view.shows("marks", [view.snapshot.name, marked])
    return {
        "map": in_place(figure, not unmoved) if same else figure,
        "map_title": [f"{metric.title} by layer and step ", html.Span(f"· {metric.symbol}", className="dimmed")],
        "map_help": explained(data),
        "map_legend": legend(data, theme(view.scheme)),
    }


def _depth(view: View) -> Outputs:
    data = depth_data(view.snapshot.signals, view.address.step)
    title = "Depth profile" if data.step is None else f"Depth profile at step {step(data.step)}"
    links = data_links(view.address.of_run(step=data.step), "depth")
    return {
        "depth": draw_depth(data, theme(view.scheme)),
        "depth_title": title,
        "depth_help": how_to_read("the depth profile", *depth_help(data)),
        "depth_links": links,
    }


def _slider(snapshot: Snapshot, at: int | None) -> Outputs:
    steps = snapshot.signals.steps
    here = latest(snapshot.signals) if at is None else nearest(steps, at)
    return {"slider": here or 0, "slider_end": max(len(steps) - 1, 1)}


def _drawer_source(view: View) -> object:
    address = view.address
    if address.finding is not None:
        return finding_drawer.drawer_source(view)
    return [view.snapshot.name, address.layer, address.step if address.layer else None]


def _drawer(view: View) -> Outputs:
    address = view.address
    if address.finding is None and address.layer is None:
        return {"drawer_title": "", "drawer": []}
    title, body = drawer_content(view)
    return {"drawer_title": title, "drawer": body}


def drawer_content(view: View) -> tuple[Any, Any]:
    """The drawer's title and content."""
    snapshot, address = view.snapshot, view.address
    if address.finding is not None:
        return finding_drawer.drawer(view)
    layer = layer_drawer.layer_numbers(snapshot.signals, address.layer or "", address.step)
    if layer is None:
        return "Not found", [html.P(f"This run has no layer {address.layer!r}.")]
    return layer_drawer.layer_title(layer), layer_drawer.layer_body(layer, snapshot.diagnosis, address)


def moved(snapshot: Snapshot, trigger: str | None, slider: int, at: int | None) -> int | None:
    """The step that the stepper asks for; None: follow the latest.

    Args:
        snapshot: the run.
        trigger: the component that asks.
        slider: where the slider stands.
        at: the step shown until now.
    """
    steps, follow = snapshot.signals.steps, latest(snapshot.signals) or 0
    here = follow if at is None else nearest(steps, at) or 0
    target = {ID["slider"]: slider, ID["earlier"]: here - 1, ID["later"]: here + 1}.get(trigger or "", follow)
    if trigger == ID["latest"]:
        return None
    target = max(0, min(target, len(steps) - 1))
    if target == here:
        return at
    return None if target == follow else int(steps[target])


def register(app: Dash, runs: Runs) -> None:
    """Wires the stepper, the selects, the map and the drawer to the address."""

    @app.callback(
        Output(ID["went"], "data"),
        Input(ID["slider"], "value"),
        Input(ID["earlier"], "n_clicks"),
        Input(ID["later"], "n_clicks"),
        Input(ID["latest"], "n_clicks"),
        State(ids.URL, "pathname"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def _move(slider: int, _1: int, _2: int, _3: int, pathname: str, search: str) -> Any:
        address = parse(pathname, search)
        snapshot = runs.peek(address.run) if address.run else None
        if snapshot is None or not len(snapshot.signals.steps):
            raise PreventUpdate
        target = moved(snapshot, ctx.triggered_id, slider, address.step)
        return no_update if target == address.step else {"step": target}

    opens = ClientsideFunction("gradscope", "is_drawer_open")  # in the browser: it closes it too
    app.clientside_callback(opens, Output(ID["drawer"], "opened"), Input(ids.URL, "search"))  # type: ignore[no-untyped-call]
    for function, component, value in (
        ("go_to", ID["went"], "data"),
        ("go_metric", ID["metric"], "value"),
        ("go_order", ID["order"], "value"),
        ("go_block", ID["block"], "value"),
        ("go_cell", ID["map"], "clickData"),
        ("go_zoom", ID["map"], "relayoutData"),
        ("close_drawer", ID["drawer"], "opened"),
    ):
        go = ClientsideFunction("gradscope", function)
        app.clientside_callback(go, Input(component, value), prevent_initial_call=True)  # type: ignore[no-untyped-call]


PAGE = Page("overview", "Overview", OUTPUTS, layout, areas, register=register, shows_empty_runs=True)
