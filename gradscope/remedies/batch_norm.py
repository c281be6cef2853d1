"""Bring every layer's inputs back to unit size."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.mechanisms import activations


class BatchNorm(Remedy):
    """Normalises each channel over the batch before the activation, which then works where its derivative is large.

    Needs batches of more than a few samples; behaves differently in `eval()`. A long stack of BatchNorm and ReLU without
    skips grows the gradient by 1.21 a layer (THEORY T10).
    """

    id = "batch-norm"
    title = "Insert BatchNorm before the activations"
    cures = {
        "activation-saturates": 0.7,
        "init-too-small": 0.5,
        "init-too-large": 0.5,
        "activation-contracts": 0.3,
        "dead-path": 0.5,
    }
    only_for = {"dead-path": ("dead-units", "representation-collapse")}
    sources = ("Ioffe & Szegedy 2015, Batch normalization (arXiv:1502.03167)",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        return (
            "Normalised inputs keep each activation where it lets the gradient through, and make the size of the weights "
            "before it irrelevant."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        convolutional = any(signals.sites[i].kind == "Conv2d" for i in signals.layers)
        layer, norm = (
            ("Conv2d(c, c, 3, padding=1)", "BatchNorm2d(c)") if convolutional else ("Linear(n, n)", "BatchNorm1d(n)")
        )
        kinds = activations(signals)
        activation = max(set(kinds), key=kinds.count) if kinds else "ReLU"
        return (
            f"torch.nn.Sequential(\n    torch.nn.{layer},\n    torch.nn.{norm},  # new\n    torch.nn.{activation}(),\n)"
        )
