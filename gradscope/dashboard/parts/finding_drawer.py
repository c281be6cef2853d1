"""A finding in full, in the drawer: when, where, why, what to do; its page shows the same parts."""

from __future__ import annotations

from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard.live import View
from gradscope.dashboard.measuring import Measurement, measurement
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.finding_actions import actions
from gradscope.dashboard.parts.finding_do import do_section
from gradscope.dashboard.parts.finding_others import others_section
from gradscope.dashboard.parts.finding_view import FindingView, find, finding_view
from gradscope.dashboard.parts.finding_when import when_section
from gradscope.dashboard.parts.finding_where import where_section
from gradscope.dashboard.parts.finding_why import why_section
from gradscope.dashboard.parts.tag import severity_tag
from gradscope.dashboard.runs import Snapshot
from gradscope.dashboard.wording import percent
from gradscope.records import Finding
from gradscope.reports.benchmark import rate_of_cause

__all__ = ["drawer", "drawer_source", "find", "finding_title", "head", "sections", "ticker"]

SAID = "finding-said"  # announced to people who do not see the page
TICK = "finding-tick"
ACTIONS = "finding-actions"


def drawer_source(view: View) -> object:
    """What the drawer of a finding is drawn from: not the newest numbers, which would move what is being read."""
    address, snapshot = view.address, view.snapshot
    found = finding_view(view.runs, snapshot, address, view.scheme)
    if found is None:
        return [snapshot.name, address.finding]
    tried = [suggestion.trial for suggestion in found.finding.suggestions]
    return [snapshot.name, address.finding, found.finding.rule, tried, found.mute, view.scheme]


def drawer(view: View) -> tuple[Component | str, list[Component]]:
    """The drawer's title and content for the finding that the address names."""
    found = finding_view(view.runs, view.snapshot, view.address, view.scheme)
    if found is None:
        return "Not found", [html.P(not_found(view.snapshot, view.address.finding))]
    trial = measurement(found.folder)
    content = [part for parts in sections(found, trial).values() for part in parts]
    return finding_title(found), [*head(found), *ticker(trial), html.Div(actions(found), id=ACTIONS), *content]


def not_found(snapshot: Snapshot, number: str | None) -> str:
    """For a number that the run has no finding of."""
    held = len(snapshot.diagnosis.findings)
    there = "It has none." if not held else f"It has F1 to F{held}." if held > 1 else "It has F1 alone."
    return f"This run has no finding {number}; it may have healed. {there}"


def finding_title(view: FindingView) -> Component:
    """The title."""
    return html.Span([html.Span(f"{view.number} · ", className="dimmed"), view.finding.message])


def head(view: FindingView) -> list[Component]:
    """Severity, rule, and how sure the first cause is."""
    learn = view.address.of_run("checks")
    return [
        html.P(
            [
                severity_tag(view.finding.severity),
                html.Span(" · "),
                html.A(view.finding.rule, href=f"{learn.href}#{view.finding.rule}", className="mono"),
                *([html.Span(f" · {sure(view.finding)}", className="dimmed")] if view.finding.causes else []),
            ],
            className="finding-kind",
        )
    ]


def sure(finding: Finding) -> str:
    """How sure the first cause of a finding is: what is said of this one, and what was measured of others."""
    rate = rate_of_cause(finding, 0)
    known = "" if rate is None else f" ({rate.short})"
    return f"confidence {percent(round(finding.causes[0].confidence, 2))}{known}"


def ticker(trial: Measurement | None) -> list[Component]:
    """What keeps a measurement's progress moving, and what is announced of it."""
    return [
        dcc.Interval(id=TICK, interval=1000, disabled=trial is None or not trial.goes_on),
        html.Div(id=SAID, className="visually-hidden", role="status", **aria(live="polite")),
    ]


def sections(view: FindingView, trial: Measurement | None) -> dict[str, list[Component]]:
    """The parts of a finding by name, in their order."""
    return {
        "when": when_section(view),
        "where": where_section(view),
        "why": why_section(view),
        "do": do_section(view, trial),
        "others": others_section(view),
    }
