"""Bring every layer's inputs back to unit size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.errors import NoPatch, NotApplicable
from gradscope.patches import Edit, Program
from gradscope.patches.layers import insert_norms
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.chain import numbers_together, places_for_norms
from gradscope.signals.mechanisms import activations

if TYPE_CHECKING:
    import torch

    from gradscope.surgery import Applied

_FEWEST = 4  # numbers that are normalised together; 2 become -1 and 1


class BatchNorm(Remedy):
    """Normalises each channel over the batch before the activation, which then works where its derivative is large.

    Needs batches of more than a few samples; behaves differently in `eval()`. A long stack of BatchNorm and ReLU without
    skips grows the gradient by 1.21 a layer (THEORY T10).

    Applied, it puts a BatchNorm behind each hidden Linear or convolution, before its activation. Sequences of vectors
    get LayerNorm. Scales and shifts join the optimizer in the group of the layer before. Risks: small batches make
    noise, a batch of one sample is an error, samples of a batch depend on one another, and `eval()` is another
    function; entries of an `nn.Sequential` move by one.
    """

    id = "batch-norm"
    title = "Insert BatchNorm before the activations"
    cures = {
        "activation-saturates": 0.7,
        "init-too-small": 0.5,
        "init-too-large": 0.5,
        "activation-contracts": 0.3,
        "activation-expands": 0.5,
        "dead-path": 0.5,
    }
    only_for = {"dead-path": ("dead-units", "representation-collapse")}
    sources = ("Ioffe & Szegedy 2015, Batch normalization (arXiv:1502.03167)",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A norm between each layer and its activation."""
        after = places_for_norms(signals, "batch")
        if any(len(site.shape) != 2 and site.kind == "Linear" for site in signals.sites if site.role == "output"):
            raise NoPatch(
                "a Linear is given sequences of vectors, for which BatchNorm wants its features in another place"
            )
        if after and numbers_together(signals, [path for path, _ in after]) < _FEWEST:
            raise NoPatch("the batches are too small for BatchNorm")
        return insert_norms(program)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The layers whose activation no normalisation feeds, and how many numbers a feature has in a batch."""
        after = places_for_norms(signals, "batch")
        together = {"together": numbers_together(signals, [path for path, _ in after])} if after else {}
        return {"after": after, **together} if signals.layers else {}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        after: Sequence[Sequence[str]] | None = None,
        together: int | None = None,
    ) -> None:
        """Puts a BatchNorm behind each hidden Linear or convolution, before its activation."""
        from gradscope.surgery.norms import normalise_after

        if together is not None and together < _FEWEST:
            raise NotApplicable(f"a batch has {together} numbers a feature: BatchNorm needs {_FEWEST} and more")
        normalise_after(applied, model, optimizers, after, "batch")

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
