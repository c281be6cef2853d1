"""What the questions to a model came to: one answer each, and all of them as a diagnosis that can be read."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gradscope.errors import UnhealthyModel, UnknownId
from gradscope.numerals import limit, number
from gradscope.records import Evidence
from gradscope.records.words import SHAPES
from gradscope.reports.words import count, harmless

Outcome = Literal["passed", "failed", "not-applicable"]

# In the order in which they are asked: what makes later answers worthless comes first.
QUESTIONS = {
    "finite": "Are outputs, loss and gradients numbers?",
    "signal-at-init": "Do signal and gradient keep their size through the depth, as theory expects of the weights?",
    "initial-loss": "Is the first loss that of a model that knows nothing yet?",
    "loss-fits-output": "Does the loss fit what the model gives out?",
    "gradient-reach": "Does a gradient reach every parameter?",
    "batch-independence": "Is each sample's output its own?",
    "sum-or-mean": "Is the loss a mean over the batch?",
    "overfit-one-batch": "Can the model learn one batch by heart?",
    "other-rules": "Do the rules find anything else in a few watched steps?",
}
_SHOWN = 6  # names
_WIDTH = 120
_INDENT = 22  # of what is said of a question


@dataclass(frozen=True)
class Answer:
    """The answer to one of `QUESTIONS`.

    Attributes:
        question: its id.
        outcome: "passed", "failed" or, with the reason as message, "not-applicable".
        message: a sentence.
        measured: the numbers that it rests on, each beside what it is judged against.
        where: layers or parameters, the worst first.
        why: what makes it so, where that is known.
        advice: what to do, in words.
        code: what to do, in lines of Python.
    """

    question: str
    outcome: Outcome
    message: str
    measured: tuple[Evidence, ...] = ()
    where: tuple[str, ...] = ()
    why: str = ""
    advice: str = ""
    code: str = ""

    def __str__(self) -> str:
        shape = {"passed": SHAPES[None][0], "failed": SHAPES["error"][0], "not-applicable": "○"}[self.outcome]
        reason = "not applicable: " if self.outcome == "not-applicable" else ""
        lines = wrapped(f"{shape} {self.question:<{_INDENT - 3}} {reason}{harmless(self.message)}")
        if self.outcome == "failed":
            lines += [line for each in self._details() for line in wrapped(f"{' ' * _INDENT}{each}")]
            lines += [f"{' ' * _INDENT}    {harmless(line)}".rstrip() for line in self.code.splitlines()]
        return "\n".join(lines)

    def _details(self) -> list[str]:
        lines = [f"measured: {said(each)}" for each in self.measured]
        if self.where:
            rest = len(self.where) - _SHOWN
            names = ", ".join(harmless(name or "(model)") for name in self.where[:_SHOWN])
            lines.append(f"where: {names}{f' and {rest:,} more' if rest > 0 else ''}")
        if self.why:
            lines.append(f"why: {harmless(self.why)}")
        if self.advice:
            lines.append(f"try: {harmless(self.advice)}")
        return lines


def wrapped(text: str, indent: int = _INDENT) -> list[str]:
    """A line as several, those behind the first indented to stand below its words."""
    return textwrap.wrap(text, _WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class ModelCheck:
    """What `check_model` found out; `print` it for the whole of it.

    Attributes:
        model: the model's class name.
        answers: one for each question, in the order of `QUESTIONS`.
    """

    model: str
    answers: tuple[Answer, ...]

    @property
    def failed(self) -> tuple[Answer, ...]:
        """The answers that failed."""
        return tuple(answer for answer in self.answers if answer.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether none failed. Those that are not applicable say why."""
        return not self.failed

    def __getitem__(self, question: str) -> Answer:
        """The answer to a question.

        Raises:
            UnknownId: no question has this id.
        """
        known("check[…]", [question])
        return next(answer for answer in self.answers if answer.question == question)

    def raise_if_failed(self, allow: Sequence[str] = ()) -> None:
        """Raises when a question failed, but for those in `allow`.

        Raises:
            UnhealthyModel: with all answers as its text.
            UnknownId: `allow` names something that is no question.

        Example:
            >>> ModelCheck("Net", (Answer("finite", "passed", "all is finite"),)).raise_if_failed()
        """
        __tracebackhide__ = True  # pytest shows the test's own line
        known("allow=", allow)
        failed = [answer.question for answer in self.failed if answer.question not in allow]
        if failed:
            names = ", ".join(f'"{name}"' for name in failed)
            raise UnhealthyModel(f"{self}\n\nTo accept this of the model: raise_if_failed(allow=[{names}])")

    def __str__(self) -> str:
        asked = sum(answer.outcome != "not-applicable" for answer in self.answers)
        blind = len(self.answers) - asked
        but = f", {blind} could not be asked" if blind else ""
        failed = ", ".join(answer.question for answer in self.failed)
        first = f"{count(len(self.failed), 'question')} of {asked} failed{but}: {failed}"
        if self.passed:
            first = f"{count(asked, 'question')} passed{but}"
        return "\n".join([f"{harmless(self.model)}: {first}.", "", *map(str, self.answers)])


def known(where: str, names: Sequence[str]) -> None:
    """Refuses ids that no question has."""
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown:
        raise UnknownId(f"{where} expected ids of questions ({', '.join(QUESTIONS)}); it got {unknown[0]!r}.")


def said(evidence: Evidence) -> str:
    """A number beside what it is judged against.

    Example:
        >>> said(Evidence("first loss over ln 10", 9.3, "", 3.0, "about 1"))
        'first loss over ln 10: 9.30 (healthy: about 1; threshold 3)'
    """
    against = [f"healthy: {evidence.healthy}"] if evidence.healthy else []
    if evidence.threshold is not None and math.isfinite(evidence.threshold):
        against.append(f"threshold {limit(evidence.threshold)}")
    unit = f" {evidence.unit}" if evidence.unit else ""
    beside = f" ({'; '.join(against)})" if against else ""
    value = float(evidence.value)
    shown = f"{int(value):,}" if value.is_integer() and abs(value) < 1e9 else number(value)
    return f"{harmless(evidence.name)}: {shown}{unit}{beside}"
