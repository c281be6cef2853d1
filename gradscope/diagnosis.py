"""Run -> Diagnosis: runs the rules, groups what they find, ranks it and attaches suggestions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from warnings import warn

from gradscope.catalogue import remedies, rules
from gradscope.records import SEVERITIES, Check, Diagnosis, Finding, NotObserved, Run, Suggestion, VerdictName
from gradscope.signals import Signals

MOST_SUGGESTIONS = 4
_BY_EFFECT = ("helped", "partly", "estimate", "unknown", "untried", "failed")
FIRST_VERDICT = 3  # recorded steps from which health can be said: by then the rules about initialization have spoken

_STEP_TOO_LARGE = ("learning-rate-too-high", "gradient-spike")
_LAYERS_SHUT = ("saturated-activation", "dead-units", "representation-collapse")
_BACKWARD = ("vanishing-gradient", "exploding-gradient", "vanishing-through-time")
_END = ("loss-stalled", "non-finite")

# What follows from what, the likeliest roots first: a finding of a rule on the right that begins with or after one of
# the rule on the left is its consequence. Of "untrained-parameter" only what it calls a dead path: a gradient that
# vanishes altogether is exactly 0 in the first layers.
_LEADS_TO: dict[str, tuple[str, ...]] = {
    "accumulating-gradient": (*_STEP_TOO_LARGE, *_BACKWARD, *_LAYERS_SHUT, *_END),
    "output-loss-mismatch": (*_STEP_TOO_LARGE, *_BACKWARD, *_LAYERS_SHUT, "learning-rate-too-low", *_END),
    "untrained-parameter": ("learning-rate-too-low", *_END),
    "unscaled-data": ("normalization-fault", "poor-initialization", *_STEP_TOO_LARGE, *_BACKWARD, *_LAYERS_SHUT,
                      "learning-rate-too-low", *_END),
    "precision-loss": ("learning-rate-too-low", *_END),
    "normalization-fault": (*_STEP_TOO_LARGE, *_BACKWARD, *_LAYERS_SHUT, *_END),
    "dropout-fault": (*_STEP_TOO_LARGE, "representation-collapse", "learning-rate-too-low", *_END),
    "vanishing-gradient": ("poor-initialization", "saturated-activation", "representation-collapse", "learning-rate-too-low",
                           "vanishing-through-time", *_END),
    "exploding-gradient": ("poor-initialization", *_STEP_TOO_LARGE, *_LAYERS_SHUT, "vanishing-through-time", *_END),
    "vanishing-through-time": ("representation-collapse", "learning-rate-too-low", *_END),
    "poor-initialization": (*_STEP_TOO_LARGE, *_LAYERS_SHUT, *_BACKWARD, "learning-rate-too-low", *_END),
    "learning-rate-too-high": ("gradient-spike", *_BACKWARD, *_LAYERS_SHUT, *_END),
    "saturated-activation": ("representation-collapse", "learning-rate-too-low", *_END),
    "dead-units": ("representation-collapse", "vanishing-gradient", "learning-rate-too-low", *_END),
    "representation-collapse": ("learning-rate-too-low", *_END),
    "learning-rate-too-low": ("loss-stalled",),
    "gradient-spike": _END,
    "non-finite": (*_LAYERS_SHUT, "normalization-fault", "loss-stalled"),
}  # fmt: skip
_ROOTS = tuple(_LEADS_TO)
_LEAVES_A_PATH_DEAD = ("vanishing-gradient", "dead-units", "output-loss-mismatch", "unscaled-data", "poor-initialization",
                       "learning-rate-too-high", "normalization-fault", "accumulating-gradient")  # fmt: skip
_BY_STEPS = ("learning-rate-too-high", "weight-growth", "no-clipping")
# Faults of the program, not of the training: they are there from the first step, whenever they are first seen.
_ALWAYS_THERE = ("accumulating-gradient", "output-loss-mismatch", "unscaled-data")


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
        try:
            missing = rule.applies(signals)
            found = [] if missing is not None else list(rule.check(signals))
        except Exception as error:  # a fault of one rule hides nothing that the others found
            reason = f"{type(error).__name__}: {error}"
            warn(f"GradScope's rule {rule.id} could not run ({reason}); please report it.", stacklevel=2)
            checks.append(Check(rule.id, "could-not-run", reason))
            continue
        findings += found
        if not found:
            checks.append(missing or Check(rule.id, "passed"))
    findings = [
        finding if finding.follows else replace(finding, suggestions=_suggestions(finding, signals))
        for finding in _ranked(findings)  # a consequence goes away with what leads to it
    ]
    return Diagnosis(
        _verdict(findings, signals),
        _headline(findings, checks, signals),
        tuple(findings),
        tuple(checks),
        (*run.info.not_observed, *_undefined(signals)),
    )


def could_lead_to(rule: str) -> tuple[str, ...]:
    """The rules whose findings may be the reason for a finding of this one, the likeliest first.

    Example:
        >>> could_lead_to("saturated-activation")[:2]
        ('accumulating-gradient', 'output-loss-mismatch')
    """
    return tuple(root for root, ends in _LEADS_TO.items() if rule in ends)


def _ranked(findings: list[Finding]) -> list[Finding]:
    """The likely root first, each consequence right behind what leads to it."""
    above: dict[str, str | None] = {}
    for finding in findings:  # a rule may find several things: it is a root when one of them is
        reason = _leader(finding, findings)
        above[finding.rule] = reason if above.get(finding.rule, "") is not None else None
    marked = [replace(finding, follows=_root(_leader(finding, findings), above)) for finding in findings]
    leaders = sorted((finding for finding in marked if finding.follows is None), key=_weight)
    behind = sorted((finding for finding in marked if finding.follows is not None), key=_weight)
    ranked: list[Finding] = []
    for leader in leaders:
        ranked.append(leader)
        ranked += [finding for finding in behind if finding.follows == leader.rule and finding not in ranked]
    return ranked


def _root(rule: str | None, above: dict[str, str | None]) -> str | None:
    """What leads to what leads … to this rule's finding."""
    while rule is not None and above[rule] is not None:
        rule = above[rule]
    return rule


