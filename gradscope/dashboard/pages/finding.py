"""A finding by its own address: when, where, why, what to do, and whether it helped."""

from __future__ import annotations

from dash import Dash, Output, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.measuring import measurement
from gradscope.dashboard.pages.finding_callbacks import register_measuring, register_muting
from gradscope.dashboard.parts.finding_actions import actions
from gradscope.dashboard.parts.finding_do import do_section
from gradscope.dashboard.parts.finding_drawer import ACTIONS, finding_title, head, not_found, ticker
from gradscope.dashboard.parts.finding_others import others_section
from gradscope.dashboard.parts.finding_view import FindingView, finding_view
from gradscope.dashboard.parts.finding_when import when_section
from gradscope.dashboard.parts.finding_where import where_section
from gradscope.dashboard.parts.finding_why import why_section
from gradscope.dashboard.runs import Runs

ID = {
    part: ids.of("finding", part)
    for part in ("title", "kind", "ticker", "walk", "top", "when", "where", "why", "do", "others")
}
OUTPUTS = {part: Output(name, "children") for part, name in ID.items()}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The frame: two columns where there is room."""
    return [
        html.Div(id=ID["walk"], className="finding-walk"),
        html.H1("\u00a0", id=ID["title"]),
        html.Div(id=ID["kind"]),
        html.Div(id=ID["ticker"]),
        html.Div(id=ID["top"]),
        html.Div(
            [
                html.Div([html.Section(id=ID[part], className="card") for part in ("when", "where", "why", "others")]),
                html.Section(id=ID["do"], className="card"),
            ],
            className="finding-columns",
        ),
    ]


def areas(view: View) -> dict[str, Area]:
    """A finding's parts: those that are written in are drawn anew only when they must be."""
    found = finding_view(view.runs, view.snapshot, view.address, view.scheme, level=2)
    if found is None:
        said = not_found(view.snapshot, view.address.finding)
        return {"all": Area([view.snapshot.name, said], lambda: _nothing(view, said))}
    finding, name = found.finding, view.snapshot.name
    newest = view.versions
    suggested = [
        (each.remedy, each.trial) for each in finding.suggestions
    ]  # not their numbers: what is open stays open
    return {
        "all": Area([name, found.number], lambda: {"ticker": ticker(measurement(found.folder))}),
        "title": Area([name, finding.message, finding.severity], lambda: _title(found)),
        "actions": Area([name, found.number, finding.rule, found.mute], lambda: _actions(found)),
        "when": Area([newest, found.number], lambda: {"when": when_section(found)}),
        "where": Area([name, found.number, finding.layers], lambda: {"where": where_section(found)}),
        "why": Area([newest, found.number, finding.evidence, finding.causes], lambda: {"why": why_section(found)}),
        "do": Area(
            [name, found.number, suggested, view.snapshot.run.info.state, view.scheme],
            lambda: {"do": do_section(found, measurement(found.folder))},
        ),
        "others": Area([newest, found.number], lambda: _others(found)),
    }


def _actions(found: FindingView) -> Outputs:
    return {"top": html.Div(actions(found), id=ACTIONS)}


def _title(found: FindingView) -> Outputs:
    return {"title": finding_title(found), "kind": head(found)}


def _others(found: FindingView) -> Outputs:
    return {"others": others_section(found), "walk": _walk(found)}


def _walk(found: FindingView) -> list[Component]:
    """The way back, and to the findings before and after."""
    place, last = int(found.number[1:]), len(found.snapshot.diagnosis.findings)
    links: list[Component] = [html.A("All findings", href=found.address.of_run().href)]
    if place > 1:
        links.append(html.A(f"‹ F{place - 1}", href=found.href(f"F{place - 1}"), title="The finding before"))
    if place < last:
        links.append(html.A(f"F{place + 1} ›", href=found.href(f"F{place + 1}"), title="The next finding"))
    return links


def _nothing(view: View, said: str) -> Outputs:
    back = html.A("All findings", href=view.address.of_run().href)
    parts: Outputs = {part: [] for part in ID}
    return parts | {"title": "No such finding", "kind": [html.P(said), html.P(back)]}


def register(app: Dash, runs: Runs) -> None:
    """Wires muting and measuring, for this page and for the drawer."""
    register_measuring(app, runs)
    register_muting(app, runs)


PAGE = Page("finding", "Finding", OUTPUTS, layout, areas, register=register)
