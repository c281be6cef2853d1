"""Scale residual branches down with the depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.layers import scale_branches
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.chain import branch_ends

if TYPE_CHECKING:
    import torch

    from gradscope.surgery import Applied

SUMS = "growth through residual sums"  # how evidence begins that says so


class ResidualScaling(Remedy):
    """Multiplies each residual branch by a factor that starts at 0 or at 1/√depth, so that a sum of many keeps its size.

    x + F(x) doubles the variance a block (THEORY T11); with a factor a it grows by 1 + a², and with a = 0 not at all.

    Applied, it multiplies what each branch gives by 1/√(number of branches), or by `factor`, before it is added: a fixed
    number, no parameter. Risks: branches that were small on purpose (zero-initialised, ReZero) learn more slowly. Where
    paths join only a run can show.
    """

    id = "residual-scaling"
    title = "Scale the residual branches"
    cures = {"norm-at-init": 0.6, "depth-without-skip": 0.1}
    sources = (
        "Zhang et al. 2019, Fixup initialization (arXiv:1901.09321); Bachlechner et al. 2020, ReZero (arXiv:2003.04887)",
        "De & Smith 2020, Batch normalization biases residual blocks towards the identity (arXiv:2002.10444)",
    )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A number before each branch."""
        return scale_branches(program, f"{1 / math.sqrt(max(self._blocks(signals), 1)):.2g}")

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The module at the end of each branch, and 1/√(how many there are)."""
        ends = [signals.sites[i].path for i in branch_ends(signals)]
        return {"branches": ends, "factor": 1 / math.sqrt(max(len(ends), 2))} if ends else {}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        branches: Sequence[str] = (),
        factor: float | None = None,
    ) -> None:
        """Multiplies what each residual branch gives by 1/√(number of branches), or by `factor`."""
        from gradscope.surgery.skips import scale_branches

        scale_branches(applied, model, branches, factor)

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
