"""Gradients that fade on their way back to the first layers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Check, Evidence, Finding
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.before import what_changed
from gradscope.signals.mechanisms import CONTRACTING, Share, longest_chain, sentence, shares, totals
from gradscope.signals.progress import progress


class VanishingGradient(Rule):
    """Flags the first layers of a network when the loss gradient hardly reaches them.

    Why it hurts: a weight moves by its gradient. Layers that get a millionth of what the output gets stay what chance
    made them, and the layers above learn from noise. Adam scales small gradients up again, noise and all, until they
    meet its eps.

    When it is harmless: a converged network has small gradients everywhere, evenly; that is not vanishing, so only the
    ratio to the output's gradient counts. A branch that starts at zero on purpose (ReZero, LayerScale, LoRA) is
    small while the layers before it get their gradient through the skip connection. Pooling and slicing divide the
    gradient over more entries by arithmetic.

    How it is measured: backward gain = ‖∂L/∂h_layer‖ / ‖∂L/∂h_output‖, whole batch, L2, with what pooling took given
    back. A layer counts when it and every layer before it lie below the threshold, at the first recorded steps or now.
    The gain budget says which modules took how many decades. A gradient that is exactly zero, by count, belongs to
    untrained-parameter.

    What to do: initialise for the activation that follows (He for ReLU, Xavier for tanh), use an activation that does
    not contract, add skip connections or normalisation.
    """

    id = "vanishing-gradient"
    summary = "The loss gradient fades before it reaches the first layers."
    warning = Threshold(
        1e-3,
        "backward gain, a factor",
        "calibrated: healthy digits trainings of 4 to 20 layers stay above 0.02 from step 0 to convergence",
    )
    error = Threshold(
        1e-6, "backward gain, a factor", "calibrated: 20 sigmoid layers 9e-18, 20 default-initialised ReLU layers 2e-8"
    )
    patience = Threshold(
        100,
        "steps with a loss",
        "by then a training that has lost half of its loss does so in spite of small gradients",
    )
    deep = Threshold(
        8, "layers in a row without a skip", "20 layers of 0.41 each (THEORY T2) lose 7.8 decades; 8 lose 3.1"
    )
    sources = (
        "Hochreiter 1991; Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward networks",
        "He et al. 2015, Delving deep into rectifiers (arXiv:1502.01852)",
        "Schoenholz et al. 2017, Deep information propagation (arXiv:1611.01232)",
    )

    def applies(self, signals: Signals) -> Check | None:
        """Needs backward gains."""
        missing = super().applies(signals)
        if missing is None and not np.isfinite(signals.backward_gain).any():
            return Check(self.id, "not-applicable", "no backward gain was observed")
        return missing

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds the layers before which the gradient fades."""
        trained = [i for i in signals.layers if any(signals.sites[p].trainable for p in signals.parameters_of(i))]
        gain = signals.unpooled_gain[trained]
        known = np.flatnonzero(np.isfinite(gain).any(axis=1))
        trained, gain = [trained[row] for row in known], gain[known]
        if not len(trained):
            return
        # a layer starves when it and all before it do: then no other way brings the gradient to them either
        with np.errstate(invalid="ignore"):
            starved = np.fmax.accumulate(gain, axis=0) < self.warning.value
            # exactly zero from the start belongs to untrained-parameter; a trickle that dried up is ours
            starved &= np.maximum.accumulate(np.fmax.accumulate(gain, axis=0) > 0, axis=1)
        usable = np.flatnonzero(np.isfinite(gain).any(axis=0))
        sick = [column for column in usable if starved[:, column].any()]
        now = all(column in sick for column in usable[-3:])
        if not sick or not (now or all(column in sick for column in usable[:3])):
            return
        column = int(sick[-1] if now else sick[0])
        alive = [each for each in sick if not (gain[starved[:, column], each] == 0).any()]
        column = int(alive[-1] if now and alive else column)  # where what took the gradient can still be measured
        layers = [trained[row] for row in np.flatnonzero(starved[:, column])]
        worst = min(layers, key=lambda layer: _or(signals.unpooled_gain[layer, column], math.inf))
        smallest = float(np.nanmin(signals.unpooled_gain[layers, column]))
        severity = "error" if smallest < self.error.value else "warning"
        first, last = int(signals.steps[sick[0]]), int(signals.steps[sick[-1]])
        name, farthest = signals.sites[layers[-1]].title, signals.sites[worst].title
        message = f"Gradients vanish before {name}: {farthest} gets {number(smallest)} of the output's"
        went = progress(signals)
        if not now:
            message = f"{message}; it recovered after step {last:,}"
            severity = severity if went is not None and went.unlearned else "note"
        elif severity == "warning" and went is not None and went.count >= self.patience.value and not went.unlearned:
            severity = "note"  # an optimizer that rescales gradients can bear some of it
        where = f"at {signals.sites[worst].name}, step {signals.steps[column]:,}"
        evidence = [Evidence(f"backward gain {where}", smallest, "", self.warning.value, "0.1 … 20")]
        evidence += [
            Evidence(f"gain budget: {mechanism}", decades, "decades", None, "about 0 in all")
            for mechanism, decades in sorted(totals(signals, column).items(), key=lambda item: item[1])
        ]
        yield Finding(
            self.id,
            severity,  # type: ignore[arg-type]
            tuple(signals.sites[layer].path for layer in sorted(layers, key=lambda i: signals.sites[i].order)),
            first,
            last,
            message,
            tuple(evidence),
            tuple(self._causes(signals, column, first)),
        )

    def _causes(self, signals: Signals, column: int, first_step: int) -> list[Cause]:
        """Causes from the gain budget: each is blamed for the decades that it took beyond what is normal."""
        found = shares(signals, column)
        late = first_step > 0 and first_step > int(signals.steps[0])
        blame: dict[str, float] = {}
        activations = [share for share in found if share.mechanism == "activation"]
        for share in activations:
            if share.working is None:  # a softmax between layers, say: what it should let through is all
                if share.each < CONTRACTING:
                    blame["activation-contracts"] = blame.get("activation-contracts", 0.0) - share.decades
                continue
            if 10 ** (share.working / share.count) < CONTRACTING:
                blame["activation-contracts"] = blame.get("activation-contracts", 0.0) - share.working
            if share.decades < 1.5 * share.working - 0.1 * share.count:
                blame["activation-saturates"] = blame.get("activation-saturates", 0.0) + share.working - share.decades
        # what weights would have to give back for activations that work as meant and do not contract
        owed = -sum(
            share.working
            for share in activations
            if share.working is not None and 10 ** (share.working / share.count) >= CONTRACTING
        )
        weights = sum(share.decades for share in found if share.mechanism == "weights")
        if not late and (weights < 0 or weights < owed):
            blame["init-too-small"] = max(owed, 0.0) - weights
        recurrence = -sum(share.decades for share in found if share.mechanism == "recurrence")
        if recurrence > 0:
            blame["long-backprop-chain"] = recurrence
        everything = sum(amount for amount in blame.values() if amount > 0) or 1.0
        explanation = sentence(signals, column)
        causes = []
        for cause, amount in blame.items():
            if amount <= 0.3:
                continue
            name = "weight-growth" if late and cause == "activation-saturates" else cause
            causes.append(Cause(name, round(min(0.95, amount / everything), 2), _why(name, amount, found, explanation)))
        if late:
            came = ["it was not so at the first recorded steps: it came with training"]
            causes.append(Cause("learning-rate-too-high", 0.7, "; ".join(came + what_changed(signals, first_step))))
        chain = longest_chain(signals)
        if chain >= self.deep.value:
            why = f"{chain} layers with weights follow one another without a skip connection; every loss multiplies"
            causes.append(Cause("depth-without-skip", 0.4, why))
        return sorted(causes, key=lambda cause: -cause.confidence)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        return (
            Case("first layers starve", run({"a": 1e-9, "b": 1e-4, "c": 0.3, "d": 1.0}), ("a", "b")),
            Case("converged: everything is small, evenly", run({"a": 0.5, "b": 0.7, "c": 1.0}, scale=1e-8)),
            Case("a branch scaled down on purpose", run({"a": 0.8, "branch": 1e-6, "c": 1.0})),
            Case("exactly zero, by count, belongs to untrained-parameter", run({"a": 0.0, "c": 0.0}, zeros=1.0)),
            Case("the head's gradient is exactly zero: the gain is undefined", run({"a": 1e-9, "c": 1.0}, scale=0.0)),
            Case("a single odd step", run({"a": [1, 1, 1, 1e-9, 1, 1, 1, 1], "c": 1.0})),
            Case("NaN belongs to non-finite", run({"a": math.nan, "c": 1.0})),
        )


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else float(value)


