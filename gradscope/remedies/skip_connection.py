"""Give the gradient a way around each block."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.patches import Edit, Program
from gradscope.patches.layers import add_skips
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.chain import follows, weighted_layers
from gradscope.signals.mechanisms import longest_chain

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied


class SkipConnection(Remedy):
    """Adds a block's input to its output, so that the gradient of the sum reaches the input undiminished.

    Applied, it makes what the next layer is fed x + scale · block(x), for each layer with an output of its input's
    shape. A block is the layer and all that follows it up to the next one. The scale is 1/√(number of blocks), so
    that the sum of many keeps its size. No parameter is added. Risks: a network that was shallow and well gets
    another function to learn; where shapes differ after all the connection is left out, and it is said.
    """

    id = "skip-connection"
    title = "Add skip connections"
    cures = {
        "depth-without-skip": 1.0,
        "activation-contracts": 0.3,
        "init-too-small": 0.3,
        "activation-saturates": 0.3,
        "dead-path": 0.3,
        "norm-at-init": 0.8,
    }
    only_for = {
        "dead-path": ("dead-units", "representation-collapse"),
        "norm-at-init": ("exploding-gradient", "vanishing-gradient"),
    }
    sources = ("He et al. 2016, Deep residual learning for image recognition (arXiv:1512.03385)",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """`x + scale * block(x)` in forward, scaled as when it is tried, or a class around each block."""
        return add_skips(program, self._scale(signals))

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """Each pair of layers that follow one another without a way around."""
        layers = weighted_layers(signals)
        after = {i: follows(signals, i).next for i in layers}
        pairs = [[signals.sites[i].path, signals.sites[j].path] for i, j in after.items() if j in layers]
        return {"around": pairs} if layers else {}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """Branches scaled by 0.1 to 1."""
        return {"scale": rng.uniform(0.1, 1)}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        around: Sequence[Sequence[str]] | None = None,
        scale: float | None = None,
    ) -> None:
        """Makes what the next layer is fed x + scale · block(x), for each layer with an output of its input's shape."""
        from gradscope.surgery.skips import add_skips

        add_skips(applied, model, around, scale)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        depth = longest_chain(signals)
        chain = f"{depth} layers follow one another, and what each takes multiplies. " if depth else ""
        return (
            f"{chain}With x + block(x) the gradient of x is 1 plus the block's own: it cannot vanish through the sum."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        scale = self._scale(signals)
        branch = "self.block(x)" if scale == "1" else f"{scale} * self.block(x)  # 1/√(number of blocks)"
        return (
            "class Residual(torch.nn.Module):\n"
            "    def __init__(self, block):\n"
            "        super().__init__()\n"
            "        self.block = block\n"
            "\n"
            "    def forward(self, x):\n"
            f"        return x + {branch}\n"
            "\n"
            "# wrap each block whose input and output have one shape, e.g.\n"
            "# Residual(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()))"
        )

    def _scale(self, signals: Signals) -> str:
        """1/√(number of layers with as many outputs as inputs), so that the sum of many keeps its size."""
        layers = [signals.sites[i] for i in weighted_layers(signals)]
        even = sum(len(set(re.findall(r"\d+", site.label)[:2])) == 1 for site in layers)
        return f"{1 / math.sqrt(max(even, 1)):.2g}"
