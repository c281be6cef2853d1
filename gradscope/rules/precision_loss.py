"""Half precision that loses what the training needs: gradients below its smallest number, updates below its spacing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import number
from gradscope.records import EXPONENT_EDGES, HISTOGRAM_BINS, QUANTITIES, Cause, Evidence, Finding, Run
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.non_finite import LARGEST, magnitude

_HALF = ("float16", "bfloat16")
_LAST_DIGITS = -22  # float16 numbers below 2 to this power are 1 to 3 times its smallest: they have no digits left
_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")
_SMALLEST_FLOAT16 = 2.0**-25  # half of the smallest denormal: everything below rounds to 0


class PrecisionLoss(Rule):
    """Flags half-precision trainings whose gradients, updates or activations do not fit their number format.

    Why it hurts: float16 knows no number below 6e-8 and has few digits below 6e-5: gradients that are smaller become
    0, and the layers that get them stand still. Above 65,504 everything is infinite. bfloat16 has the range of float32
    and 8 bits of digits: an update of less than 1/512 of a weight rounds to nothing, and the weight never moves.

    When it is harmless: a few gradients are always small; what counts is where the gradient's length is. Gradients near
    float16's largest number are what a loss scale is for: the scaler halves it when they overflow. At the end of a
    training, when the learning rate has been lowered on purpose, updates may be lost. float32 is never judged.

    How it is measured: from the histogram of log2 magnitudes, as held in memory, the loss scale included. (1) the share
    of a float16 gradient's squared norm in numbers below 2^-22, which have no digits left, and tensors that are exactly
    0 while the output's gradient is not; (2) the share of a half-precision weight's entries that a step left as they
    were, while their gradient is not 0 and the learning rate is at least half of the run's highest; (3) the largest
    activation beside float16's largest number; (4) the loss scale; (5) Adam's eps in float16, where 1e-8 is 0.

    What to do: scale the loss, keep float32 master weights, or train in bfloat16 with autocast.
    """

    id = "precision-loss"
    summary = "Half precision loses gradients, updates or activations."
    lost = Threshold(
        0.5,
        "share of a gradient's squared norm in numbers without digits",
        "half of the length; calibrated: digits under autocast float16 stay below 1e-5 with a scaler; a loss of 1e-5 of the "
        "usual size without one gives 1, and learns little",
    )
    still = Threshold(
        0.95,
        "share of a weight's entries that a step does not move, median over steps",
        "calibrated: bfloat16 weights under SGD 0.1 and Adam 1e-3 lose 0.3 to 0.6, under SGD 0.01 0.86; under Adam 1e-5 and "
        "SGD 1e-4, where nothing is learned any more, 0.98 and more",
    )
    overflow = Threshold(
        16384, "largest |activation| held in float16", "a factor of 4 below 65,504: less than a step may grow"
    )
    scale = Threshold(1, "loss scale", "below it gradients overflow float16 unscaled: no scale helps any more")
    usual_scale = Threshold(
        1024, "loss scale", "scalers begin at 65,536; below this what is 0 may have been 6e-11 unscaled"
    )
    many = Threshold(0.5, "share of the half-precision layers that are affected", "half of them")
    sources = (
        "Micikevicius et al. 2018, Mixed precision training (arXiv:1710.03740), figures 2 and 3",
        "Kalamkar et al. 2019, A study of bfloat16 for deep learning training (arXiv:1905.12322)",
        "Zamirai et al. 2020, Revisiting bfloat16 training (arXiv:2010.06192): rounding of weight updates",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds what does not fit, one finding a kind, the worst kind first."""
        judges = (self._eps, self._collapsed, self._underflow, self._swallowed, self._overflow)
        found = [finding for judge in judges if (finding := judge(signals)) is not None]
        yield from found[:1]

    def _finding(
        self, signals: Signals, layers: list[str], first: int, message: str, evidence: list[Evidence], why: str
    ) -> Finding:
        last = int(signals.steps[-1])
        paths = tuple(dict.fromkeys(layers))
        return Finding(
            self.id, "warning", paths, first, last, message, tuple(evidence), (Cause("precision", 0.9, why),)
        )

    def _eps(self, signals: Signals) -> Finding | None:
        """Adam's eps, when the weights and with them its moments are float16."""
        held = [i for i in signals.parameters if signals.sites[i].dtype == "float16" and signals.sites[i].optimized]
        kinds = [info for info in signals.run.info.optimizers if info.kind in _ADAPTIVE]
        eps = [info.options["eps"] for info in kinds if 0 < info.options.get("eps", 1.0) < _SMALLEST_FLOAT16]
        if not held or not eps:
            return None
        what = f"{kinds[0].kind}'s eps of {number(eps[0])} is 0 in float16"
        evidence = [Evidence("eps", eps[0], "", _SMALLEST_FLOAT16, "1e-4 and more in float16")]
        why = f"{what}: a weight whose second moment rounds to 0 is divided by 0"
        layers = [signals.sites[i].module for i in held]
        return self._finding(
            signals, layers, int(signals.steps[0]), f"{what}, as are small second moments", evidence, why
        )

    def _collapsed(self, signals: Signals) -> Finding | None:
        """A loss scale that was lowered until it no longer is one."""
        scale, numbers = signals.run.steps["scale"], signals.run.steps["step"]
        low = np.flatnonzero(scale < self.scale.value)
        if not len(low) or scale[-1] >= self.scale.value or not scale[0] > scale[-1]:
            return None
        first, now = int(numbers[low[0]]), float(scale[-1])
        message = f"The loss scale fell from {number(float(scale[0]))} to {number(now)}: gradients overflow without any"
        evidence = [Evidence("loss scale now", now, "", self.scale.value, "1,000 and more")]
        why = "what overflows at a scale below 1 is no small gradient made large: values leave float16's range by themselves"
        return self._finding(signals, [], first, message, evidence, why)

    def _underflow(self, signals: Signals) -> Finding | None:
        """float16 gradients whose length is in numbers that have hardly a digit left."""
        sites = [i for i in (*signals.layers, *signals.parameters) if signals.sites[i].dtype == "float16"]
        shares = np.array([self._below(signals, i) for i in sites])
        if not len(sites) or np.isnan(shares).all():
            return None
        known = np.flatnonzero(~np.isnan(shares).all(axis=0))
        sick = np.nan_to_num(shares) > self.lost.value
        many = sick.sum(axis=0) >= self.many.value * np.maximum((~np.isnan(shares)).sum(axis=0), 1)
        if not many[known[-3:]].all():
            return None
        column = int(known[-1])
        worst = [
            sites[row] for row in np.argsort(-np.nan_to_num(shares[:, column]), kind="stable") if sick[row, column]
        ]
        share = float(np.nanmax(shares[:, column]))
        first = int(signals.steps[known[many[known]][0]])
        scale = _scale_at(signals, column)
        message = f"Gradients underflow in float16: {number(100 * share)} % of that of "
        message += f"{signals.sites[worst[0]].title} is in its very last numbers"
        evidence = [
            Evidence("share of the squared gradient norm below 2^-22", share, "", self.lost.value, "0"),
            Evidence("loss scale", scale),
        ]
        why = f"float16 has no full digits below 6e-5 and nothing below 6e-8; the loss scale is {number(scale)}"
        layers = [_layer(signals, i) for i in worst]
        found = self._finding(signals, layers, first, message, evidence, why)
        nothing = signals.parameters and signals.exactly_zero("gradient")[signals.parameters][:, column].all()
        return replace(found, severity="error") if nothing else found

    def _below(self, signals: Signals, site: int) -> NDArray[np.float64]:
        """The share of the squared gradient norm in numbers below the smallest normal, `[steps]`; NaN: not known.

        All of it where every entry is 0 while the gradient at the output is not, or is held in float16 unscaled too.
        """
        quantity = "gradient" if signals.sites[site].role == "parameter" else "activation_gradient"
        histogram = _histogram(signals, site, quantity)
        weight = histogram * _SQUARES
        total = weight.sum(axis=1)
        below = weight[:, : _bin(_LAST_DIGITS)].sum(axis=1)
        unscaled = np.array([_scale_at(signals, column) < self.usual_scale.value for column in range(len(total))])
        half = any(signals.sites[head].dtype == "float16" for head in signals.run.info.heads)
        zero = signals.exactly_zero(quantity)[site] & ((signals.head_norm > 0) | (unscaled & half))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(total > 0, below / total, np.where(zero, 1.0, np.nan))
        found: NDArray[np.float64] = share
        return found

    def _swallowed(self, signals: Signals) -> Finding | None:
        """Weights in half precision that steps leave as they were."""
        held = [i for i in signals.parameters if signals.sites[i].dtype in _HALF and signals.sites[i].trainable]
        held = [i for i in held if len(signals.sites[i].shape) > 1 and signals.sites[i].optimized]
        usable = np.isin(signals.steps, _full_speed(signals)) & ~signals.skipped
        if not held or usable.sum() < self.needs_steps:
            return None
        moved = signals.share("update", "zeros")[held][:, usable]
        gradient = signals.share("gradient", "zeros")[held][:, usable]
        moved = np.where(gradient < 1 - self.many.value, moved, np.nan)  # most of it has a gradient
        known = [row for row in range(len(held)) if np.isfinite(moved[row]).sum() >= self.needs_steps]
        median = {held[row]: float(np.nanmedian(moved[row])) for row in known}
        sick = sorted((i for i in median if median[i] > self.still.value), key=lambda i: -median[i])
        if not sick or len(sick) < self.many.value * len(median):
            return None
        worst, dtype = signals.sites[sick[0]], signals.sites[sick[0]].dtype
        share = median[sick[0]]
        message = f"Updates are lost to rounding: a step leaves {number(100 * share)} % of {worst.path} as it was"
        evidence = [
            Evidence(f"share of {worst.path} that a step does not move", share, "", self.still.value, "below 0.6")
        ]
        digits = {"bfloat16": "1/512", "float16": "1/4,096"}[dtype]
        why = f"{dtype} weights take no update below {digits} of their size, and these are smaller"
        layers = [signals.sites[i].module for i in sick]
        return self._finding(signals, layers, int(signals.steps[usable][0]), message, evidence, why)

    def _overflow(self, signals: Signals) -> Finding | None:
        """Activations near float16's largest number."""
        layers = [i for i in signals.layers if signals.sites[i].dtype == "float16"]
        columns = range(max(len(signals.steps) - 3, 0), len(signals.steps))
        sizes = {i: min(magnitude(signals, "activation", i, column) for column in columns) for i in layers}
        near = sorted((i for i in layers if sizes[i] > self.overflow.value), key=lambda i: -sizes[i])
        if not near:
            return None
        worst, size = signals.sites[near[0]], sizes[near[0]]
        first = next(
            int(step)
            for column, step in enumerate(signals.steps)
            if magnitude(signals, "activation", near[0], column) > self.overflow.value
        )
        message = f"Activations come near float16's largest number: {worst.title} reaches {number(size)} of 65,504"
        evidence = [Evidence(f"largest |activation| at {worst.name}", size, "", self.overflow.value)]
        why = f"float16 ends at {number(LARGEST['float16'])}; one more doubling or two and it is infinite"
        return self._finding(signals, [signals.sites[i].path for i in near], first, message, evidence, why)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        net = {"a": 1.0, "b": 1.0}
        small, fine = _spread(-24), _spread(-8)
        gone = {(path, "activation_gradient"): {"histogram": small} for path in net}
        still = {(f"{path}.weight", "update"): {"zeros": 990.0} for path in net}
        return (
            Case("float16 gradients underflow", _held("float16", run(net, extra=gone), "output"), ("a", "b")),
            Case(
                "float16 gradients that a loss scale keeps",
                _held(
                    "float16",
                    run(net, extra={name: {"histogram": fine} for name in gone}, columns={"scale": 65536.0}),
                    "output",
                ),
            ),
            Case("the same numbers in float32", run(net, extra=gone)),
            Case("bfloat16 updates are lost", _held("bfloat16", run(net, extra=still), "parameter"), ("a", "b")),
            Case("bfloat16 updates arrive", _held("bfloat16", run(net), "parameter")),
            Case(
                "float16 activations near the end",
                _held("float16", run(net, activation={"b": 4e4}), "output"),
                ("b",),
            ),
            Case("a loss scale that comes back", run(net, columns={"scale": [65536.0, 0.5, *[1024.0] * 6]})),
        )


