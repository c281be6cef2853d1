"""A finding in full: when, where, why, what to do."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.figures.trial_curves import LEGEND, draw_trial_curves, trial_curves_data
from gradscope.dashboard.parts.tag import effect_tag, severity_tag
from gradscope.dashboard.wording import ABSENT, number, percent, when
from gradscope.numerals import limit
from gradscope.records import Cause, Diagnosis, Evidence, Finding, Suggestion
from gradscope.reports.words import basis

_MOST_LAYERS = 12
_TRIAL_ROWS = {
    "gone": "Seeds in which the sickness is gone",
    "seeds": "Seeds",
    "steps": "Steps",
    "loss": "Loss with it",
    "no_change": "Loss without a change",
    "random": "Loss with a random change",
    "p_no_change": "p, against no change",
    "p_random": "p, against a random change",
    "step_time": "Time of a step, against no change",
    "step_time_low": "Lowest of the seeds",
    "step_time_high": "Highest of the seeds",
}


def find(diagnosis: Diagnosis, number_: str) -> Finding | None:
    """The finding called "F1", "F2", …; None when there is no such finding (any more)."""
    index = number_.removeprefix("F")
    if index.isascii() and index.isdigit() and 0 < int(index) <= len(diagnosis.findings):
        return diagnosis.findings[int(index) - 1]
    return None


def finding_title(number_: str, finding: Finding) -> Component:
    """The drawer's title."""
    return html.Span([html.Span(f"{number_} · ", className="dimmed"), finding.message])


def finding_body(finding: Finding, diagnosis: Diagnosis, newest_step: int | None) -> list[Component]:
    """The drawer's content."""
    return [
        html.P([severity_tag(finding.severity), html.Span(f" · {finding.rule}", className="mono dimmed")]),
        html.H3("When"),
        html.P(when(finding, newest_step).capitalize()),
        html.H3("Where"),
        _layers(finding.layers),
        html.H3("Why we say this"),
        _evidence(finding.evidence),
        *_causes(finding.causes),
        html.H3("What to do"),
        *([part for item in finding.suggestions for part in _suggestion(item)] or [html.P("No remedy is known yet.")]),
        *_not_observed(diagnosis),
    ]


def _layers(layers: tuple[str, ...]) -> Component:
    if not layers:
        return html.P("The whole model.")
    named = [html.Li(layer or "(model)", className="mono") for layer in layers[:_MOST_LAYERS]]
    if len(layers) > _MOST_LAYERS:
        named.append(html.Li(f"and {len(layers) - _MOST_LAYERS} more", className="dimmed"))
    worst = [html.P("Worst first:", className="dimmed")] if len(layers) > 1 else []
    return html.Div([*worst, html.Ul(named, className="plain layers")])


def _evidence(evidence: tuple[Evidence, ...]) -> Component:
    if not evidence:
        return html.P("No number is attached to this finding.", className="dimmed")
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in ("Measured", "Here", "Healthy", "Threshold")]))
    rows = [
        html.Tr(
            [
                html.Td(item.name),
                html.Td(f"{number(item.value)} {item.unit}".strip(), className="value"),
                html.Td(item.healthy or "—", className="value"),
                html.Td(ABSENT if item.threshold is None else limit(item.threshold), className="value"),
            ]
        )
        for item in evidence
    ]
    return html.Div(html.Table([head, html.Tbody(rows)], className="table"), className="table-frame")


def _causes(causes: tuple[Cause, ...]) -> list[Component]:
    if not causes:
        return []
    items = [
        html.Li(
            [
                html.Strong(cause.id.replace("-", " ").capitalize()),
                html.Span(f" · confidence {percent(round(cause.confidence, 2))}", className="dimmed"),
                html.Br(),
                cause.explanation,
            ]
        )
        for cause in causes
    ]
    return [
        html.H3("Most likely cause" if len(items) == 1 else "Most likely causes"),
        html.Ol(items, className="causes"),
    ]


def _suggestion(item: Suggestion) -> list[Component]:
    parts: list[Component] = [
        html.H4([item.title, " ", effect_tag(item)]),
        html.P(item.why),
    ]
    if item.location:
        parts.append(html.P(["At ", html.Span(item.location, className="mono")], className="dimmed"))
    if item.code:
        parts.append(dmc.CodeHighlight(code=item.code, language="python", copyLabel="Copy code", copiedLabel="Copied"))
    if item.trial is not None:
        parts.append(_trial(item.trial))
    return parts


def _trial(trial: dict[str, Any]) -> Component:
    """What the trial measured: the sentence, the numbers, and the command that measures them again."""
    _, said, _ = basis({"basis": "measured", "effect": trial.get("effect", "")})
    rows = [
        html.Tr([html.Th(label, scope="row"), html.Td(_plain(trial[name]), className="value")])
        for name, label in _TRIAL_ROWS.items()
        if isinstance(trial.get(name), str | int | float)
    ]
    parts: list[Component] = [
        html.P([html.Strong(f"{said.capitalize()}: "), str(trial.get("outcome", ""))], className="trial-outcome"),
        html.Div(html.Table(html.Tbody(rows), className="table"), className="table-frame"),
    ]
    if image := draw_trial_curves(trial_curves_data(trial)):
        parts.append(html.P(html.Img(src=image, alt=LEGEND)))
        parts.append(html.P(LEGEND, className="dimmed"))
    if command := trial.get("command"):
        parts.append(html.P(["Measure again: ", html.Span(str(command), className="mono")], className="dimmed"))
    return html.Div(parts)


def _plain(value: str | int | float) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _not_observed(diagnosis: Diagnosis) -> list[Component]:
    if not diagnosis.not_observed:
        return []
    return [html.H3("Not observed"), html.Ul([html.Li(str(missing)) for missing in diagnosis.not_observed])]
