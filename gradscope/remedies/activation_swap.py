"""Use an activation that lets the gradient through."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.mechanisms import WORKING_DECADES, activations


class ActivationSwap(Remedy):
    """Replaces hidden activations that contract or saturate by ReLU, and ReLUs that die by LeakyReLU."""

    id = "activation-swap"
    title = "Swap the hidden activations"
    cures = {"activation-contracts": 1.0, "activation-saturates": 0.4, "dead-path": 0.8}
    only_for = {"dead-path": ("dead-units", "representation-collapse", "untrained-parameter")}
    sources = (
        "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks",
        "Nair & Hinton 2010, Rectified linear units improve restricted Boltzmann machines",
        "Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models (LeakyReLU)",
    )

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        if self._died(finding):
            return (
                "A LeakyReLU passes on 0.01 of the gradient on its closed side: a unit that is off for every input can "
                "come back."
            )
        kind = self._kind(signals)
        passes = 10 ** WORKING_DECADES.get(kind, -0.5)
        return (
            f"A {kind} at its usual inputs passes on {number(passes)} of the gradient, a ReLU 0.71, which He initialization "
            "makes up for exactly. Swap both together."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        if self._died(finding):
            return self._leaky(signals)
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

    def _died(self, finding: Finding) -> bool:
        """Whether the finding is about units that are off."""
        return bool(finding.causes) and finding.causes[0].id == "dead-path"

    def _leaky(self, signals: Signals) -> str:
        if not any(signals.sites[i].kind == "ReLU" for i in signals.layers):
            return "# in forward, instead of torch.relu(x)\nx = torch.nn.functional.leaky_relu(x, 0.01)"
        return (
            "def swap(module):\n"
            "    for name, child in module.named_children():\n"
            "        if isinstance(child, torch.nn.ReLU):\n"
            "            setattr(module, name, torch.nn.LeakyReLU(0.01))\n"
            "        swap(child)\n"
            "\n"
            "swap(model)"
        )

    def _kind(self, signals: Signals) -> str:
        """The hidden activation that lets least through."""
        kinds = sorted(set(activations(signals)))
        return min(kinds, key=lambda kind: WORKING_DECADES.get(kind, 0.0), default="Sigmoid")
