"""Inputs or targets whose scale the network cannot work with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gradscope.numerals import number
from gradscope.records import EXPONENT_EDGES, QUANTITIES, Cause, Evidence, Finding, LossPath, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.output import asked
from gradscope.signals.progress import Progress, progress

_DISTANCES = ("squared-error", "root-squared-error", "absolute-error", "huber")


class _Reason(NamedTuple):
    size: float  # in decades beyond what is usual
    cause: str
    what: str  # in the finding's sentence
    why: str
    evidence: Evidence


class UnscaledData(Rule):
    """Flags inputs and targets that are far from unit scale, where the training suffers from it.

    Why it hurts: the gradient of the first weights is proportional to the inputs, and the curvature to their square:
    pixels from 0 to 255 make the largest learning rate that is stable 65,025 times smaller (THEORY T19). A feature
    that is a thousand times larger than the others owns the first layer. Inputs of 1e-4 move nothing. Targets far from
    0 keep the output's bias busy for thousands of steps before anything else is learned.

    When it is harmless: normalisation right behind the first layer takes the scale out; so does a training that gets
    along with it. Data of any size that are learned from raise nothing. Indices, one-hot rows, counts and spectrograms
    of moderate size are no reason either.

    How it is measured: range, mean and deviation of what the model is fed and of the targets, each feature's spread and
    its share in the gradient of the first weights; and the harm: after some tens of steps the loss is still worse
    than, or after more of them no better than, the best constant guess, or it is no number any more.

    What to do: subtract the training data's mean and divide by their standard deviation, feature by feature; targets
    too.
    """

    id = "unscaled-data"
    summary = "Inputs or targets are far from unit scale, and training suffers from it."
    needs_steps = 3
    large = Threshold(
        20,
        "rms of the inputs",
        "calibrated: standardised data 1, digits from 0 to 16 reach 7.8 and train; pixels from 0 to 255 reach 80 to 130",
    )
    small = Threshold(
        0.01,
        "rms of the inputs",
        "calibrated: scikit-learn's diabetes 0.048 trains; pixels divided by 255 twice reach 2e-3 and less",
    )
    offset = Threshold(
        20, "|mean| over deviation of the inputs", "calibrated: pixels in [0, 1] 0.5 to 2; years 100 and more"
    )
    spread = Threshold(
        100,
        "largest deviation of a feature over the median one's",
        "calibrated: digits in [0, 1] stay below 10, wine and breast cancer unscaled reach 200 and more",
    )
    owned = Threshold(
        0.9, "share of one feature in the first weights' squared gradient", "calibrated: digits, iris scaled below 0.5"
    )
    target = Threshold(
        10,
        "rms of the targets over that of outputs and features at the start",
        "calibrated: standardised targets give 0.5 to 3, diabetes unscaled gives 150 and more",
    )
    patience = Threshold(100, "steps", "calibrated: diabetes with targets of 152 leaves the start under Adam within 80")
    lasting = Threshold(200, "steps", "twice the patience: from then on a slow descent is no excuse")
    sources = (
        "LeCun et al. 1998, Efficient backprop, 4.3: normalizing the inputs",
        "Bishop 1995, Neural networks for pattern recognition, 8.2: input normalisation",
        "torch.nn.init: torch's default initialization expects inputs of unit scale",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Looks for harm first, then for what in the data may do it."""
        went = progress(signals)
        harm = None if went is None else self._harm(went)
        if went is None or harm is None:
            return
        reasons = [*self._inputs(signals), *self._targets(signals, went)]
        if not reasons:
            return
        reasons.sort(key=lambda reason: -reason.size)
        severity, said = harm
        best: dict[str, Cause] = {}
        for reason in reasons:
            confidence = round(min(0.95, 0.6 + 0.1 * reason.size) - 0.15 * (reason is not reasons[0]), 2)
            best.setdefault(reason.cause, Cause(reason.cause, confidence, reason.why))
        first = reasons[0]
        steps = signals.steps
        evidence = [reason.evidence for reason in reasons]
        if went.trivial > 0:
            evidence.append(Evidence("loss over the best constant guess's", went.against_trivial, "", 1.0, "below 1"))
        yield Finding(
            self.id,
            severity,
            (self._layer(signals, first.cause),),
            int(steps[0]),
            int(steps[-1]),
            f"{first.what}, and {said}",
            tuple(evidence),
            tuple(sorted(best.values(), key=lambda cause: -cause.confidence)),
        )

    def _harm(self, went: Progress) -> tuple[Severity, str] | None:
        """How the training suffers; None when it does not."""
        if went.blown_up:
            return "error", "the loss stopped being a number"
        lasting = went.count >= self.lasting.value
        if went.count < self.patience.value or (went.fallen > 0.1 and went.still_falling() and not lasting):
            return None
        if went.trivial > 0:
            share = went.against_trivial
            slack = went.error / went.trivial
            if share > 1.5:
                return (
                    "error" if lasting else "warning"
                ), f"the loss is {number(share)} times that of a constant guess"
            if share > 0.97 + slack:
                return ("error" if lasting else "warning"), "the loss is no better than that of a constant guess"
            return None
        if lasting and went.start > 0 and went.now > 0.97 * went.start:
            return "warning", "the loss does not fall"
        return None

    def _inputs(self, signals: Signals) -> Iterator[_Reason]:
        """What is odd about the inputs."""
        fed = asked(signals, "input")
        if fed is None or fed.rms == 0 or self._is_normalised(signals):
            return
        said = f"inputs between {number(fed.lowest)} and {number(fed.highest)}, rms {number(fed.rms)}"
        if fed.rms > self.large.value or fed.rms < self.small.value:
            limit = self.large.value if fed.rms > 1 else self.small.value
            decades = abs(math.log10(fed.rms / limit)) + 1
            evidence = Evidence("rms of the inputs", fed.rms, "", limit, "about 1")
            size = "large" if fed.rms > 1 else "small"
            yield _Reason(
                decades, "unscaled-input", f"The inputs are too {size}, rms {number(fed.rms)}", said, evidence
            )
        elif fed.deviation > 0 and abs(fed.mean) > self.offset.value * fed.deviation:
            times = abs(fed.mean) / fed.deviation
            evidence = Evidence("|mean| over deviation of the inputs", times, "", self.offset.value, "below 2")
            what = f"The inputs vary by {number(fed.deviation)} around {number(fed.mean)}"
            yield _Reason(math.log10(times), "unscaled-input", what, said, evidence)
        spread, owned = self._spread(signals)
        if spread > self.spread.value and owned > self.owned.value:
            why = f"{said}; one feature brings {number(owned)} of the first weights' squared gradient"
            evidence = Evidence("largest feature over the median one", spread, "", self.spread.value, "below 10")
            what = f"One feature is {number(spread)} times larger than most"
            yield _Reason(math.log10(spread), "unscaled-input", what, why, evidence)

    def _spread(self, signals: Signals) -> tuple[float, float]:
        """How much larger the largest feature's deviation is than the median one's, and its share of the gradient."""
        deviation, gradient = (
            signals.values("feature_deviation", "maximum"),
            signals.values("feature_gradient", "maximum"),
        )
        site = signals.fed
        rows = np.flatnonzero(np.isfinite(gradient).any(axis=1)) if gradient.size else np.array([], int)
        if site is None or not np.isfinite(deviation[site]).any() or not len(rows):
            return 0.0, 0.0
        columns = np.flatnonzero(np.isfinite(deviation[site]))
        largest = float(np.median(deviation[site, columns]))
        histogram = self._histogram(signals, site)
        middle = _median_size(histogram)
        row = int(rows[0])
        squares, count = (
            signals.values("feature_gradient", "sum_squares")[row],
            signals.values("feature_gradient", "count")[row],
        )
        known = np.isfinite(squares) & (squares > 0) & (count >= 4) & np.isfinite(gradient[row])
        if not known.any() or middle <= 0 or not math.isfinite(largest):
            return 0.0, 0.0
        return largest / middle, float(np.median(gradient[row][known] ** 2 / squares[known]))

    def _histogram(self, signals: Signals, site: int) -> np.ndarray:
        rows = signals.run.summaries
        from_records = rows[(rows["site"] == site) & (rows["quantity"] == _DEVIATION)]
        total: np.ndarray = from_records["histogram"].sum(axis=0)
        return total

    def _targets(self, signals: Signals, went: Progress) -> Iterator[_Reason]:
        """What is odd about the targets of a distance."""
        path = signals.run.info.loss_path
        target = asked(signals)
        if path is None or path.kind not in _DISTANCES or target is None or not signals.run.info.heads:
            return
        size = _output_size(signals)
        if any(name.startswith("AddBackward") for name in path.operations):
            return  # one term of several, as a critic's beside its actor's: the sum need not fall
        if not size > 0 or target.rms <= self.target.value * size:
            return
        times = target.rms / size
        why = (
            f"the targets lie between {number(target.lowest)} and {number(target.highest)} around {number(target.mean)}; "
            f"outputs and the features that they are made of have size {number(size)} at the start"
        )
        what = f"The targets are {number(times)} times larger than what the network puts out"
        evidence = Evidence("rms of the targets over the outputs'", times, "", self.target.value, "0.5 … 3")
        yield _Reason(math.log10(times), "unscaled-target", what, why, evidence)

    def _is_normalised(self, signals: Signals) -> bool:
        """Whether one of the first two modules takes the scale out."""
        return any(signals.sites[i].mechanism == "normalisation" for i in signals.layers[:2])

    def _layer(self, signals: Signals, cause: str) -> str:
        """Where it is felt first: the first layer with weights, or the head."""
        if cause == "unscaled-target":
            return signals.sites[signals.run.info.heads[0]].path
        weights = [i for i in signals.layers if signals.parameters_of(i)]
        return signals.sites[weights[0]].path if weights else ""

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        pixels = {"rms": 120.0, "sum": 8e4, "minimum": 0.0, "maximum": 255.0}
        tiny = {"rms": 1e-4, "sum": 0.05, "minimum": 0.0, "maximum": 4e-4}
        usual = {"rms": 1.0, "sum": 0.0, "minimum": -3.0, "maximum": 3.0}
        far = {"rms": 170.0, "sum": 1.5e5, "minimum": 25.0, "maximum": 346.0}
        falling = np.linspace(2.3, 0.1, 120).tolist()
        return (
            Case("pixels from 0 to 255, and nothing is learned", _by_hand(pixels, usual, 2.31, 2.3), ("a",)),
            Case("pixels from 0 to 255 that are learned from", _by_hand(pixels, usual, falling, 2.3)),
            Case("divided twice, and nothing is learned", _by_hand(tiny, usual, 2.3, 2.3), ("a",)),
            Case("inputs of unit size, and nothing is learned", _by_hand(usual, usual, 2.3, 2.3)),
            Case("targets far from zero", _by_hand(usual, far, 2.7e4, 6e3), ("b",)),
            Case("targets far from zero that are reached", _by_hand(usual, far, 3e3, 6e3)),
            Case("few steps yet", _by_hand(pixels, usual, 2.31, 2.3, steps=60)),
        )


