"""Layers whose units are silent for every input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.units import (
    HALF_OPEN,
    Activation,
    batch_size,
    earliest,
    fed_size,
    head_spread,
    hidden_activations,
    is_constant,
    latest,
    learned_share,
    onset,
    silent_share,
    weight_of,
)


class DeadUnits(Rule):
    """Flags layers whose units are silent for every input, so that nothing passes them and nothing behind them learns.

    Why it hurts: a ReLU that is off for every sample passes on no signal and no gradient, so no step will ever turn it
    on again. When all units of a layer are off, the output is the same for every input and all layers before it stand
    still.

    When it is harmless: a healthy ReLU is off for half of its samples, and in a wide layer some units are off for all of
    them; sparse networks (top-k, ReLU², experts that got no tokens) are off nearly everywhere by design and learn. A dead
    block beside a skip connection is lost, but the network learns around it.

    How it is measured: per unit or channel, the largest derivative that the activation let through over the last looks,
    8 at most. A unit is dead when that is exactly 0 (below 2^-12 for activations that never reach 0). A layer counts
    when all of its units are dead; one with nearly all of them dead counts when the loss does not fall either.

    What to do: where it was so at the start, initialise anew with He and zero biases, or swap in an activation with a
    slope on both sides; where it came later, lower the learning rate; scale inputs that are large.
    """

    id = "dead-units"
    summary = "All or nearly all units of a layer are silent for every input."
    most = Threshold(
        0.8,
        "share of a layer's units that are dead",
        "calibrated: healthy digits trainings stay below 0.5, chance turns off half of a deep narrow layer (THEORY T14)",
    )
    units = Threshold(8, "units", "below it chance turns most of a layer's units off (THEORY T14: width 5)")
    samples = Threshold(32, "samples over the last looks", "so many must agree before a unit is called dead")
    patience = Threshold(50, "steps", "a loss needs that long to show that it does not fall")
    learned = Threshold(
        0.1, "share of the loss", "calibrated: healthy digits trainings learn more than half of it in 100 steps"
    )
    large = Threshold(10.0, "rms of what the model is fed", "a decade above standardised inputs")
    passes = Threshold(1e-3, "spread of the output over its length", "what passes around a dead block is far above it")
    sources = (
        "Lu et al. 2019, Dying ReLU and initialization (arXiv:1903.06733); THEORY T14",
        "Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models",
        "He et al. 2015 (arXiv:1502.01852)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds layers that are dead, or nearly so in a network that does not learn."""
        candidates = self._candidates(signals)
        dead, silent = silent_share(signals, "lasting_slope"), silent_share(signals, "slope")
        now = {item.site: latest(dead[item.site]) for item in candidates}
        for item in candidates:  # it died after the oldest of those looks
            recent = silent[item.site][np.isfinite(silent[item.site])][-self.needs_steps :]
            if recent.min() == 1 and self.needs_steps * batch_size(signals, item.site) >= 3 * self.samples.value:
                now[item.site] = 1.0
        learned, steps = learned_share(signals)
        stuck = steps >= self.patience.value and learned < self.learned.value
        whole = [item for item in candidates if now[item.site] == 1.0]
        nearly = [
            item
            for item in candidates
            if self.most.value < now[item.site] < 1 and _units(signals, item) >= self.units.value
        ]
        if whole or (stuck and nearly):
            first = whole[0] if whole else max(nearly, key=lambda item: now[item.site])
            others = [item for item in candidates if item in whole or (stuck and item in nearly)]
            yield self._finding(signals, [first, *(item for item in others if item is not first)], now, learned, stuck)

    def _finding(
        self, signals: Signals, sick: list[Activation], now: dict[int, float], learned: float, stuck: bool
    ) -> Finding:
        """What is said of dead layers, the one to repair first in front."""
        first = sick[0]
        share, units = now[first.site], _units(signals, first)
        whole = share == 1.0
        around = whole and self._passes_around(signals, first)
        severity: Severity = "error" if whole and not around else "warning"
        if around and not stuck:
            severity = "note"
        silent = silent_share(signals, "slope")[first.site]
        begun = onset(silent >= min(self.most.value, share), np.isfinite(silent))
        start = len(signals.steps) - 1 if begun is None else begun
        name = signals.sites[first.layer].title
        which = f"All {units}" if whole else f"{round(share * units)} of {units}"
        message = f"{which} units of {name} are dead: {first.kind} is off for every input"
        if around:
            message += "; the signal has a way around it"
        evidence = [Evidence(f"dead units of {signals.sites[first.layer].name}", share, "", self.most.value, "0 … 0.5")]
        if math.isfinite(learned):
            evidence.append(Evidence("share of the loss that was learned", learned, "", self.learned.value))
        return Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(signals.sites[item.layer].path for item in sick)),
            int(signals.steps[start]),
            int(signals.steps[-1]),
            message,
            tuple(evidence),
            tuple(self._causes(signals, first, start, units)),
        )

    def _candidates(self, signals: Signals) -> list[Activation]:
        """Activations that can be silent, looked at often enough."""
        found = []
        for item in hidden_activations(signals):
            looks = min(8, int(np.isfinite(signals.values("slope", "count")[item.site]).sum()))
            enough = looks * batch_size(signals, item.site) >= self.samples.value or looks == 8
            if item.kind in HALF_OPEN and looks >= self.needs_steps and enough:
                found.append(item)
        return found

    def _passes_around(self, signals: Signals, dead: Activation) -> bool:
        """Whether the signal has another way than through a dead layer: outputs differ, or layers before it learn."""
        spread = latest(head_spread(signals))
        if math.isfinite(spread):
            return spread > self.passes.value
        norms = signals.norm("activation_gradient")
        order = signals.sites[dead.layer].order
        return any(latest(norms[i]) > 0 for i in signals.layers if signals.sites[i].order < order)

    def _causes(self, signals: Signals, dead: Activation, start: int, units: int) -> list[Cause]:
        """Born dead or died: by the first step at which it was so, and by what it was fed."""
        name = signals.sites[dead.layer].title
        fed = earliest(fed_size(signals))
        causes = []
        if fed > self.large.value:
            why = f"the model is fed numbers of size {number(fed)}: one step moves what a unit sees by their square"
            causes.append(Cause("unscaled-input", 0.6, why))
        if start > 0:
            weight = weight_of(signals, dead.layer)
            ratio = np.nan if weight is None else np.nanmax(signals.update_ratio[weight, : start + 1], initial=-np.inf)
            moved = f"; a step had moved its weights by {number(ratio)} of their size" if math.isfinite(ratio) else ""
            why = f"{name} was alive at step {signals.steps[start - 1]:,} and dead at step {signals.steps[start]:,}{moved}"
            causes.append(Cause("learning-rate-too-high", 0.5 if causes else 0.85, why))
            return causes
        bias = _mean_bias(signals, dead.layer)
        if bias < -1:
            why = f"the biases of {name} are {number(bias)} on average: they hold its units below zero"
            causes.append(Cause("init-too-large", 0.7, why))
        if is_constant(signals, dead.layer):
            why = f"all weights of {name} start as one number: its units are one unit"
            causes.append(Cause("symmetric-init", 0.65, why))
        depth = sum(item.kind in HALF_OPEN for item in hidden_activations(signals))
        chance = 1 - (1 - 0.5**units) ** depth
        why = f"it was so at the first step: no input turned a unit of {name} on"
        if chance > 0.01:
            why += f"; in {depth} layers of {units} units chance does that to {number(chance)} of the inputs"
        causes.append(Cause("dead-path", 0.5 if causes else 0.8, why))
        return sorted(causes, key=lambda cause: -cause.confidence)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.0, "r": 1.0, "b": 1.0, "s": 1.0, "c": 1.0}
        cut = {"a": 0.0, "r": 0.0, "b": 0.0, "s": 1.0, "c": 1.0}
        kinds = {"r": "ReLU", "s": "ReLU"}

        def units(
            silent: float | list[float], lasting: float | list[float] | None = None
        ) -> dict[tuple[str, str], dict[str, Any]]:
            lasting = silent if lasting is None else lasting
            times = 1000.0
            return {
                ("s", "slope"): {"rms": 0.7, "zeros": np.multiply(silent, times)},
                ("s", "lasting_slope"): {"rms": 0.7, "zeros": np.multiply(lasting, times)},
            }

        died = [0.3, 0.4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        flat: dict[str, Any] = {"loss": 2.3, "steps": 60}
        fallen: dict[str, Any] = {"loss": list(np.linspace(2.3, 0.1, 60)), "steps": 60}
        return (
            Case("a layer is dead from the start", run(cut, kinds=kinds, extra=units(1.0)), ("b",)),
            Case("a layer dies", run(cut, kinds=kinds, extra=units(died)), ("b",)),
            Case(
                "nearly all are dead and nothing is learned", run(chain, kinds=kinds, extra=units(0.95), **flat), ("b",)
            ),
            Case(
                "most are dead by design and the network learns", run(chain, kinds=kinds, extra=units(0.95), **fallen)
            ),
            Case("half of the units are off", run(chain, kinds=kinds, extra=units(0.5), **flat)),
            Case(
                "off in single batches, not in all", run(chain, kinds=kinds, extra=units([1.0, 0.2] * 30, 0.1), **flat)
            ),
            Case(
                "what comes after the head is on the loss side",
                run(
                    {"a": 1.0, "r": 1.0, "b": 1.0, "s": 1.0},
                    kinds=kinds,
                    extra=units(1.0),
                    info={"heads": (3,)},
                ),
            ),
        )


def _units(signals: Signals, item: Activation) -> int:
    """How many units or channels it has."""
    return int(np.nanmax(signals.values("slope", "count")[item.site]))


def _mean_bias(signals: Signals, module: int) -> float:
    """The mean of a layer's biases at the first look; NaN without one."""
    found = [i for i in signals.parameters_of(module) if signals.sites[i].path.endswith("bias")]
    return earliest(signals.share("weight", "sum")[found[0]]) if found else math.nan
