"""Bring regression targets to the size of the network's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.data import standardize_targets
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.loss import squared_error
from gradscope.signals.output import asked

if TYPE_CHECKING:
    import torch

    from gradscope.surgery import Applied


class StandardizeTargets(Remedy):
    """Subtracts the mean of the training targets and divides by their standard deviation; predictions are scaled back.

    Applied, it lets the model train on standardised targets; its outputs and the loss stay in the units of the
    targets. The output becomes raw · deviation + mean, and the gradient behind it is divided by deviation², which
    makes every step that of a squared error on (y - mean) / deviation, with any optimizer. Nothing in the loss's code
    changes. Risks: a penalty that is added to the loss weighs deviation² times more against it; a model that gives
    more than one tensor, or several targets of different sizes, is out of reach.
    """

    id = "standardize-targets"
    title = "Standardise the targets"
    cures = {"unscaled-target": 1.0}
    sources = ("LeCun et al. 1998, Efficient backprop; Bishop 1995, Neural networks for pattern recognition, 8.2",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Mean and deviation taken once, and used in the loss."""
        target = asked(signals)
        numbers = (
            ("", "")
            if target is None or not target.deviation > 0
            else (f"{target.mean:.4g}", f"{target.deviation:.4g}")
        )
        return standardize_targets(program, *numbers)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """Mean and deviation of the targets, and how the loss grows with the distance to them."""
        target, path = asked(signals), signals.run.info.loss_path
        if target is None:
            return {}
        plain = path is not None and path.kind in ("absolute-error", "root-squared-error", "huber")
        return {"mean": target.mean, "deviation": target.deviation, "power": 1 if plain else 2}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        mean: float | None = None,
        deviation: float | None = None,
        power: int = 2,
    ) -> None:
        """Lets the model train on standardised targets; its outputs and the loss stay in the units of the targets."""
        from gradscope.surgery.standardise import standardise_targets

        standardise_targets(applied, model, mean, deviation, power)

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
