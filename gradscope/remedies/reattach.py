"""Let the gradient through where the graph was cut."""

from __future__ import annotations

from dataclasses import replace

from gradscope.records import Finding, Suggestion
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class Reattach(Remedy):
    """Removes what cuts a module from the loss: detach, .data, .item, numpy, no_grad, or requires_grad False."""

    id = "reattach"
    title = "Reconnect the module to the loss"
    cures = {"detached": 1.0, "frozen": 0.8}
    sources = ("torch.autograd, Locally disabling gradient computation",)

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
