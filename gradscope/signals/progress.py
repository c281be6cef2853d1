"""Whether the loss falls: its level at the start and now, its noise, and the loss of the best constant guess."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gradscope.signals.series import Signals

_LONG_ENOUGH = 100  # steps with a loss: healthy trainings of up to 20 layers have lost half of it by then
_HALF = 0.5
_FEW = 5  # losses that the level at the start is the median of
_WINDOW = 0.1  # share of the steps that the level now is the median of, at least `_FEW`, at most 200 of them


@dataclass(frozen=True)
class Progress:
    """Levels of a run's loss, medians over windows, so that one odd step moves none of them.

    Attributes:
        steps: the steps whose losses are known and finite, shape `[N]`.
        losses: theirs, shape `[N]`.
        start: level over the first few steps.
        now: level over the last tenth of the steps.
        best: lowest level of any window as long as that of `now`.
        noise: robust standard deviation of the loss from one step to the next, in the second half.
        trivial: loss of the best constant output over the targets seen; NaN when it is not known.
        blown_up: whether the loss was NaN or Inf at any step.
    """

    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    start: float
    now: float
    best: float
    noise: float
    trivial: float
    blown_up: bool

    @property
    def count(self) -> int:
        """How many steps have a loss."""
        return len(self.losses)

    @property
    def window(self) -> int:
        """How many steps `now` is the median of."""
        return _window(self.count)

    @property
    def error(self) -> float:
        """How far a level is off by noise alone: three standard errors of a median."""
        return 3 * 1.25 * self.noise / math.sqrt(max(self.window, 1))

    @property
    def against_trivial(self) -> float:
        """The level now over the best constant guess's loss: 1 for a network that has learned the mean alone."""
        return self.now / self.trivial if self.trivial > 0 else math.nan

    @property
    def fallen(self) -> float:
        """The share of the loss at the start that is gone; NaN where it was not positive."""
        return 1 - self.now / self.start if self.start > 0 else math.nan

    @property
    def unlearned(self) -> bool:
        """Whether, long enough after the start, less than half of the loss is gone: of the start's, or of the guess's."""
        if self.count < _LONG_ENOUGH or not self.start > 0:
            return False
        reference = self.start if math.isnan(self.trivial) else min(self.start, self.trivial)
        return self.now > _HALF * reference

    def still_falling(self, least: float = 0.0) -> bool:
        """Whether the second half goes down by more than its noise, and `least`: its later half lies below the earlier."""
        half = self.losses[len(self.losses) // 2 :]
        part = max(len(half) // 2, 1)
        early, late = float(np.median(half[:part])), float(np.median(half[-part:]))
        return early - late > max(2.5 * 1.25 * self.noise * math.sqrt(2 / part), least)


def progress(signals: Signals) -> Progress | None:
    """Reads how the loss went; None when no step has a finite one."""
    rows = signals.run.steps
    rows = rows[rows["has_loss"]]
    finite = np.isfinite(rows["loss"])
    losses = rows["loss"][finite].astype(np.float64)
    if not len(losses):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        window = _window(len(losses))
        windows = sliding_window_view(losses, window)[:: max(window // 2, 1)]
        known = rows["trivial_loss"][np.isfinite(rows["trivial_loss"])]
        return Progress(
            rows["step"][finite],
            losses,
            float(np.median(losses[:_FEW])),
            float(np.median(losses[-window:])),
            float(np.median(windows, axis=1).min()),
            _noise(losses[len(losses) // 2 :]),
            float(known[-1]) if len(known) else math.nan,
            bool((~finite).any()),
        )


def _window(count: int) -> int:
    return min(max(_FEW, int(count * _WINDOW)), 200, count)


def _noise(losses: NDArray[np.float64]) -> float:
    """The standard deviation of single losses, from how far neighbours lie apart."""
    if len(losses) < 2:
        return 0.0
    return float(1.4826 * np.median(np.abs(np.diff(losses))) / math.sqrt(2))
