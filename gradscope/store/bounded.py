"""Reads a run in bounded memory: of a large one the recorded steps that tell most, and the run itself says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradscope.records import NotObserved, Run
from gradscope.store.folders import Folder, Location
from gradscope.store.parts import RunReader

MEMORY = 256 * 2**20  # bytes of summaries that are held by whoever judges a run, in a training or beside it


@dataclass(frozen=True)
class Reading:
    """A run as it was when it was read.

    Attributes:
        run: where it is too large, with the summaries of some recorded steps; its `info.not_observed` says of how many.
        recorded: all recorded steps, shape `[recorded steps]`.
        whole: how many of them `run` has the summaries of.
    """

    run: Run
    recorded: NDArray[np.int64]
    whole: int

    @property
    def is_excerpt(self) -> bool:
        """Whether some recorded steps were not read."""
        return self.whole < len(self.recorded)

    @property
    def excerpt_words(self) -> str:
        """What of the run was read, where it is not all of it."""
        if not self.is_excerpt:
            return ""
        return (
            f"judged from {self.whole:,} of its {len(self.recorded):,} recorded steps: the run is larger than "
            "the memory that this takes. The first and the newest are among them, those where something happened, and "
            "some of the others."
        )


class BoundedReader:
    """Follows a run: each `read` gives it as it is now, as far as `MEMORY` allows.

    A training on several processes is read whole, for its ranks are merged from all that they recorded.

    Args:
        location: the run's folder, a path or a URL.

    Raises:
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.

    Example:
        >>> BoundedReader("runs/latest").read().is_excerpt  # doctest: +SKIP
        False
    """

    def __init__(self, location: Location) -> None:
        self._reader = RunReader(location, MEMORY)
        self._last: tuple[Run, Reading] | None = None

    @property
    def folder(self) -> Folder:
        """The run's."""
        return self._reader.folder

    def read(self, seconds: float = math.inf) -> Reading:
        """The run up to the last whole record on disk; the same object while nothing is new.

        Args:
            seconds: after which no more recorded steps of a large run are looked at; the next call goes on there.
        """
        run = self._reader.read(seconds)
        if self._last is None or self._last[0] is not run:
            self._last = run, _reading(run, None if self._reader.excerpt is None else self._reader.excerpt.steps)
        return self._last[1]


def _reading(run: Run, looked_at: NDArray[np.int64] | None) -> Reading:
    read = np.unique(run.summaries["step"])
    recorded = read if looked_at is None else np.unique(looked_at)
    if len(read) < len(recorded):
        missing = NotObserved(
            f"{len(recorded) - len(read):,} of {len(recorded):,} recorded steps, for the diagnosis",
            "the run is larger than the memory that this takes: the steps that tell most are read",
        )
        run = replace(run, info=replace(run.info, not_observed=(*run.info.not_observed, missing)))
    return Reading(run, recorded, len(read))
