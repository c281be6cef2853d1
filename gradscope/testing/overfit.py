"""Whether the model can learn one batch by heart."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradscope.numerals import number
from gradscope.records import Evidence
from gradscope.testing.answers import Answer
from gradscope.testing.sample import Batch
from gradscope.testing.subject import USUAL_RATE, Twin

OVERFIT = "overfit-one-batch"
# Of the loss at the start, or of the best constant output's if that is less: what no guess reaches that ignores the
# inputs. Not less, because an autoencoder does not get much farther on noise.
FALLEN = 0.7
RATES = (USUAL_RATE, 1e-2, 1e-4)  # Adam's, tried in this order until one of them learns
_WINDOW = 5  # losses of which the median is taken, so that one lucky step proves nothing
Make = Callable[[float | None], Twin]


def overfit_one_batch(make: Make, batch: Batch, steps: int, own_optimizer: bool, guess: float) -> Answer:
    """Trains copies on one batch until the loss has fallen far below its start.

    Args:
        make: gives a copy for a learning rate of Adam's; None: with the user's optimizer.
        batch: which is learned.
        steps: at most, of each copy.
        own_optimizer: whether the user has named one; it is tried first, and has to do it.
        guess: the loss of the best constant output on this batch; NaN where it is not known.
    """
    tried: dict[float | None, tuple[float, int, float]] = {}
    for rate in (None, *RATES) if own_optimizer else RATES:
        tried[rate] = start, took, share = _learn(make(rate), batch, steps, guess)
        if not start > 0:
            why = f"the loss starts at {number(start)}: at 0 and below nothing says how far it is to fall"
            return Answer(OVERFIT, "not-applicable", why)
        if share < FALLEN:
            break
    best = min(tried, key=lambda rate: tried[rate][2])
    start, took, share = tried[None] if own_optimizer else tried[best]
    level, name = _level(start, guess)
    evidence = (Evidence(f"loss after {took} steps on one batch over {name}", share, "", FALLEN, "near 0"),)
    said = f"{number(start)} to {number(level * share)} in {took} steps on one batch"
    if share < FALLEN:
        by = "" if own_optimizer else f" (Adam, learning rate {best:g})"
        return Answer(OVERFIT, "passed", f"the loss falls from {said}{by}", evidence)
    if own_optimizer and tried[best][2] < FALLEN:
        message = f"the loss goes from {said}; with Adam at {best:g} it falls to {number(level * tried[best][2])}"
        advice = "the model can learn this, your optimizer does not: look at its learning rate"
        return Answer(OVERFIT, "failed", message, evidence, advice=advice)
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    message = f"the loss goes from {said}, whatever the learning rate (Adam at {rates})"
    advice = (
        "see to the questions above first; then: do targets belong to their inputs, are there inputs that are the same?"
    )
    return Answer(OVERFIT, "failed", message, evidence, advice=advice)


def _learn(twin: Twin, batch: Batch, steps: int, guess: float) -> tuple[float, int, float]:
    """The loss at the start, the steps taken, and the last losses over the level that they are to come below."""
    losses: list[float] = []
    twin.without_dropout()
    level = math.nan
    for _ in range(steps):
        losses.append(twin.step(batch))
        level = _level(losses[0], guess)[0]
        if not math.isfinite(losses[-1]) or not losses[0] > 0:
            break
        if len(losses) > _WINDOW and float(np.median(losses[-_WINDOW:])) < FALLEN * level:
            break
    last = float(np.median(losses[-_WINDOW:]))
    return losses[0], len(losses), last / level if losses[0] > 0 and math.isfinite(last) else math.inf


def _level(start: float, guess: float) -> tuple[float, str]:
    return (guess, "the best constant output's") if 0 < guess < start else (start, "its start")
