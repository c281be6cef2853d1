"""Take shorter steps."""

from __future__ import annotations

import math

import numpy as np

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.step_size import StepSize

_HEALTHY_UPDATE = 0.01  # rms(Δw)/rms(w) that healthy trainings start with, see exploding-gradient's calibration


class LowerLearningRate(Remedy):
    """Divides the learning rate by what the update ratio exceeds a healthy one by."""

    id = "lower-learning-rate"
    title = "Lower the learning rate"
    cures = {"learning-rate-too-high": 1.0, "weight-growth": 0.5, "unscaled-target": 0.2, "no-clipping": 0.3}
    sources = ("LeCun et al. 1998, Efficient backprop",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        ratio, rate, critical = self._ratio(finding, signals), self._rate(finding, signals), _critical(finding)
        brings = "" if math.isnan(rate) else f" A learning rate of {rate:.1g} brings it there."
        if not math.isnan(critical):
            return (
                f"Along the steps the loss is curved so that it grows at every rate above {number(critical)}.{brings}"
            )
        if not ratio > _HEALTHY_UPDATE:
            return (
                "A tenth of the learning rate makes every step a tenth as long: the weights stay where they still work."
            )
        return (
            f"A step moves the weights by {number(ratio)} times their size; healthy trainings start near "
            f"{_HEALTHY_UPDATE:g}.{brings}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        rate, optimizers = self._rate(finding, signals), signals.run.info.optimizers
        if math.isnan(rate) or not optimizers:
            return f'for group in optimizer.param_groups:\n    group["lr"] *= {self._factor(finding, signals):.1g}'
        return f"optimizer = torch.optim.{optimizers[0].kind}(model.parameters(), lr={rate:.1g})"

    def _ratio(self, finding: Finding, signals: Signals) -> float:
        """The largest typical update ratio ahead of where the sickness showed: what comes after may be anything."""
        typical = StepSize(signals).typical
        until = typical[signals.steps < max(finding.first_step, 1)]
        known = until[np.isfinite(until)] if np.isfinite(until).any() else typical[np.isfinite(typical)]
        return float(known.max()) if len(known) else math.nan

    def _factor(self, finding: Finding, signals: Signals) -> float:
        """What to multiply the learning rate by."""
        ratio = self._ratio(finding, signals)
        return _HEALTHY_UPDATE / ratio if ratio > _HEALTHY_UPDATE else 0.1

    def _rate(self, finding: Finding, signals: Signals) -> float:
        """The learning rate to use; NaN where that of the run is not known. A warm-up begins at 0: the highest counts."""
        return StepSize(signals).highest_rate * self._factor(finding, signals)


def _critical(finding: Finding) -> float:
    """The critical learning rate, where the finding has measured it."""
    found = [each.value for each in finding.evidence if each.name.startswith("critical learning rate")]
    return found[0] if found else math.nan
