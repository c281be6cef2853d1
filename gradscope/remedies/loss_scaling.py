"""Keep half-precision numbers inside their format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.errors import NoPatch, NotApplicable
from gradscope.patches import Edit, Program
from gradscope.patches.loop import scale_loss
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied


class LossScaling(Remedy):
    """Scales the loss so that float16 gradients stay above its smallest number; weights stay in float32.

    Where the weights themselves are in half precision they are kept in float32 and autocast makes the copies. Where
    activations overflow, or an operation has no finite value at 0, no scale helps: that is said instead.

    Applied, weights, buffers and the model's inputs in half precision become float32 and everything is computed in it; a
    loss under autocast is not scaled, that needs the user's edit. Risks: twice the memory for weights, slower where half
    precision is fast; a forward that makes half-precision tensors of its own, or a loss that wants outputs and targets of
    one format (`BCELoss`), may refuse.
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

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A scaler around backward and step, where autocast to float16 has none."""
        if not {site.dtype for site in signals.sites} & {"float16"}:
            raise NoPatch("nobody can say which lines make the numbers too large or too small")
        return scale_loss(program)

    def act(self, applied: Applied, model: nn.Module, optimizers: list[Optimizer]) -> None:  # type: ignore[override]
        """Holds weights and buffers in float32, and casts the model's inputs."""
        from gradscope.surgery.optimizers import in_half_precision, is_shared_out, to_float32

        halves = in_half_precision(model)
        if not halves:
            raise NotApplicable(
                "no weight is held in half precision; to scale the loss before its backward, and to unscale "
                "the gradients before anything reads them, needs your edit: torch.amp.GradScaler"
            )
        if is_shared_out(model):
            raise NotApplicable(
                "the model is wrapped for several processes already, with buffers in half precision; call "
                "model.float() before it is wrapped"
            )
        if any(optimizer.state.get(each) for optimizer in optimizers for each in halves):
            raise NotApplicable("the optimizer has stepped already, and its state is in half precision")
        kinds = " and ".join(sorted({str(each.dtype).removeprefix("torch.") for each in halves}))
        to_float32(applied, model)
        applied.change(f"{len(halves)} parameters, the buffers and the inputs are in float32, were in {kinds}")
