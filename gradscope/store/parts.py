"""A run of many ranks: each writes a part of its own, and whoever reads puts them together.

Rank 0 writes into the run folder itself, rank 3 into `rank-3/` in it.
"""

from __future__ import annotations

import re
from pathlib import Path

from gradscope.records import Run
from gradscope.store.merging import Merging
from gradscope.store.reader import RunReader as PartReader
from gradscope.store.reader import read_info
from gradscope.store.schema import RUN_FILE

_PART = re.compile(r"rank-(\d+)")


def part_folder(folder: Path, rank: int) -> Path:
    """Where a rank writes."""
    return folder if rank == 0 else folder / f"rank-{rank}"


def part_folders(folder: Path) -> list[Path]:
    """The parts that a run folder holds, lowest rank first."""
    found = [(0, folder)] if (folder / RUN_FILE).is_file() else []
    for path in folder.iterdir() if folder.is_dir() else ():
        named = _PART.fullmatch(path.name)
        if named is not None and (path / RUN_FILE).is_file():
            found.append((int(named[1]), path))
    return [path for _, path in sorted(found)]


def first_part(folder: Path) -> Path | None:
    """The part of the lowest rank that watched, mostly the run folder itself; None when the folder is no run."""
    if (folder / RUN_FILE).is_file():
        return folder
    return next(iter(part_folders(folder)), None)


class RunReader:
    """Follows a run folder: each `read` gives the run as it is now, all ranks' parts put together.

    A part that comes later, of a rank that was slower to start, is taken in when it is there.

    Raises:
        RunNotFound, NotARun, UnsupportedSchema: see `read_info`.

    Example:
        >>> reader = RunReader(Path("runs/latest"))  # doctest: +SKIP
        >>> reader.read().steps["loss"][-1]  # doctest: +SKIP
        0.31
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[Path, PartReader] = {}
        self._alone = False  # a training in one process: no more parts will come
        self._merging = Merging()
        self._merged: tuple[list[Run], Run] | None = None  # what was put together last
        self._find_parts()
        if not self._parts:
            read_info(folder)  # says what is wrong with it

    def read(self) -> Run:
        """The run up to the last whole record on disk."""
        if not self._alone:
            self._find_parts()
        runs = [part.read() for part in self._parts.values()]
        self._alone = len(runs) == 1 and runs[0].info.world_size == 1
        if self._alone:
            return runs[0]
        if self._merged is None or not _same(self._merged[0], runs):
            self._merged = runs, self._merging.merge(runs)
        return self._merged[1]

    def _find_parts(self) -> None:
        found = part_folders(self.folder)
        self._parts = {path: self._parts.get(path) or PartReader(path) for path in found} or self._parts


def _same(before: list[Run], now: list[Run]) -> bool:
    """Whether nothing was written since: runs only grow."""

    def extent(run: Run) -> tuple[object, ...]:
        newest = int(run.summaries["step"][-1]) if len(run.summaries) else -1
        return len(run.steps), len(run.summaries), newest, len(run.events), run.info

    return [extent(run) for run in before] == [extent(run) for run in now]


def read_run(folder: Path | str) -> Run:
    """Reads a run folder once. See `RunReader` for one that grows, and for the errors."""
    return RunReader(Path(folder)).read()
