"""Steps so short that the weights hardly leave their place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, OptimizerInfo, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.adam import below_eps
from gradscope.signals.curvature import Curvature
from gradscope.signals.descent import Descent, descent
from gradscope.signals.step_size import StepSize

_ALIGNED = (
    0.25  # median cosine of consecutive gradients: fresh nets have 0.3 (batches of 4) to 1, trained ones 0.2 or less
)
_FIRST_STEPS = 100  # before so many a training has not had the time to show anything
_LATER = 400  # from so many on, steps that are short without being tiny are judged too


class LearningRateTooLow(Rule):
    """Flags a training whose weights hardly move while its loss is still high.

    Why it hurts: the loss goes down a straight line that is far from its end, or does not go down at all; a rate ten or a
    hundred times larger would be at the end of that line by now.

    When it is harmless: warm-up and the end of a schedule take tiny steps on purpose, so that every step is judged at the
    run's highest rate. A network that has learned what there is moves little, and its loss is low or does not fall any
    more; pretrained weights need to move little, and their loss begins low.

    How it is measured: the median over weights of rms(Δw)/rms(w), at the run's highest learning rate, times the number of
    steps: the farthest that the weights can have gone, in units of their size. It counts when the loss is still high and
    gradients reach all layers. For Adam the share of entries whose √v is below eps is measured too: there the update is
    the learning rate times the gradient over eps, and shrinks with the gradient as that of SGD does.

    What to do: raise the learning rate, to where a step moves the weights by about a thousandth of their size; give Adam
    an eps below its √v; swap SGD for Adam where gradients are small by the nature of the loss.
    """

    id = "learning-rate-too-low"
    summary = "Steps are so short that the weights hardly move while the loss is high."
    needs_steps = 2
    distance = Threshold(
        0.25,
        "update ratio times steps: how far the weights can have gone, in units of their size",
        "calibrated: nine in ten of 64 runs that were too slow reach 0.15, healthy ones whose loss is as high 3.4 and more",
    )
    ratio = Threshold(
        1.5e-4,
        "median over weights of rms(Δw)/rms(w) at the highest learning rate, from step 100 on",
        "calibrated: rates a hundred times too low stay below 7e-5, 153 healthy runs have 5e-4 and more",
    )
    short = Threshold(
        4e-4,
        "the same, from step 400 on, from step 200 on where nearly all of the loss is left",
        "calibrated: rates thirty times too low have 2.3e-4 to 3.1e-4; then the distance decides",
    )
    still = Threshold(1e-5, "the same, below which no step can raise the loss", "Adam held by its eps: 3e-8")
    level = Threshold(
        0.4,
        "loss now over that at the start, or of the best constant output if that is lower, a share",
        "calibrated: half of 64 runs that were too slow still have 1.03, nine in ten of 153 healthy ones 0.45 or less",
    )
    eps = Threshold(
        0.5, "share of entries whose √v is below eps", "half of Adam's entries are no longer rescaled: it works as SGD"
    )
    sources = (
        "Bengio 2012, Practical recommendations for gradient-based training (arXiv:1206.5533), section 3.1",
        "Kingma & Ba 2015, Adam (arXiv:1412.6980), section 2: eps beside √v",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds weights that have hardly moved under a loss that is still high."""
        course, sizes = descent(signals), StepSize(signals)
        if course is None or course.count < _FIRST_STEPS or course.broke >= 0 or sizes.warming_up():
            return
        ratio = self._ratio(signals, sizes)
        if ratio is None or not course.level > self.level.value or _began_low(signals, course):
            return
        if course.rise > 0.08 and ratio > self.still.value:  # it goes up and down for another reason
            return
        steps = len(signals.run.steps)
        distance = ratio * steps
        late = course.count >= _LATER or (course.count >= _LATER / 2 and course.level > 2 * self.level.value)
        most = self.short.value if late else self.ratio.value
        if ratio >= most or distance >= self.distance.value:
            return
        column = len(signals.steps) - 1
        layers = [signals.sites[weight].module for weight in sizes.by_ratio(column, largest_first=False)]
        share = below_eps(signals)
        share = share[np.isfinite(share)]
        by_eps = float(share[-1]) if len(share) and share[-1] > self.eps.value else math.nan
        fell = "has not fallen" if course.fallen <= 0 else f"has fallen by {number(course.fallen)} of its start"
        evidence = [
            Evidence("update ratio, median over weights", ratio, "a step", most, "about 1e-3"),
            Evidence(
                "farthest that the weights can have gone", distance, "of their size", self.distance.value, "over 1"
            ),
            Evidence("loss now over the start's", course.level, "", self.level.value),
        ]
        if not math.isnan(by_eps):
            evidence.append(Evidence("share of entries whose √v is below eps", by_eps, "", self.eps.value, "0"))
        evidence += _alignment(signals)
        severity: Severity = "error" if distance < 0.1 * self.distance.value else "warning"
        yield Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(layers)),
            int(signals.steps[0]),
            int(signals.run.steps["step"][-1]),
            f"The steps are too short: in {steps:,} of them the weights have gone {number(distance)} of their size at most, "
            f"and the loss {fell}",
            tuple(evidence),
            tuple(self._causes(signals, sizes, ratio, by_eps)),
        )

    def _ratio(self, signals: Signals, sizes: StepSize) -> float | None:
        """The typical update ratio at the highest rate; None when it is unknown, or small for another reason."""
        if not len(sizes.weights):
            return None
        known = sizes.at_highest_rate[np.isfinite(sizes.at_highest_rate) & ~signals.skipped]
        if not len(known):
            return None
        ratio = float(np.max(known))
        if ratio == 0 and sizes.highest_rate != 0:  # no optimizer, or one that holds other weights
            return None
        gradient = signals.rms("gradient")[sizes.weights]
        reached = np.nan_to_num(gradient[:, -1]) > 0
        if reached.mean() < 0.5:  # dead: a larger rate is as good as none
            return None
        gain = signals.unpooled_gain[signals.layers]
        gain = gain[np.isfinite(gain).any(axis=1)]
        vanishing = np.nanmedian(gain, axis=1) < 1e-3 if len(gain) else np.zeros(0)
        return None if vanishing.any() else ratio

    def _causes(self, signals: Signals, sizes: StepSize, ratio: float, by_eps: float) -> list[Cause]:
        optimizers = signals.run.info.optimizers
        optimizer = optimizers[0] if optimizers else OptimizerInfo("the optimizer")
        rate = "its rate" if math.isnan(sizes.highest_rate) else f"a learning rate of {number(sizes.highest_rate)}"
        why = f"{optimizer.kind} with {rate} moves the weights by {number(ratio)} of their size a step"
        if not math.isnan(by_eps):
            eps = number(optimizer.options.get("eps", 1e-8))
            why = f"eps {eps} is larger than √v in {number(100 * by_eps)} % of the entries: {why}, as the gradient does"
        return [Cause("learning-rate-too-low", 0.9, why)]

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.2, "b": 1.0}
        small = {"a.weight": 2e-5, "b.weight": 1e-5}
        line = [float(3 - 0.002 * step) for step in range(200)]
        still = {"a.weight": 0.0, "b.weight": 0.0}
        known = {"trivial_loss": 2.3}
        rising = [1e-5 * (step + 1) for step in range(200)]
        return (
            Case(
                "a straight line, far from its end",
                run(chain, update=small, loss=line, columns=known, steps=200),
                ("a", "b"),
            ),
            Case("nothing moves", run(chain, update=small, loss=2.3, columns=known, steps=200), ("a", "b")),
            Case("too early to say", run(chain, update=small, loss=2.3, columns=known, steps=50)),
            Case(
                "converged",
                run(chain, update=small, loss=[3 * 0.9 ** min(step, 60) for step in range(200)], steps=200),
            ),
            Case(
                "the loss began where nobody knows a constant's to lie", run(chain, update=small, loss=2.3, steps=200)
            ),
            Case(
                "pretrained: the loss begins low",
                run(chain, update=small, loss=0.2, columns={"trivial_loss": 2.3}, steps=200),
            ),
            Case(
                "weights move at their usual pace",
                run(chain, update={"a.weight": 2e-3}, loss=line, columns=known, steps=200),
            ),
            Case(
                "no step at all belongs to untrained-parameter",
                run(chain, update=still, loss=2.3, columns=known, steps=200),
            ),
            Case(
                "vanishing gradients have a rule of their own",
                run({"a": 1e-7, "b": 1.0}, update=small, loss=line, columns=known, steps=200),
            ),
            Case("warm-up", warm_up(run(chain, update=small, loss=2.3, columns=known, steps=200), rising)),
        )


def warm_up(training: Run, rates: list[float]) -> Run:
    """The same run with other learning rates."""
    return replace(training, learning_rates=np.array(rates)[:, None])


def _began_low(signals: Signals, course: Descent) -> bool:
    """Whether weights were trained before: the loss began far below that of the best constant output.

    Where that is not known, gradients tell: of weights that are done only the batches' noise is left.
    """
    trivial = signals.run.steps["trivial_loss"]
    known = trivial[np.isfinite(trivial)]
    if len(known) and known[-1] > 0:
        return course.start < 0.5 * float(known[-1])
    cosine = Curvature(signals).alignment
    cosine = cosine[np.isfinite(cosine)]
    return not len(cosine) or float(np.median(cosine)) < _ALIGNED


def _alignment(signals: Signals) -> list[Evidence]:
    """How alike the gradients of steps that follow one another are: the same slope, met again and again."""
    cosine = Curvature(signals).alignment
    known = cosine[np.isfinite(cosine)]
    return [Evidence("cosine between gradients of consecutive steps", float(np.median(known)))] if len(known) else []
