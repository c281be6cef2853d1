"""Let the gradient through where the graph was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradscope.errors import NotApplicable
from gradscope.patches import Edit, Program
from gradscope.patches.graph import reconnect, unfreeze
from gradscope.patches.loop import train_mode
from gradscope.records import Finding, Suggestion
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    import torch

    from gradscope.surgery import Applied


class Reattach(Remedy):
    """Removes what cuts a module from the loss: detach, .data, .item, numpy, no_grad, or requires_grad False.

    Applied, it puts modules that were left in eval mode into training mode, and lets frozen parameters learn. Without
    a dose whichever of the two is found. Parameters that no optimizer holds join the first one's first group. Risks:
    what was frozen on purpose, as in fine-tuning, is no longer; small batches disturb a BatchNorm that was meant to
    keep its statistics. A graph that the code cuts is out of reach.
    """

    id = "reattach"
    title = "Reconnect the module to the loss"
    cures = {"detached": 1.0, "frozen": 0.8}
    sources = ("torch.autograd, Locally disabling gradient computation",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Without what cuts the graph, with gradients switched on, or with `train()` in the training loop."""
        if _in_eval_mode(finding):
            return train_mode(program)
        return unfreeze(program) if _frozen(finding) else reconnect(program)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """What holds the modules back, and where."""
        if _in_eval_mode(finding):
            whole = finding.rule == "dropout-fault"
            return {"what": "eval mode", "layers": [] if whole else list(finding.layers)}
        if _frozen(finding):
            return {"what": "frozen", "layers": list(finding.layers)}
        return {"what": "cut", "where": finding.message.partition("the graph is cut ")[2].partition(":")[0]}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        what: str = "",
        layers: Sequence[str] | None = None,
        where: str = "",
    ) -> None:
        """Puts modules that were left in eval mode into training mode, and lets frozen parameters learn."""
        from gradscope.surgery import modes

        if what == "cut":
            raise NotApplicable(f"the model's own code cuts the graph {where or 'on the way'}: that needs your edit")
        frozen = any(not parameter.requires_grad for parameter in model.parameters())
        if what == "eval mode" or (not what and not model.training):
            modes.train_in_training_mode(applied, model, layers)
        if what == "frozen" or (not what and (frozen or model.training)):
            modes.unfreeze(applied, model, optimizers, layers)

    def advice(self, finding: Finding, signals: Signals) -> Suggestion:
        """The remedy aimed at a finding."""
        suggestion = super().advice(finding, signals)
        return replace(suggestion, title="Put the model into training mode") if _in_eval_mode(finding) else suggestion

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        if _in_eval_mode(finding):
            return (
                "In training mode dropout is on, and normalisation goes by the batch and keeps its running statistics."
            )
        if _frozen(finding):
            return "With requires_grad True a parameter gets a gradient, and an optimizer that holds it moves it."
        where = finding.message.partition("the graph is cut ")[2].partition(":")[0]
        cut = f"the graph is cut {where}" if where else "between them and the loss the graph is cut"
        return f"The modules ran in training, and nothing came back to them: {cut}."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        path = finding.layers[0] if finding.layers else ""
        if _in_eval_mode(finding):
            return "model.train()  # before the training loop, and again after every evaluation with model.eval()"
        if _frozen(finding):
            return f'layer = model.get_submodule("{path}")  # before the optimizer is built\nlayer.requires_grad_(True)'
        return (
            f"# look behind {', '.join(finding.layers[:3])} for .detach(), .data, .item(), .numpy(), torch.tensor(...)\n"
            "# or `with torch.no_grad():`; if it is meant, say so and spare the work:\n"
            f'model.get_submodule("{path}").requires_grad_(False)'
        )


def _in_eval_mode(finding: Finding) -> bool:
    """Whether what is frozen are statistics and dropout, for the model was left in eval mode."""
    return finding.rule in ("normalization-fault", "dropout-fault")


def _frozen(finding: Finding) -> bool:
    return bool(finding.causes) and finding.causes[0].id == "frozen"
