"""The layers: a table or a tree of all of them, and one in full beside it."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from dash import ClientsideFunction, Dash, Input, Output, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.downloads import data_links
from gradscope.dashboard.figures.layer_lines import draw_layer_lines, layer_lines_data, lines_height
from gradscope.dashboard.figures.plotly import redrawn
from gradscope.dashboard.figures.strip_panels import draw_strips, height
from gradscope.dashboard.figures.strips import strips_data
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.pages.layers_layout import ID, layout
from gradscope.dashboard.parts import layer_detail
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.layer_rows import LayerRows, layer_rows
from gradscope.dashboard.parts.layer_table import layer_table, selected
from gradscope.dashboard.parts.layer_tree import layer_tree, layer_tree_data
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.wording import step
from gradscope.reports.theme import theme
from gradscope.reports.words import count
from gradscope.signals import Signals

OUTPUTS = {
    "summary": Output(ID["summary"], "children"),
    "views": Output(ID["views"], "children"),
    "steps": Output(ID["steps"], "children"),
    "kinds": Output(ID["kind"], "data"),
    "kind": Output(ID["kind"], "value"),
    "unhealthy": Output(ID["unhealthy"], "checked"),
    "list": Output(ID["list"], "children"),
    "links": Output(ID["links"], "children"),
    "columns": Output(ID["columns"], "className"),
    "detail": Output(ID["detail"], "style"),
    "head": Output(ID["head"], "children"),
    "numbers": Output(ID["numbers"], "children"),
    "strips": Output(ID["strips"], "figure"),
    "strips_size": Output(ID["strips"], "style"),
    "legend": Output(ID["legend"], "children"),
    "lines": Output(ID["lines"], "figure"),
    "lines_size": Output(ID["lines"], "style"),
    "charts": Output(ID["charts"], "style"),
    "parameters": Output(ID["parameters"], "children"),
    "detail_links": Output(ID["detail-links"], "children"),
}
_HIDDEN = {"display": "none"}


def areas(view: View) -> dict[str, Area]:
    """The page's parts, and what each is drawn from."""
    address, versions = view.address, list(view.versions)
    one = [address.layer, address.step]
    listed = [address.kind, address.find, address.unhealthy, address.sort, address.after]
    drawn = {
        "list": Area([versions, *one, *listed], lambda: _list(view)),
        "controls": Area([view.snapshot.name, *listed[:3]], lambda: _controls(view)),
    }
    if address.layer is None:
        closed: Outputs = {"detail": _HIDDEN, "columns": "layer-columns"}
        return {**drawn, "detail": Area(None, lambda: closed)}
    return {
        **drawn,
        "detail": Area([versions, *one, *listed, view.scheme], lambda: _detail(view)),
        "charted": Area([view.snapshot.name, address.layer], dict),
    }


# The list, the filters and the layer are drawn from the same rows. Weak: what a run was before it grew is let go.
_ROWS: WeakKeyDictionary[Signals, dict[int | None, LayerRows]] = WeakKeyDictionary()


def _rows_at(snapshot: Snapshot, at: int | None) -> LayerRows:
    known = _ROWS.setdefault(snapshot.signals, {})
    if at not in known:
        if len(known) > 4:
            known.clear()
        known[at] = layer_rows(snapshot.signals, snapshot.diagnosis, at)
    return known[at]


def _list(view: View) -> Outputs:
    address, snapshot = view.address, view.snapshot
    layers = _rows_at(snapshot, address.step)
    rows = selected(layers.rows, address)
    if address.sort == "tree":
        listed = layer_tree(layer_tree_data(snapshot.signals, snapshot.diagnosis, rows), address)
    else:
        listed = layer_table(snapshot.signals, rows, address)
    shown = "" if len(rows) == len(layers.rows) else f"{len(rows):,} of "
    unhealthy = sum(row.state.is_unhealthy for row in rows)
    words = f"{shown}{count(len(layers.rows), 'layer')}, {unhealthy:,} unhealthy"
    return {
        "summary": [words, *_where_from(layers, snapshot, address)],
        "views": _views(address),
        "steps": _steps(snapshot, layers, address),
        "list": listed,
        "links": data_links(address, "layers"),
    }


