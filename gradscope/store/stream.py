"""Reads a run stretch by stretch, in memory that does not grow with it: for whoever hands its numbers on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gradscope.errors import RunNotFound
from gradscope.records import SUMMARY_ROW, Rows, Run
from gradscope.store.folders import Location, Stamp, open_folder
from gradscope.store.messages import Decoder
from gradscope.store.parts import RunReader, part_folders
from gradscope.store.reader import event_series, read_info, step_series
from gradscope.store.schema import EVENTS, STEPS, SUMMARIES, SUMMARY_SCHEMA, to_rows
from gradscope.store.segments import GAPS, TRIES, has_gap, segments

_ROWS = 1 << 16  # of a stretch, about: 32 MB
_BEFORE_ALL = -(1 << 62)


class RunStream:
    """Follows a run: each `read` gives what was recorded since the one before.

    A training on several processes is read whole, for its ranks are merged from all that they recorded.

    Args:
        location: the run's folder, a path or a URL.

    Raises:
        RunNotFound, NotARun, UnsupportedSchema: see `read_info`.

    Example:
        >>> for run in RunStream("runs/latest").read():  # doctest: +SKIP
        ...     print(len(run.summaries))
    """

    def __init__(self, location: Location) -> None:
        parts = part_folders(open_folder(location))
        self._folder = parts[0] if parts else open_folder(location)
        self.info = read_info(self._folder.location)  # says what is wrong with it
        several = len(parts) > 1 or self.info.world_size > 1
        self._whole = RunReader(location) if several else None
        self._steps, self._events = step_series(), event_series()
        self._positions: dict[str, int] = {}  # bytes used of each file of summaries
        self._decoders: dict[str, Decoder] = {}
        self._last = _BEFORE_ALL  # the recorded step given last

    def read(self) -> Iterator[Run]:
        """One run or more: each has all facts, steps and events so far, and the next stretch of summaries."""
        if self._whole is not None:
            yield from self._of_many(self._whole.read())
            return
        given = False
        for rows in self._stretches():
            given = True
            yield self._run(rows)
        if not given:
            yield self.without_summaries()

    def without_summaries(self) -> Run:
        """All facts, steps and events so far."""
        if self._whole is None:
            return self._run(np.empty(0, SUMMARY_ROW))
        return replace(self._whole.read(), summaries=np.empty(0, SUMMARY_ROW))

    def _of_many(self, run: Run) -> Iterator[Run]:
        """The same of a run that is in memory."""
        self.info = run.info
        rows = run.summaries[np.searchsorted(run.summaries["step"], self._last, side="right") :]
        for begin, end in pairwise([*np.unique(rows["step"])[:: _steps_at_once(rows)].tolist(), 1 << 62]):
            taken = rows[slice(*np.searchsorted(rows["step"], [begin, end]))]
            self._last = int(taken["step"][-1])
            yield replace(run, summaries=taken)
        if not len(rows):
            yield replace(run, summaries=rows)

    def _run(self, rows: Rows) -> Run:
        """What goes with some rows; the facts are read last, for sites are written before the rows that name them."""
        for stamps in self._listings():
            try:
                self._steps.read(self._folder, stamps)
                self._events.read(self._folder, stamps)
                break
            except FileNotFoundError:  # merged since it was listed
                continue
        self.info = read_info(self._folder.location)
        steps, rates = self._steps.tables
        return Run(self.info, steps, rates, rows, tuple(self._events.tables[0]))

    def _stretches(self) -> Iterator[Rows]:
        """New rows, whole recorded steps in order."""
        for stamps in self._listings():
            try:
                for segment in segments(stamps, *SUMMARIES):
                    yield from self._of_file(segment.name, stamps[segment.name])
                return
            except FileNotFoundError:  # merged since; what was given is known by its step
                continue

    def _listings(self) -> Iterator[dict[str, Stamp]]:
        """The files as they are now, until what was listed could be read.

        Raises:
            RunNotFound: they were exchanged each time.
        """
        gaps = 0
        for _ in range(TRIES):
            stamps = self._folder.files()
            if gaps < GAPS and any(has_gap(segments(stamps, *each)) for each in (SUMMARIES, STEPS, EVENTS)):
                gaps += 1
                continue  # files were exchanged while they were listed
            yield stamps
        raise RunNotFound(f"{self._folder}: its files were exchanged each time they were listed. Try again.")

    def _of_file(self, name: str, stamp: Stamp) -> Iterator[Rows]:
        position = self._positions.get(name, 0)
        if position >= stamp.size:
            return
        content = self._folder.read(name, position)
        decoder = self._decoders.setdefault(name, Decoder(SUMMARY_SCHEMA))
        waiting: list[Rows] = []
        for message, batch in decoder.batches(content, position == 0):
            rows = to_rows(batch, SUMMARY_ROW)
            self._positions[name] = position + message.end
            if int(rows["step"][0]) > self._last:
                self._last = int(rows["step"][0])
                waiting.append(rows)
            if sum(map(len, waiting)) >= _ROWS:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)


def _steps_at_once(rows: Rows) -> int:
    """How many recorded steps make a stretch."""
    return max(_ROWS * len(np.unique(rows["step"])) // max(len(rows), 1), 1)
