"""How far the steps carry the weights, beside the learning rates that the training was told to use."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradscope.signals.adam import options
from gradscope.signals.series import Signals

Values = NDArray[np.float64]

# rms(Δw)/rms(w) of the first steps with which trainings came furthest in 100 steps (digits, MLPs and a CNN, 16 of 18 swept,
# one seed each): 0.006 to 0.05 with SGD, of which ReLU networks no longer bear 0.03, and 0.03 to 0.05 with Adam
_GOOD, _GOOD_ADAM = 0.01, 0.03


def good_update(signals: Signals) -> float:
    """The update ratio that a training does well to begin with, by its optimizer's kind."""
    return _GOOD if options(signals) is None else _GOOD_ADAM


class StepSize:
    """Update ratios of the weight matrices and kernels that an optimizer moves; biases and gains may start at 0 or 1.

    Attributes:
        weights: their sites, in execution order.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self.weights = [
            i
            for i in signals.parameters
            if len(signals.sites[i].shape) > 1 and signals.sites[i].trainable and signals.sites[i].optimized
        ]

    @cached_property
    def typical(self) -> Values:
        """The median over weights of rms(Δw)/rms(w), shape `[recorded steps]`; NaN where none is known."""
        ratio = self._signals.update_ratio[self.weights]
        result = np.full(len(self._signals.steps), np.nan)
        for column in range(len(result)):
            known = ratio[np.isfinite(ratio[:, column]), column]
            if len(known):
                result[column] = np.median(known)
        return result

    @cached_property
    def rates(self) -> Values:
        """The largest learning rate of a group, shape `[steps]`; NaN where it is not known."""
        rates = self._signals.run.learning_rates
        if not rates.size:
            return np.full(len(self._signals.run.steps), np.nan)
        with np.errstate(invalid="ignore"):
            largest: Values = np.fmax.reduce(rates, axis=1)
        return largest

    @cached_property
    def highest_rate(self) -> float:
        """The largest learning rate that the run has had."""
        known = self.rates[np.isfinite(self.rates)]
        return float(known.max()) if len(known) else float("nan")

    @cached_property
    def at_highest_rate(self) -> Values:
        """`typical` as it would be at the run's highest rate, which a warm-up or a schedule's end hides."""
        steps, rates = self._signals.run.steps["step"], self.rates
        place = np.searchsorted(steps, self._signals.steps).clip(max=max(len(steps) - 1, 0))
        if not len(steps) or not len(rates):
            return self.typical
        rate = rates[place]
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.where(rate > 0, self.highest_rate / rate, 1.0)
        return self.typical * np.where(np.isfinite(scale), scale, 1.0)

    def warming_up(self) -> bool:
        """Whether the learning rate is higher than ever and still rising."""
        rates = self.rates[np.isfinite(self.rates)]
        if len(rates) < 2:
            return False
        before = rates[-max(len(rates) // 5, 2)]
        return bool(rates[-1] >= 0.999 * rates.max() and rates[-1] > 1.001 * before)

    def by_ratio(self, column: int, largest_first: bool = True) -> list[int]:
        """The weights by their update ratio at a recorded step; those without one are left out."""
        ratio = self._signals.update_ratio[self.weights, column]
        known = [
            (float(value), weight) for value, weight in zip(ratio, self.weights, strict=True) if np.isfinite(value)
        ]
        return [weight for _, weight in sorted(known, key=lambda pair: pair[0], reverse=largest_first)]
