"""What the rules find in a few watched steps, as answers to questions."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.records import Evidence, Finding
from gradscope.testing.answers import Answer
from gradscope.testing.watching import Watched

MISMATCH, OTHER = "loss-fits-output", "other-rules"
_ELSEWHERE = ("output-loss-mismatch", "untrained-parameter", "non-finite")  # have questions of their own


def first_of(watched: Watched, rules: Collection[str], but: Collection[str] = ()) -> Finding | None:
    """The first finding of some rules that is more than a note, and whose likeliest cause is none of `but`.

    It has to be there from the start: a few steps on one batch are no training that could be judged.
    """
    findings = (
        each
        for each in watched.diagnosis.findings
        if each.rule in rules and each.severity != "note" and each.first_step == 0
    )
    return next((each for each in findings if not each.causes or each.causes[0].id not in but), None)


def answer_of(question: str, finding: Finding, extra: tuple[Evidence, ...] = ()) -> Answer:
    """A finding as the answer to a question."""
    suggestion = next(iter(finding.suggestions), None)
    return Answer(
        question,
        "failed",
        f"{finding.message} ({finding.rule})",
        (*finding.evidence[:2], *extra),
        finding.layers,
        finding.causes[0].explanation if finding.causes else "",
        "" if suggestion is None else str(suggestion),
        "" if suggestion is None else suggestion.code,
    )


def loss_fits_output(watched: Watched) -> Answer:
    """Whether the loss is one for what the model gives: no softmax twice, no broadcast, labels where they belong."""
    found = first_of(watched, ("output-loss-mismatch",))
    if found is not None:
        return answer_of(MISMATCH, found)
    path = watched.signals.run.info.loss_path
    if path is None:
        return Answer(MISMATCH, "not-applicable", "no way from the model's output to a loss was seen")
    kind = path.kind.replace("-", " ")
    return Answer(MISMATCH, "passed", f"nothing speaks against {kind}" if kind else "nothing speaks against this loss")


def other_rules(watched: Watched, asked: Collection[str]) -> Answer:
    """Errors of all rules that no other question is about; warnings need more than a few steps to be sure of."""
    left = [
        each
        for each in watched.diagnosis.findings
        if each.severity == "error" and each.rule not in (*asked, *_ELSEWHERE) and each.follows is None
    ]
    if left:
        return answer_of(OTHER, left[0])
    steps = len(watched.signals.steps)
    passed = sum(check.outcome == "passed" for check in watched.diagnosis.passed)
    return Answer(OTHER, "passed", f"{passed} rules find nothing in {steps} watched steps")
