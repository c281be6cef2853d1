"""Hand the optimizer the parameters that it was not given."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class AddToOptimizer(Remedy):
    """Adds a parameter group for what no optimizer holds, or builds the optimizer when the model is final."""

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


def _stale(signals: Signals) -> bool:
    """Whether an optimizer holds tensors that are none of the model's."""
    return any(info.foreign for info in signals.run.info.optimizers)


def _unmoved(finding: Finding) -> bool:
    return "every step" in finding.message
