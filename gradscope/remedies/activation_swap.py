"""Use an activation that lets the gradient through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.errors import NoPatch
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.activations import swap_activations
from gradscope.patches.model_code import drawn_anew
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.budget import operation_kind
from gradscope.signals.chain import follows, weighted_layers
from gradscope.signals.expansion import Expansion, expanding
from gradscope.signals.mechanisms import WORKING_DECADES, activations, longest_chain
from gradscope.signals.output import output_side

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied

_SATURATING = ("Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Softsign", "Softplus", "LogSigmoid", "ReLU6")

_MOST_CLOSED = 0.05  # of the inputs that meet a layer with all its ReLUs closed
_DEEP = (
    8  # layers in a row; digits, SGD: after 100 steps 8 layers of ELU are at 0.09, of ReLU at 0.20; 20 at 0.04 and 1.4
)

_HE = """    if isinstance(module, torch.nn.Linear):
        torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
"""


def _makes_output(kind: str, signals: Signals) -> bool:
    """Whether the output is made by an activation of the same kind, which is to stay."""
    side = output_side(signals)
    return side is not None and side.last.lower() == kind.lower()


def _widths(signals: Signals) -> list[int]:
    """The numbers that each hidden layer gives for one input, or one vector of it."""
    found = []
    for i in weighted_layers(signals)[:-1]:
        site = signals.sites[i]
        if site.mechanism == "weights" and len(site.shape) > 1 and follows(signals, i).activation:
            found.append(site.shape[-1] if site.kind == "Linear" else math.prod(site.shape[1:]))
    return found


def _closed(signals: Signals) -> float:
    """The share of inputs that would meet a layer with all its ReLUs closed, each of them for half of the inputs."""
    return 1 - math.prod(1 - 0.5**width for width in _widths(signals))


def _new(died: bool, signals: Signals) -> str:
    """What comes, as it is written: "ReLU()", "LeakyReLU(0.01)" in the place of ReLUs that died, or "ELU()"."""
    if _closed(signals) > _MOST_CLOSED or (not died and longest_chain(signals) >= _DEEP):
        return "ELU()"
    return "LeakyReLU(0.01)" if died else "ReLU()"


def _rather_elu(signals: Signals) -> str:
    """Why it is to be an ELU where layers have few units, or many follow one another; "" where neither is so."""
    share, chain = _closed(signals), longest_chain(signals)
    if share <= _MOST_CLOSED and chain >= _DEEP:
        return (
            f" Over {chain} layers in a row ReLUs, which give nothing below 0, make all samples alike: take an ELU, whose "
            "outputs lie around 0, with the same weights."
        )
    if share <= _MOST_CLOSED:
        return ""
    return (
        f" With {min(_widths(signals))} units in a layer, {share:.0%} of all inputs would meet one whose ReLUs are all "
        "closed: take an ELU, which stays open a little, with the same weights."
    )


def _operation(expansion: Expansion, signals: Signals) -> str:
    """The operation that an expanding activation is, the only one of its name in the model; "Exp"."""
    inside = [link.operations for i in expansion.modules for link in signals.links_in(i)]
    kind = operation_kind(inside[0]) if inside else expansion.kind
    name = f"{kind}Backward"
    uses = [
        each.operations for each in signals.run.info.links if any(name in operation for operation in each.operations)
    ]
    if any(operation_kind(operations) != kind for operations in uses):
        raise NoPatch(f"the model uses {kind.lower()} for other things too")
    return kind


class ActivationSwap(Remedy):
    """Replaces hidden activations that contract, saturate or expand by ReLU, and ReLUs that die by LeakyReLU.

    All ReLUs of a layer with n units are closed for one input in 2ⁿ. Where a deep network of narrow layers would lose
    more than 5 % of the inputs so, an ELU takes the ReLU's place: it never closes altogether. So it does where 8 layers
    and more follow one another: its outputs lie around 0, and samples stay apart over more layers than with ReLUs.

    Applied, it replaces hidden activation modules by ReLU, in narrow or deep networks by ELU, and draws the layers
    before them for it, or ReLU by LeakyReLU. Risks: outputs are no longer bounded, so that learning rate and depth
    count more; ReLUs can die. Activations that are called as functions are out of reach.
    """

    id = "activation-swap"
    title = "Swap the hidden activations"
    cures = {"activation-contracts": 1.0, "activation-expands": 1.0, "activation-saturates": 0.4, "dead-path": 0.8}
    only_for = {"dead-path": ("dead-units", "loss-stalled", "representation-collapse", "untrained-parameter")}
    sources = (
        "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks",
        "Nair & Hinton 2010, Rectified linear units improve restricted Boltzmann machines",
        "Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models (LeakyReLU)",
        "Clevert et al. 2016, Fast and accurate deep network learning by exponential linear units (arXiv:1511.07289)",
    )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Other activations in the lines that build or call them, and weights drawn for them."""
        new = _new(self._died(finding), signals)
        if (expansion := self._expansion(finding, signals)) is not None:
            kind = _operation(expansion, signals)
        else:
            kind = self._kind(signals)
        if self._died(finding) or kind == "ReLU":
            new = new if new != "ReLU()" else "LeakyReLU(0.01)"
            return swap_activations(program, "ReLU", new, _makes_output("ReLU", signals))
        swapped = swap_activations(program, kind, new, _makes_output(kind, signals))
        return [*swapped, *drawn_anew(program, f"for module in model.modules():\n{_HE}".rstrip())]

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """Which activations become what, and which layers are drawn anew for them."""
        new, expansion = _new(self._died(finding), signals), self._expansion(finding, signals)
        kinds = ("ReLU", "ReLU6") if self._died(finding) else _SATURATING
        layers = weighted_layers(signals)
        last = max((signals.sites[i].order for i in layers), default=-1)
        old = [
            i
            for i in signals.layers
            if signals.sites[i].mechanism == "activation"
            and signals.sites[i].kind in kinds
            and signals.sites[i].order < last
        ]
        old = list(expansion.modules) if expansion is not None else old
        to = new.partition("(")[0]
        drawn = [i for i in layers if not self._died(finding) and follows(signals, i).module in old]
        return {
            "to": to,
            "layers": [signals.sites[i].path for i in old],
            "draw": [[signals.sites[i].path, to] for i in drawn],
        }

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """Any of the three."""
        return {"to": rng.choice(["ReLU", "LeakyReLU", "ELU"])}

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
            if _new(True, signals) == "ELU()":
                why = "An ELU is never closed: a unit that is off for every input can come back."
                return f"{why}{_rather_elu(signals)}"
            return (
                "A LeakyReLU passes on 0.01 of the gradient on its closed side: a unit that is off for every input can "
                "come back."
            )
        if (expansion := self._expansion(finding, signals)) is not None:
            why = f"{expansion}, which He initialization makes up for exactly: swap it and draw the weights anew, together."
            return f"{why[0].upper()}{why[1:]}{_rather_elu(signals)}"
        kind = self._kind(signals)
        if kind == "ReLU":
            return "A ReLU passes on nothing where it is off; a LeakyReLU passes on 0.01 of the gradient there."
        passes = 10 ** WORKING_DECADES.get(kind, -0.5)
        return (
            f"A {kind} at its usual inputs passes on {number(passes)} of the gradient, a ReLU 0.71, which He initialization "
            "makes up for exactly: swap it and draw the weights anew, together."
            f"{_rather_elu(signals)}"
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        if self._died(finding):
            return self._leaky(signals)
        expansion, new = self._expansion(finding, signals), _new(False, signals)
        kind = self._kind(signals) if expansion is None else expansion.kind
        if not any(signals.sites[i].kind == kind for i in signals.layers):  # called as a function
            relu = "torch.relu(...)" if new == "ReLU()" else "torch.nn.functional.elu(...)"
            return (
                f"# in forward: {relu} instead of {kind.lower()}(...), but where it makes the output itself\n"
                f"for module in model.modules():  # before the optimizer is built\n{_HE}"
            )
        one = f"isinstance(child, torch.nn.{kind})" if expansion is None else f'type(child).__name__ == "{kind}"'
        return (
            "def swap(module):  # before the optimizer is built; keep a sigmoid that makes the output itself\n"
            "    for name, child in module.named_children():\n"
            f"        if {one}:\n"
            f"            setattr(module, name, torch.nn.{new})\n"
            "        swap(child)\n"
            f"{_HE}"
            "\n"
            "swap(model)"
        )

    def _died(self, finding: Finding) -> bool:
        """Whether the finding is about units that are off."""
        return bool(finding.causes) and finding.causes[0].id == "dead-path"

    def _expansion(self, finding: Finding, signals: Signals) -> Expansion | None:
        """The activations that expand, where the finding is about them."""
        first = finding.causes[0].id if finding.causes else ""
        return expanding(signals) if first == "activation-expands" else None

    def _leaky(self, signals: Signals) -> str:
        new = _new(True, signals)
        if not any(signals.sites[i].kind == "ReLU" for i in signals.layers):
            call = "elu(x)" if new == "ELU()" else "leaky_relu(x, 0.01)"
            return f"# in forward, instead of torch.relu(x)\nx = torch.nn.functional.{call}"
        return (
            "def swap(module):\n"
            "    for name, child in module.named_children():\n"
            "        if isinstance(child, torch.nn.ReLU):\n"
            f"            setattr(module, name, torch.nn.{new})\n"
            "        swap(child)\n"
            "\n"
            "swap(model)"
        )

    def _kind(self, signals: Signals) -> str:
        """The hidden activation that lets least through."""
        kinds = sorted(set(activations(signals)))
        return min(kinds, key=lambda kind: WORKING_DECADES.get(kind, 0.0), default="Sigmoid")
