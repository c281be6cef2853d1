"""Which steps are recorded in full: the first ones, then as often as the budget allows."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

import numpy as np

_RECENT = 20  # losses that a leap is judged against
_LEAP = 20.0  # median absolute deviations above the median; 8 are met once in some 1e5 steps of Gaussian noise
FIRST_STEPS = 5  # recorded in full, because the rules about initialization speak from them


class Schedule:
    """Decides before a step whether to record it.

    Args:
        every: record each k-th step, or "auto" to follow the budget.
        overhead: for "auto", the share of the training's own time that recording may take.

    Example:
        >>> schedule = Schedule("auto", 0.03)
        >>> schedule.spent(total=1.1, recorder=0.1, recorded=True)
        >>> schedule.wants(step=2), schedule.wants(step=100)
        (True, False)
        >>> schedule.spent(total=10.0, recorder=0.0, recorded=False)
        >>> schedule.wants(step=200)
        True
    """

    def __init__(self, every: int | Literal["auto"], overhead: float) -> None:
        self._every = every
        self._overhead = overhead
        self._training = 0.0  # seconds, without ours
        self._recording = 0.0
        self._last_cost = 0.0  # of the last recorded step
        self._alarmed = False
        self._losses: deque[float] = deque(maxlen=_RECENT)

    def spent(self, total: float, recorder: float, recorded: bool) -> None:
        """Takes account of a step: its seconds in all, ours among them, and whether it was recorded."""
        self._training += max(total - recorder, 0.0)
        self._recording += recorder
        if recorded:
            self._last_cost = recorder

    def saw_loss(self, loss: float) -> None:
        """Takes account of a loss: when it turns non-finite or leaps, the next step is recorded, whatever it costs."""
        recent = np.array(self._losses)
        if math.isfinite(loss):
            if len(recent) == _RECENT:
                typical = np.median(recent)
                self._alarmed |= bool(loss > typical + _LEAP * np.median(np.abs(recent - typical)))
            self._losses.append(loss)
        else:
            self._alarmed |= len(recent) > 0
            self._losses.clear()  # once is enough: a training that stays non-finite is not recorded for ever

    def wants(self, step: int) -> bool:
        """Whether to record this step."""
        if self._every != "auto":
            return step % self._every == 0
        if self._alarmed or step < FIRST_STEPS:
            self._alarmed = False
            return True
        return self._recording + self._last_cost <= self._overhead * self._training
