"""Average each step's gradient over more samples."""

from __future__ import annotations

from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

_FEW = 8  # samples
_ENOUGH = 32


class LargerBatch(Remedy):
    """Uses batches of more samples, or averages several of them before each step: the noise falls as 1/√samples."""

    id = "larger-batch"
    title = "Average over more samples"
    cures = {"learning-rate-too-high": 0.3, "no-clipping": 0.1}
    sources = ("Smith et al. 2018, Don't decay the learning rate, increase the batch size (arXiv:1711.00489)",)

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
        samples = _samples(signals)
        count = max(_ENOUGH // samples, 2) if 0 < samples < _FEW else 4
        return (
            f"# average {count} batches before each step, or hand the DataLoader batch_size={_ENOUGH}\n"
            "optimizer.zero_grad()\n"
            f"for _ in range({count}):\n"
            f"    loss = criterion(model(x), y) / {count}  # of the next batch each\n"
            "    loss.backward()\n"
            "optimizer.step()"
        )


def _samples(signals: Signals) -> int:
    """The first dimension of what the model is fed; 0 when that is not known."""
    fed = [site.shape for site in signals.sites if site.role == "input" and site.path == "" and len(site.shape) > 1]
    return fed[0][0] if fed else 0
