"""Drop less, and only in training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradscope.errors import NoPatch
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.loop import train_mode
from gradscope.patches.modules import lower_dropout
from gradscope.records import Finding, Suggestion
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.units import option

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied


class LowerDropout(Remedy):
    """Lowers dropout rates to what is usual, and switches dropout by the model's mode.

    Applied, it lowers every dropout rate above `rate` to it; or puts the mode right. With mode "tests" forwards
    without gradients run in eval mode, with mode "training" all others run in training mode. Risks: less dropout lets
    a small data set be learned by heart; sampling with dropout on (Monte Carlo dropout) needs the mode that "tests"
    takes away. `F.dropout` in forward is out of reach.
    """

    id = "lower-dropout"
    title = "Drop less, and in training only"
    cures = {"dead-path": 1.0, "frozen": 1.0}
    only_for = {"dead-path": ("dropout-fault",), "frozen": ("dropout-fault",)}
    sources = ("Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Smaller numbers, or `train()` at the beginning of the training loop."""
        mode = self.dose(finding, signals).get("mode")
        if mode == "tests":
            raise NoPatch("nobody can say which of these lines is the first of a test")
        return train_mode(program) if mode else lower_dropout(program, 0.2)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The highest rate that is left, or which mode is put right."""
        if not self._is_about_modes(finding):
            return {"rate": 0.2}
        tests = any(item.name.startswith("forwards without gradients") for item in finding.evidence)
        return {"mode": "tests" if tests else "training"}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A rate between 0 and 0.6."""
        return {"rate": rng.uniform(0, 0.6)}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        rate: float = 0.2,
        mode: str = "",
    ) -> None:
        """Lowers every dropout rate above `rate` to it; or puts the mode right."""
        from gradscope.surgery import modes

        if mode == "tests":
            modes.test_in_eval_mode(applied, model)
        elif mode == "training":
            modes.train_in_training_mode(applied, model)
        else:
            modes.lower_dropout(applied, model, rate)

    def advice(self, finding: Finding, signals: Signals) -> Suggestion:
        """The remedy aimed at a finding, called by the half of it that the finding is about."""
        suggestion, mode = super().advice(finding, signals), self.dose(finding, signals).get("mode")
        if mode is None or finding.rule != "dropout-fault":
            return suggestion
        title = "Put the model into training mode" if mode == "training" else "Put the model into eval mode for tests"
        return replace(suggestion, title=title)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        if self._is_about_modes(finding):
            return f"{finding.message}. The mode of the model switches it: train() for steps, eval() for tests."
        rates = [option(signals.sites[i].label, "p") for i in signals.layers if signals.sites[i].mechanism == "dropout"]
        highest = max((rate for rate in rates if rate > 0), default=0.9)
        left = (1 - highest) / highest
        return f"A rate of {number(highest)} leaves {number(left)} of signal to noise in each layer, 0.2 leaves 4."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        if self._is_about_modes(finding):
            return "model.eval()  # before tests, under torch.no_grad()\nmodel.train()  # before the next training step"
        return (
            "for module in model.modules():\n"
            "    if isinstance(module, (torch.nn.Dropout, torch.nn.Dropout2d)):\n"
            "        module.p = min(module.p, 0.2)"
        )

    def _is_about_modes(self, finding: Finding) -> bool:
        return any(cause.id == "frozen" for cause in finding.causes)
