"""Normalise each sample by itself."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class LayerNorm(Remedy):
    """Normalises over the features of a sample, not over the batch: no running statistics, no smallest batch.

    Before each block of a transformer (pre-norm) it keeps the gradient at the start small and even; on queries and keys it
    bounds the attention logits.
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
        return (
            "def swap(module):  # before the optimizer is built\n"
            "    for name, child in module.named_children():\n"
            "        if isinstance(child, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):\n"
            "            groups = next(size for size in (8, 4, 2, 1) if child.num_features % size == 0)\n"
            "            setattr(module, name, torch.nn.GroupNorm(groups, child.num_features))\n"
            "        swap(child)\n"
            "\n"
            "swap(model)"
        )


def _evidence(finding: Finding, name: str) -> str:
    """The number of the first evidence whose name begins so, as it is said."""
    return next((number(item.value) for item in finding.evidence if item.name.startswith(name)), "another number")
