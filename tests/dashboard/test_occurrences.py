"""When a finding was there, off, and there again: its rule is asked of the run as it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gradscope.dashboard.address import Address
from gradscope.dashboard.occurrences import MOST_MOMENTS, Occurrences, Stretch, beginning, occurrences
from gradscope.dashboard.parts.finding_view import finding_view
from gradscope.dashboard.parts.finding_when import occurrence_words, when_section
from gradscope.dashboard.runs import Runs
from gradscope.diagnosis import diagnose
from gradscope.records import Finding, Run
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.conftest import SaveRun
from tests.dashboard.test_pages_small import words

TWICE = [1e-9] * 6 + [1.0] * 6 + [1e-9] * 6


def asked(run: Run, seconds: float = 60.0) -> Occurrences | None:
    """The occurrences of a run's first finding."""
    return occurrences(Signals(run), diagnose(run).findings[0], seconds)


def slow(run: Run) -> tuple[Stretch, ...]:
    """The same by asking the whole diagnosis at every recorded step."""
    first, steps = diagnose(run).findings[0], Signals(run).steps.tolist()
    there = [
        any(each.rule == first.rule and each.last_step >= step for each in diagnose(beginning(run, step)).findings)
        for step in steps
    ]
    found: list[Stretch] = []
    for step, now, before in zip(steps, there, [False, *there], strict=False):
        if now and not before:
            found.append(Stretch(step, step))
        elif now:
            found[-1] = Stretch(found[-1].first, step)
    return tuple(found)


@pytest.mark.parametrize(
    "gain",
    [TWICE, [1e-9] * 18, [1.0] * 10 + [1e-9] * 30, [1e-9] * 40 + [1.0] * 60, [1e-9] * 200],
    ids=["off and on again", "always", "late", "it healed", "many steps"],
)
def test_the_stretches_are_those_of_the_diagnosis_at_every_step(gain: list[float]) -> None:
    """Asking at few moments, and halving in between, gives what asking at every recorded step does."""
    run = by_hand({"a": gain, "c": 1.0}, steps=len(gain))
    found = asked(run)
    assert found is not None
    assert found.stretches == slow(run)
    assert found.newest == len(gain) - 1
    assert found.holds == (gain[-1] < 1)
    assert found.moments <= min(len(gain), 3 * MOST_MOMENTS)


def test_other_layers_are_another_occurrence() -> None:
    """The same rule somewhere else is not this finding."""
    run = by_hand({"a": 1e-9, "b": 1.0, "c": 1.0}, steps=8)
    elsewhere = Finding("vanishing-gradient", "error", ("c",), 0, 7, "another")
    assert occurrences(Signals(run), elsewhere, 60.0) == Occurrences((), 8, 7)


def test_it_takes_no_more_time_than_it_is_given() -> None:
    """Without time there is no answer; the next question of the same run goes on from there."""
    gain = [1e-9] * 200
    signals = Signals(by_hand({"a": gain, "c": 1.0}, steps=len(gain)))
    finding = diagnose(signals.run, signals).findings[0]
    assert occurrences(signals, finding, 0.0) is None
    whole = occurrences(signals, finding, 60.0)
    started = time.perf_counter()
    again = occurrences(signals, finding, 0.0)
    assert whole is not None
    assert again == whole
    assert time.perf_counter() - started < 0.2


def test_a_rule_that_is_not_there_says_nothing() -> None:
    """A finding of no rule, and a run of one recorded step, have no occurrences."""
    signals = Signals(by_hand({"a": 1.0, "b": 1.0}, steps=4))
    assert occurrences(signals, Finding("gone", "error", (), 0, 3, "m"), 60.0) is None
    one = Signals(by_hand({"a": 1.0, "b": 1.0}, steps=1))
    assert occurrences(one, Finding("dead-units", "error", (), 0, 0, "m"), 60.0) is None


def test_each_stretch_and_each_gap_has_words() -> None:
    """From when to when, what is off in between, since when it could have been known, and whether it still holds."""
    twice = Occurrences((Stretch(2, 5), Stretch(1200, 1700)), 16, 1700)
    assert occurrence_words(twice, 0) == [
        "not before step 2; in hindsight it began at step 0",
        "from step 2 to 5",
        "not between steps 5 and 1,200",
        "again from step 1,200 to 1,700, the newest",
    ]
    assert occurrence_words(Occurrences((Stretch(3, 3),), 8, 7), 3) == ["at step 3", "not after step 3"]
    assert occurrence_words(Occurrences((), 8, 7), 3) == ["at none of them: it is seen in hindsight only"]


def test_the_finding_lists_its_occurrences(save_run: SaveRun) -> None:
    """The section about when it was holds them, with how often it was judged."""
    folder: Path = save_run(by_hand({"a": TWICE, "c": 1.0}, steps=18), "run")
    runs = Runs(folder)
    found = finding_view(runs, runs.get("run"), Address("finding", "run", finding="F1"), "light")
    assert found is not None
    said = words(when_section(found))
    assert "All occurrences" in said
    assert "of 18 recorded steps, as if the run had ended there, it is found:" in said
    assert "not between steps 5 and 12" in said
    assert "again from step 12 to 17, the newest" in said
