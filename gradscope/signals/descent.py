"""How the loss answers to the steps: whether it leapt at the start, lost again what was gained, or hardly moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.signals.loss import uniform_loss
from gradscope.signals.series import Signals

_START = 20  # steps that the size of the loss at the start is known from
_LEAPS = 30  # steps in which steps that are too large show at once
_WINDOWS = 20  # that a run's losses are cut into
_SHORTEST = 8  # steps of a window
_SURE = 4.0  # standard errors that two windows must lie apart
_LEAST = 0.05  # of the best constant output's loss: below, a network is trained, and its loss may wander by factors


@dataclass(frozen=True)
class Descent:
    """The course of a loss that began at a positive level.

    Attributes:
        count: steps whose loss is known and finite.
        start: the first loss, or the median of the first twenty when that is higher (up to three times the first); of a
            network that was trained before, a twentieth of the best constant output's.
        reference: what the levels are shares of: `start`, or the loss of the best constant output where that is lower.
        leap: the highest loss of the first thirty steps over `start`.
        leap_step: where that was.
        level: median of the last fifth of the steps over `reference`.
        rise: how far a window of the run lay above an earlier one, beyond noise, over `reference`.
        rise_step: where the higher window began.
        best: the lowest median of a window over `reference`.
        broke: the first step whose loss was NaN or Inf; -1: none.
        fallen: the fall from the first to the last window over `reference`; below its error it is 0.
    """

    count: int
    start: float
    reference: float
    leap: float
    leap_step: int
    level: float
    rise: float
    rise_step: int
    best: float
    broke: int
    fallen: float


def descent(signals: Signals) -> Descent | None:
    """Reads the course of the loss; None with less than eight losses, unless it broke, or where it did not begin above 0."""
    rows = signals.run.steps[signals.run.steps["has_loss"]]
    finite = np.isfinite(rows["loss"])
    losses, steps = rows["loss"][finite].astype(np.float64), rows["step"][finite]
    if len(losses) < (2 if not finite.all() else _SHORTEST) or losses[0] <= 0 or not finite[0]:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        first = float(losses[0])
        start = max(first, min(float(np.median(losses[:_START])), 3 * first))
        known = rows["trivial_loss"][np.isfinite(rows["trivial_loss"])]
        path = signals.run.info.loss_path
        guess = float(known[-1]) if len(known) else uniform_loss(path.classes) if path and path.classes > 1 else 0.0
        start = max(start, _LEAST * guess)
        reference = min(start, float(known[-1])) if len(known) and known[-1] > 0 else start
        top = int(np.argmax(losses[1:_LEAPS])) + 1
        width = min(max(len(losses) // _WINDOWS, _SHORTEST), len(losses))
        count = len(losses) // width
        windows = losses[: count * width].reshape(count, width)
        medians = np.median(windows, axis=1)
        errors = np.minimum(windows.std(axis=1), 1e150) / np.sqrt(width)
        rise, place = _largest_rise(medians, errors)
        fall = float(medians[0] - medians[-1])
        sure = fall > _SURE * float(np.hypot(errors[0], errors[-1]))
        return Descent(
            len(losses),
            start,
            reference,
            float(losses[top]) / start,
            int(steps[top]),
            float(np.median(losses[-max(len(losses) // 5, _SHORTEST) :])) / reference,
            rise / reference,
            int(steps[place * width]),
            float(medians.min()) / reference,
            -1 if finite.all() else int(rows["step"][~finite][0]),
            fall / reference if sure else 0.0,
        )


def _largest_rise(medians: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[float, int]:
    """The largest rise from one window to a later one that is no noise, and which window is the higher one."""
    best, place = 0.0, 0
    for later in range(1, len(medians)):
        rise = medians[later] - medians[:later]
        rise = np.where(rise > _SURE * np.hypot(errors[later], errors[:later]), rise, 0.0)
        if rise.max() > best:
            best, place = float(rise.max()), later
    return best, place
