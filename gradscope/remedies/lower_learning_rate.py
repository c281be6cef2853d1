"""Take shorter steps."""

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


class LowerLearningRate(Remedy):
    """Divides the learning rate by what the update ratio exceeds a healthy one by.

    Applied, every group's rate is multiplied by one factor while the optimizer steps; a scheduler goes on as it is.
    Risks: the training becomes as much slower; the ratio of the first steps may not be that of the later ones.
    """

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
        if not ratio > good_update(signals):
            return (
                "A tenth of the learning rate makes every step a tenth as long: the weights stay where they still work."
            )
        return (
            f"A step moves the weights by {number(ratio)} times their size; steps that train well begin near "
            f"{good_update(signals):g}.{brings}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        rate, optimizers = self._rate(finding, signals), signals.run.info.optimizers
        if math.isnan(rate) or not optimizers:
            return f'for group in optimizer.param_groups:\n    group["lr"] *= {self._factor(finding, signals):.1g}'
        return f"optimizer = torch.optim.{optimizers[0].kind}(model.parameters(), lr={rate:.1g})"

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Another number in the line that builds the optimizer."""
        rate = self._rate(finding, signals)
        if math.isnan(rate):
            raise NoPatch("the run does not know its learning rate")
        return set_rate(program, f"{rate:.1g}")

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The factor that brings the run's highest learning rate to the one that the code says."""
        highest, rate = StepSize(signals).highest_rate, self._rate(finding, signals)
        factor = float(f"{rate:.1g}") / highest if rate > 0 and highest > 0 else self._factor(finding, signals)
        return {"factor": float(f"{factor:.3g}")}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A factor between 0.01 and 1, evenly in its logarithm."""
        return {"factor": 10 ** rng.uniform(-2, 0)}

    def act(  # type: ignore[override]
        self, applied: Applied, model: nn.Module, optimizers: list[Optimizer], *, factor: float = 0.1
    ) -> None:
        """Multiplies the learning rate by the factor while the optimizers step; between steps it is the user's."""
        from gradscope.surgery.optimizers import stepping, without_rate
        from gradscope.surgery.steps import scale_rates

        if not optimizers:
            raise NotApplicable("no optimizer was given whose learning rate could be lowered")
        if kind := without_rate(steppers := stepping(optimizers)):
            raise NotApplicable(f"{kind} has no learning rate in its groups; it chooses one itself")
        scale_rates(applied, steppers, lambda step: factor)
        applied.change(f"every step takes {factor:.3g} of the learning rate")

    def _ratio(self, finding: Finding, signals: Signals) -> float:
        """The largest typical update ratio ahead of where the sickness showed: what comes after may be anything."""
        typical = StepSize(signals).typical
        until = typical[signals.steps < max(finding.first_step, 1)]
        known = until[np.isfinite(until)] if np.isfinite(until).any() else typical[np.isfinite(typical)]
        return float(known.max()) if len(known) else math.nan

    def _factor(self, finding: Finding, signals: Signals) -> float:
        """What to multiply the learning rate by."""
        ratio = self._ratio(finding, signals)
        return good_update(signals) / ratio if ratio > good_update(signals) else 0.1

    def _rate(self, finding: Finding, signals: Signals) -> float:
        """The learning rate to use; NaN where that of the run is not known. A warm-up begins at 0: the highest counts."""
        return StepSize(signals).highest_rate * self._factor(finding, signals)


def _critical(finding: Finding) -> float:
    """The critical learning rate, where the finding has measured it."""
    found = [each.value for each in finding.evidence if each.name.startswith("critical learning rate")]
    return found[0] if found else math.nan
