"""Compare: what two runs were set to, what is wrong in one only, and where their numbers part."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, html
from dash.development.base_component import Component

from gradscope.comparison import ALIGNMENTS, Side, compare
from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.difference import (
    difference_data,
    difference_height,
    draw_difference,
    span_of,
    state_colours,
)
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.pages.compare_layout import ID, chosen, layout
from gradscope.dashboard.pages.compare_words import (
    excerpt_notes,
    findings_columns,
    layers_card,
    missing_words,
    settings_card,
    title,
    verdict_cards,
)
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import theme

OUTPUTS = {
    "title": Output(ID["title"], "children"),
    "a": Output(ID["a"], "value"),
    "b": Output(ID["b"], "value"),
    "choices_a": Output(ID["a"], "data"),
    "choices_b": Output(ID["b"], "data"),
    "swap": Output(ID["swap"], "href"),
    "missing": Output(ID["missing"], "children"),
    "body": Output(ID["body"], "style"),
    "verdicts": Output(ID["verdicts"], "children"),
    "settings": Output(ID["settings"], "children"),
    "findings": Output(ID["findings"], "children"),
    "metric": Output(ID["metric"], "value"),
    "by": Output(ID["by"], "value"),
    "map": Output(ID["map"], "figure"),
    "map_style": Output(ID["map"], "style"),
    "map_title": Output(ID["map-title"], "children"),
    "map_legend": Output(ID["map-legend"], "children"),
    "layers": Output(ID["layers"], "children"),
}


def reads(runs: Runs, address: Address) -> tuple[str, ...]:
    """The two runs; of one that is not there only the other."""
    names = runs.names()
    return tuple(name for name in chosen(runs, address) if name in names)


def areas(view: View) -> dict[str, Area]:
    """The comparison's parts, and what each is drawn from."""
    address, names = view.address, view.runs.names()
    a, b = chosen(view.runs, address)
    address = address.at(a=a, b=b)
    controls = Area([a, b, names, address.metric, address.by], lambda: _controls(address, names))
    if len(view.snapshots) < 2:
        said = [a, b, names]
        missing = Area(["missing", said], lambda: _missing(address, names))
        return {"controls": controls, "missing": missing}
    sides, versions = _sides(view.snapshots), list(view.versions)
    map_source = [versions, address.metric, address.by, view.scheme]
    return {
        "controls": controls,
        "words": Area([versions], lambda: _words(sides, excerpt_notes(view.snapshots))),
        "map": Area(map_source, lambda: _map(sides, address, view.scheme)),
    }


def _controls(address: Address, names: list[str]) -> Outputs:
    choices = [{"value": name, "label": name} for name in names]
    return {
        "a": address.a if address.a in names else None,
        "b": address.b if address.b in names else None,
        "choices_a": choices,
        "choices_b": choices,
        "swap": address.at(a=address.b, b=address.a).href,
        "metric": address.metric,
        "by": _alignment(address),
    }


def _alignment(address: Address) -> str:
    return address.by if address.by in ALIGNMENTS else "step"


def _missing(address: Address, names: list[str]) -> Outputs:
    return {"title": "Compare two runs", "missing": missing_words(address, names), "body": {"display": "none"}}


def _sides(snapshots: tuple[Snapshot, ...]) -> tuple[Side, Side]:
    a, b = (Side(each.name, each.run, each.diagnosis, each.signals) for each in snapshots[:2])
    return a, b


def _words(sides: tuple[Side, Side], notes: list[str]) -> Outputs:
    a, b = sides
    found = compare(a, b)
    return {
        "title": title(found),
        "missing": [html.P(note, className="card compare-note") for note in (*found.notes, *notes)],
        "body": {},
        "verdicts": verdict_cards(found, a.diagnosis, b.diagnosis),
        "settings": settings_card(found),
        "findings": findings_columns(found),
        "layers": layers_card(found),
    }


def _map(sides: tuple[Side, Side], address: Address, scheme: str) -> Outputs:
    a, b = sides
    metric, colours, by = METRICS[address.metric], theme(scheme), _alignment(address)
    data = difference_data(a.signals, b.signals, (a.name, b.name), address.metric, by)
    states = set(data.cells.states.ravel().tolist())
    return {
        "map": draw_difference(data, colours),
        "map_style": {"height": difference_height(data)},
        "map_title": _map_title(metric.title, span_of(address.metric)),
        "map_legend": [
            html.Span([html.Span(className="swatch", style={"background": colour}), words])
            for state, (colour, words) in state_colours(address.metric, colours).items()
            if state in states
        ],
    }


def _map_title(what: str, span: float) -> list[Component | str]:
    scale = f"· log₁₀ B / A; the scale is fixed at ±{span:g} decades"
    return [f"Loss, and {what[0].lower()}{what[1:]}: B minus A ", html.Span(scale, className="dimmed")]


def register(app: Dash, runs: Runs) -> None:
    """Wires the selects to the address."""
    for space, part in (("compare", "a"), ("compare", "b"), ("gradscope", "metric"), ("compare", "by")):
        go: Any = ClientsideFunction(space, f"go_{part}")
        app.clientside_callback(go, Input(ID[part], "value"), prevent_initial_call=True)  # type: ignore[no-untyped-call]


PAGE = Page("compare", "Compare", OUTPUTS, layout, areas, reads, register, shows_empty_runs=True)