def _each_at_best(share: Share) -> float:
    """What one of these activations does to the gradient when it works as meant, in decades; as measured if unknown."""
    return (share.decades if share.working is None else share.working) / share.count


def _why(cause: str, decades: float, found: list[Share], budget: str) -> str:
    """One sentence for a cause, with its numbers."""
    everything = [share for share in found if share.mechanism == "activation"]
    activations = [share for share in everything if share.working is not None]
    weights = [share for share in found if share.mechanism == "weights"]
    if cause == "activation-contracts" and everything:
        share = min(everything, key=_each_at_best)
        text = f"each {share.kind} passes on {number(share.each)} of the gradient, whatever it is fed: it contracts"
    elif cause in ("activation-saturates", "weight-growth") and activations:
        share = min(activations, key=lambda item: item.decades - (item.working or 0.0))
        best = 10 ** ((share.working or 0.0) / share.count)
        text = f"each {share.kind} passes on {number(share.each)} of the gradient, not {number(best)}: it is saturated"
    elif cause == "init-too-small" and weights:
        share = min(weights, key=lambda item: item.decades)
        text = f"each {share.kind} passes on {number(share.each)} of the gradient, too little for what follows it"
    else:
        text = f"recurrent steps took {number(decades)} decades"
    return f"{text} ({budget})" if budget else text
