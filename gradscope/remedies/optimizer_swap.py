"""Let another optimizer choose the length of the steps."""

from __future__ import annotations

import math

import numpy as np

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.adam import below_eps, options


class OptimizerSwap(Remedy):
    """Swaps SGD for Adam, whose steps do not shrink with the gradient; or Adam's eps for one below its √v."""

    id = "optimizer-swap"
    title = "Use an optimizer whose steps do not shrink with the gradient"
    cures = {"learning-rate-too-low": 0.5}
    sources = (
        "Kingma & Ba 2015, Adam (arXiv:1412.6980), section 2",
        "torch.optim.Adam: eps is added to √v",
    )

    def suits(self, finding: Finding) -> float:
        """Better than a higher rate where Adam's eps is what keeps the steps short."""
        by_eps = any(
            evidence.name.startswith("share of entries whose √v is below eps") for evidence in finding.evidence
        )
        return super().suits(finding) * (2.5 if by_eps else 1.0)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        share = below_eps(signals)
        known, adam = share[np.isfinite(share)], options(signals)
        if adam is not None and len(known) and known[-1] > 0.1:
            return (
                f"√v is below eps ({number(adam['eps'])}) in {number(100 * float(known[-1]))} % of entries; there Adam's "
                "step is the gradient over eps. With an eps below √v it is the learning rate again, whatever the gradient."
            )
        return "Adam divides each gradient by its own usual size: a step is as long as the learning rate says, however flat."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        adam, rates = options(signals), signals.run.learning_rates
        rate = float(np.nanmax(rates)) if adam is not None and np.isfinite(rates).any() else math.nan
        return f"optimizer = torch.optim.Adam(model.parameters(), lr={rate if rate > 0 else 1e-3:.1g}, eps=1e-8)"
