"""Single steps whose gradient is far larger than the run's own, and that cost what was learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.adam import normalised_rms, options
from gradscope.signals.descent import descent
from gradscope.signals.units import fed_size

_BEFORE = 40  # steps that the level before a spike is the median of
_AFTER = 5  # steps that the loss must stay up: hard samples in batches of one come in threes
_LEAD = 8  # steps in which a stale second moment shows before the loss does
_RECOVERS = 40  # steps in which a spike that is no damage is made good


@dataclass(frozen=True)
class _Spike:
    step: int
    damage: float  # rise of the loss over that of the start
    times: float  # gradient norm over the run's own; NaN: not known
    stale: float  # rms(g/√v) of before the step; NaN: not known
    lead: int  # steps that it showed ahead of the loss
    recovered: bool


class GradientSpike(Rule):
    """Flags steps whose gradient leaps out of the run's own history and after which the loss is worse for a while.

    Why it hurts: one step undoes hundreds. Adam divides by a second moment that has forgotten how large gradients can be;
    when they come back the step is many times too long.

    When it is harmless: a leap of the norm alone, as small batches, reinforcement learning and GANs have many; a loss that
    is up for one batch; a single spike that is made good.

    How it is measured: five losses in a row lie above the median of the forty before by a tenth of the start's and by
    ten times their own spread, and the gradient norm near it is ten times the run's median so far, or the rms of g/√v with
    Adam's v of before the step is 2.3 or more. It counts when it comes again and again, or when forty steps later half of
    the rise, or of all that there was to learn, is still to be made good.

    What to do: clip the gradient norm to the run's own median, lower the learning rate or β2, warm up.
    """

    id = "gradient-spike"
    summary = "Gradients leap out of the run's own history and the loss with them."
    needs_steps = 3
    times = Threshold(
        10.0, "gradient norm over the run's median before it, a factor", "a decade above the run's own history"
    )
    stale = Threshold(
        2.3,
        "rms of g/√v with Adam's v of before the step",
        "Wortsman et al. 2023 (arXiv:2304.13013): 1 where gradients are stationary, 2.3 ahead of loss spikes",
    )
    damage = Threshold(
        0.1,
        "rise of the loss over that of the start, a share",
        "a tenth of what there was to learn; five steps in a row lay so high in none of 153 healthy runs",
    )
    often = Threshold(3, "spikes", "one or two that are made good are no sickness")
    fed = Threshold(
        5.0,
        "rms of the inputs near the spike over the run's median, a factor",
        "batches of standardised data differ by a few percent, images by a factor of 2",
    )
    sources = (
        "Wortsman et al. 2023, Stable and low-precision training (arXiv:2304.13013): RMS spikes come 1 to 8 steps ahead",
        "Takase et al. 2023, Spike no more (arXiv:2312.16903)",
        "Pascanu et al. 2013 (arXiv:1211.5063), section 3.2",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds spikes that come again or are not made good."""
        spikes = self._spikes(signals)
        lasting = bool(spikes) and not spikes[-1].recovered
        if not spikes or (len(spikes) < self.often.value and not lasting):
            return
        worst = max(spikes, key=lambda spike: spike.damage)
        severity: Severity = "warning"
        evidence = [
            Evidence("spikes", float(len(spikes)), "", self.often.value, "0"),
            Evidence(f"rise of the loss, step {worst.step:,}", worst.damage, "of the start", self.damage.value, "0"),
        ]
        if math.isfinite(worst.times):
            name = f"gradient norm over the run's median, step {worst.step:,}"
            evidence.append(Evidence(name, worst.times, "times", self.times.value, "below 10"))
        if math.isfinite(worst.stale):
            name = f"rms of g/√v, {worst.lead} steps before the loss rose"
            evidence.append(Evidence(name, worst.stale, "", self.stale.value, "about 1"))
        ahead = f"; rms(g/√v) was {number(worst.stale)} {worst.lead} steps ahead" if math.isfinite(worst.stale) else ""
        count = f"{len(spikes)} spikes" if len(spikes) > 1 else "a spike"
        end = "" if not lasting else f", and the last was not made good in {_RECOVERS} steps"
        yield Finding(
            self.id,
            severity,
            self._layers(signals, worst),
            spikes[0].step,
            spikes[-1].step,
            f"Gradients spike and the loss with them: {count}, up to {number(worst.damage)} of the loss at the start"
            f"{ahead}{end}",
            tuple(evidence),
            tuple(self._causes(signals, worst)),
        )

    def _spikes(self, signals: Signals) -> list[_Spike]:
        course = descent(signals)
        rows = signals.run.steps[signals.run.steps["has_loss"]]
        rows = rows[np.isfinite(rows["loss"])]
        if course is None or len(rows) < 2 * _BEFORE:
            return []
        losses, steps = rows["loss"].astype(np.float64), rows["step"]
        least = self.damage.value * course.reference
        places = _rising(losses, least)
        level, spread, rise = _rises(losses, places)
        rose = (rise > np.maximum(least, 10 * spread)) & (level < 0.9 * course.reference)
        found: list[_Spike] = []
        next_one = max(_BEFORE, len(losses) // 20)
        for position, usual in zip(places[rose].tolist(), level[rose].tolist(), strict=True):
            if position >= next_one:
                found += self._spike(signals, losses, steps, position, usual, course.reference)
                next_one = position + _RECOVERS
        return found

    def _spike(
        self,
        signals: Signals,
        losses: NDArray[np.float64],
        steps: NDArray[np.int64],
        position: int,
        level: float,
        reference: float,
    ) -> list[_Spike]:
        """The spike at a place where the loss rose, if gradients show it."""
        step = int(steps[position])
        times = _times_the_usual(signals, step)
        stale, lead = _staleness(signals, step)
        shown = times >= self.times.value or stale >= self.stale.value
        if not shown:
            return []
        damage = (float(np.max(losses[position : position + _AFTER])) - level) / reference
        later = losses[position + _AFTER : position + _RECOVERS]
        most = 0.5 * min(damage, 1.0) * reference  # half of the rise, or of all that there was to learn
        recovered = len(later) < _RECOVERS // 2 or float(np.median(later[-10:])) - level < most
        return [_Spike(step, damage, times, stale, lead, recovered)]

    def _layers(self, signals: Signals, spike: _Spike) -> tuple[str, ...]:
        """The modules of the parameters whose gradient leapt farthest beyond their own history."""
        norm = signals.norm("gradient")
        column = int(np.argmin(np.abs(signals.steps - spike.step)))
        past = norm[:, : max(column, 1)]
        leaps: dict[int, float] = {}
        for parameter in signals.parameters:
            known = past[parameter][np.isfinite(past[parameter])]
            usual = float(np.median(known)) if len(known) else 0.0
            if usual > 0 and np.isfinite(norm[parameter, column]):
                leaps[parameter] = float(norm[parameter, column]) / usual
        worst = sorted(leaps, key=lambda parameter: -leaps[parameter])
        return tuple(dict.fromkeys(signals.sites[parameter].module for parameter in worst))[:5] or ("",)

    def _causes(self, signals: Signals, worst: _Spike) -> list[Cause]:
        adam = options(signals)
        clipped = signals.clipped_share
        causes = []
        if not clipped > 0.001:
            size = (
                f"{number(worst.times)} times its usual norm"
                if math.isfinite(worst.times)
                else "its usual norm many times"
            )
            causes.append(Cause("no-clipping", 0.7, f"nothing bounds a step whose gradient is {size}"))
        why = "the step was longer than the loss bears where the gradient had grown"
        if adam is not None and worst.stale >= self.stale.value:
            why = (
                f"Adam's second moment (β2 = {number(adam['beta2'])}) had forgotten gradients of this size: rms(g/√v) was "
                f"{number(worst.stale)}"
            )
        causes.append(Cause("learning-rate-too-high", 0.5, why))
        larger = _fed_more(signals, worst.step)
        if larger >= self.fed.value:
            why = f"what the model was fed there is {number(larger)} times as large as usual"
            causes.append(Cause("unscaled-input", 0.65, why))
        return sorted(causes, key=lambda cause: -cause.confidence)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.2, "b": 1.0}
        quiet = [3.0 * 0.98**step + 0.2 for step in range(400)]
        places = (150, 220, 300)
        hurt = [loss + 2 * any(place <= step < place + 6 for place in places) for step, loss in enumerate(quiet)]
        once = [loss + 2 * (150 <= step < 156) for step, loss in enumerate(quiet)]
        slowly = [loss + 99 * 0.9 ** max(step - 150, 0) * (step >= 150) for step, loss in enumerate(quiet)]
        leaps = [50.0 if step in places else 1.0 for step in range(400)]
        late = [loss + 2 * (step >= 300) for step, loss in enumerate(quiet)]

        def of(loss: list[float], norm: list[float]) -> Run:
            columns = {"gradient_norm": norm, "clipped_gradient_norm": norm}
            gradient = {name: [1e-3 * value for value in norm] for name in ("a.weight", "b.weight")}
            return run(chain, loss=loss, gradient=gradient, columns=columns, steps=400)

        return (
            Case("spikes that cost what was learned, again and again", of(hurt, leaps), ("a", "b")),
            Case("a spike that is not made good", of(late, leaps), ("a", "b")),
            Case("a spike that is made good", of(once, leaps)),
            Case("a spike that takes all and is made good slowly", of(slowly, leaps), ("a", "b")),
            Case("norms that leap without harm", of(quiet, leaps)),
            Case("a loss that rises while gradients stay as they are", of(hurt, [1.0] * 400)),
        )