_POWERS = np.concatenate([[EXPONENT_EDGES[0] - 1], EXPONENT_EDGES]).astype(np.float64)
_SQUARES = 2.0 ** (2 * np.clip(_POWERS, -500, 120) + 1)  # what an entry of each bin adds to a squared norm, about


def _bin(power: int) -> int:
    """The first bin of numbers of at least 2 to this power."""
    return int(np.searchsorted(EXPONENT_EDGES, power)) + 1


def _histogram(signals: Signals, site: int, quantity: str) -> NDArray[np.float64]:
    """The histograms of one site, shape `[recorded steps, bins]`; zeros where none was taken."""
    rows = signals.run.summaries
    rows = rows[(rows["site"] == site) & (rows["quantity"] == QUANTITIES.index(quantity))]
    table = np.zeros((len(signals.steps), HISTOGRAM_BINS))
    table[np.searchsorted(signals.steps, rows["step"])] = rows["histogram"]
    return table


def _full_speed(signals: Signals) -> NDArray[np.int64]:
    """The steps whose learning rate is at least half of the run's highest."""
    rates = signals.run.learning_rates[:, 0] if signals.run.learning_rates.size else np.zeros(0)
    steps: NDArray[np.int64] = signals.run.steps["step"]
    if len(rates) != len(steps) or not np.isfinite(rates).any():
        return steps[:0]
    return steps[np.nan_to_num(rates) >= 0.5 * np.nanmax(rates)] if np.nanmax(rates) > 0 else steps[:0]


def _scale_at(signals: Signals, column: int) -> float:
    found = signals.run.steps["scale"][signals.run.steps["step"] == signals.steps[column]]
    return float(found[0]) if len(found) else 1.0


def _layer(signals: Signals, site: int) -> str:
    found = signals.sites[site]
    return found.module if found.role == "parameter" else found.path


def _spread(power: int) -> list[float]:
    """A histogram of 1,000 numbers around a power of 2."""
    bins = np.zeros(HISTOGRAM_BINS)
    bins[_bin(power) - 1 : _bin(power) + 1] = 500.0
    return bins.tolist()


def _held(dtype: str, given: Run, role: str) -> Run:
    """The run with its outputs or parameters in another number format."""
    sites = tuple(replace(site, dtype=dtype) if site.role == role else site for site in given.info.sites)
    return replace(given, info=replace(given.info, sites=sites))
