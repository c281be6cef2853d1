"""Take longer steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.errors import NoPatch, NotApplicable
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.optimizer import set_rate
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.step_size import StepSize, good_update

if TYPE_CHECKING:
    from random import Random

    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied

_MOST = 1e5  # times the rate that it was


class RaiseLearningRate(Remedy):
    """Multiplies the learning rate by what the update ratio lacks to a healthy one.

    Applied, every group's rate is multiplied by one factor while the optimizer steps; a scheduler goes on as it is.
    Risks: where the loss is curved more than the first steps showed, it diverges.
    """

    id = "raise-learning-rate"
    title = "Raise the learning rate"
    cures = {"learning-rate-too-low": 1.0}
    sources = ("Bengio 2012, Practical recommendations for gradient-based training (arXiv:1206.5533), section 3.1",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        ratio, rate = _ratio(signals), _rate(signals)
        if not 0 < ratio < good_update(signals):
            return "Ten times the learning rate makes every step ten times as long, and the loss falls as much faster."
        brings = "" if math.isnan(rate) else f" A learning rate of {rate:.1g} brings it there."
        return (
            f"A step moves the weights by {number(ratio)} of their size, so it takes {number(1 / ratio)} steps to go as "
            f"far as they are large; steps that train well begin near {good_update(signals):g}.{brings}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        rate, optimizers = _rate(signals), signals.run.info.optimizers
        if math.isnan(rate) or not optimizers:
            return f'for group in optimizer.param_groups:\n    group["lr"] *= {_factor(signals):.1g}'
        return f"optimizer = torch.optim.{optimizers[0].kind}(model.parameters(), lr={rate:.1g})"

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Another number in the line that builds the optimizer."""
        rate = _rate(signals)
        if math.isnan(rate):
            raise NoPatch("the run does not know its learning rate")
        return set_rate(program, f"{rate:.1g}")

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The factor that brings the run's highest learning rate to the one that the code says; where it is 0, that one."""
        highest, rate = StepSize(signals).highest_rate, _rate(signals)
        if highest == 0 and rate > 0:
            return {"factor": 1.0, "instead_of_zero": rate}
        factor = float(f"{rate:.1g}") / highest if rate > 0 and highest > 0 else _factor(signals)
        return {"factor": float(f"{factor:.3g}")}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A factor between 1 and 100, evenly in its logarithm."""
        return {"factor": 10 ** rng.uniform(0, 2)}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: nn.Module,
        optimizers: list[Optimizer],
        *,
        factor: float = 10.0,
        instead_of_zero: float = 0.0,
    ) -> None:
        """Multiplies the learning rate while the optimizers step, a rate of 0 taken for another one first."""
        from gradscope.surgery.optimizers import stepping, without_rate
        from gradscope.surgery.steps import scale_rates

        if not optimizers:
            raise NotApplicable("no optimizer was given whose learning rate could be raised")
        if kind := without_rate(steppers := stepping(optimizers)):
            raise NotApplicable(f"{kind} has no learning rate in its groups; it chooses one itself")
        scale_rates(applied, steppers, lambda step: factor, instead_of_zero)
        zero = f"; where it is 0, {instead_of_zero:.3g}" if instead_of_zero else ""
        applied.change(f"every step takes {factor:.3g} times the learning rate{zero}")


def _ratio(signals: Signals) -> float:
    """The typical update ratio at the run's highest learning rate."""
    ratio = StepSize(signals).at_highest_rate
    known = ratio[np.isfinite(ratio)]
    return float(known.max()) if len(known) else math.nan


def _factor(signals: Signals) -> float:
    ratio, good = _ratio(signals), good_update(signals)
    return min(good / ratio, _MOST) if 0 < ratio < good else 10.0


def _rate(signals: Signals) -> float:
    """The learning rate to use; NaN where that of the run is not known."""
    rate, optimizers = StepSize(signals).highest_rate, signals.run.info.optimizers
    if rate == 0 and optimizers:
        return 0.01 if optimizers[0].kind == "SGD" else 1e-3  # what people begin with
    return rate * _factor(signals)
