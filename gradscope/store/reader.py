"""Reads a run, finished or still growing, complete or cut at any byte."""

from __future__ import annotations

import dataclasses
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

_TRIES = 1000  # listings taken while files that were listed vanish, before it is an error: the writer may be quick
_GAPS = 50  # of them with a gap, before it is taken for one that stays
_AT_ONCE = 10_000  # rows unpacked together: enough for small batches to be cheap, few enough to stay small


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
    return RunInfo(**values)


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


class RunReader:
    """Follows a run: each `read` gives the run as it is now and touches only what is new.

    Args:
        location: the run's folder, a path or a URL.

    Raises:
        MissingPackage: see `open_folder`.
        RunNotFound, NotARun, UnsupportedSchema: see `read_info`.

    Example:
        >>> reader = RunReader("runs/latest")  # doctest: +SKIP
        >>> reader.read().steps["loss"][-1]  # doctest: +SKIP
        0.31
    """

    def __init__(self, location: Location) -> None:
        self.folder = open_folder(location)
        self._info = _read_info(self.folder)  # a wrong folder is said now, not at the first read
        self._info_stamp: Stamp | None = None
        self._run: Run | None = None
        self._summaries = Series(*SUMMARIES, (np.empty(0, SUMMARY_ROW),), _parser(SUMMARY_SCHEMA, _summaries))
        self._steps = step_series()
        self._events = event_series()

    def read(self) -> Run:
        """The run up to the last whole record on disk."""
        changed = self._read_series()
        stamp = self.folder.files().get(RUN_FILE)
        if stamp is None or not stamp.version or stamp != self._info_stamp:
            info = _read_info(self.folder)  # last: sites are written before the rows that name them
            changed |= info != self._info
            self._info, self._info_stamp = info, stamp
        if changed or self._run is None:
            steps, rates = self._steps.tables
            self._run = Run(self._info, steps, rates, self._summaries.tables[0], tuple(self._events.tables[0]))
        return self._run

    def _read_series(self) -> bool:
        changed = False
        gaps = 0
        for left in reversed(range(_TRIES)):
            stamps = self.folder.files()
            several = (self._summaries, self._steps, self._events)
            if gaps < _GAPS and any(series.has_gap(stamps) for series in several):
                gaps += 1
                continue  # files were exchanged while they were listed; a gap that stays is one that somebody made
            try:
                for series in several:
                    changed |= series.read(self.folder, stamps)
                break
            except FileNotFoundError:  # merged with another since it was listed
                changed = True
                if not left:
                    raise
        return changed


def read_run(location: Location) -> Run:
    """Reads a run once. See `RunReader` for one that grows, and for the arguments and errors."""
    return RunReader(location).read()
