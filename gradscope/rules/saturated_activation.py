"""Activations that are driven to where they are flat."""

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
    LEVEL,
    Activation,
    earliest,
    fed_size,
    hidden_activations,
    latest,
    learned_share,
    onset,
    openness,
    small_share,
    weight_gain,
    weight_of,
)


class SaturatedActivation(Rule):
    """Flags hidden activations that are driven so far to their flat ends that hardly any gradient passes.

    Why it hurts: the gradient is multiplied by the activation's derivative. A tanh at 4 passes on 0.001 of it, whatever
    comes from behind, and what does not get a gradient cannot come back.

    When it is harmless: gates (of an LSTM, a squeeze-and-excitation block, a GLU) are shut or open on purpose. A sigmoid
    or softmax that makes the output itself is on the loss side, and a converged classifier saturates it. Large numbers
    before an activation mean nothing by themselves, and a network whose loss falls all the same is left alone.

    How it is measured: the derivative that the activation really let through, rms over units and samples, over what
    inputs of unit size would let through (0.68 for tanh, 0.21 for a sigmoid), at every look from the start on, or from some
    look on in a network that does not learn. An activation whose output multiplies something is a gate and left out.

    What to do: scale the inputs when the first layer is driven by them; initialise with Xavier when the weights are too
    large; normalise before the activation; lower the learning rate when the weights grew.
    """

    id = "saturated-activation"
    summary = "Hidden activations are driven to where their derivative is near 0."
    warning = Threshold(
        0.3,
        "rms derivative over that of unit inputs, a factor",
        "calibrated: healthy tanh, sigmoid, hardtanh and softsign trainings start above 0.95 and end above 0.38; weights "
        "x30 and inputs x100 give 0.06 to 0.2",
    )
    error = Threshold(0.05, "rms derivative over that of unit inputs, a factor", "a sixth of the warning")
    learned = Threshold(0.5, "share of the loss", "a network that learned this much is not held up by it")
    patience = Threshold(50, "steps", "a loss needs that long to show that it does not fall")
    half = Threshold(0.5, "derivative at the start over that of unit inputs", "half shut before the first step")
    stretch = Threshold(
        3.0, "rms(W)·√fan_in, or rms of the input", "Xavier gives 1, He 1.41, tanh's recommended gain 1.67"
    )
    sources = (
        "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",
        "LeCun et al. 1998, Efficient backprop; THEORY T9",
        "Hochreiter & Schmidhuber 1997, Long short-term memory (gates)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds hidden activations that let hardly anything through."""
        found = [item for item in hidden_activations(signals) if item.kind in LEVEL and not item.gate]
        opened = {item.site: openness(signals, item) for item in found}
        learned, steps = learned_share(signals)
        if not opened or learned > self.learned.value:
            return
        stuck = steps >= self.patience.value and (math.isnan(learned) or learned < self.learned.value)
        starts: dict[int, int] = {}
        for site, series in opened.items():
            known = np.isfinite(series)
            begun = onset(series < self.warning.value, known)
            if known.sum() < self.needs_steps or begun is None:
                continue
            first = int(np.flatnonzero(known)[0])
            long = known[begun:].sum() >= self.needs_steps
            if begun == first or (stuck and long and self._matters(learned, series)):
                starts[site] = begun
        if not starts:
            return
        sick = [item for item in found if item.site in starts]
        yield self._finding(signals, sick, starts, opened, learned)

    def _matters(self, learned: float, series: np.ndarray) -> bool:
        """Where the loss is not known only a nearly shut activation is held against a network."""
        return not math.isnan(learned) or latest(series) < self.error.value

    def _finding(
        self,
        signals: Signals,
        sick: list[Activation],
        starts: dict[int, int],
        opened: dict[int, np.ndarray],
        learned: float,
    ) -> Finding:
        start = min(starts.values())
        first = next(item for item in sick if starts[item.site] == start)
        value = latest(opened[first.site])
        least = min(latest(opened[item.site]) for item in sick)
        severity: Severity = "error" if least < self.error.value else "warning"
        name = signals.sites[first.layer].title
        shut = latest(small_share(signals, "slope", -8 if "igmoid" in first.kind else -6)[first.site])
        others = f", and in {len(sick) - 1} more" if len(sick) > 1 else ""
        message = f"{first.kind} after {name} is saturated: it passes on {number(value)} of what it should{others}"
        evidence = [
            Evidence(
                f"derivative of {signals.sites[first.site].name} over that of unit inputs",
                value,
                "",
                self.warning.value,
                "0.4 … 1.2",
            ),
            Evidence("share of its units that pass on hardly anything", shut, "", None, "0 … 0.1"),
        ]
        if math.isfinite(learned):
            evidence.append(Evidence("share of the loss that was learned", learned, "", self.learned.value))
        ordered = [first, *(item for item in sick if item is not first)]
        return Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(signals.sites[item.layer].path for item in ordered)),
            int(signals.steps[start]),
            int(signals.steps[-1]),
            message,
            tuple(evidence),
            tuple(self._causes(signals, first, start)),
        )

    def _causes(self, signals: Signals, first: Activation, start: int) -> list[Cause]:
        """What drives the first saturated layer: its input, its weights, or weights that grew."""
        name = signals.sites[first.layer].title
        gain = weight_gain(signals, first.layer)
        stretched = float(gain[start]) if math.isfinite(gain[start]) else earliest(gain)
        weight = weight_of(signals, first.layer)
        half = openness(signals, first)
        if start > 0 and earliest(half) < self.half.value and stretched > self.stretch.value:
            why = (
                f"the weights of {name} stretch what they are fed {number(stretched)}-fold, so that {first.kind} passed on "
                f"{number(earliest(half))} of what it should from the start; Xavier gives 1"
            )
            return [Cause("init-too-large", 0.8, why), Cause("learning-rate-too-high", 0.4, "training shut it further")]
        if start > 0:
            rms = np.full(1, np.nan) if weight is None else signals.rms("weight")[weight]
            grown = latest(rms) / earliest(rms) if earliest(rms) > 0 else math.nan
            grew = f": its weights are {number(grown)} times what they were" if math.isfinite(grown) else ""
            since = f"{name} was open at first and is saturated since step {signals.steps[start]:,}"
            return [
                Cause("learning-rate-too-high", 0.7, f"{since}; the steps carried it there"),
                Cause("weight-growth", 0.6, f"{since}{grew}"),
            ]
        is_first = not any(
            signals.sites[i].mechanism in ("weights", "recurrence")
            and signals.sites[i].order < signals.sites[first.layer].order
            for i in signals.layers
        )
        size = earliest(fed_size(signals)) if is_first else math.nan
        blame: dict[str, float] = {}
        if stretched > 0:
            blame["init-too-large"] = math.log10(stretched / self.stretch.value * 2)
        if size > 0:
            blame["unscaled-input"] = math.log10(size / self.stretch.value * 2)
        blame = {cause: amount for cause, amount in blame.items() if amount > 0.1}
        total = sum(blame.values())
        said = {
            "init-too-large": f"the weights of {name} stretch what they are fed {number(stretched)}-fold; Xavier gives 1",
            "unscaled-input": f"the model is fed numbers of size {number(size)}; tanh and sigmoid work on about 1",
        }
        causes = [
            Cause(cause, round(min(0.9, 0.9 * amount / total), 2), said[cause]) for cause, amount in blame.items()
        ]
        if not causes:
            why = f"what {name} gives {first.kind} is too large for it, by no single factor"
            causes = [Cause("activation-saturates", 0.6, why)]
        return sorted(causes, key=lambda cause: -cause.confidence)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.0, "t": 1.0, "b": 1.0, "s": 1.0, "c": 1.0}
        kinds = {"t": "Tanh", "s": "Sigmoid"}
        fed = ("(fed)", "activation")
        slow, fast = [2.3] * 60, np.linspace(2.3, 0.05, 60).tolist()

        def slope(path: str, rms: float | list[float]) -> dict[tuple[str, str], dict[str, Any]]:
            return {(path, "slope"): {"rms": rms}}

        grown = np.geomspace(0.6, 0.001, 60).tolist()
        return (
            Case(
                "inputs of size 300 saturate the first layer",
                run(chain, kinds=kinds, extra={**slope("t", 0.02), fed: {"rms": 300.0}}),
                ("a",),
            ),
            Case("weights too large for a sigmoid", run(chain, kinds=kinds, extra=slope("s", 0.002)), ("b",)),
            Case(
                "it grew, and nothing is learned",
                run(chain, kinds=kinds, extra=slope("t", grown), loss=slow, steps=60),
                ("a",),
            ),
            Case("a sigmoid at its best passes on a quarter", run(chain, kinds=kinds, extra=slope("s", 0.24))),
            Case("it grew while the loss fell", run(chain, kinds=kinds, extra=slope("t", grown), loss=fast, steps=60)),
            Case("saturated at first, open since", run(chain, kinds=kinds, extra=slope("t", [0.01] * 4 + [0.5] * 4))),
            Case("a ReLU has no flat top", run(chain, kinds={"t": "ReLU"}, extra=slope("t", 0.01))),
            Case(
                "the sigmoid that makes the output is on the loss side",
                run({"a": 1.0, "b": 1.0, "s": 1.0}, kinds=kinds, extra=slope("s", 1e-4), info={"heads": (3,)}),
            ),
        )
