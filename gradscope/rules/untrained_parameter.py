"""Parameters that the training never moves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradscope.records import Cause, Evidence, Finding, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals


class UntrainedParameter(Rule):
    """Flags parameters that should learn and cannot: cut off, forgotten by the optimizer, or with an exact zero gradient.

    Why it hurts: a layer that never moves stays a random projection. The loss may still fall, which hides it.

    When it is harmless: frozen parameters (`requires_grad=False`) are left alone on purpose. A bias before a
    normalisation, the key bias of attention and the last bias of a tower whose outputs are subtracted have no effect, so
    their gradient is zero by arithmetic (THEORY T29); the weights beside them get theirs.
    A branch that starts at zero (ReZero, LoRA) has zero gradients at first. Fine-tuning trains a small part and leaves
    the rest out of the optimizer. Modules that a step does not use get nothing in that step.

    How it is measured: over all recorded steps, whether a parameter that requires a gradient ever got one, whether any
    optimizer holds it, and, by exact count, whether its gradient was ever anything but zero.

    What to do: take away the detach or no_grad on the way, hand the parameter to the optimizer, or freeze it openly.
    """

    id = "untrained-parameter"
    summary = "Parameters get no gradient, only zeros, or no optimizer."
    needs_steps = 3
    forgotten = Threshold(
        0.5,
        "share of all trainable entries",
        "by design: who leaves out less than half has forgotten them; who leaves out more fine-tunes",
    )
    turns = Threshold(
        50,
        "steps after which several optimizers have each had a turn",
        "WGAN's critic has 5 a turn, at first 25 to 100",
    )
    sources = ("torch.autograd, Locally disabling gradient computation", "THEORY T17 (one-unit softmax), T29")

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds parameters that never move, one finding a reason."""
        count = signals.values("weight", "count")
        gradient = signals.values("gradient", "count")
        entries = {i: float(np.nanmax(count[i])) for i in signals.parameters if not np.isnan(count[i]).all()}
        wanted = [i for i in entries if signals.sites[i].trainable and entries[i] > 0]
        total = sum(entries[i] for i in wanted) or 1.0
        never = [i for i in wanted if np.isnan(gradient[i]).all()]
        zero = signals.exactly_zero("gradient")
        zeros = [i for i in wanted if i not in never and bool((zero[i] | np.isnan(gradient[i])).all())]
        zeros = [i for i in zeros if not self._by_design(signals, i, zeros)]
        outside = [i for i in wanted if i not in never and i not in zeros and not signals.sites[i].optimized]
        used = [i for i in never if signals.owner(i) is not None]
        unused = [i for i in never if i not in used]
        if len(signals.run.info.optimizers) > 1 and signals.steps[-1] < self.turns.value:
            used = unused = []  # each optimizer may have its turn later (a GAN's, an actor's)
        if used:
            why = "their modules ran, yet no gradient came back: the output was detached, or made under no_grad"
            cause = Cause("detached", 0.7, why)
            yield self._finding(signals, "error", used, "got no gradient although they ran", cause, entries, total)
        if unused:
            cause = Cause("dead-path", 0.5, "their modules' own forward was never called in a recorded step")
            yield self._finding(signals, "note", unused, "were never used", cause, entries, total)
        if outside:
            share = sum(entries[i] for i in outside) / total
            severity: Severity = "warning" if share < self.forgotten.value else "note"
            cause = Cause("not-in-optimizer", 0.95, "they require a gradient and get one, and no optimizer holds them")
            yield self._finding(signals, severity, outside, "are in no optimizer", cause, entries, total)
        if zeros:
            everything = len(zeros) == len(wanted)
            if everything:
                cause = Cause(
                    "output-activation", 0.7, "the loss does not depend on any parameter: a softmax over one unit, say"
                )
            else:
                why = "their units never fire, or what reached them was too small for its number format"
                cause = Cause("dead-path", 0.7, why)
            yield self._finding(
                signals,
                "error" if everything else "warning",
                zeros,
                "got gradients of exactly zero",
                cause,
                entries,
                total,
            )

    def _by_design(self, signals: Signals, parameter: int, zeros: list[int]) -> bool:
        """A bias whose effect is taken away further on: a gradient came by, or its weights would have none either."""
        site, owner = signals.sites[parameter], signals.owner(parameter)
        if not site.path.endswith("bias") or owner is None:
            return False
        beside = [i for i in signals.parameters_of(owner) if not signals.sites[i].path.endswith("bias")]
        return site.mechanism == "attention" or any(i not in zeros for i in beside)

    def _finding(
        self,
        signals: Signals,
        severity: Severity,
        parameters: list[int],
        what: str,
        cause: Cause,
        entries: dict[int, float],
        total: float,
    ) -> Finding:
        names = [signals.sites[i].path for i in parameters]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        share = sum(entries[i] for i in parameters) / total
        return Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(name.rpartition(".")[0] for name in names)),
            int(signals.steps[0]),
            int(signals.steps[-1]),
            f"{len(names)} parameter{'s' * (len(names) > 1)} {what}: {shown}",
            (Evidence("share of the trainable entries", share, "", None, "0"),),
            (cause,),
        )

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        nets = {"a": 1.0, "b": 1.0, "c": 1.0}
        return (
            Case("left out of the optimizer", run(nets, optimized={"b.weight": False}), ("b",)),
            Case("exactly zero, always", run(nets, gradient={"a.weight": 0.0}), ("a",)),
            Case("tiny is not zero", run(nets, gradient={"a.weight": 1e-30})),
            Case(
                "zero only at first", run(nets, gradient={"a.weight": [0.0, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]})
            ),
            Case("frozen on purpose", run(nets, trainable={"a.weight": False}, gradient={"a.weight": 0.0})),
        )
