"""The checks: for each rule what came of it, what it judges by, what it looked at, and its page."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

from dash import html
from dash.development.base_component import Component

from gradscope.catalogue import rules
from gradscope.dashboard.address import Address
from gradscope.dashboard.examined import Looked, examined
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.wording import number
from gradscope.records import Diagnosis, Severity
from gradscope.reports.words import SHAPES, count
from gradscope.signals import Signals


class Outcome(NamedTuple):
    """What can come of a check."""

    title: str  # of all that it came of
    word: str
    shape: str
    tone: str


OUTCOMES = {
    "fired": Outcome("Fired", "fired", "▲", ""),
    "could-not-run": Outcome("Could not run", "could not run", "✗", "error"),
    "needs-data": Outcome("Waiting for more data", "needs data", "○", ""),
    "not-applicable": Outcome("Not applicable", "not applicable", "–", ""),
    "passed": Outcome("Passed", "passed", "✓", "ok"),
}


@dataclass(frozen=True)
class CheckRow:
    """One rule on one run.

    Attributes:
        outcome: a key of `OUTCOMES`.
        reason: why it could not judge, or what it found.
        findings: number and severity of what it found: ("F1", "error").
        looked: what it examined; empty where it did not come to that.
    """

    rule: str
    outcome: str
    reason: str = ""
    findings: tuple[tuple[str, Severity], ...] = ()
    looked: tuple[Looked, ...] = ()


def check_rows(diagnosis: Diagnosis, signals: Signals) -> tuple[CheckRow, ...]:
    """Every rule of the catalogue with what came of it; those that fired in the findings' order, then by outcome."""
    quiet = {check.rule: check for check in diagnosis.passed}
    rows = []
    for name, rule in rules().items():
        found = [(f"F{at}", each) for at, each in enumerate(diagnosis.findings, 1) if each.rule == name]
        check = quiet.get(name)
        outcome = "fired" if found else check.outcome if check else "could-not-run"
        reason = found[0][1].message if found else check.reason if check else "the diagnosis does not speak of it"
        looked = examined(rule, signals) if outcome in ("fired", "passed") else ()
        rows.append(CheckRow(name, outcome, reason, tuple((at, each.severity) for at, each in found), looked))
    order = list(OUTCOMES)
    return tuple(sorted(rows, key=lambda row: (order.index(row.outcome), row.findings[:1], row.rule)))


def summary(rows: tuple[CheckRow, ...]) -> str:
    """`19 rules: 2 fired · 15 passed · 1 not applicable · 1 needs data`."""
    amounts = {name: sum(row.outcome == name for row in rows) for name in ("fired", *reversed(OUTCOMES))}
    said = [f"{amount} {OUTCOMES[name].word}" for name, amount in amounts.items() if amount]
    return f"{count(len(rows), 'rule')}: {' · '.join(said)}"


def draw_groups(rows: tuple[CheckRow, ...], run: str) -> list[Component]:
    """The rules, gathered by what came of them."""
    groups: list[Component] = []
    for name, outcome in OUTCOMES.items():
        here = [row for row in rows if row.outcome == name]
        if here:
            title = html.H2([outcome.title, html.Span(f" · {len(here)}", className="dimmed")])
            cards = html.Ul([_card(row, run) for row in here], className="plain check-list")
            groups.append(html.Section([title, cards], key=name, className="check-group"))
    return groups


def _card(row: CheckRow, run: str) -> html.Li:
    rule: Any = rules()[row.rule]
    worst = row.findings[0][1] if row.findings else None
    outcome = OUTCOMES[row.outcome]
    tone = worst or outcome.tone
    shape = SHAPES[worst][0] if worst else outcome.shape
    links = [
        html.A(
            f"{number_} {severity}", href=Address("finding", run, finding=number_).href, className="button check-link"
        )
        for number_, severity in row.findings
    ]
    return html.Li(
        [
            html.Div(
                [
                    html.Span(
                        [html.Span(shape, **aria(hidden="true")), f" {outcome.word}"],
                        className=f"severity tone-{tone}" if tone else "severity dimmed",
                    ),
                    html.H3(row.rule, className="mono", id=f"check-{row.rule}"),
                    *links,
                ],
                className="check-head",
            ),
            html.P(row.reason if row.findings else [html.Span("Looks for: ", className="dimmed"), rule.summary]),
            html.P([f"{row.reason[:1].upper()}{row.reason[1:]}."], className="check-reason")
            if row.reason and not row.findings
            else None,
            html.P(_looked(row), className="dimmed check-looked"),
            html.Div([_thresholds(rule), _explanation(rule)], className="check-more"),
        ],
        key=row.rule,
        className=f"card check bar-{tone}" if tone else "card check",
    )


def _looked(row: CheckRow) -> str:
    if row.outcome not in ("fired", "passed"):
        return "Examined nothing."
    if not row.looked:
        return "Examined: facts about the model and the program, no series of numbers."
    said = [_numbers(each) for each in row.looked[:3]]
    more = f"; and {count(len(row.looked) - 3, 'more kind')} of numbers" if len(row.looked) > 3 else ""
    return f"Examined: {'; '.join(said)}{more}."


def _numbers(each: Looked) -> str:
    if each.places == 1:
        return f"{each.numbers:,} {each.what}"
    return f"{each.what} at {each.places:,} places, {each.numbers:,} numbers"


def _thresholds(rule: Any) -> Component:
    limits = rule.thresholds()
    if not limits:
        return html.P("Judges by no threshold: what it looks for is there or not.", className="dimmed")
    rows = [
        html.Tr(
            [
                html.Th(name.replace("_", " "), scope="row"),
                html.Td(number(limit.value), className="value"),
                html.Td(limit.unit),
                html.Td(limit.source, className="dimmed"),
            ]
        )
        for name, limit in limits.items()
    ]
    head = html.Tr([html.Th(text, scope="col") for text in ("Threshold", "Value", "Of what", "Where it is from")])
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="table")
    return html.Details(
        [html.Summary(count(len(limits), "threshold")), html.Div(table, className="table-frame")], className="fold"
    )


def _explanation(rule: Any) -> Component:
    """The rule's page."""
    paragraphs = inspect.cleandoc(rule.__doc__ or "").split("\n\n")
    return html.Details(
        [
            html.Summary("Explain"),
            *(_paragraph(" ".join(each.split())) for each in paragraphs),
            html.P(html.Strong("Sources")),
            html.Ul([html.Li(each) for each in rule.sources]),
        ],
        className="fold explanation",
    )


def _paragraph(text: str) -> html.P:
    """A paragraph; what stands before its first colon is its title."""
    title, colon, rest = text.partition(": ")
    return html.P([html.Strong(title + colon), rest]) if colon and len(title) < 40 else html.P(text)
