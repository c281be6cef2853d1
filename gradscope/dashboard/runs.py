"""The runs that the page shows: found in a folder, followed while they grow, judged once for each growth."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from gradscope.diagnosis import diagnose
from gradscope.errors import NotARun, RunNotFound
from gradscope.records import Diagnosis, Run
from gradscope.reports.numbers import HeadlineNumbers, headline_numbers
from gradscope.signals import Signals
from gradscope.store import RunReader, list_runs, part_folders

_FILES = ("run.json", "steps.arrow", "summaries.arrow", "events.jsonl")


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

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise RunNotFound(
                f"no run at {path}: there is no such folder. Runs are in `runs/` unless run_dir= says else."
            )
        if not path.is_dir():
            raise NotARun(f"{path} is a file; expected a run folder or a folder of runs.")
        self.path = path.resolve()
        self._single = bool(part_folders(self.path))
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The runs' names, newest first."""
        return [self.path.name] if self._single else [folder.name for folder in list_runs(self.path)]

    def folder(self, name: str) -> Path:
        """The folder of a run. Only names that `names` lists are accepted, so that none leads out of the folder.

        Raises:
            RunNotFound: no such run.
        """
        if name not in self.names():
            raise RunNotFound(f"no run named {name!r} in {self.path}: it was moved, renamed or deleted.")
        return self.path if self._single else self.path / name

    def stamp(self, name: str) -> Stamp:
        """A run's version, from its files' sizes and times: cheap enough to ask every second.

        Raises:
            RunNotFound: no such run.
        """
        folder, parts, written = self.folder(name), [name], 0.0
        for path in (part / file for part in part_folders(folder) for file in _FILES):
            try:
                stat, file = path.stat(), path.name
            except FileNotFoundError:
                continue
            parts.append(f"{file[0]}{stat.st_size}.{stat.st_mtime_ns if file == 'run.json' else ''}")
            written = max(written, stat.st_mtime)
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
    def __init__(self, name: str, folder: Path) -> None:
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
            self._reader = RunReader(self._folder)
        run = self._reader.read()
        signals = Signals(run)
        numbers, diagnosis = headline_numbers(run, signals), diagnose(run, signals)
        self.latest = Snapshot(self._name, run, signals, diagnosis, numbers, time.perf_counter() - started)
        self._version = version
        return self.latest