def _weight(finding: Finding) -> tuple[int, int, int]:
    """Orders findings that lead: by severity, then by when they began, then the likelier root."""
    return -SEVERITIES.index(finding.severity), finding.first_step, _place(finding.rule)


def _place(rule: str) -> int:
    return _ROOTS.index(rule) if rule in _ROOTS else len(_ROOTS)


def _leader(finding: Finding, findings: list[Finding]) -> str | None:
    """The rule of the finding at the root of this one; None when it is a root itself."""
    above = [other for other in findings if _leads(other, finding)]
    return min(above, key=lambda other: _place(other.rule)).rule if above else None


def _leads(other: Finding, finding: Finding) -> bool:
    """Whether one finding is the reason for another."""
    if other.severity == "note" or _place(other.rule) == len(_ROOTS) or other.rule == finding.rule:
        return False
    if other.first_step > finding.first_step and other.rule not in _ALWAYS_THERE:
        return False
    if (
        finding.rule == "non-finite"
        and other.rule in _LEADS_TO["non-finite"]
        and other.first_step == finding.first_step
    ):
        return False  # NaN lets nothing through either
    cause, reason = _first_cause(finding), _first_cause(other)
    if finding.rule == "untrained-parameter":
        return cause in ("dead-path", "output-activation") and other.rule in _LEAVES_A_PATH_DEAD
    # gradients along the depth are made by the initialization, unless a rule about it knows better, or by the steps
    if other.rule == "learning-rate-too-high" and finding.rule in _BACKWARD:
        return cause in _BY_STEPS
    if other.rule in _BACKWARD and finding.rule == "learning-rate-too-high":
        return reason not in _BY_STEPS
    if "poor-initialization" in (other.rule, finding.rule) and {other.rule, finding.rule} & set(_BACKWARD):
        return (other.rule == "poor-initialization") == ("symmetric-init" in (cause, reason))
    return finding.rule in _LEADS_TO[other.rule]


def _first_cause(finding: Finding) -> str:
    return finding.causes[0].id if finding.causes else ""