def _rising(losses: NDArray[np.float64], least: float) -> NDArray[np.int64]:
    """The places, from `_BEFORE` on, where the loss stays that much above the lowest before: a few of 100,000."""
    stays = sliding_window_view(losses[_BEFORE:], _AFTER).min(axis=1)
    before = sliding_window_view(losses, _BEFORE)[: len(stays)].min(axis=1)
    return np.flatnonzero(stays - before > least) + _BEFORE


def _rises(losses: NDArray[np.float64], places: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """For each place the level before it, its spread, and how far the loss stays above it there."""
    level, spread = np.empty(len(places)), np.empty(len(places))
    for start in range(0, len(places), 10_000):  # 100,000 windows at once would take 100 MB
        windows = sliding_window_view(losses, _BEFORE)[places[start : start + 10_000] - _BEFORE]
        middle = np.median(windows, axis=1)
        level[start : start + 10_000] = middle
        spread[start : start + 10_000] = 1.4826 * np.median(np.abs(windows - middle[:, None]), axis=1)
    return level, spread, sliding_window_view(losses, _AFTER)[places].min(axis=1) - level


def _times_the_usual(signals: Signals, step: int) -> float:
    """The largest gradient norm near a step over the median of those before; NaN when either is not known."""
    steps = signals.run.steps
    norm = np.where(np.isfinite(steps["gradient_norm"]), steps["gradient_norm"], steps["clipped_gradient_norm"])
    near = norm[(steps["step"] >= step - _LEAD) & (steps["step"] < step + _AFTER) & np.isfinite(norm)]
    past = norm[(steps["step"] < step - _LEAD) & np.isfinite(norm)]
    if not len(near) or len(past) < 3 or not np.median(past) > 0:
        return math.nan
    return float(near.max() / np.median(past))


def _fed_more(signals: Signals, step: int) -> float:
    """The largest rms of the inputs near a step over the run's median; NaN where it was not recorded there."""
    rms = fed_size(signals)
    near = rms[(signals.steps >= step - _LEAD) & (signals.steps < step + _AFTER) & np.isfinite(rms)]
    usual = float(np.median(rms[np.isfinite(rms)])) if len(near) else 0.0
    return float(near.max()) / usual if usual > 0 else math.nan


def _staleness(signals: Signals, step: int) -> tuple[float, int]:
    """The largest rms(g/√v) of a weight in the steps up to this one, and how far ahead it was; NaN: not known."""
    near = np.flatnonzero((signals.steps >= step - _LEAD) & (signals.steps <= step))
    weights = [i for i in signals.parameters if len(signals.sites[i].shape) > 1]
    rms = normalised_rms(signals)[weights][:, near]
    rms = np.where(np.isfinite(rms), rms, 0.0)
    if not rms.size or not rms.max() > 0:
        return math.nan, 0
    column = int(np.argmax(rms.max(axis=0)))
    return float(rms[:, column].max()), step - int(signals.steps[near[column]])
