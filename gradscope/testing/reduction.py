"""Whether the loss is a mean or a sum over the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradscope.numerals import number
from gradscope.records import Evidence
from gradscope.testing.answers import Answer
from gradscope.testing.sample import Batch
from gradscope.testing.subject import Twin

REDUCTION = "sum-or-mean"
WITHIN = 0.05  # of 1 or 2, the two ratios that mean something


def loss_ratio(twin: Twin, batch: Batch, dimension: int, restart: Callable[[], None]) -> tuple[float, float]:
    """Loss and gradient norm of the batch taken twice over those of the batch.

    Args:
        twin: has no dropout.
        batch: taken once, then twice.
        dimension: along which samples lie.
        restart: sets the random numbers back, for models that draw some all the same.
    """
    norms, losses = [], []
    for each in (batch, batch.twice(dimension)):
        restart()
        twin.model.zero_grad()
        loss = twin.loss(each)
        assert loss is not None, "asked only where a loss is known"
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.double().square().sum() for p in twin.model.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(map(float, gradients))))
        losses.append(float(loss.detach()))
    return _ratio(losses), _ratio(norms)


def _ratio(pair: list[float]) -> float:
    return pair[1] / pair[0] if pair[0] else math.nan


def sum_or_mean(ratio: float, gradients: float, size: int) -> Answer:
    """Says what the ratios mean for the learning rate."""
    evidence = (
        Evidence("loss of the batch taken twice over that of the batch", ratio, "", 1 + WITHIN, "1"),
        Evidence("the same of the gradient's norm", gradients, "", None, "1"),
    )
    if abs(ratio - 1) <= WITHIN:
        message = "the loss is a mean: a batch of another size keeps loss, gradient and learning rate as they are"
        return Answer(REDUCTION, "passed", message, evidence)
    if abs(ratio - 2) <= 2 * WITHIN:
        message = (
            f"the loss is a sum over the batch: loss and gradient grow with it, {size} times a mean's here, and "
            "under SGD the learning rate has to shrink as the batch grows"
        )
        advice = f"reduction='mean'; or divide the loss by the batch size, or an SGD learning rate by {size}"
        return Answer(REDUCTION, "failed", message, evidence, advice=advice)
    message = f"the batch taken twice costs {number(ratio)} times as much: samples are compared with each other"
    return Answer(REDUCTION, "not-applicable", message, evidence)
