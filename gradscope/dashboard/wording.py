"""Numbers, steps and verdicts as the page says them, made of the words that all reports share."""

from __future__ import annotations

import math

from gradscope.records import Check, Finding
from gradscope.reports.page_words import ABSENT as ABSENT
from gradscope.reports.page_words import SEVERITY_WORDS as SEVERITY_WORDS
from gradscope.reports.page_words import VERDICT_SENTENCES as VERDICT_SENTENCES
from gradscope.reports.page_words import layer_label as layer_label
from gradscope.reports.page_words import number as number
from gradscope.reports.page_words import percent as percent
from gradscope.reports.page_words import step as step
from gradscope.reports.words import count

CHECK_WORDS = {
    "passed": "passed",
    "not-applicable": "not applicable",
    "needs-data": "waiting for more data",
    "could-not-run": "could not run",
}


def decades(value: float) -> str:
    """Decades with their sign: "−8.50"."""
    return f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else number(value)


def duration(seconds: float) -> str:
    """A time span in its largest whole unit: "45 s", "3 min", "2 h", "4 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def when(finding: Finding, newest: int | None) -> str:
    """Since when a finding holds and whether it still does."""
    first, last = finding.first_step, finding.last_step
    if newest is not None and last >= newest:
        return f"since step {step(first)}, still on"
    return f"step {step(first)}" if first == last else f"steps {step(first)} to {step(last)}"


def where(layers: tuple[str, ...], shown: int = 1) -> str:
    """The worst layers by name, and how many more."""
    names = ", ".join(layer or "(model)" for layer in layers[:shown])
    return f"{names} and {len(layers) - shown} more" if len(layers) > shown else names


def checks_summary(checks: tuple[Check, ...]) -> str:
    """`17 checks passed · 2 not applicable · 1 needs more data`."""
    amounts = {outcome: sum(check.outcome == outcome for check in checks) for outcome in CHECK_WORDS}
    said = [f"{count(amounts['passed'], 'check')} passed"]
    said += [f"{amounts[outcome]} {CHECK_WORDS[outcome]}" for outcome in CHECK_WORDS if outcome != "passed"]
    return " · ".join(text for text in said if not text.startswith("0 "))
