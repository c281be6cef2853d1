"""Where a trial keeps what it found: events of the run, and a folder in it with the results and the logs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from gradscope.errors import ProgramError
from gradscope.store import RunWriter, last_step, read_info
from gradscope.store.trial_status import TRIALS
from gradscope.trials.job import Job, Result

_RUNS = "runs"  # in a trial's folder: what its children record, until they have been read


def new_folder(run: Path) -> Path:
    """The folder of the next trial on a run."""
    number = 1
    while (folder := run / TRIALS / str(number)).exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def child_run(folder: Path, name: str) -> Path:
    """Where a child records."""
    return folder / _RUNS / name


def discard(result: Result, job: Job) -> None:
    """Deletes what a child has recorded: its losses and findings are in the result."""
    if not job.keeps_run:
        for recorded in (job.run, *(course.run for course in result.courses)):
            shutil.rmtree(recorded, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Deletes what only running children need, those included that were killed."""
    shutil.rmtree(folder / _RUNS, ignore_errors=True)
    for file in folder.glob("*.job.json"):
        file.unlink(missing_ok=True)


def store_results(folder: Path, results: Mapping[tuple[str, int], Result], document: dict[str, Any]) -> None:
    """Writes `results.json`: every run's losses and findings, and what was made of them."""
    runs = [{"arm": arm, "seed": seed, **json.loads(each.to_json())} for (arm, seed), each in results.items()]
    (folder / "results.json").write_text(json.dumps({**document, "runs": runs}), encoding="utf-8")
    for arm_file in folder.glob("*-seed*.json"):
        arm_file.unlink(missing_ok=True)  # they are in it


def store_events(run: Path, events: list[dict[str, Any]]) -> None:
    """Adds the outcomes to the run, so that its report shows them."""
    if not events:
        return
    writer = RunWriter(run, read_info(run), resume=True)
    try:
        for event in events:
            writer.write_event(last_step(run) or 0, "trial", event)
    finally:
        writer.close()


def refuse_live(run: Path) -> None:
    """Two processes cannot write one run.

    Raises:
        ProgramError: the training is still recording into it.
    """
    info = read_info(run)
    if info.state == "recording" and psutil.pid_exists(info.process):
        raise ProgramError(
            f"{run} is still being recorded by process {info.process}, and the outcomes are to be stored in it. "
            "Wait until it has ended, or leave --run out."
        )
