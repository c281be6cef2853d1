"""How the gradient changes along the steps of a training: curvature, the critical learning rate, alignment."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradscope.signals.series import Signals

ADAM_LIKE = ("Adam", "AdamW", "NAdam", "RAdam")
Values = NDArray[np.float64]  # shape [recorded steps], NaN where it is not known


class Curvature:
    """Secant estimates from two gradients that follow one another; every series has shape `[recorded steps]`.

    Each is about the step that led to the recorded one, and NaN where the step before was not recorded.

    Pure noise of small batches is no curvature and looks like one: of plain SGD the rate times the curvature is
    1 - <g, g'> / ‖g‖² with g before and g' after the step, so that gradients without anything in common give 1, half of
    the critical value. Momentum μ makes that 1 - μ² of 2 + 2μ, Adam's β1 is small in the same way.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._rows = [i for i in signals.parameters if signals.sites[i].optimized]

    def _before(self, values: Values) -> Values:
        """The values of the recorded step right before each, NaN where that is not the step before."""
        steps = self._signals.steps
        shifted = np.full(values.shape, np.nan)
        if len(steps) > 1:
            shifted[..., 1:] = np.where(np.diff(steps) == 1, values[..., :-1], np.nan)
        return shifted

    def _total(self, quantity: str, field: str, known: NDArray[np.bool_] | None = None) -> Values:
        values = self._signals.values(quantity, field)[self._rows]
        values = np.where(self._compared if known is None else known, values, np.nan)
        return np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))

    @cached_property
    def _compared(self) -> NDArray[np.bool_]:
        """Which parameters' gradients were compared with those of the step before."""
        changed = np.isfinite(self._signals.values("gradient_change", "weight_dot")[self._rows])
        return changed & np.isfinite(self._before(self._signals.values("update", "sum_squares")[self._rows]))

    @cached_property
    def along_update(self) -> Values:
        """λ = <Δw, Δg> / <Δw, Δw> over all parameters, with the step Δw and the gradient's change Δg across it."""
        squares = self._signals.values("update", "sum_squares")[self._rows]
        moved = np.where(self._compared, self._before(squares), 0.0).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._total("gradient_change", "weight_dot") / np.where(moved > 0, moved, np.nan))

    @cached_property
    def preconditioned(self) -> Values:
        """<Δw, Δg> / <Δw, √v Δw> with Adam's second moment v: the curvature in the metric that Adam goes down in."""
        metric = self._before(self._signals.values("second_moment", "weight_dot")[self._rows])
        moved = np.where(self._compared, np.nan_to_num(metric), 0.0).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._total("gradient_change", "weight_dot") / np.where(moved > 0, moved, np.nan))

    @cached_property
    def learning_rate(self) -> Values:
        """The largest rate of a group at the step that led to each recorded one."""
        run = self._signals.run
        rates = np.full(len(self._signals.steps), np.nan)
        if not run.learning_rates.size or not len(run.steps):
            return rates
        with np.errstate(invalid="ignore"):
            largest = np.fmax.reduce(run.learning_rates, axis=1)
        place = np.searchsorted(run.steps["step"], self._signals.steps - 1)
        there = (place < len(run.steps)) & (self._signals.steps > 0)
        place = np.minimum(place, len(run.steps) - 1)
        there &= run.steps["step"][place] == self._signals.steps - 1
        return np.where(there, largest[place], np.nan)

    @cached_property
    def critical_rate(self) -> Values:
        """The learning rate above which a quadratic of this curvature diverges under the run's optimizer; NaN: unknown.

        SGD 2/λ, heavy ball 2(1+μ)/λ, Nesterov 2(1+μ)/((1+2μ)λ), Adam (2+2β1)/((1-β1)λ) of the preconditioned λ.
        """
        limit, curvature = self._limit()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(limit / np.where(curvature > 0, curvature, np.nan))

    @cached_property
    def load(self) -> Values:
        """The learning rate over the critical one: above 1 the step overshoots so far that it grows. Negative: a ridge."""
        limit, curvature = self._limit()
        return np.asarray(self.learning_rate * self._clipping * curvature / limit)

    @cached_property
    def _clipping(self) -> Values:
        """What clipping left of the gradient at the step that led to each recorded one; Adam's steps do not feel it."""
        signals = self._signals
        steps = signals.run.steps[np.isin(signals.run.steps["step"], signals.steps)]
        kinds = {optimizer.kind for optimizer in signals.run.info.optimizers}
        if len(steps) != len(signals.steps) or kinds != {"SGD"}:
            return np.ones(len(signals.steps))
        with np.errstate(invalid="ignore", divide="ignore"):
            left = steps["clipped_gradient_norm"] / steps["gradient_norm"]
        return np.nan_to_num(self._before(np.where(left > 0, np.minimum(left, 1.0), 1.0)), nan=1.0)

    def _limit(self) -> tuple[float, Values]:
        """The critical product of rate and curvature, and the curvature that it is for."""
        optimizers = self._signals.run.info.optimizers
        unknown = np.full(len(self._signals.steps), np.nan)
        if len(optimizers) != 1:
            return np.nan, unknown
        kind, options = optimizers[0].kind, optimizers[0].options
        if kind in ADAM_LIKE:
            beta = options.get("beta1", 0.9)
            return (2 + 2 * beta) / (1 - beta) if beta < 1 else np.nan, self.preconditioned
        if kind != "SGD":
            return np.nan, unknown
        momentum = options.get("momentum", 0.0)
        limit = 2 * (1 + momentum)
        return limit / (1 + 2 * momentum) if options.get("nesterov", 0.0) else limit, self.along_update

    @cached_property
    def alignment(self) -> Values:
        """The cosine between the gradient and that of the step before, over all parameters."""
        squares = self._signals.values("gradient", "sum_squares")[self._rows]
        compared = np.isfinite(self._signals.values("gradient_change", "sum_squares")[self._rows]) & np.isfinite(
            self._before(squares)
        )
        now = np.where(compared, squares, 0.0).sum(axis=0)
        past = np.where(compared, self._before(squares), 0.0).sum(axis=0)
        change = self._total("gradient_change", "sum_squares", compared)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            both = np.sqrt(now * past)
            return np.asarray(np.clip((now + past - change) / (2 * np.where(both > 0, both, np.nan)), -1.0, 1.0))

    @cached_property
    def descent(self) -> Values:
        """<g, Δw> over all parameters: what the step takes from the loss where that is straight; negative goes down."""
        return self._total("update", "weight_dot", np.ones((len(self._rows), len(self._signals.steps)), bool))
