"""Take longer steps."""

from __future__ import annotations

import math

import numpy as np

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.step_size import StepSize

_HEALTHY_UPDATE = 3e-3  # rms(Δw)/rms(w) that healthy trainings begin with, see learning-rate-too-low's calibration
_MOST = 1e4  # times the rate that it was


class RaiseLearningRate(Remedy):
    """Multiplies the learning rate by what the update ratio lacks to a healthy one."""

    id = "raise-learning-rate"
    title = "Raise the learning rate"
    cures = {"learning-rate-too-low": 1.0}
    sources = ("Bengio 2012, Practical recommendations for gradient-based training (arXiv:1206.5533), section 3.1",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        ratio, rate = _ratio(signals), _rate(signals)
        if not 0 < ratio < _HEALTHY_UPDATE:
            return "Ten times the learning rate makes every step ten times as long, and the loss falls as much faster."
        brings = "" if math.isnan(rate) else f" A learning rate of {rate:.1g} brings it there."
        return (
            f"A step moves the weights by {number(ratio)} of their size, so it takes {number(1 / ratio)} steps to go as "
            f"far as they are large; healthy trainings begin near {_HEALTHY_UPDATE:g}.{brings}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        rate, optimizers = _rate(signals), signals.run.info.optimizers
        if math.isnan(rate) or not optimizers:
            return f'for group in optimizer.param_groups:\n    group["lr"] *= {_factor(signals):.1g}'
        return f"optimizer = torch.optim.{optimizers[0].kind}(model.parameters(), lr={rate:.1g})"


def _ratio(signals: Signals) -> float:
    """The typical update ratio at the run's highest learning rate."""
    ratio = StepSize(signals).at_highest_rate
    known = ratio[np.isfinite(ratio)]
    return float(known.max()) if len(known) else math.nan


def _factor(signals: Signals) -> float:
    ratio = _ratio(signals)
    return min(_HEALTHY_UPDATE / ratio, _MOST) if 0 < ratio < _HEALTHY_UPDATE else 10.0


def _rate(signals: Signals) -> float:
    """The learning rate to use; NaN where that of the run is not known."""
    rate, optimizers = StepSize(signals).highest_rate, signals.run.info.optimizers
    if rate == 0 and optimizers:
        return 0.01 if optimizers[0].kind == "SGD" else 1e-3  # what people begin with
    return rate * _factor(signals)
