"""What changed most in the chosen window, and what was changed on purpose."""

from __future__ import annotations

import math
from typing import Any

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.runs import Snapshot
from gradscope.dashboard.wording import number, step
from gradscope.records import Finding
from gradscope.reports.loss_line import onsets
from gradscope.reports.words import sentence
from gradscope.signals import Signals
from gradscope.signals.changes import Change, suspects, what_changed_most, window_before

_NEAR = 20  # steps within which a change is said to be near an onset


def changes_card(snapshot: Snapshot, address: Address) -> list[Component]:
    """The table for the address' window, or how to choose one."""
    signals, links = snapshot.signals, _windows(snapshot, address)
    if address.brush is None:
        how = "Hold Shift and drag over the figure, or enter two steps: what is not as it was before is listed here."
        return [html.P(how, className="dimmed"), links]
    first, last = address.brush
    before = window_before(signals, first, last)
    if before is None:
        return [html.P(_too_little(signals, first, last)), links]
    changes = what_changed_most(signals, first, last)
    against = f"Steps {step(first)} to {step(last)} against steps {step(before[0])} to {step(before[1])} before them"
    if not changes:
        said = f"{against}: nothing is clearly different (by more than 3 times its usual spread and 20 %)."
        return [html.P(said), links]
    if snapshot.is_excerpt:
        against += ", as far as they were read"
    words = "medians, so that one spike is no change; what was set first, then the most surprising."
    return [html.P(f"{against}: {words}", className="dimmed"), _table(changes, signals, address), links]


def _too_little(signals: Signals, first: int, last: int) -> str:
    if not ((signals.steps >= first) & (signals.steps <= last)).any():
        return f"No layer was recorded between step {step(first)} and step {step(last)}: choose a wider window."
    return f"Fewer than two steps were recorded before step {step(first)}: there is nothing to compare with."


def _table(changes: tuple[Change, ...], signals: Signals, address: Address) -> Component:
    heads = ("What changed", "Before", "Here", "Moved, in usual spreads")
    owners = {site.name: site.module for site in signals.sites if site.role == "parameter"}
    rows = [
        html.Tr(
            [
                html.Th(_what(change, owners, address), scope="row"),
                html.Td(number(change.before), className="value"),
                html.Td(_here(change), className="value"),
                html.Td("—" if math.isinf(change.spreads) else number(change.spreads), className="value"),
            ]
        )
        for change in changes
    ]
    head = html.Thead(html.Tr([html.Th(text, scope="col") for text in heads]))
    return html.Div(html.Table([head, html.Tbody(rows)], className="table"), className="table-frame")


def _what(change: Change, owners: dict[str, str], address: Address) -> Component | str:
    if not change.layer:
        return change.sentence
    layer = owners.get(change.layer, change.layer)
    before, _, after = change.sentence.partition(change.layer)
    link = html.A(
        change.layer,
        href=address.of_run("layers", layer=layer, step=change.first_step).href,
        className="mono",
    )
    return html.Span([before, link, after])


def _here(change: Change) -> str:
    return "NaN or Inf" if change.kind == "became non-finite" else number(change.inside)


def _windows(snapshot: Snapshot, address: Address) -> Component:
    """Links to the windows where findings begin."""
    starts = [onset for onset in onsets(snapshot.diagnosis.findings) if onset.step > 0]
    if not starts:
        return html.P([])
    length = _window_length(snapshot)
    links: list[Any] = [html.Span("Look where findings begin: ", className="dimmed")]
    for onset in starts[:8]:
        target = address.at(brush=(onset.step, onset.step + length), step=onset.step)
        links.append(html.A(f"{onset.label} at step {step(onset.step)}", href=target.href, className="button"))
    return html.P(links, className="timeline-links")


def _window_length(snapshot: Snapshot) -> int:
    newest = snapshot.newest_step or 0
    return max(2, min(20, newest // 20))


def suspects_card(snapshot: Snapshot, address: Address) -> list[Component]:
    """What the program or a scaler changed, with the findings that begin soon after."""
    findings = snapshot.diagnosis.findings
    marks = suspects(snapshot.signals, tuple(finding.first_step for finding in findings))
    head = html.H2("Changed on purpose")
    if not marks:
        text = "Neither the learning rate nor the loss scale was changed suddenly, and clipping did not set in."
        return [head, html.P(text, className="dimmed")]
    length = _window_length(snapshot)
    items = [
        html.Li(
            [
                html.A(
                    f"◆ Step {step(mark.step)}",
                    href=address.at(brush=(mark.step, mark.step + length), step=mark.step).href,
                ),
                f": {mark.sentence}.",
                _soon_after(findings, mark.step),
            ]
        )
        for mark in marks
    ]
    help_text = "The first to ask when something begins to go wrong: what was changed shortly before."
    return [head, html.P(help_text, className="dimmed"), html.Ul(items, className="plain timeline-suspects")]


def _soon_after(findings: tuple[Finding, ...], at: int) -> Component | None:
    soon = [f"F{n}" for n, finding in enumerate(findings, 1) if 0 <= finding.first_step - at <= _NEAR]
    if not soon:
        return None
    verb = "begins" if len(soon) == 1 else "begin"
    return html.Strong(sentence(f" {' and '.join(soon)} {verb} within {_NEAR} steps"))
