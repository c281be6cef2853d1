"""Keep half-precision numbers inside their format."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals


class LossScaling(Remedy):
    """Scales the loss so that float16 gradients stay above its smallest number; weights stay in float32.

    Where the weights themselves are in half precision they are kept in float32 and autocast makes the copies. Where
    activations overflow, or an operation has no finite value at 0, no scale helps: that is said instead.
    """

    id = "loss-scaling"
    title = "Keep float32 weights, and scale the loss"
    cures = {"precision": 1.0}
    sources = ("Micikevicius et al. 2018, Mixed precision training (arXiv:1710.03740), section 3",)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        dtypes = {site.dtype for site in signals.sites}
        held = {site.dtype for site in signals.sites if site.role == "parameter"}
        if not dtypes & {"float16", "bfloat16"}:
            return (
                "The operation has no finite value or slope at 0: an eps of 1e-6 inside of it keeps its input away from "
                "there, in every number format."
            )
        if held & {"float16", "bfloat16"}:
            return (
                "float32 weights take updates down to 6e-8 of their size, half-precision ones 1/4,096 or 1/512 at best; "
                "autocast computes in half precision all the same."
            )
        return (
            "A scale of 65,536 moves gradients 16 powers of 2 up, into the range that float16 holds; the scaler lowers "
            "it when they overflow and divides by it before the step."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        dtypes = {site.dtype for site in signals.sites}
        if not dtypes & {"float16", "bfloat16"}:
            return (
                "eps = 1e-6\n"
                "safe = x.clamp(min=eps)  # before a logarithm, a root or a division\n"
                "logarithm, root, quotient = torch.log(safe), torch.sqrt(safe), y / safe"
            )
        if "float16" not in dtypes:
            return (
                "model.float()  # before the optimizer is built\n"
                "with torch.autocast(x.device.type, torch.bfloat16):\n    loss = criterion(model(x), y)"
            )
        return (
            "model.float()  # before the optimizer is built\n"
            "scaler = torch.amp.GradScaler(x.device.type)\n"
            "with torch.autocast(x.device.type, torch.float16):\n"
            "    loss = criterion(model(x), y)\n"
            "optimizer.zero_grad()\n"
            "scaler.scale(loss).backward()\n"
            "scaler.step(optimizer)\n"
            "scaler.update()"
        )
