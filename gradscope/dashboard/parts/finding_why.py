"""Why we say this: the numbers against their thresholds, the causes, and what was ruled out."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.parts.waterfall import waterfall_card
from gradscope.dashboard.wording import ABSENT, number, percent
from gradscope.diagnosis import could_lead_to
from gradscope.numerals import limit
from gradscope.records import Cause, Diagnosis, Evidence, Finding
from gradscope.reports.benchmark import NOTE, Rate, rate_of_cause
from gradscope.reports.words import count

_OF_THE_BUDGET = ("vanishing-gradient", "exploding-gradient", "poor-initialization", "saturated-activation")


def why_section(view: FindingView) -> list[Component]:
    """The section of a finding's page."""
    finding = view.finding
    return [
        view.heading("Why we say this"),
        evidence_table(finding.evidence),
        html.P(_examined(view), className="dimmed"),
        *_mechanism(view),
        *_causes(view),
        *_ruled_out(view),
        *_not_observed(view.snapshot.diagnosis),
    ]


def _mechanism(view: FindingView) -> list[Component]:
    """What ate or blew up the gradient, as a picture, where the finding is about that."""
    if view.finding.rule not in _OF_THE_BUDGET:
        return []
    page = "finding" if view.level == 2 else "drawer"
    step = view.finding.first_step
    return [waterfall_card(view.snapshot.signals, step, view.scheme, page=page, level=view.level + 1)]


def evidence_table(evidence: tuple[Evidence, ...]) -> Component:
    """One number a row."""
    if not evidence:
        return html.P("No number is attached to this finding.", className="dimmed")
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in ("Measured", "Here", "Healthy", "Threshold")]))
    rows = [
        html.Tr(
            [
                html.Th(item.name, scope="row"),
                html.Td(f"{number(item.value)} {item.unit}".strip(), className="value"),
                html.Td(item.healthy or ABSENT, className="value"),
                html.Td(ABSENT if item.threshold is None else limit(item.threshold), className="value"),
            ]
        )
        for item in evidence
    ]
    return html.Div(html.Table([head, html.Tbody(rows)], className="table"), className="table-frame", tabIndex=0)


def _examined(view: FindingView) -> str:
    steps = view.snapshot.signals.steps
    if not len(steps):
        return "No step was recorded in full; this is judged by the losses alone."
    layers = len(view.snapshot.signals.layers)
    return f"Judged over {count(len(steps), 'recorded step')} and {count(layers, 'layer')}."


def _causes(view: FindingView) -> list[Component]:
    causes = view.finding.causes
    if not causes:
        return [html.P("No cause stands out.", className="dimmed")]
    items = [html.Li(_cause(each, rate_of_cause(view.finding, place))) for place, each in enumerate(causes)]
    title = "Most likely cause" if len(causes) == 1 else "Most likely causes"
    return [view.heading(title, below=1), html.Ol(items, className="causes")]


def _cause(cause: Cause, rate: Rate | None) -> list[Component | str]:
    known: list[Component | str] = [] if rate is None else [html.Span(f", {rate}; {NOTE}.", className="dimmed")]
    return [
        html.Strong(cause.id.replace("-", " ").capitalize()),
        html.Span(f" · confidence {percent(round(cause.confidence, 2))}", className="dimmed"),
        *known,
        html.Br(),
        cause.explanation,
    ]


def ruled_out(finding: Finding, diagnosis: Diagnosis) -> tuple[list[str], list[str]]:
    """Rules whose findings could have led to this one: those that looked and found nothing, those that could not look."""
    outcomes = {check.rule: check.outcome for check in diagnosis.passed}
    could = [rule for rule in could_lead_to(finding.rule) if rule in outcomes]
    sound = [rule for rule in could if outcomes[rule] == "passed"]
    return sound, [rule for rule in could if outcomes[rule] == "needs-data"]


def _ruled_out(view: FindingView) -> list[Component]:
    sound, waiting = ruled_out(view.finding, view.snapshot.diagnosis)
    said: list[Component] = []
    if sound:
        said.append(html.P([html.Strong("Ruled out: "), "looked for, and not found: ", *_names(sound)]))
    if waiting:
        said.append(html.P([html.Strong("Not ruled out yet: "), "too little was recorded for ", *_names(waiting)]))
    return [view.heading("What else it could be", below=1), *said] if said else []


def _names(rules: list[str]) -> list[Component | str]:
    return [f"{', '.join(rule.replace('-', ' ') for rule in rules)}."]


def _not_observed(diagnosis: Diagnosis) -> list[Component]:
    missing = diagnosis.not_observed
    if not missing:
        return []
    items = [
        html.Li([html.Span(each.what, className="mono"), html.Span(f": {each.why}", className="dimmed")])
        for each in missing
    ]
    return [html.Details([html.Summary(f"{count(len(missing), 'thing')} not observed"), html.Ul(items)])]
