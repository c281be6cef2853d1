"""How far a trial has come, as a small file in its folder, so that whoever looks at the run can tell."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from gradscope.store.folders import Folder

TRIALS = "trials"  # in a run's folder; no part of the run
STATUS_FILE = "status.json"  # in a trial's folder

TrialState = Literal["running", "ended", "interrupted", "failed"]


@dataclass(frozen=True)
class TrialStatus:
    """A trial of a run, as its own process last said.

    Attributes:
        number: of the trial's folder.
        process: its process id, on the machine that it runs on.
        started, written: seconds since 1970.
        remedies: that were asked for; none: those that the diagnosis suggests.
        running: the short trainings that run now, "skip-connection, seed 0".
        seconds_left: about; None where nobody can say yet.
        said: what it came to; the reason where it failed.
    """

    state: TrialState
    number: int = 0
    process: int = 0
    started: float = 0.0
    written: float = 0.0
    remedies: tuple[str, ...] = ()
    steps: int = 0
    seeds: int = 0
    planned: int = 0
    done: int = 0
    running: tuple[str, ...] = ()
    seconds_left: float | None = None
    said: str = ""


def write_trial_status(folder: Path, status: TrialStatus) -> None:
    """Replaces a trial's status in one move; a full disk costs the status, not the trial."""
    fresh = folder / f"{STATUS_FILE}.new"
    with contextlib.suppress(OSError):
        fresh.write_bytes(orjson.dumps(status))
        os.replace(fresh, folder / STATUS_FILE)


def read_trial_statuses(run: Folder) -> list[TrialStatus]:
    """What the trials of a run say of themselves, oldest first; those of older versions say nothing."""
    trials = run.child(TRIALS)
    numbers = sorted(int(name) for name in trials.folders() if name.isascii() and name.isdigit())
    found = (_read(trials.child(str(number)), number) for number in numbers)
    return [status for status in found if status is not None]


def _read(folder: Folder, number: int) -> TrialStatus | None:
    try:
        said = orjson.loads(folder.read(STATUS_FILE))
        known = {name: value for name, value in said.items() if name in TrialStatus.__dataclass_fields__}
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return TrialStatus(**{**known, **lists, "number": number})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
