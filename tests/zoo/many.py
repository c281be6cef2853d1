"""Trains and judges many programs at once, each in a worker process with one thread."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import torch

from tests.zoo.animals import by_id
from tests.zoo.cures import Cure, try_cures
from tests.zoo.judge import judge, label, read
from tests.zoo.peers import verdicts
from tests.zoo.program import Program
from tests.zoo.tally import Result
from tests.zoo.train import kept, train

Every = int | Literal["auto"]


def run_all(
    programs: Sequence[Program],
    seeds: Iterable[int],
    folder: Path,
    *,
    jobs: int,
    again: bool,
    cures: bool = False,
    every: Every = "auto",
    say: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """All programs in all seeds, with the twins that they are compared with.

    Args:
        folder: where the trainings are kept, `folder/ID-SEED`.
        again: train; else only what is kept there is judged.
        cures: also try what is suggested for the sick ones.
        every: which steps are recorded in full, as in `gradscope.watch`.
        say: called with each result as soon as it is there.
    """
    wanted = {(program.id, seed) for program in programs for seed in seeds}
    needed = wanted | {(by_id(name).twin, seed) for name, seed in wanted if by_id(name).twin and again}
    results = []
    if again:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_alone) as pool:
            # twins first, so that who is compared with them never waits
            order = sorted(needed, key=lambda pair: (by_id(pair[0]).sick, pair))
            trained = {pair: pool.submit(_train, *pair, folder, every, cures) for pair in order}
            for pair in order:
                trained[pair].result()
                if pair in wanted:
                    results.append(result(*pair, folder))
                    say(results[-1])
        return results
    _alone()
    for pair in sorted(wanted):
        if (folder / f"{pair[0]}-{pair[1]}" / "outcome.json").exists():
            results.append(result(*pair, folder))
            say(results[-1])
    return results


def result(name: str, seed: int, folder: Path) -> Result:
    """What is said of a kept training."""
    program, place = by_id(name), folder / f"{name}-{seed}"
    outcome = kept(place)
    twin = folder / f"{program.twin}-{seed}"
    compared = kept(twin) if program.twin and (twin / "outcome.json").exists() else None
    run = read(place)
    said, others = judge(program, run), verdicts(program, place, run)
    cure = Cure.kept(place / "cures.json") if (place / "cures.json").exists() else None
    return Result(program, seed, outcome, label(program, outcome, compared), said, others, cure, compared)


def _alone() -> None:
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    warnings.simplefilter("ignore")  # of torch, about what some programs do on purpose


def _train(name: str, seed: int, folder: Path, every: Every, cures: bool) -> None:
    train(by_id(name), seed, folder / f"{name}-{seed}", every)
    if cures and by_id(name).sick:
        try_cures(by_id(name), seed, folder)
