"""A run of many ranks: each writes a part of its own, and whoever reads puts them together.

Rank 0 writes into the run folder itself, rank 3 into `rank-3/` in it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from gradscope.records import Run
from gradscope.store.excerpt import Excerpt
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.merging import Merging
from gradscope.store.reader import LookAtRun, read_info, step_series
from gradscope.store.reader import RunReader as PartReader
from gradscope.store.schema import RUN_FILE

_PART = re.compile(r"rank-(\d+)")


def part_folder(folder: Path, rank: int) -> Path:
    """Where a rank writes."""
    return folder if rank == 0 else folder / f"rank-{rank}"


def part_folders(folder: Folder) -> list[Folder]:
    """The parts that a run folder holds, lowest rank first."""
    found = [(0, folder)] if RUN_FILE in folder.files() else []
    for name in folder.folders():
        named = _PART.fullmatch(name)
        if named is not None and RUN_FILE in folder.child(name).files():
            found.append((int(named[1]), folder.child(name)))
    return [part for _, part in sorted(found, key=lambda each: each[0])]


def last_step(part: Location) -> int | None:
    """The last step that a rank closed; None before it closed one."""
    folder, steps = open_folder(part), step_series()
    steps.read(folder, folder.files())
    return next(iter(steps.tables[0]["step"][-1:].tolist()), None)


def first_part(folder: Folder) -> Folder | None:
    """The part of the lowest rank that watched, mostly the run folder itself; None when the folder is no run."""
    if RUN_FILE in folder.files():
        return folder
    return next(iter(part_folders(folder)), None)


class RunReader:
    """Follows a run folder: each `read` gives the run as it is now, all ranks' parts put together.

    A part that comes later, of a rank that was slower to start, is taken in when it is there.

    Args:
        location: the run's folder, a path or a URL.
        memory, look: see `reader.RunReader`; a training on several processes is read whole.

    Raises:
        RunNotFound, NotARun, UnsupportedSchema: see `read_info`.

    Example:
        >>> reader = RunReader(Path("runs/latest"))  # doctest: +SKIP
        >>> reader.read().steps["loss"][-1]  # doctest: +SKIP
        0.31
    """

    def __init__(self, location: Location, memory: int | None = None, look: LookAtRun | None = None) -> None:
        self.folder = open_folder(location)
        self._memory, self._look = memory, look
        self._parts: dict[Location, PartReader] = {}
        self._alone = False  # a training in one process: no more parts will come
        self._merging = Merging()
        self._merged: tuple[list[Run], Run] | None = None  # what was put together last
        self._find_parts()
        if not self._parts:
            read_info(location)  # says what is wrong with it

    @property
    def excerpt(self) -> Excerpt | None:
        """What is kept of a run that does not fit into the memory it may take; None where all of it is read."""
        return next(iter(self._parts.values())).excerpt if len(self._parts) == 1 else None

    def read(self, seconds: float = math.inf) -> Run:
        """The run up to the last whole record on disk. `seconds`: see `reader.RunReader.read`."""
        if not self._alone:
            self._find_parts()
        runs = [part.read(seconds) for part in self._parts.values()]
        self._alone = len(runs) == 1 and runs[0].info.world_size == 1
        if self._alone:
            return runs[0]
        # a part that was not written to since gives the same object
        if self._merged is None or [*map(id, self._merged[0])] != [*map(id, runs)]:
            self._merged = runs, self._merging.merge(runs)
        return self._merged[1]

    def _find_parts(self) -> None:
        found = [part.location for part in part_folders(self.folder)]
        if len(found) > 1 and self._memory is not None:  # ranks are merged from all that they recorded
            self._memory, self._parts = None, {}
        memory = self._memory
        self._parts = {
            each: self._parts.get(each) or PartReader(each, memory, self._look) for each in found
        } or self._parts


def read_run(location: Location) -> Run:
    """Reads a run once. See `RunReader` for one that grows, and for the arguments and errors."""
    return RunReader(location).read()
