"""Which cures to try: those that the diagnosis suggests, best first, and those that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradscope.catalogue import remedies
from gradscope.errors import NothingToTry, UnknownId
from gradscope.records import Diagnosis, Finding
from gradscope.signals import Signals
from gradscope.trials.job import Treatment

MOST = 3  # candidates of one trial, when the user names none


@dataclass(frozen=True)
class Candidate:
    """Remedies to try together against one rule's finding."""

    rule: str
    title: str
    treatments: tuple[Treatment, ...]

    @property
    def remedies(self) -> tuple[str, ...]:
        """The ids."""
        return tuple(treatment.remedy for treatment in self.treatments)

    @property
    def arm(self) -> str:
        """Its name among the arms of the trial."""
        return " + ".join(self.remedies)

    def together_with(self, other: Candidate) -> Candidate:
        """Both at once, against this one's rule."""
        return Candidate(self.rule, f"{self.title}, and: {other.title}", (*self.treatments, *other.treatments))


@dataclass(frozen=True)
class NotTried:
    """A cure that was suggested and not tried, and why."""

    rule: str
    remedy: str
    title: str
    why: str

    def __str__(self) -> str:
        return f"{self.title} ({self.remedy}) was not tried: {self.why}"


def sick(diagnosis: Diagnosis) -> list[Finding]:
    """The findings to treat: those that lead and are more than notes."""
    return [finding for finding in diagnosis.findings if finding.severity != "note" and finding.follows is None]


def choose(
    diagnosis: Diagnosis, signals: Signals, named: Sequence[str] | None = None
) -> tuple[tuple[Candidate, ...], tuple[NotTried, ...]]:
    """The candidates, best first, and what is not tried.

    Args:
        diagnosis: of the training without a change.
        signals: of the same run; the doses are taken from them.
        named: ids of remedies to try instead of those that are suggested.

    Raises:
        UnknownId: no remedy has such an id.
        NothingToTry: nothing that could be tried acts from outside.
    """
    findings = sick(diagnosis)
    if named:
        _check(named)
        pairs = [(_aim(findings, remedy), remedy) for remedy in dict.fromkeys(named)]
    else:
        suggested = [(finding, each.remedy) for finding in findings for each in finding.suggestions]
        pairs = [pair for pair in suggested if pair[1] in remedies()]  # two that were tried together have no one id
    candidates: dict[str, Candidate] = {}
    not_tried: dict[str, NotTried] = {}
    for finding, identity in pairs:
        remedy = remedies()[identity]
        if identity in candidates or identity in not_tried:
            continue
        if remedy.needs_edit:
            not_tried[identity] = NotTried(
                finding.rule, identity, remedy.title, f"needs your edit: {remedy.needs_edit}"
            )
        elif len(candidates) < MOST or named:
            dose = remedy.dose(finding, signals)
            candidates[identity] = Candidate(finding.rule, remedy.title, (Treatment(identity, dose),))
        else:
            why = f"only the {MOST} best are; try it with --remedy {identity}"
            not_tried[identity] = NotTried(finding.rule, identity, remedy.title, why)
    if not candidates:
        raise NothingToTry(_nothing(findings, tuple(not_tried.values())))
    return tuple(candidates.values()), tuple(not_tried.values())


def _check(named: Sequence[str]) -> None:
    for identity in named:
        if identity not in remedies():
            raise UnknownId(f"no remedy has the id {identity!r}; there are: {', '.join(remedies())}.")


def _aim(findings: Sequence[Finding], remedy: str) -> Finding:
    """The finding that a remedy fits best; the leading one where it fits none."""
    return max(findings, key=lambda finding: (remedies()[remedy].suits(finding), -findings.index(finding)))


def _nothing(findings: Sequence[Finding], not_tried: Sequence[NotTried]) -> str:
    said = f"{findings[0].rule} was found, and no cure for it can be tried from outside"
    reasons = "".join(f"\n  {each}" for each in not_tried)
    return f"{said}.{reasons}" if reasons else f"{said}: none is known."
