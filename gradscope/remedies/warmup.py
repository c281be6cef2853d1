"""Begin with short steps and lengthen them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.errors import NotApplicable
from gradscope.patches import Edit, Program
from gradscope.patches.loop import warm_up
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from random import Random

    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied

_STEPS = 100
_FEWEST = 10  # of a run that broke off early
_START = 0.01  # of the learning rate


class Warmup(Remedy):
    """Raises the learning rate from near 0 to its value over the first steps, while the curvature is at its largest.

    Applied, the rate is multiplied while the optimizer steps, by 0.01 at first and a little more at each step, until it
    is the user's: beside a scheduler the two multiply. A short training is warmed up for a third of its steps. Risks: it
    only postpones what a rate that is too high for good does; the first steps learn little.
    """

    id = "warmup"
    title = "Warm the learning rate up"
    cures = {
        "post-norm-without-warmup": 1.0,
        "learning-rate-too-high": 0.4,
        "attention-logit-growth": 0.3,
        "norm-at-init": 0.3,
    }
    sources = (
        "Goyal et al. 2017, Accurate, large minibatch SGD (arXiv:1706.02677)",
        "Gilmer et al. 2022, A loss curvature perspective on training instability (arXiv:2110.04369)",
    )

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        early = finding.first_step < _STEPS
        since = f"The trouble began at step {finding.first_step:,}, " if early and finding.first_step else ""
        return (
            f"{since}{'while' if since else 'While'} the network is as it was initialised the loss is curved most; over the "
            f"first {_STEPS} steps it grows flatter, and then bears longer ones."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            f"warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters={_STEPS})\n"
            "# after each optimizer.step()\n"
            "optimizer.step()\n"
            "warmup.step()"
        )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A schedule behind the optimizer, and its step behind each of the optimizer's."""
        return warm_up(program, _STEPS)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """100 steps, but no more than a third of a short training."""
        steps = signals.run.steps["step"]
        total = int(steps[-1]) + 1 if len(steps) else 0
        return {"steps": min(_STEPS, max(total // 3, _FEWEST))}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """10 to 200 steps."""
        return {"steps": rng.randint(10, 200)}

    def act(  # type: ignore[override]
        self, applied: Applied, model: nn.Module, optimizers: list[Optimizer], *, steps: int = _STEPS
    ) -> None:
        """Multiplies the learning rate by a share that grows from 0.01 to 1, as torch's `LinearLR` does."""
        from gradscope.surgery.optimizers import stepping, without_rate
        from gradscope.surgery.steps import scale_rates

        if not optimizers:
            raise NotApplicable("no optimizer was given whose learning rate could begin lower")
        if kind := without_rate(steppers := stepping(optimizers)):
            raise NotApplicable(f"{kind} has no learning rate in its groups; it chooses one itself")
        scale_rates(applied, steppers, lambda step: _START + (1 - _START) * step / steps if step < steps else 1.0)
        applied.change(f"the learning rate grows from {_START:g} of itself over the first {steps:,} steps")
