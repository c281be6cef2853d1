"""How rows and events are written: Arrow schemas derived from the dtypes of `records`, so that there is one list."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.records import STEP, STEP_DEFAULTS, SUMMARY_ROW, Event, Rows

RUN_FILE = "run.json"
# stem and suffix of the series of files, see `segments`
STEPS = ("steps", ".arrow")
SUMMARIES = ("summaries", ".arrow")
EVENTS = ("events", ".jsonl")

COMPRESSION = "lz4"  # most histogram bins are zeros; zstd makes them a quarter shorter in twice the time
LEARNING_RATES = pa.field("learning_rates", pa.list_(pa.float64()))  # one number a parameter group


def _field(name: str, dtype: np.dtype[Any]) -> pa.Field:
    """The Arrow field of one numpy column; a sub-array column becomes a fixed-size list."""
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        return pa.field(name, pa.list_(pa.from_numpy_dtype(item), shape[0]))
    return pa.field(name, pa.from_numpy_dtype(dtype))


def _fields(dtype: np.dtype[Any]) -> list[pa.Field]:
    return [_field(name, dtype[name]) for name in dtype.names or ()]


STEP_SCHEMA = pa.schema([*_fields(STEP), LEARNING_RATES])
SUMMARY_SCHEMA = pa.schema(_fields(SUMMARY_ROW))


def to_arrays(rows: Rows) -> list[pa.Array]:
    """The columns of a structured array as Arrow arrays."""
    arrays = []
    for name in rows.dtype.names or ():
        column = np.ascontiguousarray(rows[name])
        if column.ndim == 2:
            arrays.append(pa.FixedSizeListArray.from_arrays(arrow(column.ravel()), column.shape[1]))
        else:
            arrays.append(arrow(column))
    return arrays


def to_rows(batch: pa.RecordBatch, dtype: np.dtype[Any]) -> Rows:
    """The inverse of `to_arrays`: a structured array of `dtype`, shape `[rows]`.

    A column that an older version did not write has its default, else it is NaN, 0 or False.
    """
    rows = np.empty(batch.num_rows, dtype)
    for name in dtype.names or ():
        if name not in batch.schema.names:
            rows[name] = STEP_DEFAULTS.get(name, np.nan if dtype[name].base.kind == "f" else 0)
            continue
        column = batch.column(batch.schema.get_field_index(name))
        if dtype[name].subdtype is not None:  # `flatten` would import all of pyarrow.compute
            (length,) = dtype[name].shape
            column = column.values.slice(column.offset * length, len(column) * length)
        rows[name] = plain(column).reshape(rows[name].shape)
    return rows


def arrow(column: NDArray[Any]) -> pa.Array:
    """Numbers or truths as Arrow has them; the inverse of `plain`.

    `pa.array` would import pandas where that is installed: 45 MB more in a training.
    """
    data = np.packbits(column, bitorder="little") if column.dtype == np.bool_ else np.ascontiguousarray(column)
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(data)])


def plain(column: pa.Array) -> NDArray[Any]:
    """A column of numbers or truths, without nulls, as numpy.

    `Array.to_numpy` would import pandas where that is installed: a fifth of a second before any report.
    """
    if not pa.types.is_boolean(column.type):
        return np.from_dlpack(column) if len(column) else np.empty(0, column.type.to_pandas_dtype())
    bits = np.frombuffer(column.buffers()[1], np.uint8) if len(column) else np.empty(0, np.uint8)
    return np.unpackbits(bits, bitorder="little")[column.offset : column.offset + len(column)].view(np.bool_)


def summary_batch(rows: Rows) -> pa.RecordBatch:
    """One recorded step as a record batch."""
    return pa.record_batch(to_arrays(rows), schema=SUMMARY_SCHEMA)


def step_batch(steps: Rows, learning_rates: list[list[float]]) -> pa.RecordBatch:
    """Closed steps as one record batch."""
    offsets = np.cumsum([0, *map(len, learning_rates)], dtype=np.int32)
    values = np.array([rate for each in learning_rates for rate in each], np.float64)
    rates = pa.ListArray.from_arrays(arrow(offsets), arrow(values))
    return pa.record_batch([*to_arrays(steps), rates], schema=STEP_SCHEMA)


def to_rates(batch: pa.RecordBatch) -> NDArray[np.float64]:
    """The learning rates of a batch of steps, shape `[steps, most groups]`, NaN where there is no such group."""
    column = batch.column(batch.schema.get_field_index(LEARNING_RATES.name))
    offsets = plain(column.offsets)
    lengths = np.diff(offsets)
    rates = np.full((len(lengths), lengths.max(initial=0)), np.nan)
    rates[np.arange(rates.shape[1]) < lengths[:, None]] = plain(
        column.values.slice(offsets[0], offsets[-1] - offsets[0])
    )
    return rates


def parse_event(line: bytes) -> Event | None:
    """One line of `events.jsonl`; None when it is damaged."""
    try:
        event = Event(**orjson.loads(line))
    except (orjson.JSONDecodeError, TypeError):
        return None
    return event if isinstance(event.step, int) else None
