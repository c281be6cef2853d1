"""Bound the length of each step's gradient."""

from __future__ import annotations

import numpy as np

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class GradientClipping(Remedy):
    """Rescales the gradient when its norm exceeds a bound; its direction stays.

    The bound is taken from the run itself: the median of its finite gradient norms while the loss was finite, or 1.
    """

    id = "gradient-clipping"
    title = "Clip the gradient norm"
    cures = {
        "no-clipping": 1.0,
        "learning-rate-too-high": 0.5,
        "unscaled-target": 0.3,
        "init-too-large": 0.3,
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

    def bound(self, signals: Signals) -> float:
        """The bound for this run: its usual norm where that is moderate, else 1, the usual choice."""
        norm = _norms(signals)
        usual = float(np.median(norm)) if len(norm) else 1.0
        return usual if 0.01 <= usual <= 10.0 else 1.0


def _norms(signals: Signals) -> np.ndarray:
    norm = signals.run.steps["gradient_norm"]
    finite: np.ndarray = norm[np.isfinite(norm) & (norm > 0)]
    return finite
