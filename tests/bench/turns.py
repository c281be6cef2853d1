"""Contenders in turns, in one process: what disturbs the machine disturbs them all."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import gradscope
from gradscope.recorder.schedule import FIRST_STEPS
from gradscope.store.schema import RUN_FILE
from tests.bench.contenders import PLAIN, Contender
from tests.bench.trainings import Subject, Training

WARM_UP = 3  # steps of a turn that do not count: memory is found, GradScope records step 0 whatever `every` is

Times = list[tuple[float, float]]  # of each step: seconds on the clock, and of CPU time


@dataclass(frozen=True)
class Turn:
    """The typical step of a turn: the median; where some steps are recorded, both medians in their proportion."""

    wall: float  # seconds
    cpu: float  # seconds of CPU time, on all threads of this process
    recorded: float = 0.0  # share of the steps
    said: float = 0.0  # share of the time that GradScope says it took


@dataclass(frozen=True)
class Ratio:
    """What a contender costs: its step over that of the training alone, each the median of its turns."""

    wall: float
    cpu: float
    recorded: float | None = None  # share of steps that were recorded, where it is not all or none
    said: float | None = None  # the ratio of the clock as GradScope's own measurement has it


@dataclass(frozen=True)
class Patience:
    """How long to measure.

    Attributes:
        turns: of each contender.
        seconds: of a turn.
        cycles: in a turn that holds recorded steps and others: from one recorded step to the next.
        steady_steps: that the cycles must hold.
        most_steps: that such a turn may take.
    """

    turns: int = 5
    seconds: float = 3.0
    cycles: int = 2
    steady_steps: int = 20
    most_steps: int = 150


def measure(subject: Subject, contenders: Sequence[Contender], patience: Patience) -> Iterator[tuple[str, Ratio]]:
    """The ratios of medians, by contender; each gets the training anew in each of its turns."""
    everyone = [PLAIN, *contenders]
    turns: dict[str, list[Turn]] = {contender.title: [] for contender in everyone}
    for turn in range(patience.turns):
        first = turn % len(everyone)  # nobody is always after the same one
        for contender in everyone[first:] + everyone[:first]:
            turns[contender.title].append(take_turn(subject, contender, patience))
    alone = _median(turns[PLAIN.title])
    for contender in contenders:
        step = _median(turns[contender.title])
        yield (
            contender.title,
            Ratio(
                step.wall / alone.wall,
                step.cpu / alone.cpu,
                step.recorded if contender.steady else None,
                1 / (1 - step.said) if step.said else None,
            ),
        )


def take_turn(subject: Subject, contender: Contender, patience: Patience) -> Turn:
    """One turn of one contender."""
    gc.collect()
    training = subject.make()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # others warn at every step
        folder = Path(place) / "run"
        with contender.watch(training, folder):
            take = _take_cycles if contender.steady else _take_steps
            steps, counted = take(training, folder, patience)
        times = np.array(steps[counted])
        wall, cpu = np.median(times, axis=0)
        if not (folder / RUN_FILE).exists():
            return Turn(wall, cpu)
        rows = gradscope.read_run(folder).steps[: len(steps)][counted]
        if contender.steady and 0 < (share := rows["recorded"].mean()) < 1:
            full, idle = (np.median(times[rows["recorded"] == recorded], axis=0) for recorded in (True, False))
            wall, cpu = share * full + (1 - share) * idle
    return Turn(wall, cpu, rows["recorded"].mean(), rows["recorder_seconds"].sum() / rows["seconds"].sum())


def _take_steps(training: Training, folder: Path, patience: Patience) -> tuple[Times, slice]:
    """Steps for some time, and which of them count."""
    steps = [training.step() for _ in range(WARM_UP + 1)]
    until = time.perf_counter() + patience.seconds
    while time.perf_counter() < until:
        steps.append(training.step())
    return steps, slice(WARM_UP, len(steps))


def _take_cycles(training: Training, folder: Path, patience: Patience) -> tuple[Times, slice]:
    """Steps of which some are recorded; what counts are whole cycles after the first ones are paid for, if there are."""
    steps: Times = []
    while True:
        steps += [training.step() for _ in range(20)]
        later = np.flatnonzero(gradscope.read_run(folder).steps["recorded"])[FIRST_STEPS:]
        if len(later) > patience.cycles and later[-1] - later[0] >= patience.steady_steps:
            return steps, slice(later[0] + 1, later[-1] + 1)
        if len(steps) >= patience.most_steps:
            return steps, slice(FIRST_STEPS, len(steps))


def _median(turns: Sequence[Turn]) -> Turn:
    columns = zip(*(dataclasses.astuple(turn) for turn in turns), strict=True)
    return Turn(*(statistics.median(column) for column in columns))
