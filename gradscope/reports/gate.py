"""What `gradscope check` says of a report: which findings fail it, which are muted or known, and the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

from gradscope.records import SEVERITIES, Severity
from gradscope.reports.envelope import Document
from gradscope.reports.look import Look
from gradscope.reports.words import ascii_only, count, harmless


def gate(document: Document, fail_on: Severity, muted: Mapping[str, str], known: Mapping[str, str]) -> Document:
    """The document with its `check`: the outcome, and what became of each finding that does not count.

    Args:
        document: of a run.
        fail_on: the least severity that fails it.
        muted: the reason by the finding's number.
        known: the baseline's file by the number of a finding that is in it.

    Example:
        >>> finding = {"number": "F1", "rule": "dead-units", "severity": "warning"}
        >>> gate({"verdict": "watch", "findings": [finding]}, "warning", {}, {})["check"]["outcome"]
        'failed'
    """
    numbers = [finding["number"] for finding in document["findings"]]
    why = {number: ("known", file) for number, file in known.items()}
    why |= {number: ("muted", reason) for number, reason in muted.items()}
    failing = [
        finding["number"]
        for finding in document["findings"]
        if finding["number"] not in why and at_least(finding["severity"], fail_on)
    ]
    waits = document["verdict"] == "not-enough-data"
    return {
        **document,
        "check": {
            "outcome": "failed" if failing else "not-enough-data" if waits else "passed",
            "fail_on": fail_on,
            "failing": failing,
            "spared": [
                {"number": number, "as": why[number][0], "reason": why[number][1]}
                for number in numbers
                if number in why
            ],
        },
    }


def at_least(severity: Severity, least: Severity) -> bool:
    """Whether a severity is as grave as another, or graver.

    Example:
        >>> at_least("error", "warning"), at_least("note", "warning")
        (True, False)
    """
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def spared(document: Document) -> dict[str, str]:
    """Why findings do not count, by their number; empty where nothing was checked."""
    said = {"muted": "muted", "known": "known from the baseline"}
    return {
        each["number"]: f"{said[each['as']]}: {each['reason']}" if each["reason"] else said[each["as"]]
        for each in document.get("check", {}).get("spared", ())
    }


def conclusion(document: Document) -> str:
    """The outcome in words, and what did not count.

    Example:
        >>> finding = {"number": "F1", "rule": "dead-units", "severity": "warning"}
        >>> document = {"verdict": "watch", "findings": [finding]}
        >>> conclusion(gate(document, "warning", {}, {}))
        'Failed: 1 finding at or above warning (F1 dead-units).'
        >>> conclusion(gate(document, "warning", {"F1": "by design"}, {}))
        'Passed: no finding that counts at or above warning. Not counted: F1 dead-units (muted: by design).'
    """
    check, rules = document["check"], {each["number"]: each["rule"] for each in document["findings"]}
    if check["failing"]:
        named = ", ".join(f"{number} {rules[number]}" for number in check["failing"])
        said = [f"Failed: {count(len(check['failing']), 'finding')} at or above {check['fail_on']} ({named})."]
    elif check["outcome"] == "not-enough-data":
        said = ["Not enough data to judge: too few steps were recorded."]
    else:
        said = [f"Passed: no finding that counts at or above {check['fail_on']}."]
    apart: dict[str, list[str]] = {}
    for number, why in spared(document).items():
        apart.setdefault(why, []).append(f"{number} {rules[number]}")
    return " ".join([*said, *(f"Not counted: {', '.join(those)} ({why})." for why, those in apart.items())])


def conclusion_text(document: Document, look: Look) -> str:
    """The conclusion as lines for a stream of this look, ending in a line end."""
    said = harmless(conclusion(document))
    return "\n".join(wrap(said if look.unicode else ascii_only(said), look.width, break_on_hyphens=False)) + "\n"
