"""Reads a run, finished or still growing, complete or cut at any byte."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from gradscope.errors import NotARun, RunNotFound, UnsupportedSchema
from gradscope.records import (
    SCHEMA_VERSION,
    STEP,
    SUMMARY_ROW,
    Link,
    LossPath,
    NotObserved,
    OptimizerInfo,
    Place,
    Rows,
    Run,
    RunInfo,
    Site,
    SourceFile,
)
from gradscope.store.excerpt import Excerpt
from gradscope.store.fields import misfit
from gradscope.store.folders import Folder, Location, Stamp, open_folder
from gradscope.store.follow import Parse, Series
from gradscope.store.messages import Decoder
from gradscope.store.schema import (
    EVENTS,
    RUN_FILE,
    STEP_SCHEMA,
    STEPS,
    SUMMARIES,
    SUMMARY_SCHEMA,
    parse_event,
    to_rates,
    to_rows,
)
from gradscope.store.segments import GAPS, TRIES, segments

_BYTES_OF_A_ROW = 120  # on disk, at most
_AT_ONCE = 10_000  # rows unpacked together: enough for small batches to be cheap, few enough to stay small


LookAtRun = Callable[[Run], object]


def _parse_info(content: dict[str, Any]) -> RunInfo:
    """A `RunInfo` from the JSON object that `dataclasses.asdict` gave; unknown keys are ignored."""
    lists = ("shape", "aliases", "inputs")
    nested: dict[str, Callable[[dict[str, Any]], Any]] = {
        "sites": lambda item: Site(**{**item, **{name: tuple(item.get(name, ())) for name in lists}}),
        "links": lambda item: Link(**{**item, "operations": tuple(item["operations"])}),
        "not_observed": lambda item: NotObserved(**item),
        "optimizers": lambda item: OptimizerInfo(**item),
        "places": lambda item: Place(**item),
        "sources": lambda item: SourceFile(**item),
    }
    known = {spec.name for spec in dataclasses.fields(RunInfo)}
    values = {name: value for name, value in content.items() if name in known}
    for name, build in nested.items():
        values[name] = tuple(build(item) for item in values.get(name, ()))
    for name in ("heads", "unregistered", "command"):
        values[name] = tuple(values.get(name, ()))
    path = values.get("loss_path")
    if path is not None:
        facts: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in path.items()}
        values["loss_path"] = LossPath(**facts)
    return _whole(RunInfo(**values))


def _whole(info: RunInfo) -> RunInfo:
    """The same, once every field is of its type and every site that is named is there."""
    if (name := misfit(info)) is not None:
        raise TypeError(f"{name} is of another type")
    ends = (end for link in info.links for end in (link.container, link.source, link.target) if end is not None)
    inside = (
        each for site in info.sites for each in (*site.inputs, *(() if site.same_as is None else (site.same_as,)))
    )
    if any(not -1 <= each < len(info.sites) for each in (*info.heads, *ends, *inside)):
        raise KeyError("sites")
    return info


def read_info(location: Location) -> RunInfo:
    """Reads `run.json`.

    Raises:
        RunNotFound: there is no such folder.
        NotARun: the folder has no readable `run.json`.
        UnsupportedSchema: another schema version wrote it.
    """
    return _read_info(open_folder(location))


def _read_info(folder: Folder) -> RunInfo:
    try:
        text = folder.read(RUN_FILE)
    except OSError as error:
        if not folder.exists() and not folder.is_file():
            raise RunNotFound(
                f"no run at {folder}: there is no such folder. `gradscope.watch` prints where it records."
            ) from error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise NotARun(f"{folder} is not a GradScope run: it has no {RUN_FILE}.") from error
        raise
    try:
        content = orjson.loads(text)
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise UnsupportedSchema(
                f"{folder} was written with schema version {version}; this GradScope reads version {SCHEMA_VERSION}. "
                "Read it with the version of GradScope that wrote it (see `versions` in its run.json)."
            )
        return _parse_info(content)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise NotARun(f"{folder} is not a readable GradScope run: {RUN_FILE} is damaged ({error!r}).") from error


def _parser(schema: pa.Schema, unpack: Callable[[pa.RecordBatch], tuple[Rows, ...]]) -> Parse:
    """How to read the bytes of an Arrow stream of this schema."""
    decoder = Decoder(schema)

    def parse(content: bytes, first: bool) -> Iterator[tuple[tuple[Rows, ...], int]]:
        waiting: list[pa.RecordBatch] = []
        used = rows = 0
        for message, batch in decoder.batches(content, first):
            waiting.append(batch)
            used, rows = message.end, rows + batch.num_rows
            if rows >= _AT_ONCE:
                yield unpack(pa.concat_batches(waiting)), used
                waiting, rows = [], 0
        if waiting:
            yield unpack(pa.concat_batches(waiting)), used

    return parse


def _steps(batch: pa.RecordBatch) -> tuple[Rows, ...]:
    return to_rows(batch, STEP), to_rates(batch)


def _summaries(batch: pa.RecordBatch) -> tuple[Rows, ...]:
    return (to_rows(batch, SUMMARY_ROW),)


def _events(content: bytes, first: bool) -> Iterator[tuple[tuple[Rows, ...], int]]:
    whole = content.rfind(b"\n") + 1
    events = [event for line in content[:whole].splitlines() if (event := parse_event(line)) is not None]
    rows = np.empty(len(events), object)
    rows[:] = events
    if whole:
        yield (rows,), whole


def step_series() -> Series:
    """The closed steps of a run: their rows, and their learning rates."""
    return Series(*STEPS, (np.empty(0, STEP), np.empty((0, 0))), _parser(STEP_SCHEMA, _steps))


def event_series() -> Series:
    """The events of a run, as objects."""
    return Series(*EVENTS, (np.empty(0, object),), _events)


class _TooLarge(Exception):
    """There are more rows than may be read whole."""


def _structure(info: RunInfo) -> object:
    """What signals of all kinds depend on: another one makes what was looked at before worthless."""
    sites = [(site.path, site.role, site.order, site.mechanism, site.same_as, site.inputs) for site in info.sites]
    return sites, info.links, info.heads


class RunReader:
    """Follows a run: each `read` gives the run as it is now and touches only what is new.

    Args:
        location: the run's folder, a path or a URL.
        memory: bytes that summaries may take; where they need more, some recorded steps are read whole and all of them
            are looked at, see `excerpt`. None: all are read.
        look: what is kept of recorded steps where not all are read whole: it is given a run that has no more than the
            columns of `LOOK_ROW` of some steps.

    Raises:
        MissingPackage: see `open_folder`.
        RunNotFound, NotARun, UnsupportedSchema: see `read_info`.

    Example:
        >>> reader = RunReader("runs/latest")  # doctest: +SKIP
        >>> reader.read().steps["loss"][-1]  # doctest: +SKIP
        0.31
    """

    def __init__(self, location: Location, memory: int | None = None, look: LookAtRun | None = None) -> None:
        self.folder = open_folder(location)
        self._info = _read_info(self.folder)  # a wrong folder is said now, not at the first read
        self._info_stamp: Stamp | None = None
        self._run: Run | None = None
        self._most_rows = None if memory is None else memory // SUMMARY_ROW.itemsize
        self._memory, self._look_at = memory or 0, look
        self._summaries = self._whole_summaries()
        self._steps = step_series()
        self._events = event_series()
        self.excerpt: Excerpt | None = None

    def read(self, seconds: float = math.inf) -> Run:
        """The run up to the last whole record on disk.

        Args:
            seconds: after which no more recorded steps of a large run are looked at: `excerpt.left` says whether the
                next call has more to do.
        """
        changed = self._read_series(seconds)
        changed |= self._read_info()  # last: sites are written before the rows that name them
        if changed or self._run is None:
            steps, rates = self._steps.tables
            rows = self._summaries.tables[0] if self.excerpt is None else self.excerpt.rows
            self._run = Run(self._info, steps, rates, rows, tuple(self._events.tables[0]))
        return self._run

    def _read_info(self) -> bool:
        stamp = self.folder.files().get(RUN_FILE)
        if stamp is not None and stamp.version and stamp == self._info_stamp:
            return False
        before, self._info, self._info_stamp = self._info, _read_info(self.folder), stamp
        if self.excerpt is not None and _structure(before) != _structure(self._info):
            self.excerpt.forget_looks()
        return before != self._info

    def _whole_summaries(self) -> Series:
        """All summaries, of which there may be `_most_rows`."""
        parse = _parser(SUMMARY_SCHEMA, _summaries)

        def counted(content: bytes, first: bool) -> Iterator[tuple[tuple[Rows, ...], int]]:
            for (rows,), used in parse(content, first):
                if self._most_rows is not None and len(self._summaries.tables[0]) + len(rows) > self._most_rows:
                    raise _TooLarge
                yield (rows,), used

        return Series(*SUMMARIES, (np.empty(0, SUMMARY_ROW),), counted)

    def _read_summaries(self, stamps: dict[str, Stamp], seconds: float) -> bool:
        if self.excerpt is None:
            try:
                size = sum(stamps[each.name].size for each in segments(stamps, *SUMMARIES))
                if self._most_rows is not None and size // _BYTES_OF_A_ROW > self._most_rows:
                    raise _TooLarge
                return self._summaries.read(self.folder, stamps)
            except _TooLarge:
                self._summaries = self._whole_summaries()  # lets go of what was read
                self.excerpt = Excerpt(self._memory, self._look)
        return self.excerpt.read(self.folder, stamps, seconds)

    def _marks(self) -> list[int]:
        """Where the loss was lost."""
        steps = self._steps.tables[0]
        return steps["step"][steps["has_loss"] & ~np.isfinite(steps["loss"])][:1].tolist()  # type: ignore[no-any-return]

    def _look(self, rows: Rows) -> object:
        if self._look_at is None:
            return None
        self._read_info()  # knows the sites of these rows
        rows = rows[rows["site"] < len(self._info.sites)]
        return self._look_at(Run(self._info, np.empty(0, STEP), np.empty((0, 0)), rows))

    def _read_series(self, seconds: float) -> bool:
        changed = False
        gaps = 0
        for left in reversed(range(TRIES)):
            stamps = self.folder.files()
            several = (self._summaries, self._steps, self._events)
            if gaps < GAPS and any(series.has_gap(stamps) for series in several):
                gaps += 1
                continue  # files were exchanged while they were listed
            try:
                changed |= self._read_summaries(stamps, seconds)
                changed |= self._steps.read(self.folder, stamps)
                changed |= self._events.read(self.folder, stamps)
                if self.excerpt is not None:
                    changed |= self.excerpt.pick(self.folder, self._marks())
                break
            except FileNotFoundError:  # merged with another since it was listed
                changed = True
                if not left:
                    raise
        return changed
