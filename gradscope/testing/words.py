"""The text of an assertion that failed: a diagnosis that a test's log can hold."""

from __future__ import annotations

from collections.abc import Sequence

from gradscope.records import SEVERITIES, Diagnosis, Finding, Severity, Suggestion
from gradscope.records.words import SHAPES, VERDICT_WORDS
from gradscope.reports.finding_words import where
from gradscope.reports.words import harmless, sentence, step
from gradscope.testing.answers import said, wrapped

_LAYERS, _CAUSES, _SUGGESTIONS, _EVIDENCE = 3, 2, 2, 3  # that are shown of a finding


def as_text(diagnosis: Diagnosis, findings: Sequence[Finding] | None = None) -> str:
    """A diagnosis with layers, steps, reasons and what to do, as lines of plain text.

    Args:
        diagnosis: what to say.
        findings: those of its findings that matter; by default all.

    Example:
        >>> found = Finding("non-finite", "error", ("a",), 3, 5, "NaN in a")
        >>> print(as_text(Diagnosis("unhealthy", "It is sick.", (found,))))
        Unhealthy: It is sick.
        <BLANKLINE>
        ▲ F1 NaN in a.  (error, non-finite)
             where: a
             when:  step 3 to 5
             more:  gradscope explain non-finite
    """
    lines = [f"{VERDICT_WORDS[diagnosis.verdict]}: {harmless(diagnosis.headline)}"]
    for number, finding in enumerate(diagnosis.findings, 1):
        if findings is None or finding in findings:
            lines += ["", *_finding(number, finding)]
    blind = [f"not observed: {harmless(str(missing))}" for missing in diagnosis.not_observed]
    return "\n".join([*lines, *([""] if blind else []), *blind])


def at_least(findings: Sequence[Finding], severity: Severity, allow: Sequence[str] = ()) -> list[Finding]:
    """The findings of a severity or worse, without those of the rules in `allow` and what follows from them.

    Example:
        >>> [each.rule for each in at_least([Finding("dead-units", "warning", (), 0, 1, "")], "error")]
        []
    """
    least = SEVERITIES.index(severity)
    return [
        each
        for each in findings
        if SEVERITIES.index(each.severity) >= least and each.rule not in allow and each.follows not in allow
    ]


def _finding(number: int, finding: Finding) -> list[str]:
    shape = SHAPES[finding.severity][0]
    follows = f", follows from {finding.follows}" if finding.follows else ""
    first = f"{shape} F{number} {harmless(sentence(finding.message))}  ({finding.severity}, {finding.rule}{follows})"
    until = "" if finding.last_step == finding.first_step else f" to {finding.last_step:,}"
    lines = [
        f"where: {where([harmless(layer or '(model)') for layer in finding.layers], _LAYERS)}",
        f"when:  {step(finding.first_step)}{until}",
        *(f"saw:   {said(each)}" for each in finding.evidence[:_EVIDENCE]),
        *(line for cause in finding.causes[:_CAUSES] for line in wrapped(f"why:   {harmless(str(cause))}", 7)),
    ]
    for suggestion in finding.suggestions[:_SUGGESTIONS]:
        lines += _suggestion(suggestion)
    lines.append(f"more:  gradscope explain {finding.rule}")
    return [*wrapped(first, 5), *(f"     {line}".rstrip() for line in lines)]


def _suggestion(suggestion: Suggestion) -> list[str]:
    code = [f"           {harmless(line)}".rstrip() for line in suggestion.code.splitlines()]
    return [*wrapped(f"try:   {harmless(sentence(str(suggestion)))}", 7), *code]