_DEVIATION = QUANTITIES.index("feature_deviation")


def _median_size(histogram: np.ndarray) -> float:
    """The median magnitude of what a histogram of log2 magnitudes counts, to a factor of 2; 0 of nothing."""
    if not histogram.sum():
        return 0.0
    place = int(np.searchsorted(histogram.cumsum(), histogram.sum() / 2))
    return float(2.0 ** EXPONENT_EDGES[min(max(place - 1, 0), len(EXPONENT_EDGES) - 1)])


def _output_size(signals: Signals) -> float:
    """The size of the outputs at the start, or of the features that the head makes them from if larger."""
    head = signals.run.info.heads[0]
    before = [i for i in signals.layers if signals.sites[i].order < signals.sites[head].order]
    size = signals.rms("activation")[[head, *before[-1:]]][:, :1]
    finite = size[np.isfinite(size)]
    return float(finite.max()) if len(finite) else 0.0


def _by_hand(
    fed: dict[str, float], target: dict[str, float], loss: float | list[float], trivial: float, steps: int = 120
) -> Run:
    """A run of two layers that are fed `fed` and asked for `target`."""
    return run(
        {"a": 1.0, "b": 1.0},
        loss=loss,
        extra={("(fed)", "activation"): dict(fed), ("(target)", "activation"): dict(target)},
        info={"loss_path": LossPath(("MseLossBackward0",), kind="squared-error", output_shape=(100, 10))},
        columns={"trivial_loss": trivial},
        steps=steps,
    )
