"""One run that is followed while it grows: read as far as memory and time allow, and judged."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.history import ExcerptSignals, Look, look
from gradscope.diagnosis import diagnose
from gradscope.records import Diagnosis, NotObserved, Run
from gradscope.reports.numbers import HeadlineNumbers, headline_numbers
from gradscope.signals import Signals
from gradscope.store import RunReader
from gradscope.store.folders import Folder

MEMORY = 72 * 2**20  # bytes of summaries that are read whole; of more, some steps are, and all are looked at
FIRST_SECONDS, SECONDS = 0.25, 0.4  # of looking at recorded steps, at first and each time after


@dataclass(frozen=True)
class Snapshot:
    """A run as it was when last read, with everything that is derived from it."""

    name: str
    run: Run
    signals: Signals
    diagnosis: Diagnosis
    numbers: HeadlineNumbers
    seconds: float  # that reading and judging it took
    left: int = 0  # bytes of a large run that were not looked at yet

    @property
    def newest_step(self) -> int | None:
        """The last step on disk."""
        return int(self.run.steps["step"][-1]) if len(self.run.steps) else None

    @property
    def is_excerpt(self) -> bool:
        """Whether the run is too large to be read whole: the map shows all of it, the rest some recorded steps."""
        return isinstance(self.signals, ExcerptSignals)

    @property
    def is_empty(self) -> bool:
        """Whether neither a step nor a summary is on disk."""
        return not len(self.run.steps) and not len(self.signals.steps)


class Followed:
    """One run, read again and again.

    Attributes:
        lock: held while it is read.
        latest: as it was read last.
        version: of the files then.
        rounds: how often a run that is too large to be looked at in one go was looked at.
        size: bytes of the summaries that are kept.
    """

    def __init__(self, name: str, folder: Folder) -> None:
        self.lock = threading.Lock()
        self.latest: Snapshot | None = None
        self.version = ""
        self.rounds = 0
        self.size = 0
        self._name = name
        self._folder = folder
        self._reader: RunReader | None = None

    def snapshot(self, version: str) -> Snapshot:
        """The run as it is now. `version`: of its files; where it is known already, nothing is done."""
        before = self.latest
        if before is not None and version == self.version and not before.left:
            return before
        started = time.perf_counter()
        if self._reader is None:
            self._reader = RunReader(self._folder.location, MEMORY, look)
        run = self._reader.read(FIRST_SECONDS if before is None else SECONDS)
        signals, left = self._signals(run)
        numbers, diagnosis = headline_numbers(signals.run, signals), diagnose(signals.run, signals)
        took = time.perf_counter() - started
        self.latest = Snapshot(self._name, signals.run, signals, diagnosis, numbers, took, left)
        if left or (before is not None and before.left):
            self.rounds += 1
        self.version, self.size = version, run.summaries.nbytes
        return self.latest

    def _signals(self, run: Run) -> tuple[Signals, int]:
        """The signals, and how much of the run was not looked at."""
        excerpt = self._reader.excerpt if self._reader is not None else None
        if excerpt is None:
            return Signals(run), 0
        looks = [each for each in excerpt.looks if isinstance(each, Look)]
        return ExcerptSignals(_honest(run, excerpt.steps, excerpt.left), looks), excerpt.left


def _honest(run: Run, recorded: NDArray[np.int64], left: int) -> Run:
    """The run, saying which recorded steps its diagnosis is from."""
    all_steps, whole = len(np.unique(recorded)), len(np.unique(run.summaries["step"]))
    more = f"; {math.ceil(left / 2**20):,} MB are not looked at yet" if left else ""
    what = f"{all_steps - whole:,} of {all_steps:,} recorded steps, for the diagnosis"
    why = (
        "the run is larger than the memory that this page takes: it reads the first and the newest steps, those where "
        f"something happened and some of the others; the map shows all of them{more}"
    )
    return replace(run, info=replace(run.info, not_observed=(*run.info.not_observed, NotObserved(what, why))))
