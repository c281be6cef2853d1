"""The runs that the page shows: found in a folder, followed while they grow, judged once for each growth."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from gradscope.diagnosis import diagnose
from gradscope.errors import NotARun, RunNotFound
from gradscope.records import Diagnosis, Run
from gradscope.reports.numbers import HeadlineNumbers, headline_numbers
from gradscope.signals import Signals
from gradscope.store import RunReader, part_folders
from gradscope.store.find import runs_in
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.schema import RUN_FILE


@dataclass(frozen=True)
class Snapshot:
    """A run as it was when last read, with everything that is derived from it."""

    name: str
    run: Run
    signals: Signals
    diagnosis: Diagnosis
    numbers: HeadlineNumbers
    seconds: float  # that reading and judging it took

    @property
    def newest_step(self) -> int | None:
        """The last step on disk."""
        return int(self.run.steps["step"][-1]) if len(self.run.steps) else None

    @property
    def is_empty(self) -> bool:
        """Whether neither a step nor a summary is on disk."""
        return not len(self.run.steps) and not len(self.signals.steps)


@dataclass(frozen=True)
class Stamp:
    """What a run folder's files say without being read."""

    version: str  # changes whenever the run does
    written: float  # seconds since 1970


class Runs:
    """One run folder, or a folder of runs; safe to use from several threads.

    Raises:
        RunNotFound: nothing is at `path`.
        NotARun: `path` is a file.
    """

    def __init__(self, path: Location) -> None:
        folder = open_folder(path)
        if folder.is_file():
            raise NotARun(f"{path} is a file; expected a run folder or a folder of runs.")
        if not folder.exists():
            raise RunNotFound(
                f"no run at {path}: there is no such folder. Runs are in `runs/` unless run_dir= says else."
            )
        self.location = folder.resolved()
        self._root = open_folder(self.location)
        self._single = bool(part_folders(self._root))
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The runs' names, newest first."""
        return [self._root.name] if self._single else [folder.name for folder in runs_in(self._root)]

    def folder(self, name: str) -> Folder:
        """The folder of a run. Only names that `names` lists are accepted, so that none leads out of the folder.

        Raises:
            RunNotFound: no such run.
        """
        if self._single:
            found = self._root if name == self._root.name else None
        else:
            listed = name in self._root.folders() and part_folders(self._root.child(name)) != []
            found = self._root.child(name) if listed else None
        if found is None:
            raise RunNotFound(f"no run named {name!r} in {self.location}: it was moved, renamed or deleted.")
        return found

    def stamp(self, name: str) -> Stamp:
        """A run's version, from its files' sizes and times: cheap enough to ask every second.

        Raises:
            RunNotFound: no such run.
        """
        parts, written = [name], 0.0
        for part in part_folders(self.folder(name)):
            files = part.files()
            parts += [part.name, files[RUN_FILE].version if RUN_FILE in files else ""]
            parts += [f"{file}.{stamp.size}" for file, stamp in sorted(files.items())]
            written = max(written, *(stamp.written for stamp in files.values()), 0.0)
        return Stamp("-".join(parts), written)

    def get(self, name: str) -> Snapshot:
        """The run as it is now, read and judged again only when its files grew.

        Raises:
            RunError: the run cannot be read; the text says why and what to do.
        """
        folder = self.folder(name)
        with self._lock:
            followed = self._followed.setdefault(name, _Followed(name, folder))
        with followed.lock:
            return followed.snapshot(self.stamp(name).version)

    def peek(self, name: str) -> Snapshot | None:
        """The run as it was read last, without touching the disk."""
        followed = self._followed.get(name)
        return followed.latest if followed else None


class _Followed:
    def __init__(self, name: str, folder: Folder) -> None:
        self.lock = threading.Lock()
        self.latest: Snapshot | None = None
        self._name = name
        self._folder = folder
        self._version = ""
        self._reader: RunReader | None = None

    def snapshot(self, version: str) -> Snapshot:
        if self.latest is not None and version == self._version:
            return self.latest
        started = time.perf_counter()
        if self._reader is None:
            self._reader = RunReader(self._folder.location)
        run = self._reader.read()
        signals = Signals(run)
        numbers, diagnosis = headline_numbers(run, signals), diagnose(run, signals)
        self.latest = Snapshot(self._name, run, signals, diagnosis, numbers, time.perf_counter() - started)
        self._version = version
        return self.latest
