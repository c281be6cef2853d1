"""Hand the optimizer the parameters that it was not given."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class AddToOptimizer(Remedy):
    """Adds a parameter group for parameters that no optimizer holds."""

    id = "add-to-optimizer"
    title = "Hand the parameters to the optimizer"
    cures = {"not-in-optimizer": 1.0}
    sources = ("torch.optim, Optimizer.add_param_group",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        return f"{finding.message}. Their gradient is computed at every step and thrown away."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            'held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}\n'
            "forgotten = [p for p in model.parameters() if p.requires_grad and id(p) not in held]\n"
            'optimizer.add_param_group({"params": forgotten})'
        )
