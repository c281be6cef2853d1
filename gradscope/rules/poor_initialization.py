"""Weights that start where no training gets away from, or at the wrong size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Check, Evidence, Finding
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.expansion import expanding
from gradscope.signals.progress import progress
from gradscope.signals.units import earliest, fed_size, is_constant, weight_gain, weight_of


class PoorInitialization(Rule):
    """Flags weights that start all alike, or at a size that makes the signal explode or vanish through the depth.

    Why it hurts: units whose weights start alike get the same gradient for ever: a layer of 500 of them is one unit.
    Where each layer multiplies the signal, depth takes it out of the range that activations and losses work in.

    When it is harmless: zeros are right where one layer alone starts with them: the last layer, the last of a branch
    (ReZero, LoRA, Fixup, zero-gamma), biases. A wrong size before a normalisation is undone by it. A residual stream
    grows with its depth, slowly.

    How it is measured: at step 0 only. (1) two layers with weights that follow one another, each with all weights equal
    (smallest = largest); where they are zeros, in all layers or with gradients that are exactly zero too. (2) the rms of
    each layer's output over that of the first layer's, beside rms(W)·√fan_in, which is 1.41 after He and 1 after Xavier.

    What to do: He initialization before ReLU, Xavier before tanh; scale residual branches down with the depth. An
    activation that gives out more than it is fed, an exponential say, suits no initialization: use another.
    """

    id = "poor-initialization"
    summary = "Weights start all alike, or at a size that depth multiplies."
    needs_steps = 1
    grows = Threshold(
        50.0,
        "rms of a layer's output over the first layer's, where weights stretch",
        "calibrated: healthy trainings start between 0.03 and 2; N(0, 1) in 4 layers of 64 gives 180",
    )
    sums = Threshold(1e3, "the same, whatever the weights", "20 residual blocks that double the variance (THEORY T11)")
    loss = Threshold(
        5.0, "first losses over the loss of the best constant output", "calibrated: healthy trainings start below 2.5"
    )
    fades = Threshold(
        1e-4,
        "rms of a layer's output over the first layer's",
        "calibrated: healthy trainings start between 0.05 and 20",
    )
    stretch = Threshold(2.5, "rms(W)·√fan_in", "He gives 1.41, tanh's recommended gain 1.67")
    large = Threshold(10.0, "rms of what the model is fed", "a decade above standardised inputs")
    shrink = Threshold(0.4, "rms(W)·√fan_in", "torch's own default gives 0.58")
    sources = (
        "He et al. 2015 (arXiv:1502.01852); Glorot & Bengio 2010",
        "THEORY T1, T2, T11 (residual sums), T33 (symmetry)",
        "Zhang et al. 2019, Fixup initialization (arXiv:1901.09321)",
    )

    def applies(self, signals: Signals) -> Check | None:
        """Needs the first step."""
        missing = super().applies(signals)
        if missing is None and signals.steps[0] > 0:
            return Check(self.id, "not-applicable", "the first step was not recorded")
        return missing

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds units that are alike first, then a signal that explodes or vanishes."""
        finding = self._symmetric(signals) or self._sized(signals)
        if finding is not None:
            yield finding

    def _symmetric(self, signals: Signals) -> Finding | None:
        """Layers that follow one another, all of whose weights are one number each."""
        layers = [i for i in signals.layers if signals.sites[i].mechanism == "weights" and _is_matrix(signals, i)]
        everywhere = len(layers) > 1 and all(is_constant(signals, i) for i in layers)
        stuck = [everywhere or self._stays_alike(signals, i) for i in layers]
        pairs = [place for place in range(len(layers) - 1) if stuck[place] and stuck[place + 1]]
        if not pairs:
            return None
        sick = [layers[place] for place in sorted({*pairs, *(place + 1 for place in pairs)})]
        first = sick[0]
        weight = weight_of(signals, first)
        value = float(signals.values("weight", "maximum")[weight][0]) if weight is not None else 0.0
        name = signals.sites[first].title
        message = f"All weights of {name} start as {number(value)}: its units are one unit, for ever"
        why = f"{len(sick)} layers start with all weights equal: their units get the same gradient at every step"
        span = Evidence(f"largest less smallest weight of {signals.sites[first].name}", 0.0, "", None, "2 rms and more")
        return self._finding(signals, "error", sick, message, [span], [Cause("symmetric-init", 0.95, why)])

    def _stays_alike(self, signals: Signals, layer: int) -> bool:
        """Whether a layer's weights are one number; zeros count when they get no gradient either."""
        weight = weight_of(signals, layer)
        if weight is None or not is_constant(signals, layer) or not signals.sites[weight].trainable:
            return False
        if signals.values("weight", "maximum")[weight][0] != 0:
            return True
        zero, count = signals.exactly_zero("gradient")[weight], signals.values("gradient", "count")[weight]
        known = np.isfinite(count)
        return int(known.sum()) >= 3 and bool(zero[known].all())

    def _sized(self, signals: Signals) -> Finding | None:
        """A signal that grows or fades by decades between the first layer and some other, at step 0."""
        heads = signals.run.info.heads
        last = max((signals.sites[head].order for head in heads), default=math.inf)
        layers = [
            i for i in signals.layers if signals.sites[i].mechanism == "weights" and signals.sites[i].order <= last
        ]
        size = {i: float(signals.rms("activation")[i][0]) for i in layers}
        known = [i for i in layers if size[i] > 0 and math.isfinite(size[i])]
        if len(known) < 2:
            return None
        ratio = {i: size[i] / size[known[0]] for i in known}
        gains = {i: float(weight_gain(signals, i)[0]) for i in known}
        usual = [gain for gain in gains.values() if gain > 0 and math.isfinite(gain)]
        mean = math.exp(float(np.mean(np.log(usual)))) if usual else math.nan
        largest, least = max(known, key=lambda i: ratio[i]), min(known, key=lambda i: ratio[i])
        stretched = [i for i in known if gains[i] > self.stretch.value] if mean > self.stretch.value else []
        high = self._first_loss(signals)
        if stretched and (ratio[largest] > self.grows.value or high > self.loss.value):
            return self._grown(signals, stretched, ratio[largest], mean, high)
        if ratio[largest] > self.sums.value:
            return self._summed(signals, [i for i in known if ratio[i] > self.sums.value], ratio[largest])
        if ratio[least] < self.fades.value and mean < self.shrink.value:
            return self._faded(signals, known, least, ratio[least], mean)
        return None

    def _first_loss(self, signals: Signals) -> float:
        """The first losses over that of the best constant output; NaN where either is not known, or inputs are large."""
        found = progress(signals)
        if found is None or earliest(fed_size(signals)) > self.large.value or not found.trivial > 0:
            return math.nan
        return found.start / found.trivial

    def _grown(self, signals: Signals, sick: list[int], ratio: float, mean: float, high: float) -> Finding:
        """Weights that stretch the signal."""
        name = signals.sites[sick[0]].title
        message = f"Weights are too large from {name} on: each layer stretches the signal {number(mean)}-fold at step 0"
        evidence = [
            Evidence("largest size over the first layer's", ratio, "", self.grows.value, "0.03 … 2"),
            Evidence("rms(W)·√fan_in, geometric mean", mean, "", self.stretch.value, "1 … 1.67"),
        ]
        if math.isfinite(high):
            evidence.append(Evidence("first losses over the best constant's", high, "", self.loss.value, "1 … 2.5"))
        why = f"rms(W)·√fan_in is {number(mean)} on average; He gives 1.41, Xavier 1"
        causes = [Cause("init-too-large", 0.9, why)]
        if expansion := expanding(signals):
            causes.insert(0, Cause("activation-expands", 0.95, str(expansion)))
        return self._finding(signals, "warning", sick, message, evidence, causes)

    def _summed(self, signals: Signals, sick: list[int], ratio: float) -> Finding:
        """Weights of their usual size, and sums or activations that grow the signal all the same."""
        name = signals.sites[sick[0]].title
        message = f"The signal explodes from {name} on, to {number(ratio)} times the first layer's size at step 0"
        evidence = [Evidence("growth through residual sums", ratio, "", self.sums.value, "1 … 20")]
        why = "weights have their usual size; sums over blocks, or the activations, add to the signal layer by layer"
        causes = [Cause("init-too-large", 0.6, why)]
        if expansion := expanding(signals):
            evidence = [Evidence("growth through activations", ratio, "", self.sums.value, "1 … 20")]
            causes = [Cause("activation-expands", 0.95, f"weights have their usual size; {expansion}")]
        return self._finding(signals, "warning", sick, message, evidence, causes)

    def _faded(self, signals: Signals, sick: list[int], least: int, ratio: float, mean: float) -> Finding:
        """Weights that let the signal fade."""
        name = signals.sites[least].title
        message = f"The signal fades with depth: {name} gives {number(ratio)} of the first layer's size at step 0"
        evidence = [
            Evidence("smallest size over the first layer's", ratio, "", self.fades.value, "0.03 … 2"),
            Evidence("rms(W)·√fan_in, geometric mean", mean, "", self.shrink.value, "1 … 1.67"),
        ]
        why = f"rms(W)·√fan_in is {number(mean)} on average; He gives 1.41, Xavier 1"
        return self._finding(signals, "warning", sick, message, evidence, [Cause("init-too-small", 0.9, why)])

    def _finding(
        self,
        signals: Signals,
        severity: Any,
        sick: list[int],
        message: str,
        evidence: list[Evidence],
        causes: list[Cause],
    ) -> Finding:
        layers = tuple(signals.sites[i].path for i in sick)
        return Finding(self.id, severity, layers, 0, int(signals.steps[-1]), message, tuple(evidence), tuple(causes))

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.0, "b": 1.0, "c": 1.0}

        def weights(**values: float) -> dict[tuple[str, str], dict[str, Any]]:
            return {
                (f"{path}.weight", "weight"): {"minimum": value, "maximum": value, "rms": abs(value)}
                for path, value in values.items()
            }

        large = {(f"{path}.weight", "weight"): {"rms": 2.0} for path in chain}
        small = {(f"{path}.weight", "weight"): {"rms": 0.02} for path in chain}
        zeros = {"a.weight": 0.0, "b.weight": 0.0, "c.weight": 0.0}
        return (
            Case("all weights are 0.01", run(chain, extra=weights(a=0.01, b=0.01, c=0.01)), ("a", "b", "c")),
            Case("all weights are 0", run(chain, gradient=zeros, extra=weights(a=0.0, b=0.0, c=0.0)), ("a", "b", "c")),
            Case(
                "the signal explodes",
                run(chain, activation={"a": 1.0, "b": 200.0, "c": 4e4}, extra=large),
                ("a", "b", "c"),
            ),
            Case(
                "the signal fades",
                run(chain, activation={"a": 1.0, "b": 1e-3, "c": 1e-6}, extra=small),
                ("a", "b", "c"),
            ),
            Case("the last layer starts at zero", run(chain, extra=weights(c=0.0), activation={"c": 0.0})),
            Case("the last of a branch and the last layer start at zero", run(chain, extra=weights(b=0.0, c=0.0))),
            Case("a residual stream grows with its depth", run(chain, activation={"a": 1.0, "b": 5.0, "c": 20.0})),
        )


def _is_matrix(signals: Signals, layer: int) -> bool:
    """Whether a layer has a weight with several units that are each fed several numbers."""
    weight = weight_of(signals, layer)
    return weight is not None and sum(size > 1 for size in signals.sites[weight].shape) > 1
