"""What limits a trial's outcomes, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradscope.numerals import limit
from gradscope.trials.job import NO_CHANGE, RANDOM_CHANGE, REPEAT, Course, Result
from gradscope.trials.outcome import Outcome
from gradscope.trials.statistics import least_p

Results = Mapping[tuple[str, int], Result]


def notes(results: Results, outcomes: Sequence[Outcome], seeds: int, steps: int, model: int | None) -> tuple[str, ...]:
    """Everything that a reader of the outcomes should know."""
    none = [_course(results, NO_CHANGE, seed, model) for seed in range(seeds)]
    return (
        *_noise(none[0], _course(results, REPEAT, 0, model)),
        *_seeds(none, outcomes),
        *_absent(none, outcomes),
        *_ended(results.get((NO_CHANGE, 0)), none[0], steps),
        *_broken_controls(results, seeds),
        *_drawn(results, seeds),
    )


def _course(results: Results, arm: str, seed: int, model: int | None) -> Course | None:
    found = results.get((arm, seed))
    return None if found is None else found.course(model)


def _noise(first: Course | None, second: Course | None) -> Iterator[str]:
    """Two runs that should be the same."""
    if first is None or second is None:
        return
    length = min(len(first.losses), len(second.losses))
    one, other = np.array(first.losses[:length]), np.array(second.losses[:length])
    differ = (one != other) & ~(np.isnan(one) & np.isnan(other))
    if not differ.any():
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        by = np.nanmax(np.abs(one - other) / np.maximum(np.abs(one), np.abs(other)))
    yield (
        f"The program does not repeat itself: two runs without a change, of the same seed, differ from step "
        f"{int(np.flatnonzero(differ)[0])} on, by up to {by * 100:.2g} % of the loss in {length} steps. The outcomes "
        "hold this noise; it makes the p-values larger, not wrong."
    )


def _seeds(none: Sequence[Course | None], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What so few seeds can say, and seeds that are none."""
    pairs = max((outcome.no_change.pairs for outcome in outcomes), default=0)
    if pairs and least_p(pairs) > 0.05:
        what = f"With {pairs} seeds" if pairs > 1 else "With one seed"
        least = limit(least_p(pairs))
        yield f"{what} p cannot be below {least}, however large the effect is; 5 seeds reach {limit(least_p(5))}."
    losses = [course.losses for course in none if course is not None and course.losses]
    if len(losses) > 1 and all(each == losses[0] for each in losses):
        yield (
            "All seeds gave the same training: the program seeds generators of its own. The seeds are no repetitions, "
            "and p says nothing here."
        )


def _absent(none: Sequence[Course | None], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Seeds without the sickness, untreated."""
    seen = [course for course in none if course is not None]
    for rule in dict.fromkeys(outcome.candidate.rule for outcome in outcomes):
        sick = sum(course.has(rule) for course in seen)
        if sick < len(seen):
            yield f"Without a change, {rule} was found in {sick} of {len(seen)} seeds only."


def _ended(result: Result | None, first: Course | None, steps: int) -> Iterator[str]:
    if result is None or first is None or first.diverged_at is not None or not 0 < len(first.losses) < steps:
        return
    how = f"The training ended after {len(first.losses):,} steps, of {steps:,}: {result.why}"
    if not result.why:
        how = f"The program ended by itself after {len(first.losses):,} steps, of {steps:,}"
    yield f"{how}; losses are compared there."


def _broken_controls(results: Results, seeds: int) -> Iterator[str]:
    for arm in (NO_CHANGE, RANDOM_CHANGE):
        ran = [(seed, found) for seed in range(seeds) if (found := results.get((arm, seed))) is not None]
        lost = [
            (seed, found) for seed, found in ran if found.state not in ("done", "ended early", "diverged", "stopped")
        ]
        for seed, found in lost[:1]:
            why = f": {found.why}" if found.why else ""
            yield (
                f"The control “{arm}” has no loss in {len(lost)} of {len(ran)} seeds, which are left out of the "
                f"comparison with it (seed {seed} {found.state}{why})."
            )


def _drawn(results: Results, seeds: int) -> Iterator[str]:
    """What chance has chosen."""
    ran = {seed: found for seed in range(seeds) if (found := results.get((RANDOM_CHANGE, seed))) is not None}
    drawn: dict[str, list[str]] = {}
    for seed, found in ran.items():
        drawn.setdefault(" + ".join(each.remedy for each in found.treatments) or "nothing", []).append(str(seed))
    if drawn:
        said = ", ".join(f"{name} (seed {', '.join(numbers)})" for name, numbers in drawn.items())
        yield f"The random change was {said}."
