"""The five numbers as a page shows them: each with its label, a note, and the severity whose colour it wears."""

from __future__ import annotations

import math
from typing import NamedTuple

from gradscope.reports.numbers import HeadlineNumbers, Latest
from gradscope.reports.page_words import number, percent, step


class Card(NamedTuple):
    """One number with its label, what stands under it, and the severity whose colour it wears ("": none)."""

    label: str
    value: str
    note: str
    tone: str = ""


def cards(numbers: HeadlineNumbers, recorded_step: int | None) -> tuple[Card, ...]:
    """The five cards. `recorded_step` is the last one with summaries."""
    non_finite, healthy, overhead = numbers.non_finite_tensors, numbers.healthy_layers, numbers.overhead
    at = f"at step {step(recorded_step)}"
    return (
        _latest("Loss", numbers.loss, "scope.loss(loss) records it"),
        _latest("Gradient norm", numbers.gradient_norm, "not recorded"),
        Card(
            "Non-finite tensors",
            f"{non_finite.number} of {non_finite.of}" if non_finite.of else "—",
            at if non_finite.of else "nothing recorded yet",
            "error" if non_finite.number else "",
        ),
        Card(
            "Layers in healthy band",
            f"{healthy.number} of {healthy.of}" if healthy.of else "—",
            f"gain 0.1 … 20, {at}" if healthy.of else "gain not defined yet",
            "warning" if healthy.number < healthy.of else "",
        ),
        Card(
            "Recording overhead",
            percent(overhead),
            "of training time, measured" if overhead is not None else "not measured yet",
        ),
    )


def _latest(label: str, latest: Latest, missing: str) -> Card:
    if latest.value is None:
        return Card(label, "—", missing)
    if math.isfinite(latest.value):
        return Card(label, number(latest.value), f"at step {step(latest.step)}")
    if latest.last_finite is None:
        return Card(label, number(latest.value), "never finite", "error")
    return Card(
        label,
        number(latest.value),
        f"last finite {number(latest.last_finite)} at step {step(latest.last_finite_step)}",
        "error",
    )
