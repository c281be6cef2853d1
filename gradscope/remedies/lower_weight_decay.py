"""Pull less at the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.errors import NoPatch, NotApplicable
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.optimizer import set_weight_decay
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.decay import Decay, decay

if TYPE_CHECKING:
    from random import Random

    from torch import nn
    from torch.optim import Optimizer

    from gradscope.surgery import Applied

_HEALTHY_PULL = 0.01  # times what the data do: a decay of 5e-4 beside SGD's gradients, see loss-stalled's calibration
_USUAL = 1e-4  # a decay that most trainings stand


class LowerWeightDecay(Remedy):
    """Lowers weight decay until its pull is about a hundredth of what the data ask of the weights.

    Applied, the decay of every group is multiplied by one factor; groups without one stay without. Risks: a small data
    set is more easily learned by heart; weights grow, and with normalisation after them steps become shorter.
    """

    id = "lower-weight-decay"
    title = "Lower the weight decay"
    cures = {"regularization-too-strong": 1.0}
    sources = (
        "Krogh & Hertz 1991, A simple weight decay can improve generalization",
        "Loshchilov & Hutter 2019, Decoupled weight decay regularization (arXiv:1711.05101)",
    )

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        pull = decay(signals)
        if pull is None:
            return f"A decay of {_USUAL:g} leaves the weights to the data; it acts over 1 / (rate · decay) steps only."
        by = f"A decay of {number(pull.strength)}" if pull.by == "optimizer" else "The penalty in the loss"
        return (
            f"{by} leaves the data {number(100 * (1 - pull.share))} % of what moves the weights; {number(_factor(pull))} "
            "times as much of it is about a hundredth of what the data do, as in healthy trainings."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        pull = decay(signals)
        factor = 0.01 if pull is None else _factor(pull)
        if pull is not None and pull.by == "loss":
            return f"loss = criterion(model(x), y)  # and {factor:.1g} times the penalty that was added, or none"
        return f'for group in optimizer.param_groups:\n    group["weight_decay"] *= {factor:.1g}'

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Another number in the line that builds the optimizer."""
        pull = decay(signals)
        if pull is not None and pull.by == "loss":
            raise NoPatch("nobody can say which part of the loss is the penalty")
        return set_weight_decay(program, float(f"{0.01 if pull is None else _factor(pull):.1g}"))

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The factor that the code says."""
        pull = decay(signals)
        return {} if pull is None else {"factor": float(f"{_factor(pull):.1g}")}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A factor between 1e-4 and 1, evenly in its logarithm."""
        return {"factor": 10 ** rng.uniform(-4, 0)}

    def act(  # type: ignore[override]
        self, applied: Applied, model: nn.Module, optimizers: list[Optimizer], *, factor: float = 0.01
    ) -> None:
        """Multiplies the weight decay of every group by the factor."""
        from gradscope.surgery.optimizers import stepping

        if not optimizers:
            raise NotApplicable(f"{self.id}: no optimizer was given whose weight decay could be lowered")
        groups = [group for optimizer in stepping(optimizers) for group in optimizer.param_groups]
        decaying = [group for group in groups if group.get("weight_decay")]
        if not decaying:
            raise NotApplicable(
                f"{self.id}: the optimizer has no weight decay; a penalty that the program adds to the loss is lowered there"
            )
        for group in decaying:
            was = group["weight_decay"]
            group["weight_decay"] = was * factor
            applied.change(
                f"weight decay is {group['weight_decay']:.3g}, was {was:.3g}", group.update, {"weight_decay": was}
            )


def _factor(pull: Decay) -> float:
    """What to multiply the decay by, a tenth at most."""
    beside = pull.share / max(1 - pull.share, 1e-6)
    return min(_HEALTHY_PULL / max(beside, 1e-6), 0.1)
