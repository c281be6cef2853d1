"""Let the gradient through where the graph was cut."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class Reattach(Remedy):
    """Removes what cuts a module's output from the loss: detach, .data, .item, numpy, no_grad."""

    id = "reattach"
    title = "Reconnect the module to the loss"
    cures = {"detached": 1.0}
    sources = ("torch.autograd, Locally disabling gradient computation",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        return "The modules ran in training, and nothing came back to them: between them and the loss the graph is cut."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            f"# look behind {', '.join(finding.layers[:3])} for .detach(), .data, .item(), .numpy(), torch.tensor(...)\n"
            "# or `with torch.no_grad():`; if it is meant, say so and spare the work:\n"
            f'model.get_submodule("{finding.layers[0] if finding.layers else ""}").requires_grad_(False)'
        )
