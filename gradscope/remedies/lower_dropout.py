"""Drop less, and only in training."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.units import option


class LowerDropout(Remedy):
    """Lowers dropout rates to what is usual, and switches dropout by the model's mode."""

    id = "lower-dropout"
    title = "Drop less, and in training only"
    cures = {"dead-path": 1.0, "frozen": 1.0}
    only_for = {"dead-path": ("dropout-fault",), "frozen": ("dropout-fault",)}
    sources = ("Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting",)

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
