"""Steps so long that the loss leaps, or never settles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.curvature import Curvature
from gradscope.signals.descent import Descent, descent
from gradscope.signals.loss import squared_error
from gradscope.signals.step_size import StepSize
from gradscope.signals.units import fed_size


class _Sign(NamedTuple):
    """What shows that the steps are too long: in words, since when, and what it is measured by."""

    words: str
    step: int
    evidence: Evidence


class LearningRateTooHigh(Rule):
    """Flags steps that are too long for the loss: it leaps at the start, or keeps losing what it gained.

    Why it hurts: past the critical rate 2/λ of the curvature λ a step lands higher on the other side of the valley than
    it started. The loss leaps, units are thrown to where nothing brings them back, or the weights bounce between walls.

    When it is harmless: full-batch descent hovers at the critical rate while its loss falls; a leap that is made good,
    large steps of a quasi-Newton method, and a loss that moves because its goal moves (GANs, reinforcement learning) with
    steps of ordinary size are no sickness.

    How it is measured: two things together. Steps are large: the median over weights of rms(Δw)/rms(w) of a recorded
    step, or the learning rate beside the critical one, from the change of the gradient across a step. And the loss
    answers badly: it leapt in the first 30 steps and stays high; or a window of the run lies above an earlier one by more
    than its noise; or nothing was learned beyond a constant. A learning rate alone is never judged.

    What to do: lower the learning rate to below the critical one, warm it up, clip gradients; with batches of a few
    samples, use larger ones.
    """

    id = "learning-rate-too-high"
    summary = "Steps are so long that the loss leaps or never settles."
    needs_steps = 2
    step = Threshold(
        0.04,
        "median over weights of rms(Δw)/rms(w), at any recorded step after the first",
        "calibrated: every rate that kept the loss up reached 0.055 or more, nine in ten of 153 healthy runs stay below "
        "0.041; models of one layer and BatchNorm reach more, so that it counts only with a loss that suffers",
    )
    leap = Threshold(
        2.5,
        "highest loss of the first 30 steps over the loss at the start, a factor",
        "calibrated: 153 healthy runs, batches of one included, reach 1.7; Adam 0.1 and SGD above 2/λ mostly 3 to 1e28",
    )
    early = Threshold(
        10, "the same leap, as long as no more than 50 losses are known", "what is made good is not known yet"
    )
    level = Threshold(
        0.15,
        "loss now over that at the start (or of the best constant output), a share",
        "calibrated: 0.13 is left at most of leaps that were made good (0.5 on data that overlap), else 0.17 and more",
    )
    rise = Threshold(
        0.08,
        "how far the loss rose again, beyond 4 standard errors, over that at the start, a share",
        "calibrated: 153 healthy runs stay below 0.002, unstable ones reach 0.11 to 4",
    )
    kept = Threshold(
        0.3, "share of such a rise that has not been made good", "a third; a rise that is gone did no harm"
    )
    stuck = Threshold(
        0.97,
        "loss now over that of the best constant output, a share",
        "a network that has learned anything at all lies below; with large steps from the start it was thrown there",
    )
    throw = Threshold(
        0.1,
        "the same update ratio, at two recorded steps after the first",
        "more than twice the threshold for one step",
    )
    little = Threshold(0.4, "loss now over that at the start (or of the best constant output), a share", "two fifths")
    still = Threshold(
        1e-5, "the same update ratio, below which no curvature makes a step long", "Adam held by its eps: 3e-8"
    )
    load = Threshold(1.0, "learning rate over the critical one", "THEORY T20: a quadratic diverges beyond 1, exactly")
    sources = (
        "LeCun et al. 1998, Efficient backprop, section 5: the critical rate 2/λ",
        "Cohen et al. 2021, Gradient descent typically occurs at the edge of stability (arXiv:2103.00065)",
        "Cohen et al. 2022, Adaptive gradient methods at the edge of stability (arXiv:2207.14484): 38/η for Adam",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds large steps and a loss that suffers from them."""
        course = descent(signals)
        kinds = {optimizer.kind for optimizer in signals.run.info.optimizers}
        if course is None or "LBFGS" in kinds or _has_another_reason(signals):
            return
        sizes, curvature = StepSize(signals), Curvature(signals)
        sign = self._sign(course, self._column(signals, sizes, curvature), signals)
        column = self._column(signals, sizes, curvature)
        if sign is None or column is None:
            return
        ratio = float(sizes.typical[column])
        evidence = [sign.evidence, Evidence("loss now over the start's", course.level, "", self.level.value)]
        if math.isfinite(ratio):
            where = f"update ratio, median over weights, step {signals.steps[column]:,}"
            evidence.append(Evidence(where, ratio, "", self.step.value, "below 0.04"))
        evidence += self._critical(signals, curvature, sizes)
        lost = course.broke >= 0 or course.level > 0.9
        severity: Severity = "error" if lost else "warning"
        first = min(int(signals.steps[column]), sign.step)
        layers = [signals.sites[weight].module for weight in sizes.by_ratio(column)]
        moved = f"; a step moved the weights by {number(ratio)} times their size" if math.isfinite(ratio) else ""
        yield Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(layers)),
            first,
            int(signals.run.steps["step"][-1]),
            f"The steps are too long: {sign.words}{moved}",
            tuple(evidence),
            tuple(self._causes(signals, sizes, sign, ratio)),
        )

    def _column(self, signals: Signals, sizes: StepSize, curvature: Curvature) -> int | None:
        """The first recorded step, after the first one, whose step was large; None when none was."""
        with np.errstate(invalid="ignore"):
            unstable = (curvature.load > self.load.value) & (sizes.typical > self.still.value)
            large = (sizes.typical > self.step.value) | unstable
        large[signals.steps == signals.steps[0]] = False
        found = np.flatnonzero(large)
        return int(found[0]) if len(found) else None

    def _sign(self, course: Descent, column: int | None, signals: Signals) -> _Sign | None:
        """How the loss suffers, the surest sign first."""
        high = course.level > self.level.value or course.broke >= 0
        leap = self.leap.value if course.count > 50 else self.early.value
        if course.leap > leap and high:
            words = f"the loss leapt to {number(course.leap)} times that of the start"
            return _Sign(
                words, course.leap_step, Evidence("leap of the loss", course.leap, "times", self.leap.value, "1")
            )
        kept = course.level - course.best > self.kept.value * course.rise and not _goal_moves(signals)
        if course.rise > self.rise.value and course.level > self.level.value and kept:
            words = f"the loss rose again by {number(course.rise)} of that of the start"
            return _Sign(words, course.rise_step, Evidence("rise of the loss", course.rise, "", self.rise.value, "0"))
        thrown = self._thrown(signals, course)
        if thrown is not None:
            return thrown
        trivial = signals.run.steps["trivial_loss"]
        known = trivial[np.isfinite(trivial)]
        if len(known) and known[-1] > 0 and course.count >= 100 and column is not None:
            now = course.level * course.reference / float(known[-1])
            if now > self.stuck.value:
                words = "the loss is no lower than that of the best constant output"
                evidence = Evidence("loss now over that of a constant output", now, "", self.stuck.value, "below 0.5")
                return _Sign(words, int(signals.steps[column]), evidence)
        return None

    def _thrown(self, signals: Signals, course: Descent) -> _Sign | None:
        """Steps that threw the weights away in the beginning, and a loss of which little is gone long after.

        From a single layer no place is too far to come back: long steps there are on their way to the only minimum.
        """
        steps = StepSize(signals)
        if len(steps.weights) < 2:
            return None
        sizes = steps.typical[1:]
        large = np.flatnonzero(np.isfinite(sizes) & (sizes > self.throw.value))
        if len(large) < 2 or course.count < 80 or not course.level > self.little.value:
            return None
        words = f"after {course.count:,} steps {number(course.level)} of the loss is left"
        evidence = Evidence("loss now over the start's", course.level, "", self.little.value, "below 0.3")
        return _Sign(words, int(signals.steps[large[0] + 1]), evidence)

    def _critical(self, signals: Signals, curvature: Curvature, sizes: StepSize) -> list[Evidence]:
        """The learning rate beside the critical one, where the curvature is beyond what noise alone shows."""
        with np.errstate(invalid="ignore"):
            beyond = np.flatnonzero((curvature.load > self.load.value) & np.isfinite(curvature.critical_rate))
        if not len(beyond):
            return []
        column = int(beyond[0])
        critical, load = float(curvature.critical_rate[column]), float(curvature.load[column])
        where = f", step {signals.steps[column]:,}"
        return [
            Evidence(f"learning rate over the critical one{where}", load, "", self.load.value, "below 1"),
            Evidence(f"critical learning rate{where}", critical),
            Evidence("learning rate", sizes.highest_rate),
        ]

    def _causes(self, signals: Signals, sizes: StepSize, sign: _Sign, ratio: float) -> list[Cause]:
        """The learning rate, or what made it too high: a loss that is summed, inputs that are large."""
        kind = signals.run.info.optimizers[0].kind if signals.run.info.optimizers else "the optimizer"
        rate = "" if math.isnan(sizes.highest_rate) else f" with a learning rate of {number(sizes.highest_rate)}"
        how = f"moved the weights by {number(ratio)} times their size a step" if math.isfinite(ratio) else "stepped"
        causes = [Cause("learning-rate-too-high", 0.85, f"{kind}{rate} {how}, and {sign.words}")]
        summed = _summed(signals)
        if summed:
            causes.insert(0, Cause("loss-reduction", 0.9, summed))
        size = float(fed_size(signals)[0])
        if size > 10:
            why = f"the inputs have an rms of {number(size)}; the critical rate falls with its square"
            causes.append(Cause("unscaled-input", 0.5 if size < 30 else 0.88, why))
        causes.append(Cause("no-clipping", 0.2, "nothing bounds the length of a step"))
        return sorted(causes, key=lambda cause: -cause.confidence)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.2, "b": 1.0}
        large = {"a.weight": 0.6, "b.weight": 0.3}
        falls = [float(3 * 0.98**step) for step in range(200)]
        return (
            Case("a leap that is not made good", run(chain, update=large, loss=[3, 40, 9, 4, 3, 3, 3, 3]), ("a", "b")),
            Case(
                "the loss rises again and again",
                run(chain, update=large, loss=[3 - 2 * (step % 40 < 20) for step in range(200)], steps=200),
                ("a", "b"),
            ),
            Case(
                "thrown to where nothing is learned",
                run(chain, update=large, loss=2.3, columns={"trivial_loss": 2.3}, steps=120),
                ("a", "b"),
            ),
            Case(
                "thrown away in the beginning, and most of the loss is left",
                run(
                    chain,
                    update={name: [0.6] * 5 + [0.001] * 115 for name in large},
                    loss=[3 - step / 100 for step in range(120)],
                    steps=120,
                ),
                ("a", "b"),
            ),
            Case(
                "the same of a single layer: its loss has one minimum, and noise above it",
                run(
                    {"a": 1.0},
                    update={"a.weight": [0.6] * 5 + [0.001] * 115},
                    loss=[3 - step / 100 for step in range(120)],
                    steps=120,
                ),
            ),
            Case("a leap that is made good", run(chain, update=large, loss=[3, 40, *falls[:198]], steps=200)),
            Case("large steps and a loss that falls", run(chain, update=large, loss=falls, steps=200)),
            Case(
                "small steps, and the goal moves", run(chain, loss=[0.7 + step / 50 for step in range(200)], steps=200)
            ),
            Case(
                "gradients that were never zeroed have a rule of their own",
                run(chain, update=large, loss=[3, 40, 9, 4, 3, 3, 3, 3], columns={"carried": 0.8}),
            ),
        )


