"""What reports say of a run and of its findings, in clauses that the terminal and the page share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from gradscope import numerals
from gradscope.reports.benchmark import NOTE, Rate
from gradscope.reports.words import count, step

Document = dict[str, Any]  # the parts of a `reports.document`

_STATES = {"recording": "still recording", "stopped": "stopped early", "ended": "ended"}


def run_facts(run: Document) -> str:
    """Which run: "Run a: Net; 8 steps, 2 of them recorded in full; ended."."""
    together = f" on {run['ranks']:,} ranks ({run['parallel'] or 'not known how'})" if run["ranks"] > 1 else ""
    facts = [
        run["model"] + together,
        f"{count(run['steps'], 'step')}, {run['recorded_steps']:,} of them recorded in full",
        _STATES[run["state"]],
    ]
    return f"Run {run['id']}: {'; '.join(facts)}."


def where(layers: Sequence[str], most: int) -> str:
    """The worst layers by name, and how many more."""
    if not layers:
        return "the whole model"
    rest = len(layers) - most
    return ", ".join(layers[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def seen(finding: Document, last_step: int | None) -> str:
    """From which step to which: "step 3 to 159, the newest"."""
    said = step(finding["first_step"])
    if finding["last_step"] != finding["first_step"]:
        said += f" to {finding['last_step']:,}"
    return f"{said}, the newest" if finding["last_step"] == last_step else said


def follows(finding: Document, findings: Sequence[Document]) -> str:
    """Which finding leads to this one; "" when none does."""
    leading = [each["number"] for each in findings if each["rule"] == finding["follows"]]
    return f"most likely a consequence of {leading[0]}" if leading else ""


def grade(position: int, cause: Document) -> str:
    """How likely a cause is, in words and in percent: "most likely init-too-small (74 %): "."""
    confidence = cause["confidence"]
    said = "most likely" if position == 0 and confidence >= 0.5 else "possibly" if position == 0 else "also possible"
    return f"{said} {cause['id']} ({f'{confidence:.0%}'.replace('%', ' %')}): "


def measured_rate(cause: Document) -> str:
    """How often a cause was right where it was named first; "" where that was not measured."""
    known = cause.get("benchmark")
    return "" if known is None else f"{Rate(known['named_first'], known['right'])}; {NOTE}"


def fix_command(run: Document, finding: Document, suggestion: Document) -> str:
    """What writes a suggestion's patch into the user's program.

    Example:
        >>> cures = [{"remedy": name, "patch": patch} for name, patch in (("warmup", ""), ("a", "+x"), ("b", "+y"))]
        >>> finding = {"number": "F1", "suggestions": cures}
        >>> [fix_command({"folder": "runs/a"}, finding, cure) for cure in cures[1:]]
        ['gradscope fix runs/a F1 --apply', 'gradscope fix runs/a F1 --remedy b --apply']
    """
    first = next((each for each in finding["suggestions"] if each["patch"]), None)
    remedy = "" if suggestion is first else f" --remedy {suggestion['remedy']}"
    folder = shlex.quote(run["folder"]) if run["folder"] else "RUN"
    return f"gradscope fix {folder} {finding['number']}{remedy} --apply"


def measured(evidence: Document) -> str:
    """The value of one piece of evidence with its unit."""
    value = evidence["value_words"] if evidence["value"] is None else numerals.number(evidence["value"])
    return f"{value} {evidence['unit']}".strip()


def waiting(document: Document) -> list[str]:
    """The checks that need more data, those with one reason together."""
    rules: dict[str, list[str]] = {}
    for check in document["checks"]["needs_data"]:
        rules.setdefault(check["reason"], []).append(check["rule"])
    return [f"{', '.join(those)}: {why}" for why, those in rules.items()]


def totals(counts: dict[str, int]) -> str:
    """How many findings and checks: "1 error, 2 notes. 17 checks passed."."""
    found = [count(counts[name], name) for name in ("error", "warning", "note") if counts[name]]
    checks = [f"{count(counts['passed'], 'check')} passed"]
    if counts["needs_data"]:
        checks.append(f"{counts['needs_data']} waiting for more data")
    if counts["not_applicable"]:
        checks.append(f"{counts['not_applicable']} not applicable")
    return f"{', '.join(found) or 'No findings'}. {', '.join(checks)}."
