"""Bring regression targets to the size of the network's outputs."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.loss import squared_error
from gradscope.signals.output import asked


class StandardizeTargets(Remedy):
    """Subtracts the mean of the training targets and divides by their standard deviation; predictions are scaled back."""

    id = "standardize-targets"
    title = "Standardise the targets"
    cures = {"unscaled-target": 1.0}
    sources = ("LeCun et al. 1998, Efficient backprop; Bishop 1995, Neural networks for pattern recognition, 8.2",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        error = squared_error(signals)
        target = asked(signals)
        if target is not None and target.rms > 0:
            return (
                f"The targets lie between {number(target.lowest)} and {number(target.highest)}, their mean is "
                f"{number(target.mean)}. The gradient of a squared error is the distance to them; with standardised "
                "targets it starts near 1."
            )
        root = "" if error is None else f"The outputs are {number(error.root[0])} away from the targets at the start. "
        return f"{root}The gradient of a squared error is that distance; with standardised targets it starts near 1."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            "mean, std = y_train.mean(), y_train.std()\n"
            "loss = criterion(model(x), (y - mean) / std)  # instead of criterion(model(x), y)\n"
            "prediction = model(x) * std + mean"
        )