def _where_from(layers: LayerRows, snapshot: Snapshot, address: Address) -> list[str]:
    """The step shown, and why it is not the last one."""
    if layers.step is None:
        return []
    earlier = address.step is None and layers.step < int(snapshot.signals.steps[-1])
    return [f", at step {step(layers.step)}", " (the last at which most gains are numbers)" if earlier else ""]


def _views(address: Address) -> list[Component]:
    """Table or tree, as links."""
    tree = address.sort == "tree"
    return [
        html.A(
            title,
            href=address.at(sort=sort, after=None).href,
            className="button",
            **(aria(current="true") if (sort == "tree") == tree else {}),
        )
        for title, sort in (("Table", None if tree else address.sort), ("Tree", "tree"))
    ]


def _steps(snapshot: Snapshot, layers: LayerRows, address: Address) -> list[Component]:
    """The way to the recorded steps before and after."""
    steps, column = snapshot.signals.steps, layers.column
    if column is None:
        return []
    to = {
        "◂ Earlier": int(steps[column - 1]) if column else None,
        "Later ▸": int(steps[column + 1]) if column + 1 < len(steps) else None,
    }
    links: list[Component] = [
        html.A(name, href=address.at(step=at).href, className="button") for name, at in to.items() if at is not None
    ]
    if address.step is not None:
        links.append(html.A("Latest", href=address.at(step=None).href, className="button"))
    return links


def _controls(view: View) -> Outputs:
    address = view.address
    kinds: dict[str, int] = {}
    for row in _rows_at(view.snapshot, None).rows:
        kinds[row.kind] = kinds.get(row.kind, 0) + 1
    choices = [{"value": kind, "label": f"{kind} ({amount:,})"} for kind, amount in sorted(kinds.items()) if kind]
    return {"kinds": choices, "kind": address.kind, "unhealthy": address.unhealthy}


def _detail(view: View) -> Outputs:
    address, snapshot, colours = view.address, view.snapshot, theme(view.scheme)
    shown: Outputs = {"detail": {}, "columns": "layer-columns with-detail"}
    layers, name = _rows_at(snapshot, address.step), address.layer or ""
    data = layer_detail.layer_detail_data(snapshot.signals, snapshot.diagnosis, layers, name)
    if data is None:
        gone = {"numbers": [], "parameters": [], "detail_links": [], "charts": _HIDDEN}
        return {**shown, **gone, "head": layer_detail.not_found(name, address)}
    strips = strips_data(snapshot.signals, data.row.site, data.shown, data.step)
    lines = layer_lines_data(snapshot.signals, data.row.site, data.shown, data.step)
    figures: dict[str, Any] = {"strips": draw_strips(strips, colours), "lines": draw_layer_lines(lines, colours)}
    if view.shows("charted", [snapshot.name, address.layer]):
        figures = {part: redrawn(figure) for part, figure in figures.items()}  # keeps what the reader zoomed to
    broken = any((strip.non_finite > 0).any() for pair in strips.strips for strip in pair)
    return {
        **shown,
        **figures,
        "charts": {},
        "head": layer_detail.detail_head(data, address),
        "numbers": layer_detail.numbers_and_siblings(data, colours),
        "strips_size": {"height": height(strips)},
        "lines_size": {"height": lines_height(lines)},
        "legend": layer_detail.strip_legend(colours, strips.scaled, broken),
        "parameters": layer_detail.parameter_table(snapshot.signals, data, address),
        "detail_links": data_links(address, "layer"),
    }


def register(app: Dash, runs: Runs) -> None:
    """Wires the filters to the address, and the address to the text field."""
    for function, component, value in (
        ("go_find", ID["find"], "value"),
        ("go_kind", ID["kind"], "value"),
        ("go_unhealthy", ID["unhealthy"], "checked"),
    ):
        go = ClientsideFunction("gradscope", function)
        app.clientside_callback(go, Input(component, value), prevent_initial_call=True)  # type: ignore[no-untyped-call]
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("gradscope", "found"), Output(ID["find"], "value"), Input(ids.URL, "search")
    )


PAGE = Page("layers", "Layers", OUTPUTS, layout, areas, register=register)
