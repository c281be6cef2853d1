"""The checks: every rule, what came of it and by what it judges; and what could not be observed."""

from __future__ import annotations

from dash import Output, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.parts.check_cards import check_rows, draw_groups, summary
from gradscope.dashboard.runs import Runs
from gradscope.records import NotObserved
from gradscope.reports.words import count

ID = {part: ids.of("checks", part) for part in ("summary", "groups", "unseen")}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The frame."""
    return [
        html.H1("Checks"),
        html.P(id=ID["summary"], className="dimmed"),
        html.Div(id=ID["groups"]),
        html.Div(id=ID["unseen"]),
    ]


def areas(view: View) -> dict[str, Area]:
    """All of it is drawn from the run."""
    return {"checks": Area([view.versions], lambda: _draw(view))}


def _draw(view: View) -> Outputs:
    snapshot = view.snapshot
    rows = check_rows(snapshot.diagnosis, snapshot.signals)
    return {
        "summary": summary(rows),
        "groups": draw_groups(rows, snapshot.name),
        "unseen": unseen(snapshot.diagnosis.not_observed),
    }


def unseen(missing: tuple[NotObserved, ...]) -> Component:
    """What was not observed, and why."""
    items = [html.Li([html.Span(each.what, className="mono"), f": {each.why}"]) for each in missing]
    said = html.Ul(items, className="plain") if items else html.P("Everything that was asked for was observed.")
    number = html.Span(f" · {count(len(items), 'thing')}", className="dimmed") if items else None
    return html.Section([html.H2(["Not observed", number]), html.Div(said, className="card")], className="check-group")


OUTPUTS = {name: Output(component, "children") for name, component in ID.items()}
PAGE = Page("checks", "Checks", OUTPUTS, layout, areas)
