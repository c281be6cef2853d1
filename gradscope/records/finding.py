"""What is said of a run: findings with their evidence, causes and suggestions, and the diagnosis that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gradscope.records.run import NotObserved

Severity = Literal["note", "warning", "error"]  # as in SARIF, least first
VerdictName = Literal["healthy", "watch", "unhealthy", "broken", "not-enough-data"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")


@dataclass(frozen=True)
class Evidence:
    """One number that speaks for a finding, beside what it is judged against."""

    name: str  # "backward gain at layers.0"
    value: float
    unit: str = ""
    threshold: float | None = None
    healthy: str = ""  # "0.1 … 20"

    def __str__(self) -> str:
        against = "" if self.threshold is None else f" (threshold {self.threshold:.3g})"
        return f"{self.name}: {self.value:.3g}{' ' + self.unit if self.unit else ''}{against}"


@dataclass(frozen=True)
class Cause:
    """Why, as an id with a confidence in [0, 1] and the numbers that speak for it."""

    id: str
    confidence: float
    explanation: str

    def __str__(self) -> str:
        return f"{self.id} ({self.confidence:.0%}): {self.explanation}".replace("%)", " %)", 1)


@dataclass(frozen=True)
class Suggestion:
    """A remedy aimed at one finding."""

    remedy: str
    title: str
    why: str
    code: str
    location: str | None = None  # "train.py:42"
    trial: dict[str, Any] | None = None  # what a trial measured; None: an estimate
    patch: str = ""  # a unified diff against the user's file
    needs_edit: str = ""  # why no trial can do it from outside of the user's program; "" where it can

    @property
    def basis(self) -> Literal["measured", "estimate", "needs your edit"]:
        """What it rests on."""
        if self.trial is not None and self.trial.get("effect") not in ("untried", "unknown"):
            return "measured"
        return "needs your edit" if self.needs_edit else "estimate"

    def __str__(self) -> str:
        return f"{self.title}: {self.why}"


@dataclass(frozen=True)
class Finding:
    """One sickness, where and since when, why, and what to do."""

    rule: str
    severity: Severity
    layers: tuple[str, ...]  # the worst first
    first_step: int
    last_step: int
    message: str
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[Cause, ...] = ()  # most likely first
    suggestions: tuple[Suggestion, ...] = ()
    follows: str | None = None  # id of the rule whose finding leads to this one

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}"


@dataclass(frozen=True)
class Check:
    """A rule that found nothing: `passed`, or, with the reason, `needs-data`, `not-applicable` or `could-not-run`."""

    rule: str
    outcome: Literal["passed", "needs-data", "not-applicable", "could-not-run"]
    reason: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What GradScope says of a run.

    `findings` lead with the most likely root cause. `passed` holds every rule that found nothing.
    """

    verdict: VerdictName
    headline: str
    findings: tuple[Finding, ...] = ()
    passed: tuple[Check, ...] = ()
    not_observed: tuple[NotObserved, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.headline}"]
        for number, finding in enumerate(self.findings, 1):
            lines.append(f"  F{number} {finding}")
            lines += [f"     why: {cause}" for cause in finding.causes[:2]]
            lines += [f"     try: {suggestion}" for suggestion in finding.suggestions[:2]]
        lines += [f"  not observed: {missing}" for missing in self.not_observed]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The diagnosis as a notebook shows it at the end of a cell."""
        from gradscope.records.html import to_html  # which needs this file

        return to_html(self)
