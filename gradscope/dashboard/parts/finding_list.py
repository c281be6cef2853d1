"""Which findings the list holds and in what order, and the controls above it; both are in the address."""

from __future__ import annotations

from dataclasses import dataclass

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.wording import SEVERITY_WORDS
from gradscope.records import SEVERITIES, Finding
from gradscope.reports.words import SHAPES, count
from gradscope.store.mutes import Mute, mute_of

SORTS = {"cause": "root cause", "severity": "severity", "onset": "onset"}


@dataclass(frozen=True)
class Listed:
    """What the list shows.

    Attributes:
        findings: with their numbers, in order, each with the mute that holds for it.
        muted: how many are muted, shown or not.
        filtered: how many the severity leaves out.
    """

    findings: tuple[tuple[str, Finding, Mute | None], ...]
    muted: int
    filtered: int


def listed(findings: tuple[Finding, ...], mutes: tuple[Mute, ...], address: Address) -> Listed:
    """The findings as the address asks for them.

    Args:
        findings: of the diagnosis, the likeliest root cause first.
        mutes: of the run.
        address: `sort`, `severity` and `muted` of it.
    """
    every = [(f"F{number}", finding, mute_of(finding, mutes)) for number, finding in enumerate(findings, 1)]
    asked = address.severity if address.severity in SEVERITIES else None
    of_severity = [each for each in every if asked is None or each[1].severity == asked]
    shown = [each for each in of_severity if each[2] is None or address.muted]
    if address.sort == "severity":
        shown.sort(key=lambda each: -SEVERITIES.index(each[1].severity))
    elif address.sort == "onset":
        shown.sort(key=lambda each: each[1].first_step)
    muted = sum(mute is not None for _, _, mute in every)
    return Listed(tuple(shown), muted, len(every) - len(of_severity))


def controls(findings: tuple[Finding, ...], mutes: tuple[Mute, ...], address: Address) -> list[Component]:
    """Links that sort and filter; only those that change something."""
    if not findings:
        return []
    address = address.at(finding=None, layer=None)  # what is open stays out of the links: they outlive it
    parts: list[Component] = []
    if len(findings) > 1:
        sort = address.sort if address.sort in SORTS else "cause"
        choices = [
            (words, address.at(sort=None if name == "cause" else name), name == sort) for name, words in SORTS.items()
        ]
        parts.append(_choice("Sort by", "Order of the findings", choices))
    kinds = [name for name in reversed(SEVERITIES) if any(finding.severity == name for finding in findings)]
    if len(kinds) > 1 or address.severity:
        amounts = {name: sum(finding.severity == name for finding in findings) for name in kinds}
        choices = [("all", address.at(severity=None), address.severity not in kinds)]
        for name in kinds:
            words = f"{SHAPES[name][0]} {SEVERITY_WORDS[name].lower()} {amounts[name]}"
            choices.append((words, address.at(severity=name), address.severity == name))
        parts.append(_choice("Show", "Which findings are shown", choices))
    muted = sum(mute_of(finding, mutes) is not None for finding in findings)
    if muted:
        link = html.A("hide" if address.muted else "show", href=address.at(muted=not address.muted).href)
        parts.append(html.P([f"{count(muted, 'finding')} muted: ", link], className="list-control"))
    return [html.Div(parts, className="list-controls")] if parts else []


def _choice(label: str, of: str, choices: list[tuple[str, Address, bool]]) -> Component:
    links = [
        html.A(words, href=target.href, className="choice", **(aria(current="true") if chosen else {}))
        for words, target, chosen in choices
    ]
    return html.Div(
        [html.Span(label, className="dimmed"), *links], className="list-control", role="group", **aria(label=of)
    )


def nothing_listed(shown: Listed, address: Address) -> str:
    """Why the list is empty although there are findings."""
    if shown.filtered and not shown.muted:
        return "No finding of this severity."
    if shown.muted and not shown.filtered:
        return "All findings are muted."
    return "No finding is left by the filter and the mutes."
