"""Bound the length of each step's gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.errors import NotApplicable
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.loop import clip
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from random import Random

    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied


class GradientClipping(Remedy):
    """Rescales the gradient when its norm exceeds a bound; its direction stays.

    The bound is taken from the run itself: the median of its finite gradient norms while the loss was finite, or 1.
    Applied, it takes one norm over what each optimizer updates (the line to paste: over the model), after any scaler has
    unscaled. Risks: a bound far below the usual norm makes every step equally long, a lower learning rate in disguise;
    the norm costs one pass over the gradients a step.
    """

    id = "gradient-clipping"
    title = "Clip the gradient norm"
    cures = {
        "no-clipping": 1.0,
        "learning-rate-too-high": 0.5,
        "unscaled-target": 0.3,
        "init-too-large": 0.3,
        "activation-expands": 0.1,
        "long-backprop-chain": 0.8,
        "weight-growth": 0.4,
    }
    sources = ("Pascanu et al. 2013 (arXiv:1211.5063), section 3.2",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        norm = _norms(signals)
        if not len(norm):
            return "No step can be longer than the bound times the learning rate."
        largest, bound = number(float(norm.max())), f"{self.bound(signals):.2g}"
        return (
            f"The gradient norm reached {largest}. With a bound of {bound} no step is longer than "
            "that times the learning rate. It treats the symptom: the directions stay as they are."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            "loss.backward()\n"
            f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={self.bound(signals):.2g})  # new\n"
            "optimizer.step()"
        )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """One line before each `optimizer.step()`."""
        return clip(program, f"{self.bound(signals):.2g}")

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The bound, as the code says it."""
        return {"bound": float(f"{self.bound(signals):.2g}")}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A bound between 0.01 and 10, evenly in its logarithm."""
        return {"bound": 10 ** rng.uniform(-2, 1)}

    def act(  # type: ignore[override]
        self, applied: Applied, model: nn.Module, optimizers: list[Optimizer], *, bound: float = 1.0
    ) -> None:
        """Rescales the gradients right before each step, whenever their norm exceeds the bound."""
        from gradscope.surgery.optimizers import makes_sparse_gradients, stepping
        from gradscope.surgery.steps import clip_norm

        if not optimizers:
            raise NotApplicable("no optimizer was given whose steps could be bounded")
        steppers = stepping(optimizers)
        if any(type(each).__name__ == "LBFGS" for each in steppers):
            raise NotApplicable(
                "LBFGS evaluates the loss several times inside of a step and reads the curvature from the "
                "differences of gradients; rescaled ones would tell it of another loss"
            )
        if makes_sparse_gradients(model):
            raise NotApplicable("an embedding has sparse gradients, whose norm torch does not take")
        clip_norm(applied, steppers, bound)
        applied.change(f"the gradient norm is bounded by {bound:.3g} before each step")

    def bound(self, signals: Signals) -> float:
        """The bound for this run: its usual norm where that is moderate, else 1, the usual choice."""
        norm = _norms(signals)
        usual = float(np.median(norm)) if len(norm) else 1.0
        return usual if 0.01 <= usual <= 10.0 else 1.0


def _norms(signals: Signals) -> np.ndarray:
    norm = signals.run.steps["gradient_norm"]
    finite: np.ndarray = norm[np.isfinite(norm) & (norm > 0)]
    return finite
