"""What runs take on disk, and taking old ones away: only what GradScope wrote, never what lies beside it."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from gradscope.errors import RunError, RunNotWritable
from gradscope.records import RunInfo
from gradscope.store.find import LATEST, runs_in
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.reader import read_info

GOES_ON = 600.0  # seconds without a write after which a run that says it is being recorded is taken for dead
_OURS = re.compile(
    r"run\.json|schedule\.json|mutes\.json|(steps|summaries)(-\d+){0,2}\.arrow(\.new)?|events(-\d+){0,2}\.jsonl(\.new)?"
)
_OUR_FOLDERS = re.compile(r"rank-\d+|trials")


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
        """Whether a training still writes into it, as far as can be told from its files."""
        recording = self.info is not None and self.info.state == "recording"
        return recording and time.time() - self.written < GOES_ON


def runs_on_disk(location: Location) -> list[RunOnDisk]:
    """The runs directly in a folder, newest first.

    Raises:
        RunNotFound: there is no such folder.
    """
    return [_look(folder) for folder in runs_in(open_folder(location))]


def _look(folder: Folder) -> RunOnDisk:
    info, problem = None, ""
    try:
        info = read_info(folder.location)
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
        RunNotWritable: it is not on this machine, is being recorded, or cannot be removed.
    """
    if not isinstance(run.location, Path):
        raise RunNotWritable(f"{run.location} is not on this machine: remove it where it is.")
    if run.goes_on:
        raise RunNotWritable(f"{run.location} is being recorded; stop the training first.")
    try:
        for entry in list(run.location.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and _OUR_FOLDERS.fullmatch(entry.name):
                shutil.rmtree(entry)
            elif _OURS.fullmatch(entry.name) and entry.name != "run.json":
                entry.unlink()
        (run.location / "run.json").unlink(missing_ok=True)  # last: until then it is a run that can be removed again
        rest = sorted(entry.name for entry in run.location.iterdir())
        if not rest:
            run.location.rmdir()
    except OSError as error:
        raise RunNotWritable(f"cannot remove {run.location}: {error.strerror}.") from error
    return rest


def point_latest(folder: Path) -> None:
    """Points `latest` to the newest run that is left; away with it where none is."""
    link = folder / LATEST
    if not link.is_symlink() or link.exists():
        return
    left = runs_on_disk(folder)
    link.unlink()
    if left:
        os.symlink(left[0].name, link)