def _has_another_reason(signals: Signals) -> bool:
    """Whether long steps follow from what other rules find: gradients kept or growing along the depth, distant targets."""
    carried = signals.run.steps["carried"][signals.run.steps["recorded"]]
    carried = carried[np.isfinite(carried)]
    if len(carried) and np.median(carried) > 0.1:
        return True
    gain = signals.backward_gain[signals.layers][:, :1]
    if np.isfinite(gain).any() and np.nanmax(np.where(np.isfinite(gain), gain, 0.0)) > 1e3:
        return True
    error = squared_error(signals)
    return error is not None and bool(error.ratio[0] > 100)


def _goal_moves(signals: Signals) -> bool:
    """Whether a step has more forward than backward passes, as one against an opponent has: its loss rises with that."""
    steps = signals.run.steps[signals.run.steps["recorded"]]
    return len(steps) > 0 and float(np.median(steps["forwards"])) > float(np.median(steps["backwards"]))


def _summed(signals: Signals) -> str:
    """Why the loss is a sum where a mean is meant, with its numbers; "" when it is not known to be one."""
    path = signals.run.info.loss_path
    if path is not None and path.reduction == "sum":
        return "the loss is the sum over the batch, so that the gradient and each step grow with its size"
    heads, steps = signals.run.info.heads, signals.run.steps
    passes = int(np.median(steps["backwards"][steps["recorded"]])) if steps["recorded"].any() else 0
    if len(heads) != 1 or passes < 4 or not np.isfinite(signals.head_norm[0]):
        return ""
    shape = signals.sites[heads[0]].shape
    count = float(signals.values("activation_gradient", "count")[heads[0], 0])
    samples = count / shape[-1] if len(shape) == 2 and shape[-1] else math.nan
    each = float(signals.head_norm[0]) * math.sqrt(samples)  # of a mean over all samples it is about 1 at the start
    if not each > 0.3 * passes:
        return ""
    return f"{passes} backward passes a step add up undivided: a sample's gradient counts {number(each)} times"
