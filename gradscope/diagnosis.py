"""Run -> Diagnosis: runs the rules, groups what they find, ranks it and attaches suggestions."""

from __future__ import annotations

from dataclasses import replace

from gradscope.catalogue import remedies, rules
from gradscope.records import SEVERITIES, Check, Diagnosis, Finding, NotObserved, Run, Suggestion, VerdictName
from gradscope.signals import Signals

MOST_SUGGESTIONS = 4

# What follows from what: (rule, the cause that it names first; None: any). A finding of the second kind that begins
# with or after one of the first is its consequence. A gradient that vanishes altogether is exactly 0 in the first layers.
_LEADS_TO: dict[str, tuple[str, str | None]] = {
    "exploding-gradient": ("non-finite", None),
    "vanishing-gradient": ("untrained-parameter", "dead-path"),
}


def diagnose(run: Run, signals: Signals | None = None) -> Diagnosis:
    """Diagnoses a run: the same run always gets the same diagnosis. `signals`, if you have them already, spare work.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> print(diagnose(run({"a": 0.9, "b": 1.0})).verdict)
        healthy
        >>> print(diagnose(run({"a": 1e-9, "b": 1.0})).headline)
        Gradients vanish before a: a gets 1.00e-9 of the output's, since step 0.
    """
    signals = signals or Signals(run)
    findings: list[Finding] = []
    checks: list[Check] = []
    for rule in rules().values():
        missing = rule.applies(signals)
        found = [] if missing is not None else list(rule.check(signals))
        findings += found
        if not found:
            checks.append(missing or Check(rule.id, "passed"))
    findings = [
        finding if finding.follows else replace(finding, suggestions=_suggestions(finding, signals))
        for finding in _ranked(findings)  # a consequence goes away with what leads to it
    ]
    return Diagnosis(
        _verdict(findings, checks),
        _headline(findings, checks, run),
        tuple(findings),
        tuple(checks),
        (*run.info.not_observed, *_undefined(signals)),
    )


def _ranked(findings: list[Finding]) -> list[Finding]:
    """The likely root first, each consequence right behind what leads to it."""
    marked = [replace(finding, follows=_leader(finding, findings)) for finding in findings]
    leaders = sorted(
        (finding for finding in marked if finding.follows is None),
        key=lambda finding: (-SEVERITIES.index(finding.severity), finding.first_step),
    )
    ranked = []
    for leader in leaders:
        ranked += [leader, *(finding for finding in marked if finding.follows == leader.rule)]
    return ranked


def _leader(finding: Finding, findings: list[Finding]) -> str | None:
    for other in findings:
        rule, cause = _LEADS_TO.get(other.rule, (None, None))
        serious = other.severity != "note" and other.first_step <= finding.first_step
        if finding.rule == rule and serious and (cause is None or finding.causes[0].id == cause):
            return other.rule
    return None


def _suggestions(finding: Finding, signals: Signals) -> tuple[Suggestion, ...]:
    """The remedies that fit the finding's causes, best first."""
    fitting = [(remedy.suits(finding), remedy) for remedy in remedies().values()]
    best = sorted((pair for pair in fitting if pair[0] > 0.05), key=lambda pair: -pair[0])
    return tuple(remedy.advice(finding, signals) for _, remedy in best[:MOST_SUGGESTIONS])


def _verdict(findings: list[Finding], checks: list[Check]) -> VerdictName:
    severities = {finding.severity for finding in findings}
    if any(finding.rule == "non-finite" and finding.severity == "error" for finding in findings):
        return "broken"
    if "error" in severities:
        return "unhealthy"
    if "warning" in severities:
        return "watch"
    if any(check.outcome == "needs-data" for check in checks):
        return "not-enough-data"
    return "healthy"


def _headline(findings: list[Finding], checks: list[Check], run: Run) -> str:
    """One sentence: what, since when, where, why."""
    serious = [finding for finding in findings if finding.severity != "note"]
    if serious:
        first = serious[0]
        since = "" if "since step" in first.message else f", since step {first.first_step:,}"
        end = next((finding for finding in serious if finding.rule == "non-finite"), first)
        then = "" if end is first else f" {end.message.split(';')[0]}."
        return f"{first.message}{since}.{then}"
    waiting = [check for check in checks if check.outcome == "needs-data"]
    if waiting:
        return f"Not enough data yet: {waiting[0].rule} {waiting[0].reason}."
    last = int(run.steps["step"][-1]) if len(run.steps) else 0
    notes = f" {len(findings)} note{'s' * (len(findings) > 1)}." if findings else ""
    blind = sum(check.outcome == "not-applicable" for check in checks)
    but = f" {blind} of {len(rules())} checks could not look." if blind else ""
    return f"No sickness found in {last + 1:,} steps.{but}{notes}"


def _undefined(signals: Signals) -> list[NotObserved]:
    """Signals that have no value in this run, said rather than shown as 0."""
    if not len(signals.steps):
        return []
    if not signals.run.info.heads:
        return [NotObserved("backward gains", "no module with parameters was seen to lead to the loss")]
    zero = signals.head_norm == 0
    if zero.any():
        why = f"the gradient at the output is exactly 0 in {int(zero.sum())} of {len(zero)} recorded steps"
        return [NotObserved("backward gains", why)]
    return []
