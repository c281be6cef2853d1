"""The words and shapes for verdicts, severities and what a trial said, the same wherever they are shown."""

from __future__ import annotations

from gradscope.records.finding import Severity, VerdictName

VERDICT_WORDS: dict[VerdictName, str] = {
    "healthy": "Healthy",
    "watch": "Watch",
    "unhealthy": "Unhealthy",
    "broken": "Broken",
    "not-enough-data": "Not enough data yet",
}
VERDICT_SEVERITY: dict[VerdictName, Severity | None] = {
    "healthy": None,
    "watch": "warning",
    "unhealthy": "error",
    "broken": "error",
    "not-enough-data": "note",
}
# Never colour alone. The second is for streams that cannot show the first.
SHAPES: dict[Severity | None, tuple[str, str]] = {
    "error": ("▲", "[X]"),
    "warning": ("■", "[!]"),
    "note": ("●", "[i]"),
    None: ("✓", "[ok]"),
}
# What a trial said of a cure: shape, in the trial's report, beside the suggestion, colour.
EFFECTS: dict[str, tuple[str, str, str, str]] = {
    "helped": ("✓", "helped", "measured on this training", "green"),
    "partly": ("◐", "helped in part", "measured on this training, helped in part", "yellow"),
    "failed": ("✗", "did not help", "tried, did not help", "red"),
    "untried": ("○", "could not be tried from outside", "could not be tried from outside", "dim"),
    "unknown": ("○", "not finished", "the trial was not finished", "dim"),
}
