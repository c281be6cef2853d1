"""Average each step's gradient over more samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.patches import Edit, Program
from gradscope.patches.data import set_batch_size
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied

_FEW = 8  # samples
_ENOUGH = 32


class LargerBatch(Remedy):
    """Uses batches of more samples, or averages several of them before each step: the noise falls as 1/√samples.

    Applied, it lets the optimizer step once for `count` calls of `step()`, by the mean of their gradients. Between,
    it finds no gradients and moves nothing. Risks: `count` times the data and time for each step, so that a trial of
    N batches shows N / count steps; a schedule that counts calls runs ahead; the very last steps of a training may
    fall short. A step that is handed a closure is out of reach.
    """

    id = "larger-batch"
    title = "Average over more samples"
    cures = {"learning-rate-too-high": 0.3, "no-clipping": 0.1}
    sources = ("Smith et al. 2018, Don't decay the learning rate, increase the batch size (arXiv:1711.00489)",)

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A larger number for the DataLoader."""
        samples = _samples(signals)
        few = 0 < samples < _FEW
        return set_batch_size(program, _ENOUGH if few else 0, 1 if few else 4)

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """How many batches a step averages."""
        return {"count": _count(signals)}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """2 to 8 batches a step."""
        return {"count": rng.randint(2, 8)}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        count: int = 4,
    ) -> None:
        """Lets the optimizer step once for `count` calls of `step()`, by the mean of their gradients."""
        from gradscope.surgery.batches import average_batches

        average_batches(applied, optimizers, count)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        samples = _samples(signals)
        if not 0 < samples < _FEW:
            return "The noise of a step's gradient falls as 1 over the root of the number of samples that it averages."
        times = _ENOUGH / samples
        return (
            f"A step follows {samples} sample{'s' * (samples > 1)}; averaged over {_ENOUGH} its noise is {times**0.5:.2g} "
            "times smaller, and the same learning rate holds."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        count = _count(signals)
        return (
            f"# average {count} batches before each step, or hand the DataLoader batch_size={_ENOUGH}\n"
            "optimizer.zero_grad()\n"
            f"for _ in range({count}):\n"
            f"    loss = criterion(model(x), y) / {count}  # of the next batch each\n"
            "    loss.backward()\n"
            "optimizer.step()"
        )


def _count(signals: Signals) -> int:
    """How many batches make one that is large enough."""
    samples = _samples(signals)
    return max(_ENOUGH // samples, 2) if 0 < samples < _FEW else 4


def _samples(signals: Signals) -> int:
    """The first dimension of what the model is fed; 0 when that is not known."""
    shape = () if signals.fed is None else signals.sites[signals.fed].shape
    return shape[0] if len(shape) > 1 else 0
