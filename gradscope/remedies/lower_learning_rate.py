"""Take shorter steps."""

from __future__ import annotations

import math

import numpy as np

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

_HEALTHY_UPDATE = 0.01  # rms(Δw)/rms(w) that healthy trainings start with, see exploding-gradient's calibration


class LowerLearningRate(Remedy):
    """Divides the learning rate by what the update ratio exceeds a healthy one by."""

    id = "lower-learning-rate"
    title = "Lower the learning rate"
    cures = {"learning-rate-too-high": 1.0, "weight-growth": 0.5, "unscaled-target": 0.2, "no-clipping": 0.3}
    sources = ("LeCun et al. 1998, Efficient backprop",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        ratio, rate = self._ratio(signals), self._rate(signals)
        if not ratio > _HEALTHY_UPDATE:
            return (
                "A tenth of the learning rate makes every step a tenth as long: the weights stay where they still work."
            )
        brings = "" if math.isnan(rate) else f" A learning rate of {rate:.1g} brings it there."
        return (
            f"A step moves the weights by {number(ratio)} times their size; healthy trainings start near "
            f"{_HEALTHY_UPDATE:g}.{brings}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        rate, optimizers = self._rate(signals), signals.run.info.optimizers
        if math.isnan(rate) or not optimizers:
            return f'for group in optimizer.param_groups:\n    group["lr"] *= {self._factor(signals):.1g}'
        return f"optimizer = torch.optim.{optimizers[0].kind}(model.parameters(), lr={rate:.1g})"

    def _ratio(self, signals: Signals) -> float:
        """The largest median update ratio of a recorded step."""
        weights = [i for i in signals.parameters if len(signals.sites[i].shape) != 1]
        ratio = signals.update_ratio[weights]
        known = [np.median(column[np.isfinite(column)]) for column in ratio.T if np.isfinite(column).any()]
        return float(max(known, default=np.nan))

    def _factor(self, signals: Signals) -> float:
        """What to multiply the learning rate by."""
        ratio = self._ratio(signals)
        return _HEALTHY_UPDATE / ratio if ratio > _HEALTHY_UPDATE else 0.1

    def _rate(self, signals: Signals) -> float:
        """The learning rate to use; NaN where that of the run is not known. A warm-up begins at 0: the highest counts."""
        rates = signals.run.learning_rates[:, :1]
        return float(np.nanmax(rates)) * self._factor(signals) if np.isfinite(rates).any() else math.nan