def _suggestions(finding: Finding, signals: Signals) -> tuple[Suggestion, ...]:
    """The remedies that fit the finding's causes, best first: what trials of this run measured counts for more."""
    fitting = [(remedy.suits(finding), remedy) for remedy in remedies().values() if remedy.possible(signals)]
    best = sorted((pair for pair in fitting if pair[0] > 0.05), key=lambda pair: -pair[0])
    tried = _trials(finding.rule, signals)
    chosen = {remedy.id: remedy.advice(finding, signals) for _, remedy in best[:MOST_SUGGESTIONS]}
    for names, trial in tried.items():
        if known := [remedies()[name].advice(finding, signals) for name in names if name in remedies()]:
            one = chosen.get(names[0], known[0]) if len(names) == 1 else _together(known)
            chosen[one.remedy] = replace(one, trial=dict(trial))
    elsewhere = _trials_of_others(finding.rule, signals)
    for name, one in chosen.items():
        if one.trial is None and name in elsewhere:
            chosen[name] = replace(one, trial=elsewhere[name])
    return tuple(sorted(chosen.values(), key=_by_effect))  # stable: estimates stay as they are


def _trials(rule: str, signals: Signals) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """What trials of this run measured against a rule's finding, by the remedies: the newest of each."""
    told = [event.data for event in signals.run.events if event.kind == "trial" and event.data.get("rule") == rule]
    return {tuple(each.get("remedies", ())): each for each in told}


def _trials_of_others(rule: str, signals: Signals) -> dict[str, dict[str, Any]]:
    """What trials of this run measured of single remedies against other rules' findings, as it may be said of this rule's.

    The loss is that of the whole training, so it counts here too; which sickness went away is said with its name.
    """
    told = [event.data for event in signals.run.events if event.kind == "trial" and event.data.get("rule") != rule]
    measured = [each for each in told if each.get("state") == "measured" and each.get("loss") is not None]
    return {
        each["remedies"][0]: {**each, "outcome": f"judged by {each.get('rule')}: {each.get('outcome', '')}"}
        for each in measured
        if len(each.get("remedies", ())) == 1
    }


def _together(parts: list[Suggestion]) -> Suggestion:
    """Remedies that were tried at once, as one suggestion."""
    return Suggestion(
        " + ".join(part.remedy for part in parts),
        ", and: ".join(part.title for part in parts),
        "Neither was enough alone, so both were tried at once.",
        "\n\n".join(part.code for part in parts if part.code),
    )


def _by_effect(suggestion: Suggestion) -> tuple[int, float, float]:
    """Orders suggestions: measured to help, by how much; then estimates; then what did not help."""
    if suggestion.trial is None:
        return _BY_EFFECT.index("estimate"), 0.0, 0.0
    effect, gone = suggestion.trial.get("effect"), suggestion.trial.get("gone")
    better = (suggestion.trial.get("against_no_change") or {}).get("median")
    place = _BY_EFFECT.index(effect if effect in _BY_EFFECT else "unknown")
    return place, -float(gone or 0), 0.0 if better is None else float(better)


def _verdict(findings: list[Finding], signals: Signals) -> VerdictName:
    severities = {finding.severity for finding in findings}
    if any(finding.rule == "non-finite" and finding.severity == "error" for finding in findings):
        return "broken"
    if "error" in severities:
        return "unhealthy"
    if "warning" in severities:
        return "watch"
    return "healthy" if len(signals.steps) >= FIRST_VERDICT else "not-enough-data"


def _headline(findings: list[Finding], checks: list[Check], signals: Signals) -> str:
    """One sentence: what, since when, where, why."""
    serious = [finding for finding in findings if finding.severity != "note"]
    if serious:
        first = serious[0]
        since = "" if "since step" in first.message else f", since step {first.first_step:,}"
        end = next((finding for finding in serious if finding.rule == "non-finite"), first)
        then = "" if end is first else f" {end.message.split(';')[0]}."
        return f"{first.message}{since}.{then}"
    waiting = [check for check in checks if check.outcome == "needs-data"]
    if waiting and len(signals.steps) < FIRST_VERDICT:
        return f"{len(waiting)} of {len(rules())} checks wait for more steps: {len(signals.steps)} recorded so far."
    steps = signals.run.steps["step"]
    last = int(steps[-1]) if len(steps) else 0
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
