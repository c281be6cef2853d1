"""Reads a run, finished or still growing, complete or cut at any byte."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.errors import NotARun, RunNotFound, UnsupportedSchema
from gradscope.records import (
    SCHEMA_VERSION,
    STEP,
    SUMMARY_ROW,
    Event,
    Link,
    NotObserved,
    OptimizerInfo,
    Rows,
    Run,
    RunInfo,
    Site,
)
from gradscope.store.schema import EVENTS_FILE, RUN_FILE, STEPS_FILE, SUMMARIES_FILE, to_rows


def _parse_info(content: dict[str, Any]) -> RunInfo:
    """A `RunInfo` from the JSON object that `dataclasses.asdict` gave; unknown keys are ignored."""
    lists = ("shape", "aliases", "inputs")
    nested: dict[str, Callable[[dict[str, Any]], Any]] = {
        "sites": lambda item: Site(**{**item, **{name: tuple(item.get(name, ())) for name in lists}}),
        "links": lambda item: Link(**{**item, "operations": tuple(item["operations"])}),
        "not_observed": lambda item: NotObserved(**item),
        "optimizers": lambda item: OptimizerInfo(**item),
    }
    known = {spec.name for spec in dataclasses.fields(RunInfo)}
    values = {name: value for name, value in content.items() if name in known}
    for name, build in nested.items():
        values[name] = tuple(build(item) for item in values.get(name, ()))
    values["heads"] = tuple(values.get("heads", ()))
    return RunInfo(**values)


def read_info(folder: Path) -> RunInfo:
    """Reads `run.json`.

    Raises:
        RunNotFound: there is no such folder.
        NotARun: the folder has no readable `run.json`.
        UnsupportedSchema: another schema version wrote it.
    """
    if not folder.exists():
        raise RunNotFound(f"no run at {folder}: there is no such folder. `gradscope.watch` prints where it records.")
    file = folder / RUN_FILE
    if not file.is_file():
        raise NotARun(f"{folder} is not a GradScope run: it has no {RUN_FILE}.")
    try:
        content = orjson.loads(file.read_bytes())
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise UnsupportedSchema(
                f"{folder} was written with schema version {version}; this GradScope reads version {SCHEMA_VERSION}. "
                "Read it with the version of GradScope that wrote it (see `versions` in its run.json)."
            )
        return _parse_info(content)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise NotARun(f"{folder} is not a readable GradScope run: {RUN_FILE} is damaged ({error!r}).") from error


class _Tail:
    """Follows one file of whole items; the end that is not whole (yet) is read again next time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._position = 0

    def read(self, split: Callable[[bytes], int]) -> None:
        """Hands the new bytes to `split`, which says how many of them it could use."""
        try:
            with self.file.open("rb") as stream:
                stream.seek(self._position)
                content = stream.read()
        except FileNotFoundError:  # the run is just being made, or was copied without it
            return
        if content:
            self._position += split(content)


class _Batches:
    """The record batches of a growing Arrow IPC stream."""

    def __init__(self, file: Path, dtype: np.dtype[Any]) -> None:
        self._tail = _Tail(file)
        self._dtype = dtype
        self._schema: pa.Schema | None = None
        self.rows: list[Rows] = [np.empty(0, dtype)]
        self.batches: list[pa.RecordBatch] = []  # only where a column is no part of the dtype

    def read(self) -> Rows:
        self._tail.read(self._split)
        self.rows = [np.concatenate(self.rows)]
        return self.rows[0]

    def _split(self, content: bytes) -> int:
        source, whole = pa.BufferReader(content), 0
        while True:
            try:
                message = pa.ipc.read_message(source)
                if self._schema is None:
                    self._schema = pa.ipc.read_schema(message)
                else:
                    batch = pa.ipc.read_record_batch(message, self._schema)
                    self.rows.append(to_rows(batch, self._dtype))
                    if len(batch.schema.names) > len(self._dtype.names or ()):
                        self.batches.append(batch)
            except (pa.ArrowException, EOFError, OSError, StopIteration):
                return whole  # the mark of an ended stream, or a tail that was cut
            whole = source.tell()


class RunReader:
    """Follows a run folder: each `read` gives the run as it is now and touches only what is new.

    Raises:
        RunNotFound, NotARun, UnsupportedSchema: see `read_info`.

    Example:
        >>> reader = RunReader(Path("runs/latest"))  # doctest: +SKIP
        >>> reader.read().steps["loss"][-1]  # doctest: +SKIP
        0.31
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        read_info(folder)  # a wrong folder is said now, not at the first read
        self._steps = _Batches(folder / STEPS_FILE, STEP)
        self._summaries = _Batches(folder / SUMMARIES_FILE, SUMMARY_ROW)
        self._events_tail = _Tail(folder / EVENTS_FILE)
        self._events: list[Event] = []

    def read(self) -> Run:
        """The run up to the last whole record on disk."""
        summaries = self._summaries.read()
        steps = self._steps.read()
        self._events_tail.read(self._split_events)
        info = read_info(self.folder)  # last: sites are written before the rows that name them
        return Run(info, steps, self._learning_rates(len(steps)), summaries, tuple(self._events))

    def _learning_rates(self, length: int) -> NDArray[np.float64]:
        lists = [rates for batch in self._steps.batches for rates in batch.column("learning_rates").to_pylist()]
        padded = np.full((length, max(map(len, lists), default=0)), np.nan)
        for row, rates in zip(padded, lists, strict=True):
            row[: len(rates)] = rates
        return padded

    def _split_events(self, content: bytes) -> int:
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            try:
                self._events.append(Event(**orjson.loads(line)))
            except (orjson.JSONDecodeError, TypeError):
                continue  # a damaged line costs itself, not the run
        return whole


def read_run(folder: Path | str) -> Run:
    """Reads a run folder once. See `RunReader` for one that grows, and for the errors."""
    return RunReader(Path(folder)).read()
