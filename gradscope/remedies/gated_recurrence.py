"""Let the state pass through time unchanged unless a gate says otherwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.modules import gate
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied


class GatedRecurrence(Remedy):
    """Uses a GRU or an LSTM whose gates start open, so that the state keeps the gradient over many time steps.

    The product of the gates is what is left of the gradient (THEORY T24): over 100 time steps 8e-31 with a bias of
    0, 2e-14 with 1, 0.008 with 3.

    Applied, it replaces each `nn.RNN` by an `nn.GRU` of the same sizes, and opens the gates that keep the state. They
    are an LSTM's forget gates and a GRU's update gates. The GRU is called and gives as the RNN did; its weights,
    Xavier from the input and orthogonal from the state, take the others' place in the optimizer. Risks: three times
    the recurrent weights and time; states change slowly at first, which short sequences do not need; checkpoints of
    the RNN do not load. A loop over time that is written by hand is out of reach.
    """

    id = "gated-recurrence"
    title = "Use a GRU, or an LSTM, whose gates start open"
    cures = {"long-backprop-chain": 1.0}
    sources = (
        "Hochreiter & Schmidhuber 1997, Long short-term memory; Gers et al. 2000, Learning to forget",
        "Jozefowicz et al. 2015, An empirical exploration of recurrent network architectures",
    )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A GRU where the RNN was, and its gates open."""
        return gate(program, self.dose(finding, signals)["bias"])

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """The bias with which 1/e of the state is left after as many time steps as there are: ln(time steps)."""
        ends = [site.path.rpartition(":")[2].rstrip("]") for site in signals.sites if site.role == "time"]
        steps = max(map(int, ends), default=0)
        return {"bias": round(min(max(math.log(steps), 1.0), 6.0), 2) if steps else 3.0}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """A bias between 0 and 5."""
        return {"bias": rng.uniform(0, 5)}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        bias: float = 3.0,
    ) -> None:
        """Replaces each `nn.RNN` by an `nn.GRU` of the same sizes, and opens the gates that keep the state."""
        from gradscope.surgery.recurrence import gate

        gate(applied, model, optimizers, bias)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        ratio = next((item.value for item in finding.evidence if "first time steps" in item.name), None)
        now = "" if ratio is None else f"The first time steps get {number(ratio)} of the gradient now. "
        bias = self.dose(finding, signals)["bias"]
        passes = number(1 / (1 + math.exp(-bias)))
        if self._gated(signals):
            return (
                f"{now}A bias of {bias:g} lets {passes} of the state pass at each time step; torch's default lets 0.5."
            )
        return (
            f"{now}A gate lets the state pass from time step to time step without a matrix: {passes} of it with a bias of "
            f"{bias:g}."
        )

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        bias = self.dose(finding, signals)["bias"]
        if kind := self._gated(signals):
            gates = "input, forget, cell, output" if kind == "LSTM" else "reset, update, new"
            return (
                "for module in model.modules():  # before the first step\n"
                f"    if isinstance(module, torch.nn.{kind}):\n"
                "        for name, value in module.named_parameters():\n"
                '            if name.startswith("bias_ih"):\n'
                "                size = module.hidden_size\n"
                f"                torch.nn.init.constant_(value.data[size : 2 * size], {bias:g})  # gates: {gates}"
            )
        return (
            "rnn = torch.nn.GRU(n, n, batch_first=True)  # instead of torch.nn.RNN; it is called as that was\n"
            "for name, value in rnn.named_parameters():\n"
            '    if name.startswith("bias_ih"):\n'
            f"        torch.nn.init.constant_(value.data[n : 2 * n], {bias:g})  # gates: reset, update, new"
        )

    def _gated(self, signals: Signals) -> str:
        """The gated layers that the model has, as it has no others: "LSTM" or "GRU"; "" where it has a plain one."""
        kinds = {signals.sites[i].kind.removesuffix("Cell") for i in signals.modules}
        return "" if "RNN" in kinds else next((kind for kind in ("LSTM", "GRU") if kind in kinds), "")
