"""Hand the optimizer the parameters that it was not given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.errors import NotApplicable
from gradscope.patches import Edit, Program
from gradscope.patches.modules import register
from gradscope.patches.optimizer import build_later, give_all_parameters
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied


class AddToOptimizer(Remedy):
    """Adds a parameter group for what no optimizer holds, or builds the optimizer when the model is final.

    Applied, they join the largest group of the optimizer that updates most, and take its options. Risks: what was left
    out on purpose, without being frozen, is trained; so is what an optimizer that was not given updates already.
    """

    id = "add-to-optimizer"
    title = "Hand the parameters to the optimizer"
    cures = {"not-in-optimizer": 1.0}
    sources = ("torch.optim, Optimizer.add_param_group",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        if signals.run.info.unregistered:
            return "A module made in __init__ and kept as an attribute is there for the optimizer, the device and the file."
        if _stale(signals):
            return "An optimizer holds the tensors that it was given: what replaces them later is not among them."
        if _unmoved(finding):
            return f"{finding.message}. The optimizer must be given the very tensors that the model computes with."
        return f"{finding.message}. Their gradient is computed at every step and thrown away."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        infos = signals.run.info.optimizers
        if signals.run.info.unregistered:
            return (
                "class Net(torch.nn.Module):\n"
                "    def __init__(self):\n"
                "        super().__init__()\n"
                "        self.layer = torch.nn.Linear(4, 4)  # made once; several: torch.nn.ModuleList([...])\n"
                "\n"
                "    def forward(self, x):\n"
                "        return self.layer(x)"
            )
        if _stale(signals) or _unmoved(finding):
            kind = infos[0].kind if infos else "SGD"
            rate = infos[0].options.get("lr", 0.01) if infos else 0.01
            return (
                "# last of all: after the layers are replaced, the weights loaded and the model moved\n"
                f"optimizer = torch.optim.{kind}(model.parameters(), lr={rate:.1g})"
            )
        return (
            'held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}\n'
            "forgotten = [p for p in model.parameters() if p.requires_grad and id(p) not in held]\n"
            'optimizer.add_param_group({"params": forgotten})'
        )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """All parameters for the optimizer, its line moved to where the model is final, or lists of layers made known."""
        if signals.run.info.unregistered:
            return register(program)
        if _stale(signals) or _unmoved(finding):
            return build_later(program)
        return give_all_parameters(program)

    def act(self, applied: Applied, model: nn.Module, optimizers: list[Optimizer]) -> None:  # type: ignore[override]
        """Adds the trainable parameters that no optimizer has to the largest group."""
        from gradscope.surgery.optimizers import forgotten, join, largest, stepping

        if not optimizers:
            raise NotApplicable("no optimizer was given that the parameters could join")
        parameters = forgotten(model, steppers := stepping(optimizers))
        if not parameters:
            raise NotApplicable("the optimizer has every trainable parameter of the model already")
        join(applied, optimizer := largest(steppers), model, parameters)
        count = sum(each.numel() for each in parameters)
        applied.change(
            f"{len(parameters)} parameters ({count:,} numbers) are updated by {type(optimizer).__name__} too"
        )


def _stale(signals: Signals) -> bool:
    """Whether an optimizer holds tensors that are none of the model's."""
    return any(info.foreign for info in signals.run.info.optimizers)


def _unmoved(finding: Finding) -> bool:
    return "every step" in finding.message
