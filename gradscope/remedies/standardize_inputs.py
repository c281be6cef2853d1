"""Bring what the model is fed to unit scale."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.output import asked


class StandardizeInputs(Remedy):
    """Subtracts each feature's mean over the training data and divides by its standard deviation."""

    id = "standardize-inputs"
    title = "Standardise the inputs"
    cures = {"unscaled-input": 1.0}
    sources = ("LeCun et al. 1998, Efficient backprop, 4.3: normalizing the inputs",)

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
