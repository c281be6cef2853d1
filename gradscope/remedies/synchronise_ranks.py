"""Give every rank the same weights to start from."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class SynchroniseRanks(Remedy):
    """Wraps the model after its weights are final: DDP copies rank 0's to all ranks when it is made, and never again."""

    id = "synchronise-ranks"
    title = "Wrap the model in DDP after its weights are final"
    cures = {"unsynchronised-ranks": 1.0}
    needs_edit = "whether all ranks begin alike is decided where your code wraps the model"
    sources = ("torch.nn.parallel.DistributedDataParallel, broadcast of parameters at construction",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        return (
            f"DDP copied rank 0's weights once and averages gradients since; what was changed on a single rank before "
            f"step {finding.first_step:,} stays there."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            "# after initialising and loading the weights, on every rank\n"
            "if torch.distributed.is_initialized():\n"
            "    model = torch.nn.parallel.DistributedDataParallel(model)"
        )
