"""Normalise each sample by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.errors import NoPatch, NotApplicable
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.modules import fewer_groups, group_norms, norm_first
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.chain import places_for_norms

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied

_WAYS = {"attention-logit-growth": "queries", "post-norm-without-warmup": "pre-norm"}  # by cause


class LayerNorm(Remedy):
    """Normalises over the features of a sample, not over the batch: no running statistics, no smallest batch.

    Before each block of a transformer (pre-norm) it keeps the gradient at the start small and even; on queries and keys it
    bounds the attention logits.

    Applied, it normalises each sample by itself, in one of these ways. "after": LayerNorm behind each hidden Linear,
    GroupNorm behind each convolution, before the activation; scales and shifts join the optimizer. "instead": each
    BatchNorm becomes a GroupNorm with the same scale and shift, a GroupNorm gets fewer groups, a LayerNorm of one
    number goes. "pre-norm": torch's transformer blocks normalise before attention and feed-forward. Risks: entries of
    an `nn.Sequential` move by one; without running statistics `eval()` no longer differs; the size of a sample is
    lost to the next layer.
    """

    id = "layer-norm"
    title = "Normalise each sample by itself: LayerNorm or GroupNorm"
    cures = {
        "attention-logit-growth": 0.9,
        "post-norm-without-warmup": 0.7,
        "dead-path": 1.0,
        "frozen": 0.7,
    }
    only_for = {"dead-path": ("normalization-fault",), "frozen": ("normalization-fault",)}
    sources = (
        "Ba et al. 2016, Layer normalization (arXiv:1607.06450); Wu & He 2018, Group normalization (arXiv:1803.08494)",
        "Xiong et al. 2020, On layer normalization in the transformer architecture (arXiv:2002.04745)",
        "Dehghani et al. 2023, Scaling vision transformers to 22 billion parameters (arXiv:2302.05442), queries and keys",
    )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """GroupNorm for BatchNorm, or torch's transformer layers with the norm first."""
        cause = finding.causes[0].id if finding.causes else ""
        if cause == "attention-logit-growth":
            raise NoPatch("nobody can say which lines make queries and keys")
        if cause == "post-norm-without-warmup":
            return norm_first(program)
        widths = [_channels(signals.sites[i].label) for i in signals.layers if "BatchNorm" in signals.sites[i].kind]
        grouped = _grouped(finding, signals)
        if grouped and not widths:
            return fewer_groups(program, _fewer(grouped))
        return group_norms(program, _fewer(widths) if widths else 1)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """What is to be done against the finding's cause, and where."""
        cause = finding.causes[0].id if finding.causes else ""
        if cause in _WAYS:
            return {"way": _WAYS[cause]}
        batch = [signals.sites[i].path for i in signals.layers if "BatchNorm" in signals.sites[i].kind]
        if finding.rule == "normalization-fault":
            return {"way": "instead", "layers": batch or list(finding.layers)}
        after = places_for_norms(signals, "layer")
        return {"after": after} if signals.layers else {}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """Any of the ways."""
        return {"way": rng.choice(["after", "pre-norm", "instead"])}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        way: str = "after",
        layers: Sequence[str] | None = None,
        after: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Normalises each sample by itself, in one of these ways."""
        from gradscope.surgery import norms

        if way == "queries":
            raise NotApplicable("queries and keys are made inside the attention's own forward: that needs your edit")
        if way == "pre-norm":
            norms.normalise_before_blocks(applied, model)
        elif way == "instead":
            norms.swap_norms(applied, model, optimizers, layers)
        else:
            norms.normalise_after(applied, model, optimizers, after, "layer")

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        cause = finding.causes[0].id if finding.causes else ""
        if cause == "attention-logit-growth":
            largest = _evidence(finding, "largest attention logit")
            return f"With normalised queries and keys a logit is at most √d times a learned scale; it is {largest} now."
        if cause == "post-norm-without-warmup":
            blocks = _evidence(finding, "post-norm blocks")
            return (
                f"With the normalisation before each of the {blocks} blocks, inside the branch, the sum passes the gradient "
                "on as it is, and no warm-up is needed."
            )
        if cause == "frozen":
            gap = _evidence(finding, "gap of")
            return (
                f"It has no running statistics, which are {gap} away from the data's here. To keep BatchNorm, call "
                "model.train() before training and use a momentum of 0.1."
            )
        together = _evidence(finding, "numbers normalised together")
        grouped = _grouped(finding, signals)
        if grouped:
            return f"{_fewer(grouped)} groups of channels have numbers enough; {together} are normalised together now."
        return f"Groups of channels have numbers enough, whatever the batch; {together} are normalised together now."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        cause = finding.causes[0].id if finding.causes else ""
        if cause == "attention-logit-growth":
            return (
                "norm_q, norm_k = torch.nn.LayerNorm(n), torch.nn.LayerNorm(n)  # in __init__; n: a head's width\n"
                "# in the attention's forward, before the product:\n"
                "# query, key = norm_q(query), norm_k(key)"
            )
        if cause == "post-norm-without-warmup":
            return (
                "class PreNorm(torch.nn.Module):\n"
                "    def __init__(self, width, block):\n"
                "        super().__init__()\n"
                "        self.norm, self.block = torch.nn.LayerNorm(width), block\n"
                "\n"
                "    def forward(self, x):\n"
                "        return x + self.block(self.norm(x))\n"
                "\n"
                "# torch.nn.TransformerEncoderLayer(..., norm_first=True) is built so"
            )
        grouped = _grouped(finding, signals)
        if grouped:
            return f"torch.nn.GroupNorm({_fewer(grouped)}, {grouped[0]})  # {grouped[0]} channels"
        return (
            "def swap(module):  # before the optimizer is built\n"
            "    for name, child in module.named_children():\n"
            "        if isinstance(child, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):\n"
            "            groups = next(n for n in (8, 4, 2, 1) if n == 1 or child.num_features % (8 * n) == 0)\n"
            "            setattr(module, name, torch.nn.GroupNorm(groups, child.num_features))\n"
            "        swap(child)\n"
            "\n"
            "swap(model)"
        )


def _grouped(finding: Finding, signals: Signals) -> list[int]:
    """The channels of the GroupNorms that a finding is about."""
    sites = [signals.sites[i] for i in signals.layers if signals.sites[i].path in finding.layers]
    channels = [re.match(r"GroupNorm\(\d+, (\d+)", site.label) for site in sites if site.kind == "GroupNorm"]
    return [int(each[1]) for each in channels if each]


def _fewer(channels: list[int]) -> int:
    """As many groups as leave 8 channels in each, 8 at most."""
    common = math.gcd(*channels)
    return next((groups for groups in (8, 4, 2) if common % groups == 0 and common // groups >= 8), 1)


def _channels(label: str) -> int:
    """The number of channels in "BatchNorm2d(12, eps=1e-05)"."""
    first = label.partition("(")[2].partition(",")[0].rstrip(")")
    return int(first) if first.isdigit() else 1


def _evidence(finding: Finding, name: str) -> str:
    """The number of the first evidence whose name begins so, as it is said."""
    found = float(next((item.value for item in finding.evidence if item.name.startswith(name)), math.nan))
    return f"{found:,.0f}" if found.is_integer() else number(found) if math.isfinite(found) else "another number"
