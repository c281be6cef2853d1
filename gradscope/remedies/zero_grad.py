"""Zero the gradients at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradscope.errors import NotApplicable
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.loop import zero
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied


class ZeroGrad(Remedy):
    """Clears the gradients that the optimizer has used, so that the next step is made of its own.

    Applied, they are set to 0 after each step (LBFGS's before each evaluation too), so that gathering over several
    backward passes before one step stays as meant. Risks: what another pass leaves behind after the step, a GAN's
    generator in the discriminator, is not cleared by that; steps that piled-up gradients made long become shorter.
    """

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

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """One line before the backward pass."""
        return zero(program)

    def act(self, applied: Applied, model: nn.Module, optimizers: list[Optimizer]) -> None:  # type: ignore[override]
        """Sets the gradients to 0 after each step."""
        from gradscope.surgery.optimizers import stepping
        from gradscope.surgery.steps import zero_gradients

        if not optimizers:
            raise NotApplicable("no optimizer was given whose gradients could be zeroed")
        zero_gradients(applied, stepping(optimizers))
        applied.change("the gradients are zeroed after each step")
