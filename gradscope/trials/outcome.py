"""What a trial says of one candidate: its results beside those of the controls, in numbers and in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import limit, number
from gradscope.trials.candidates import Candidate
from gradscope.trials.job import NO_CHANGE, RANDOM_CHANGE, Course, Result, State
from gradscope.trials.statistics import Comparison, compare, interval

Effect = Literal["helped", "partly", "failed", "untried", "unknown"]
_ORDER: tuple[Effect, ...] = ("helped", "partly", "unknown", "failed", "untried")
_GOT_THERE: tuple[State, ...] = ("done", "ended early", "diverged")
MOST_POINTS = 60  # of a stored curve

Results = Mapping[tuple[str, int], Result]  # by arm and seed
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """A candidate, measured.

    Attributes:
        effect: "helped": the loss is lower than under both controls and the sickness is gone in most seeds; "partly":
            one of the two; "failed": neither; "untried": it could not be applied; "unknown": it was interrupted.
        state: "measured", or what happened in every seed instead: "diverged", "crashed", "not applicable" …
        gone: seeds in which the sickness was found no more, and no new error; `gone_no_change`, `gone_random`: by itself.
        loss: median over seeds of the mean over the last tenth of the steps; inf where most diverged, NaN: not seen.
        step_time: its step's time over that of the training without a change, the median over seeds; with the lowest and
            the highest of them, for runs beside one another disturb each other.
        curves: by arm, the median loss over seeds at evenly spaced steps.
        spread: by arm: the lowest and the highest loss over seeds there, "last": the last of these steps, and
            "losses": by seed, what is compared; "diverged" or None where there is none.
    """

    candidate: Candidate
    effect: Effect
    state: str
    sentence: str
    seeds: int
    steps: int
    gone: int
    gone_no_change: int
    gone_random: int
    loss: float
    loss_low: float
    loss_high: float
    loss_no_change: float
    loss_random: float
    no_change: Comparison
    random: Comparison
    step_time: float
    step_time_low: float
    step_time_high: float
    changes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()  # "diverged at step 12 in 2 of 5 seeds"
    curves: dict[str, list[float]] = field(default_factory=dict)
    spread: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[int, float, float]:
        """Orders outcomes, the best first."""
        median = self.no_change.median
        return _ORDER.index(self.effect), -self.gone / max(self.seeds, 1), np.inf if np.isnan(median) else median

    def to_event(self, command: str) -> dict[str, Any]:
        """As it is stored with the run; JSON has no NaN, so that it becomes null there."""
        return {
            "rule": self.candidate.rule,
            "remedies": list(self.candidate.remedies),
            "outcome": self.sentence,
            "effect": self.effect,
            "state": self.state,
            "seeds": self.seeds,
            "steps": self.steps,
            "gone": self.gone,
            "gone_no_change": self.gone_no_change,
            "gone_random": self.gone_random,
            "loss": self.loss,
            "loss_low": self.loss_low,
            "loss_high": self.loss_high,
            "no_change": self.loss_no_change,
            "random": self.loss_random,
            "p_no_change": self.no_change.p,
            "p_random": self.random.p,
            "against_no_change": asdict(self.no_change),
            "against_random": asdict(self.random),
            "step_time": self.step_time,
            "step_time_low": self.step_time_low,
            "step_time_high": self.step_time_high,
            "changes": list(self.changes),
            "problems": list(self.problems),
            "command": command,
            "curves": self.curves,
            "spread": self.spread,
        }


def judge(candidate: Candidate, results: Results, seeds: Sequence[int], steps: int, model: int | None) -> Outcome:
    """Compares a candidate with the controls, over the seeds in which it and the training without a change have run."""
    mine, none, other = (_Arm(results, arm, seeds, model) for arm in (candidate.arm, NO_CHANGE, RANDOM_CHANGE))
    ran = [seed for seed in seeds if mine.result(seed) is not None and none.course(seed) is not None]
    steps = min([steps, *(length for arm in (mine, none, other) for length in arm.lengths(ran))])
    gone, by_itself, by_chance = (
        sum(_gone(arm.course(seed), none.course(seed), candidate.rule) for seed in ran) for arm in (mine, none, other)
    )
    losses, against_none = _losses(mine, none, ran, steps)
    also, against_random = _losses(mine, other, ran, steps)
    no_change, random = compare(losses, against_none), compare(also, against_random)
    loss, low, high = _middle(losses)
    state = mine.state(ran)
    effect = _effect(state, no_change, random, gone, by_itself, len(ran))
    outcome = Outcome(
        candidate, effect, state, "", len(ran), steps, gone, by_itself, by_chance, loss, low, high,
        _median(against_none, "lower"), _median(against_random, "lower"), no_change, random, *_step_time(mine, none, ran),
        next((result.changes for seed in ran if (result := mine.result(seed)) and result.changes), ()),
        tuple(mine.problems(ran)),
        *_curves((mine, none, other), ran, steps),
    )  # fmt: skip
    return replace(outcome, sentence=sentence(outcome))


class _Arm:
    """The results of one arm. A class because each question needs its name, its results and the model's number."""

    def __init__(self, results: Results, name: str, seeds: Sequence[int], model: int | None) -> None:
        self.name = name
        self.model = model
        self._results = {seed: found for seed in seeds if (found := results.get((name, seed))) is not None}

    def result(self, seed: int) -> Result | None:
        found = self._results.get(seed)
        return None if found is None or found.state == "stopped" else found

    def course(self, seed: int) -> Course | None:
        """The treated model's training, where it came to an end by which it can be judged."""
        found = self.result(seed)
        return found.course(self.model) if found is not None and found.state in _GOT_THERE else None

    def lengths(self, seeds: Sequence[int]) -> list[int]:
        """How many losses each training has that did not diverge."""
        found = [course for seed in seeds if (course := self.course(seed)) is not None]
        return [len(course.losses) for course in found if course.losses and course.diverged_at is None]

    def state(self, seeds: Sequence[int]) -> str:
        """What happened in every seed; "measured" where at least one can be compared."""
        states = {found.state for seed in seeds if (found := self.result(seed)) is not None}
        if states & {"done", "ended early"} or not states:
            return "measured" if states else "not run"
        return Counter(found.state for found in self._results.values()).most_common(1)[0][0]

    def problems(self, seeds: Sequence[int]) -> list[str]:
        """What went wrong, in how many seeds."""
        said = [_problem(found, self.model) for seed in seeds if (found := self.result(seed)) is not None]
        counted = Counter(text for text in said if text)
        return [text if times == len(said) else f"{text} in {times} of {len(said)}" for text, times in counted.items()]


