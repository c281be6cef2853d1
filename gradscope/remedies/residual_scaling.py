"""Scale residual branches down with the depth."""

from __future__ import annotations

import math

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

SUMS = "growth through residual sums"  # how evidence begins that says so


class ResidualScaling(Remedy):
    """Multiplies each residual branch by a factor that starts at 0 or at 1/√depth, so that a sum of many keeps its size.

    x + F(x) doubles the variance a block (THEORY T11); with a factor a it grows by 1 + a², and with a = 0 not at all.
    """

    id = "residual-scaling"
    title = "Scale the residual branches"
    cures = {"norm-at-init": 0.6, "depth-without-skip": 0.1}
    sources = (
        "Zhang et al. 2019, Fixup initialization (arXiv:1901.09321); Bachlechner et al. 2020, ReZero (arXiv:2003.04887)",
        "De & Smith 2020, Batch normalization biases residual blocks towards the identity (arXiv:2002.10444)",
    )

    def suits(self, finding: Finding) -> float:
        """How well it fits: best where the evidence says that sums grew the signal."""
        grown = any(item.name.startswith((SUMS, "gain budget: joins")) and item.value > 1 for item in finding.evidence)
        return super().suits(finding) + (1.0 if grown else 0.0)

    def possible(self, signals: Signals) -> bool:
        """Only a model with sums has branches."""
        return self._blocks(signals) > 0

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        blocks = self._blocks(signals)
        if not blocks:
            return "A branch that starts at 0 leaves the identity, through which the gradient passes at any depth."
        plain = f"{blocks} sums of equal parts double the variance {blocks} times, {number(2.0**blocks)} in all"
        scale, grown = 1 / math.sqrt(blocks), (1 + 1 / blocks) ** blocks
        return f"{plain}; with branches scaled by {number(scale)} it is {number(grown)}."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            "class ScaledResidual(torch.nn.Module):\n"
            "    def __init__(self, block):\n"
            "        super().__init__()\n"
            "        self.block = block\n"
            "        self.scale = torch.nn.Parameter(torch.zeros(1))  # ReZero: the block starts as the identity\n"
            "\n"
            "    def forward(self, x):\n"
            "        return x + self.scale * self.block(x)"
        )

    def _blocks(self, signals: Signals) -> int:
        """How many sums the run's links show."""
        sums = [any(name.startswith("AddBackward") for name in link.operations) for link in signals.run.info.links]
        return min(500, sum(sums))
