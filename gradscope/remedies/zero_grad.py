"""Zero the gradients at every step."""

from __future__ import annotations

import numpy as np

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class ZeroGrad(Remedy):
    """Clears the gradients that the optimizer has used, so that the next step is made of its own."""

    id = "zero-grad"
    title = "Zero the gradients before each backward pass"
    cures = {"gradient-not-zeroed": 1.0}
    sources = ("torch.optim.Optimizer.zero_grad",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        carried = signals.run.steps["carried"]
        known = carried[np.isfinite(carried) & (carried > 0)]
        share = (
            f"{number(100 * min(float(np.median(known)), 1.0))} % of a step's gradient" if len(known) else "Most of it"
        )
        return f"{share} comes from earlier steps, for weights that have changed since; backward only ever adds."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return "optimizer.zero_grad()  # new\nloss.backward()\noptimizer.step()"
