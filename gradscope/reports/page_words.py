"""Numbers, steps and verdicts as a page in a browser says them, made of the words that all reports share."""

from __future__ import annotations

import math

from gradscope import numerals
from gradscope.records import Severity, Site, VerdictName

SEVERITY_WORDS: dict[Severity, str] = {"error": "Error", "warning": "Warning", "note": "Note"}
VERDICT_SENTENCES: dict[VerdictName, str] = {
    "healthy": "Training is healthy",
    "watch": "Keep an eye on this training",
    "unhealthy": "Training is unhealthy",
    "broken": "Training is broken",
    "not-enough-data": "Not enough data yet",
}
ABSENT = "—"


def number(value: float | None) -> str:
    """A number to three significant digits, as in the terminal; a dash where there is none."""
    return ABSENT if value is None else numerals.number(value)


def percent(share: float | None) -> str:
    """A share in [0, 1] as "1.8 %"."""
    if share is None or math.isnan(share):
        return ABSENT
    return f"{share * 100:.3g} %" if share >= 0.001 or share == 0 else "< 0.1 %"


def step(value: int | None) -> str:
    """A step number with thousands separated."""
    return ABSENT if value is None else f"{value:,}"


def layer_label(site: Site) -> str:
    """A layer's name, with its kind where the name is only a number: "layers.3 Linear"."""
    return f"{site.name} {site.kind}" if site.kind and site.name.rpartition(".")[2].isdigit() else site.name
