"""Let another optimizer choose the length of the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.errors import NotApplicable
from gradscope.numerals import limit, number
from gradscope.patches import Edit, Program
from gradscope.patches.optimizer import swap_optimizer
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.adam import below_eps, options
from gradscope.signals.step_size import StepSize

if TYPE_CHECKING:
    from random import Random

    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied

_RATE = 1e-3  # Adam's, as torch has it; weights that were drawn too small should not make it less
_HIGHEST_RATE = 0.03
_SHARE = 0.03  # of the weights' rms, see `good_update`
_EPS = 1e-8
_LOWEST_EPS = 1e-16  # √v itself is 0 in float32 below 4e-23


class OptimizerSwap(Remedy):
    """Swaps SGD for Adam, whose steps do not shrink with the gradient; or Adam's eps for one below its √v.

    Applied, the optimizer stays the same object and becomes an Adam: its groups, weight decay, own hooks and schedulers
    stay, its momentum goes. Every rate is multiplied by what brings the highest to the new one, so a schedule keeps its
    shape. Risks: Adam holds two more numbers a weight; weight decay acts less on entries with large gradients; where SGD's
    rate was well tuned it may generalise worse. A lower eps lengthens steps along gradients that are rounding alone.
    """

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

    def possible(self, signals: Signals) -> bool:
        """An Adam whose eps is below its √v is what it would become."""
        adam = options(signals)
        return adam is None or adam.get("eps", 0.0) > _eps(signals)

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
        return f"optimizer = torch.optim.Adam(model.parameters(), lr={_rate(signals):.3g}, eps={limit(_eps(signals))})"

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Another class in the line that builds the optimizer."""
        options = self.code(finding, signals).partition("parameters(), ")[2].removesuffix(")")
        return swap_optimizer(program, "Adam", options)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The rate and the eps, as the code says them; where it is Adam already its rate stays."""
        return {"rate": _rate(signals), "eps": _eps(signals)}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A rate between 1e-5 and 0.1, evenly in its logarithm."""
        return {"rate": 10 ** rng.uniform(-5, -1), "eps": _EPS}

    def act(  # type: ignore[override]
        self, applied: Applied, model: nn.Module, optimizers: list[Optimizer], *, rate: float = _RATE, eps: float = _EPS
    ) -> None:
        """Makes the optimizers an Adam, or lowers the eps of those that are one."""
        from gradscope.surgery import optimizers as surgery
        from gradscope.surgery.steps import scale_rates

        steppers = surgery.stepping(optimizers)
        if not steppers:
            raise NotApplicable("no optimizer was given that could be swapped")
        for optimizer in steppers:
            kind, was = type(optimizer).__name__, max(group.get("eps", 0.0) for group in optimizer.param_groups)
            if kind in surgery.ADAM_LIKE:
                if surgery.lower_eps(applied, optimizer, eps):
                    applied.change(f"{kind}'s eps is {eps:.3g}, was {was:.3g}")
                continue
            if why := surgery.unlike_adam(model, optimizer):
                raise NotApplicable(why)
            highest = surgery.highest_rate(optimizer)
            surgery.become_adam(applied, optimizer, eps)
            factor, instead_of_zero = (rate / highest, 0.0) if highest else (1.0, rate)
            scale_rates(applied, [optimizer], _constant(factor), instead_of_zero)
            applied.change(f"{kind} became Adam: learning rate {rate:.3g}, was {highest:.3g}; eps {eps:.3g}")
        if not applied.changes:
            raise NotApplicable(
                f"the optimizer rescales its gradients as Adam does already, and its eps is {eps:.3g} or less"
            )


def _constant(factor: float) -> Callable[[int], float]:
    return lambda step: factor


def _rate(signals: Signals) -> float:
    """What Adam's steps are as long as, a small share of the weights' size: 0.001 to 0.03; of an Adam its own."""
    steps = StepSize(signals)
    if options(signals) is not None and steps.highest_rate > 0:
        return steps.highest_rate
    size = signals.rms("weight")[steps.weights, :1]
    known = size[np.isfinite(size)]
    share = float(f"{_SHARE * float(np.median(known)):.1g}") if len(known) else _RATE
    return min(max(share, _RATE), _HIGHEST_RATE)


def _eps(signals: Signals) -> float:
    """A power of 10 a hundred times below the √v of every parameter and the run's own eps; 1e-8 where that is enough."""
    adam, share = options(signals), below_eps(signals)
    known = share[np.isfinite(share)]
    if adam is None or not len(known) or known[-1] <= 0.1:
        return _EPS
    squares = signals.rms("second_moment")[:, signals.steps > 0][:, -1]
    usual = [math.sqrt(each) for each in squares if each > 0 and math.isfinite(each)]
    below = min([*usual, adam["eps"]]) / 100
    return float(f"1e{math.floor(math.log10(min(max(below, _LOWEST_EPS), _EPS)) + 1e-9)}")
