"""Take shorter steps."""

from __future__ import annotations

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
        rate, ratio = f"{self._rate(signals):.1g}", number(self._ratio(signals))
        return (
            f"A step moves the weights by {ratio} times their size; healthy trainings start near {_HEALTHY_UPDATE:g}. "
            f"A learning rate of {rate} brings it there."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        kind = signals.run.info.optimizers[0].kind if signals.run.info.optimizers else "SGD"
        return f"optimizer = torch.optim.{kind}(model.parameters(), lr={self._rate(signals):.1g})"

    def _ratio(self, signals: Signals) -> float:
        """The largest median update ratio of a recorded step."""
        weights = [i for i in signals.parameters if len(signals.sites[i].shape) != 1]
        ratio = signals.update_ratio[weights]
        known = [np.median(column[np.isfinite(column)]) for column in ratio.T if np.isfinite(column).any()]
        return float(max(known, default=np.nan))

    def _rate(self, signals: Signals) -> float:
        rates = signals.run.learning_rates
        now = float(rates[0, 0]) if rates.size else 0.01
        ratio = self._ratio(signals)
        return now * min(1.0, _HEALTHY_UPDATE / ratio) if ratio > _HEALTHY_UPDATE else now / 10
