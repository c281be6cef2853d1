"""Use an activation that lets the gradient through."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.mechanisms import WORKING_DECADES, activations


class ActivationSwap(Remedy):
    """Replaces hidden activations that contract or saturate by ReLU, with weights drawn for it."""

    id = "activation-swap"
    title = "Swap the hidden activations for ReLU"
    cures = {"activation-contracts": 1.0, "activation-saturates": 0.4}
    sources = (
        "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks",
        "Nair & Hinton 2010, Rectified linear units improve restricted Boltzmann machines",
    )

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        kind = self._kind(signals)
        passes = 10 ** WORKING_DECADES.get(kind, -0.5)
        return (
            f"A {kind} at its usual inputs passes on {number(passes)} of the gradient, a ReLU 0.71, which He initialization "
            "makes up for exactly. Swap both together."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        kind = self._kind(signals)
        draw = (
            "    if isinstance(module, torch.nn.Linear):\n"
            '        torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")\n'
        )
        if not any(signals.sites[i].kind == kind for i in signals.layers):  # called as a function
            return (
                f"# in forward: torch.relu(...) instead of {kind.lower()}(...), but where it makes the output itself\n"
                f"for module in model.modules():  # before the optimizer is built\n{draw}"
            )
        return (
            "def swap(module):  # before the optimizer is built; keep a sigmoid that makes the output itself\n"
            "    for name, child in module.named_children():\n"
            f"        if isinstance(child, torch.nn.{kind}):\n"
            "            setattr(module, name, torch.nn.ReLU())\n"
            "        swap(child)\n"
            f"{draw}"
            "\n"
            "swap(model)"
        )

    def _kind(self, signals: Signals) -> str:
        """The hidden activation that lets least through."""
        kinds = sorted(set(activations(signals)))
        return min(kinds, key=lambda kind: WORKING_DECADES.get(kind, 0.0), default="Sigmoid")
