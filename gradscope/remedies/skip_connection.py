"""Give the gradient a way around each block."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.mechanisms import longest_chain


class SkipConnection(Remedy):
    """Adds a block's input to its output, so that the gradient of the sum reaches the input undiminished."""

    id = "skip-connection"
    title = "Add skip connections"
    cures = {
        "depth-without-skip": 1.0,
        "activation-contracts": 0.3,
        "init-too-small": 0.3,
        "activation-saturates": 0.3,
        "dead-path": 0.3,
    }
    only_for = {"dead-path": ("dead-units", "representation-collapse")}
    sources = ("He et al. 2016, Deep residual learning for image recognition (arXiv:1512.03385)",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        depth = longest_chain(signals)
        chain = f"{depth} layers follow one another, and what each takes multiplies. " if depth else ""
        return (
            f"{chain}With x + block(x) the gradient of x is 1 plus the block's own: it cannot vanish through the sum."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            "class Residual(torch.nn.Module):\n"
            "    def __init__(self, block):\n"
            "        super().__init__()\n"
            "        self.block = block\n"
            "\n"
            "    def forward(self, x):\n"
            "        return x + self.block(x)\n"
            "\n"
            "# wrap each block whose input and output have one shape, e.g.\n"
            "# Residual(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()))"
        )
