"""When a finding was there, off, and there again: its rule judges the run as it was at some of its recorded steps.

A rule looks at a whole run, so that the step at which it would have spoken cannot be read from any one number. Here it is
asked again, of the run up to a step, at moments spread evenly; where it says something else than a moment before, the step
in between is found by halving.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from gradscope.catalogue import rules
from gradscope.records import Finding, Run
from gradscope.rules import Rule
from gradscope.signals import Signals

MOST_MOMENTS = 16  # spread evenly over the recorded steps
SECONDS = 0.25  # that one answer may take; the next one of the same run goes on from there
_Answer = tuple[tuple[str, ...], ...]  # the layers of each finding that the rule had, and that held, at a moment
_answers: WeakKeyDictionary[Signals, dict[str, dict[int, _Answer]]] = WeakKeyDictionary()  # by rule and place


@dataclass(frozen=True)
class Stretch:
    """Recorded steps at all of which a finding was there, as far as it was judged."""

    first: int
    last: int


@dataclass(frozen=True)
class Occurrences:
    """When a finding was there.

    Attributes:
        stretches: in order; the first begins where the rule first spoke.
        moments: at how many recorded steps the rule was asked.
        newest: the last of these.
    """

    stretches: tuple[Stretch, ...]
    moments: int
    newest: int

    @property
    def holds(self) -> bool:
        """Whether it is there now."""
        return bool(self.stretches) and self.stretches[-1].last == self.newest


def occurrences(signals: Signals, finding: Finding, seconds: float = SECONDS) -> Occurrences | None:
    """The stretches of a finding; None where there was no time to judge it often enough, or no rule that could.

    Args:
        signals: of the run.
        finding: of its diagnosis.
        seconds: after which no further moment is judged.

    Example:
        >>> from gradscope.diagnosis import diagnose
        >>> from gradscope.rules.handwritten import run
        >>> sick = Signals(run({"a": 1e-9, "b": 1.0}, loss=2.3))
        >>> occurrences(sick, diagnose(sick.run).findings[0], 60.0)
        Occurrences(stretches=(Stretch(first=2, last=7),), moments=8, newest=7)
    """
    rule = rules().get(finding.rule)
    steps = signals.steps
    if rule is None or len(steps) < 2:
        return None
    until = time.monotonic() + seconds
    replay = _Replay(signals, finding, rule)
    *grid, now = _grid(len(steps))
    for place in [now, *sorted(grid, key=lambda place: -(place & -place or len(steps)))]:  # then coarse before fine
        replay.there(place, until)
    if len(replay.answers) < min(len(grid) + 1, 4):
        return None
    return _stretches(replay, until)


def _grid(recorded: int) -> list[int]:
    """Places of the moments: a power of 2 apart, so that the finer ones hold the coarser; the first and the last."""
    apart = 1
    while recorded / apart > MOST_MOMENTS:
        apart *= 2
    return sorted({*range(0, recorded, apart), recorded - 1})


class _Replay:
    """A rule that is asked at moments. A class because every answer is kept for the next question."""

    def __init__(self, signals: Signals, finding: Finding, rule: Rule) -> None:
        self.signals, self.finding, self.rule = signals, finding, rule
        self.answers = _answers.setdefault(signals, {}).setdefault(finding.rule, {})

    def there(self, place: int, until: float) -> bool | None:
        """Whether the finding is there at a place among the recorded steps; None where that took too long to say."""
        if place not in self.answers:
            if time.monotonic() > until:
                return None
            self.answers[place] = self._ask(place)
        mine, held = set(self.finding.layers), self.answers[place]
        return any(mine & set(layers) or not (mine and layers) for layers in held)

    def _ask(self, place: int) -> _Answer:
        run, steps = self.signals.run, self.signals.steps
        signals = Signals(run if place == len(steps) - 1 else beginning(run, int(steps[place])))
        try:
            missing = self.rule.applies(signals)
            found = [] if missing is not None else list(self.rule.check(signals))
        except Exception:  # as in the diagnosis: a fault of one rule is no finding
            return ()
        return tuple(each.layers for each in found if each.last_step >= steps[place])


def _stretches(replay: _Replay, until: float) -> Occurrences:
    """From the moments that are known, the steps at which the answer changes."""
    places = sorted(replay.answers)
    changes: list[tuple[int, bool]] = []  # from which place on, and what is said there
    before: tuple[int, bool] | None = None
    for place in places:
        now = bool(replay.there(place, until))
        if before is None or now != before[1]:
            changes.append((place if before is None else _between(replay, before[0], place, now, until), now))
        before = (place, now)
    steps = replay.signals.steps
    ends = [place - 1 for place, _ in changes[1:]] + [places[-1]]
    found = tuple(
        Stretch(int(steps[place]), int(steps[end])) for (place, there), end in zip(changes, ends, strict=True) if there
    )
    return Occurrences(found, len(replay.answers), int(steps[places[-1]]))


def _between(replay: _Replay, low: int, high: int, now: bool, until: float) -> int:
    """The first place after `low` where it is as at `high`, as far as time allows."""
    while high - low > 1:
        middle = (low + high) // 2
        said = replay.there(middle, until)
        if said is None:
            break
        low, high = (low, middle) if said == now else (middle, high)
    return high


def beginning(run: Run, last: int) -> Run:
    """What had been recorded of a run when step `last` had closed; facts that have no step are those of the whole run."""
    end = int(np.searchsorted(run.steps["step"], last, side="right"))
    return replace(
        run,
        steps=run.steps[:end],
        learning_rates=run.learning_rates[:end],
        summaries=run.summaries[run.summaries["step"] <= last],
        events=tuple(event for event in run.events if event.step <= last),
        rank_facts=tuple(fact for fact in run.rank_facts if fact.step <= last),
    )
