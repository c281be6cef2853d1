"""Use an activation that lets the gradient through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.activations import swap_activations
from gradscope.patches.model_code import drawn_anew
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.chain import follows, weighted_layers
from gradscope.signals.mechanisms import WORKING_DECADES, activations
from gradscope.signals.output import output_side

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied

_SATURATING = ("Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Softsign", "Softplus", "LogSigmoid", "ReLU6")

_HE = """for module in model.modules():
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")"""


def _makes_output(kind: str, signals: Signals) -> bool:
    """Whether the output is made by an activation of the same kind, which is to stay."""
    side = output_side(signals)
    return side is not None and side.last.lower() == kind.lower()


class ActivationSwap(Remedy):
    """Replaces hidden activations that contract or saturate by ReLU, and ReLUs that die by LeakyReLU.

    Applied, it replaces hidden activation modules by ReLU and draws the layers before them for it, or ReLU by
    LeakyReLU. Risks: outputs are no longer bounded, so that learning rate and depth count more; ReLUs can die.
    Activations that are called as functions are out of reach.
    """

    id = "activation-swap"
    title = "Swap the hidden activations"
    cures = {"activation-contracts": 1.0, "activation-saturates": 0.4, "dead-path": 0.8}
    only_for = {"dead-path": ("dead-units", "representation-collapse", "untrained-parameter")}
    sources = (
        "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks",
        "Nair & Hinton 2010, Rectified linear units improve restricted Boltzmann machines",
        "Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models (LeakyReLU)",
    )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Other activations in the lines that build or call them, and weights drawn for them."""
        kind = self._kind(signals)
        if self._died(finding) or kind == "ReLU":
            return swap_activations(program, "ReLU", "LeakyReLU(0.01)", _makes_output("ReLU", signals))
        swapped = swap_activations(program, kind, "ReLU()", _makes_output(kind, signals))
        return [*swapped, *drawn_anew(program, _HE)]

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """Which activations become what, and which layers are drawn anew for them."""
        to, kinds = ("LeakyReLU", ("ReLU", "ReLU6")) if self._died(finding) else ("ReLU", _SATURATING)
        layers = weighted_layers(signals)
        last = max((signals.sites[i].order for i in layers), default=-1)
        old = [
            i
            for i in signals.layers
            if signals.sites[i].mechanism == "activation"
            and signals.sites[i].kind in kinds
            and signals.sites[i].order < last
        ]
        drawn = [i for i in layers if to == "ReLU" and follows(signals, i).module in old]
        return {
            "to": to,
            "layers": [signals.sites[i].path for i in old],
            "draw": [[signals.sites[i].path, to] for i in drawn],
        }

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """ReLU or LeakyReLU."""
        return {"to": rng.choice(["ReLU", "LeakyReLU"])}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        to: str = "ReLU",
        layers: Sequence[str] | None = None,
        draw: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Replaces hidden activation modules by ReLU and draws the layers before them for it, or ReLU by LeakyReLU."""
        from gradscope.surgery.activations import swap_activations

        swap_activations(applied, model, layers, to, draw)

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
