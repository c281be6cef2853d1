"""Which steps are recorded in full, and which at least have their gradient's norm taken, within a budget of time."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Literal

_RECENT = 20  # losses, or norms, that a leap is judged against
_LEAP = 20.0  # median absolute deviations above the median; 8 are met once in some 1e5 steps of Gaussian noise
_SINGLES = 4  # steps recorded one by one before pairs are saved up for: a short training should not wait for two
_COSTS = 2  # readings: with many layers every other one meets the garbage collector, and takes twice as long
ALLOWANCE = 0.1  # seconds that a run may take beyond its budget to be seen at steps 8, 16, 32 … even when it is short
FIRST_STEPS = 5  # recorded in full, because the rules about initialization speak from them
NORM_SHARE = 1 / 3  # of the budget goes to gradient norms between recorded steps, the rest to full recording


class _Watch:
    """Says when a series of positive numbers leaps, or stops being finite."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def leaps(self, value: float) -> bool:
        """Takes the next number of the series."""
        if not math.isfinite(value):
            known = len(self._recent) > 0
            self._recent.clear()  # once is enough: a training that stays non-finite is not recorded for ever
            return known
        recent = sorted(self._recent)  # at every step: sorting a few numbers is quicker than numpy's median
        self._recent.append(value)
        if len(recent) < _RECENT or value <= recent[-1]:
            return False
        typical = median(recent)
        return value > typical + _LEAP * median([abs(number - typical) for number in recent])


class _Account:
    """Seconds spent on one kind of reading, and what the last ones cost."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._recent: deque[float] = deque(maxlen=_COSTS)

    def take(self, seconds: float, free: bool = False) -> None:
        """Books one reading; a free one tells only what the next will cost."""
        self.spent += 0.0 if free else seconds
        self._recent.append(seconds)

    def covers(self, budget: float, readings: int = 1) -> bool:
        """Whether so many more readings, each as dear as the dearest of the last, stay within the budget, in seconds."""
        return self.spent + readings * max(self._recent, default=0.0) <= budget


class Schedule:
    """Decides before a step whether to record it.

    "auto" soon records steps in pairs: a curvature takes two gradients.

    Args:
        every: record each k-th step, or "auto" to follow the budget.
        overhead: for "auto", the share of the training's own time that recording may take.
        allowance: for "auto", seconds beyond it for steps 8, 16, 32 and so on.

    Attributes:
        recorded: how many steps were recorded.
        alarms: how often a loss or a norm leapt, or stopped being finite.

    Example:
        >>> schedule = Schedule("auto", 0.03)
        >>> schedule.spent(total=1.1, recorder=0.1, recorded=True)
        >>> schedule.wants(step=2), schedule.wants(step=100), schedule.wants(step=128)
        (True, False, True)
        >>> schedule.spent(total=20.0, recorder=0.0, recorded=False)
        >>> schedule.wants(step=200)
        True
    """

    def __init__(self, every: int | Literal["auto"], overhead: float, allowance: float = ALLOWANCE) -> None:
        self._every = every
        self._overhead = overhead
        self._training = 0.0  # seconds, without ours
        self._full, self._norms, self._extra = _Account(), _Account(), _Account()
        self._allowance = allowance
        self._at_milestone = False  # the step that runs is one, recorded on the allowance
        self.recorded = 0  # the first ones are taken whatever they cost, and nothing later pays for them
        self.alarms = 0
        self._closing = 0.0  # seconds spent on closing steps that were not recorded
        self._idle = 0.0  # seconds that a step takes us that is not recorded, a running mean
        self._step = 0.0  # and how long such a step takes without us
        self._alarmed = False
        self._second = -1  # step that makes a pair with the one before it
        self._losses, self._gradients = _Watch(), _Watch()

    def spent(self, total: float, recorder: float, recorded: bool, norm: float = 0.0, steps: int = 1) -> None:
        """Takes account of a step: its seconds in all, ours among them, whether it was recorded, seconds of its norm.

        `steps` that were closed together count as so many; a step that is not light tells how dear closing one is.
        """
        self._training += max(total - recorder, 0.0)
        if norm:
            self._norms.take(norm)
        if recorded:
            self._full.take(recorder, free=self.recorded < FIRST_STEPS or self._at_milestone)
            self._extra.take(recorder, free=not self._at_milestone)
            self.recorded += 1
        else:
            self._closing += recorder - norm
            if steps == 1:
                self._idle += 0.05 * (recorder - norm - self._idle)
            self._step += 0.05 * ((total - recorder) / steps - self._step)

    def saw_loss(self, loss: float) -> bool:
        """Takes account of a loss: when it turns non-finite or leaps, the next step is recorded, whatever it costs.

        Returns:
            Whether there is an alarm.
        """
        self._alarm(self._losses.leaps(loss))
        return self._alarmed

    def saw_norm(self, norm: float) -> None:
        """Takes account of a gradient's norm, as of a loss."""
        self._alarm(self._gradients.leaps(norm))

    def _alarm(self, given: bool) -> None:
        self._alarmed |= given
        self.alarms += given

    @property
    def hurried(self) -> bool:
        """Whether steps are so short that closing and writing each would cost more than half of the budget."""
        return self._every == "auto" and self._idle > 0.5 * self._overhead * self._step

    def wants(self, step: int) -> bool:
        """Whether to record this step in full."""
        self._at_milestone = False
        if self._every != "auto":
            return step % self._every == 0
        if self._alarmed or step < FIRST_STEPS:
            self._alarmed = False
            return True
        if step == self._second:
            return True
        self._at_milestone = self.is_milestone(step)
        if self._at_milestone:
            return True
        paired = self.recorded >= FIRST_STEPS + _SINGLES
        budget = (1 - NORM_SHARE) * self._overhead * self._training - self._closing
        due = self._full.covers(budget, readings=2 if paired else 1)
        self._second = step + 1 if due and paired else self._second
        return due

    def is_milestone(self, step: int) -> bool:
        """Whether this step is 8, 16, 32 … and the allowance still covers it."""
        doubled = step > FIRST_STEPS and step & (step - 1) == 0
        return doubled and self._every == "auto" and self._allowance > 0 and self._extra.covers(self._allowance)

    def wants_norm(self) -> bool:
        """Whether to take the gradient's norm at a step that is not recorded in full."""
        budget = self._overhead * self._training
        return self._every == "auto" and self._norms.covers(min(NORM_SHARE * budget, budget - self._closing))
