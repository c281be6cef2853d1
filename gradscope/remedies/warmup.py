"""Begin with short steps and lengthen them."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

_STEPS = 100


class Warmup(Remedy):
    """Raises the learning rate from near 0 to its value over the first steps, while the curvature is at its largest."""

    id = "warmup"
    title = "Warm the learning rate up"
    cures = {
        "post-norm-without-warmup": 1.0,
        "learning-rate-too-high": 0.4,
        "attention-logit-growth": 0.3,
        "norm-at-init": 0.3,
    }
    sources = (
        "Goyal et al. 2017, Accurate, large minibatch SGD (arXiv:1706.02677)",
        "Gilmer et al. 2022, A loss curvature perspective on training instability (arXiv:2110.04369)",
    )

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        early = finding.first_step < _STEPS
        since = f"The trouble began at step {finding.first_step:,}, " if early and finding.first_step else ""
        return (
            f"{since}{'while' if since else 'While'} the network is as it was initialised the loss is curved most; over the "
            f"first {_STEPS} steps it grows flatter, and then bears longer ones."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        return (
            f"warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters={_STEPS})\n"
            "# after each optimizer.step()\n"
            "optimizer.step()\n"
            "warmup.step()"
        )