def _problem(result: Result, model: int | None) -> str:
    course = result.course(model)
    if result.state == "diverged" and course is not None:
        return f"diverged at step {course.diverged_at:,}" if course.diverged_at else "the loss was never finite"
    if result.state in ("done", "ended early"):
        return ""
    if result.state == "not applicable":
        return result.why
    return f"{result.state}: {result.why}" if result.why else result.state


def _gone(course: Course | None, control: Course | None, rule: str) -> bool:
    """Whether the rule finds nothing any more, and no other rule an error that was not there without the change."""
    if course is None or control is None or course.diverged_at is not None or rule in course.waiting:
        return False
    before = {seen.rule for seen in control.findings if seen.severity == "error"}
    worse = any(seen.severity == "error" and seen.rule not in before for seen in course.findings)
    return not course.has(rule) and not worse


def _losses(mine: _Arm, control: _Arm, seeds: Sequence[int], steps: int) -> tuple[Numbers, Numbers]:
    """The losses of both, shape `[seeds]`: a candidate that did not get there has Inf."""
    losses = np.full((2, len(seeds)), np.nan)
    for place, seed in enumerate(seeds):
        treated, untreated = mine.course(seed), control.course(seed)
        losses[0, place] = np.inf if treated is None else treated.loss_after(steps)
        losses[1, place] = np.nan if untreated is None else untreated.loss_after(steps)
    return losses[0], losses[1]


