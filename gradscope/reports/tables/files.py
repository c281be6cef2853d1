"""Tables -> Parquet or CSV files, batch by batch: no more than one stretch of the run is in memory.

Parquet holds everything as it is. In CSV a null is an empty cell, NaN and Inf are `nan`, `inf` and `-inf`, lists are JSON
arrays, and a text that a spreadsheet would run as a formula begins with an apostrophe.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import pyarrow as pa
from pyarrow import compute, csv, parquet

from gradscope.errors import OutputExists, ReportNotWritable

Format = Literal["parquet", "csv"]
_FORMULA = "^ *[=+@\t\r\n-]"  # how a cell begins that a spreadsheet runs
_UNFINISHED = ".new"


class TableFiles:
    """Files that grow by batches and are there, whole, once they are closed. For use in a `with` block.

    Args:
        paths: for each table its file. Folders are made.
        form: what to write.
        facts: text to store beside the columns of a Parquet file.
        overwrite: whether files that are there already are replaced.

    Attributes:
        rows: how many each table has so far.

    Raises:
        OutputExists: a file is there already.
        ReportNotWritable: a file cannot be written.
    """

    def __init__(
        self, paths: Mapping[str, Path], form: Format, facts: Mapping[str, str] | None = None, overwrite: bool = False
    ) -> None:
        there = [path for path in paths.values() if path.exists() or path.is_symlink()]
        if there and not overwrite:
            raise OutputExists(
                f"{there[0]} is there already; nothing was written. Give -o another name, or --overwrite to replace it."
            )
        self._paths, self._form, self._facts = paths, form, dict(facts or {})
        self._writers: dict[str, Any] = {}
        self.rows: dict[str, int] = dict.fromkeys(paths, 0)

    def __enter__(self) -> TableFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()
        for name in self._writers:
            if kind is None:
                os.replace(_beside(self._paths[name]), self._paths[name])
            else:
                _beside(self._paths[name]).unlink(missing_ok=True)

    def add(self, batches: Iterable[tuple[str, pa.RecordBatch]]) -> None:
        """Writes batches as they come."""
        try:
            for name, batch in batches:
                if name not in self._writers:
                    self._open(name, batch.schema)
                if batch.num_rows:
                    self._writers[name].write_batch(as_csv_text(batch) if self._form == "csv" else batch)
                self.rows[name] += batch.num_rows
        except OSError as error:
            place = next(iter(self._paths.values())).parent
            raise ReportNotWritable(f"cannot write tables to {place}: {error}. Give -o another place.") from error

    def _open(self, name: str, schema: pa.Schema) -> None:
        path = _beside(self._paths[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._form == "csv":
            self._writers[name] = csv.CSVWriter(path, csv_schema(schema))
        else:
            whole = schema.with_metadata({**schema.metadata, **self._facts})
            self._writers[name] = parquet.ParquetWriter(path, whole, compression="zstd")


def write_csv(stream: BinaryIO, batches: Iterable[tuple[str, pa.RecordBatch]]) -> None:
    """Writes the batches of one table as CSV into a stream that is open."""
    writer: csv.CSVWriter | None = None
    for _, batch in batches:
        writer = writer or csv.CSVWriter(stream, csv_schema(batch.schema))
        writer.write_batch(as_csv_text(batch))
    if writer is not None:
        writer.close()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}{_UNFINISHED}")


def csv_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as CSV can hold them."""
    return pa.schema([pa.field(each.name, pa.string() if _is_text(each.type) else each.type) for each in schema])


def as_csv_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its lists as JSON, and what a spreadsheet would run marked as text.

    Example:
        >>> batch = pa.record_batch({"layer": ["=1+1", "fc-1"], "layers": [["a"], []]})
        >>> as_csv_text(batch).to_pylist()
        [{'layer': "'=1+1", 'layers': '["a"]'}, {'layer': 'fc-1', 'layers': '[]'}]
    """
    columns = [_as_text(column) if _is_text(column.type) else column for column in batch.columns]
    return pa.record_batch(columns, schema=csv_schema(batch.schema))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_list(kind))


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        texts = [None if each is None else orjson.dumps(each).decode() for each in column.to_pylist()]
        column = pa.array(texts, pa.string())
    risky = compute.match_substring_regex(column, _FORMULA)
    return compute.if_else(risky, compute.binary_join_element_wise("'", column, ""), column)
