"""The Arrow schemas of a run, derived from the dtypes of `records`, so that there is one list of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from gradscope.records import STEP, STEP_DEFAULTS, SUMMARY_ROW, Rows

RUN_FILE = "run.json"
STEPS_FILE = "steps.arrow"
SUMMARIES_FILE = "summaries.arrow"
EVENTS_FILE = "events.jsonl"

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
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1]))
        else:
            arrays.append(pa.array(column))
    return arrays


def to_rows(batch: pa.RecordBatch, dtype: np.dtype[Any]) -> Rows:
    """The inverse of `to_arrays`: a structured array of `dtype`, shape `[rows]`."""
    rows = np.zeros(batch.num_rows, dtype)
    for name in dtype.names or ():
        if name not in batch.schema.names:  # written before there was such a column
            rows[name] = STEP_DEFAULTS.get(name, 0)
            continue
        column = batch.column(batch.schema.get_field_index(name))
        if dtype[name].subdtype is not None:
            column = column.flatten()
        rows[name] = column.to_numpy(zero_copy_only=False).reshape(rows[name].shape)
    return rows
