"""What runs take on disk, and taking old ones away: only what GradScope wrote, never what lies beside it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from gradscope.errors import RunError, RunNotWritable
from gradscope.records import RunInfo
from gradscope.store.find import LATEST, runs_in
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.parts import first_part
from gradscope.store.reader import read_info
from gradscope.store.schema import RUN_FILE
from gradscope.store.trial_status import STATUS_FILE, TRIALS

GOES_ON = 600.0  # seconds without a write after which a run that says it is being recorded is taken for dead
_OURS = re.compile(  # the ends .new and .json.new are of a process that was killed while it wrote
    r"(run|mutes)\.json(\.new)?|schedule\.(json|new)|((steps|summaries)(-\d+){0,2}\.arrow|events(-\d+){0,2}\.jsonl)(\.new)?"
)
_A_RANK = re.compile(r"rank-[1-9]\d*")  # rank 0 has no folder of its own
_IN_A_TRIAL = (STATUS_FILE, "results.json")  # one of them is in a trial's folder
_OF_A_TRIAL = re.compile(r"status\.json(\.new)?|results\.json|train\.pkl|.+-seed\d+\.(log|json|job\.json)")
_RECORDED, _LOG = "runs", "last.log"  # what a trial's killed children left; beside the trials: what the last one said


@dataclass(frozen=True)
class RunOnDisk:
    """A run of a folder, without its rows.

    Attributes:
        info: what `run.json` says; None where it cannot be read, see `problem`.
        size: bytes, those of all ranks and trials.
        written: when it was last written to, in seconds since 1970.
    """

    name: str
    location: Location
    info: RunInfo | None
    problem: str
    size: int
    written: float

    @property
    def goes_on(self) -> bool:
        """Whether a training still writes into it, as far as can be told: one that validates may not for an hour."""
        if self.info is None or self.info.state != "recording":
            return False
        return time.time() - self.written < GOES_ON or _holds_open(self.info.process, self.location)


def _holds_open(process: int, location: Location) -> bool:
    """Whether a process of this machine has files of a folder open; its number alone may be another one's by now."""
    try:
        folder = Path(location).resolve()
        return any(Path(file.path).is_relative_to(folder) for file in psutil.Process(process).open_files())
    except (psutil.Error, OSError, ValueError, OverflowError):  # gone, somebody else's, or no number of a process
        return False


def runs_on_disk(location: Location) -> list[RunOnDisk]:
    """The runs directly in a folder, those that began last first.

    Raises:
        RunNotFound: there is no such folder.
    """
    found = [_look(folder) for folder in runs_in(open_folder(location))]
    return sorted(found, key=lambda run: run.info.created if run.info else run.written, reverse=True)


def _look(folder: Folder) -> RunOnDisk:
    info, problem = None, ""
    try:
        info = read_info((first_part(folder) or folder).location)
    except RunError as error:
        problem = str(error)
    size, written = _size(folder)
    return RunOnDisk(folder.name, folder.location, info, problem, size, written)


def _size(folder: Folder) -> tuple[int, float]:
    """Bytes of a folder and all in it, and when the newest of its files was written."""
    stamps = folder.files().values()
    inner = [_size(folder.child(name)) for name in folder.folders()]
    size = sum(stamp.size for stamp in stamps) + sum(size for size, _ in inner)
    return size, max([0.0, *(stamp.written for stamp in stamps), *(written for _, written in inner)])


def remove(run: RunOnDisk) -> list[str]:
    """Takes a run away; gives the names of what else lies in its folder, which stays.

    Raises:
        RunNotWritable: it is not on this machine, is being recorded, cannot be read or cannot be removed.
    """
    if not isinstance(run.location, Path):
        raise RunNotWritable(f"{run.location} is not on this machine: remove it where it is.")
    if run.info is None:
        raise RunNotWritable(f"{run.location} may be another program's: {run.problem} Remove it yourself if it is not.")
    if run.goes_on:
        raise RunNotWritable(f"{run.location} is being recorded; stop the training first.")
    try:
        _clear(run.location)
        return sorted(entry.name for entry in run.location.iterdir()) if run.location.exists() else []
    except OSError as error:
        raise RunNotWritable(f"cannot remove {run.location}: {error.strerror}.") from error


def _clear(folder: Path) -> None:
    """Takes away what is ours of a run, or of a rank's part of it, and the folder where nothing else is in it."""
    for entry in list(folder.iterdir()):
        if entry.is_symlink() or not entry.is_dir():
            if _OURS.fullmatch(entry.name) and entry.name != RUN_FILE:
                entry.unlink()
        elif _A_RANK.fullmatch(entry.name):
            _clear_run(entry)
        elif entry.name == TRIALS:
            _clear_trials(entry)
    (folder / RUN_FILE).unlink(missing_ok=True)  # last: until then it is a run that can be removed again
    _remove_if_empty(folder)


def _clear_run(folder: Path) -> None:
    """The same of a folder that is called like one of ours, where its `run.json` is ours too."""
    try:
        read_info(folder)
    except RunError:
        return
    _clear(folder)


def _clear_trials(folder: Path) -> None:
    for entry in list(folder.iterdir()):
        if entry.name == _LOG and entry.is_file():
            entry.unlink()
        elif (
            entry.name.isdecimal() and not entry.is_symlink() and any((entry / name).is_file() for name in _IN_A_TRIAL)
        ):
            _clear_trial(entry)
    _remove_if_empty(folder)


def _clear_trial(folder: Path) -> None:
    for entry in list(folder.iterdir()):
        if entry.is_symlink() or not entry.is_dir():
            if _OF_A_TRIAL.fullmatch(entry.name):
                entry.unlink()
        elif entry.name == _RECORDED:
            for run in [each for each in entry.iterdir() if each.is_dir() and not each.is_symlink()]:
                _clear_run(run)
            _remove_if_empty(entry)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def point_latest(folder: Path) -> None:
    """Points `latest` to the newest run that is left; away with it where none is."""
    link = folder / LATEST
    if not link.is_symlink() or link.exists():
        return
    left = runs_on_disk(folder)
    link.unlink()
    if left:
        os.symlink(left[0].name, link)
