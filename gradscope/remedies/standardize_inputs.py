"""Bring what the model is fed to unit scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.errors import NotApplicable
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.data import standardize_inputs
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.output import asked

if TYPE_CHECKING:
    import torch

    from gradscope.surgery import Applied


class StandardizeInputs(Remedy):
    """Subtracts each feature's mean over the training data and divides by its standard deviation.

    Applied, it standardises what the model is fed, by the mean and deviation of all batches that it was trained on so
    far. One mean a feature, of images one a channel. No parameter is added, the `state_dict` keeps its keys. Risks:
    in the first few batches mean and deviation move a little, and later they still follow the data; what stood in the
    size of a feature is lost; weights that were loaded expect the inputs as they were.
    """

    id = "standardize-inputs"
    title = "Standardise the inputs"
    cures = {"unscaled-input": 1.0}
    sources = ("LeCun et al. 1998, Efficient backprop, 4.3: normalizing the inputs",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Mean and deviation taken once, and used wherever the model is called."""
        fed = asked(signals, "input")
        numbers = ("", "") if fed is None or not fed.deviation > 0 else (f"{fed.mean:.4g}", f"{fed.deviation:.4g}")
        images = signals.fed is not None and len(signals.sites[signals.fed].shape) == 4
        return standardize_inputs(program, *numbers, images)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The dtype of what the model is fed."""
        dtype = "" if signals.fed is None else signals.sites[signals.fed].dtype
        return {"dtype": dtype} if dtype else {}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        dtype: str = "",
    ) -> None:
        """Standardises what the model is fed, by the mean and deviation of all batches that it was trained on so far."""
        from gradscope.surgery.standardise import standardise_inputs

        if dtype and not dtype.startswith(("float", "bfloat")):
            raise NotApplicable(f"the model is fed {dtype}: numbers of words or classes have no scale")
        standardise_inputs(applied, model)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        fed = asked(signals, "input")
        reason = "Standardised features have one size, which is what initialization and learning rate are made for."
        if fed is None or fed.rms <= 0:
            return f"The first weights' gradient grows with the inputs, the curvature with their square. {reason}"
        factor = fed.rms**2 if fed.rms > 1 else 1 / fed.rms**2
        worse = "more" if fed.rms > 1 else "less"
        return (
            f"The inputs lie between {number(fed.lowest)} and {number(fed.highest)}, rms {number(fed.rms)}: the loss is "
            f"curved {number(factor)} times {worse} along the first weights than with inputs of size 1. {reason}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        images = any(len(site.shape) == 4 for site in signals.sites if site.role == "output")
        if images:
            return (
                "axes = [axis for axis in range(x.dim()) if axis != 1]  # one mean a channel, over the training data\n"
                "mean, std = x.mean(axes, keepdim=True), x.std(axes, keepdim=True).clamp(min=1e-6)\n"
                "output = model((x - mean) / std)  # instead of model(x), in training and in use"
            )
        return (
            "mean, std = x.mean(0), x.std(0).clamp(min=1e-6)  # of all training data, one number a feature\n"
            "output = model((x - mean) / std)  # instead of model(x), in training and in use"
        )