def _effect(state: str, no_change: Comparison, random: Comparison, gone: int, by_itself: int, seeds: int) -> Effect:
    if state != "measured":
        ends: dict[str, Effect] = {"not run": "unknown", "not applicable": "untried"}
        return ends.get(state, "failed")
    cured = 2 * gone > seeds and gone > by_itself
    lower = no_change.lower
    beats_chance = random.lower or random.pairs == 0
    if lower and beats_chance and cured:
        return "helped"
    no_worse = np.isnan(no_change.median) or no_change.median <= 0
    return "partly" if lower or (cured and no_worse) else "failed"


def _step_time(mine: _Arm, control: _Arm, seeds: Sequence[int]) -> tuple[float, float, float]:
    pairs = [(mine.course(seed), control.course(seed)) for seed in seeds]
    ratios = [a.step_seconds / b.step_seconds for a, b in pairs if a is not None and b is not None]
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    return (float(np.median(known)), min(known), max(known)) if known else (float("nan"),) * 3


def _median(losses: Numbers, middle: Literal["lower", "upper"] = "upper") -> float:
    """Of an even number the lower middle one for a control, the upper one for a candidate: nothing is flattered."""
    known = np.sort(losses[~np.isnan(losses)])
    return float(known[(len(known) - (middle == "lower")) // 2]) if len(known) else float("nan")


def _middle(losses: Numbers) -> tuple[float, float, float]:
    """The median, and a 95 % interval for the typical loss."""
    known = losses[~np.isnan(losses)]
    positive = bool((known > 0).all())
    _, low, high = interval(np.log(known) if positive else known)
    return _median(losses), *((float(np.exp(low)), float(np.exp(high))) if positive else (low, high))


def _curves(
    arms: Sequence[_Arm], seeds: Sequence[int], steps: int
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """By arm: the median loss over seeds at evenly spaced steps, the first and the last among them; and its spread."""
    curves, spread = {}, {}
    for arm in arms:
        courses = [course for seed in seeds if (course := arm.course(seed)) is not None and course.losses]
        length = min((len(course.losses) for course in courses), default=0)
        places = np.linspace(0, max(length - 1, 0), min(length, MOST_POINTS)).astype(int)
        losses = np.array([course.losses[:length] for course in courses]).reshape(len(courses), length)[:, places]
        curves[arm.name] = np.median(losses, axis=0).tolist() if courses else []
        spread[arm.name] = {
            "low": losses.min(axis=0).tolist() if courses else [],
            "high": losses.max(axis=0).tolist() if courses else [],
            "last": length - 1,
            "losses": [_end(arm.course(seed), steps) for seed in seeds],
        }
    return curves, spread


def _end(course: Course | None, steps: int) -> float | str | None:
    """The loss that is compared."""
    if course is None:
        return None
    loss = course.loss_after(steps)
    return "diverged" if np.isinf(loss) else None if np.isnan(loss) else loss


def sentence(outcome: Outcome) -> str:
    """The outcome in plain words."""
    if outcome.state == "not run":
        return "interrupted before it could be compared"
    if outcome.state != "measured":
        return "; ".join(outcome.problems)
    said = [f"sickness gone in {outcome.gone} of {outcome.seeds}"]
    if outcome.gone_no_change:
        said[0] += f", but also in {outcome.gone_no_change} without a change"
    if np.isnan(outcome.loss):
        said.append("no loss was seen")
    else:
        against = [("no change", outcome.loss_no_change), ("random change", outcome.loss_random)]
        others = " and ".join(f"{_loss(loss)} ({name})" for name, loss in against if not np.isnan(loss))
        said.append(f"loss after {outcome.steps:,} steps {_loss(outcome.loss)} against {others}")
        if outcome.no_change.pairs or outcome.random.pairs:
            said.append(_p(outcome.no_change.p, outcome.random.p))
    return "; ".join([*said, *outcome.problems])


def _loss(value: float) -> str:
    return number(value) if np.isfinite(value) else "diverged"


def _p(*values: float) -> str:
    """One p where both controls give the same, else each."""
    said = list(dict.fromkeys(limit(value) for value in values if not np.isnan(value)))
    return f"p = {' and '.join(said)}"
