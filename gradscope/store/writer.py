"""Writes a run while it happens. Each batch is flushed whole, so that a kill loses at most the step in flight."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gradscope.errors import RunExists, RunNotWritable
from gradscope.records import Rows, RunInfo
from gradscope.store.schema import (
    EVENTS_FILE,
    RUN_FILE,
    STEP_SCHEMA,
    STEPS_FILE,
    SUMMARIES_FILE,
    SUMMARY_SCHEMA,
    to_arrays,
)

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # most histogram bins are zeros


class RunWriter:
    """Appends to one run folder. Not for use in a forked child: it does nothing there.

    Args:
        folder: made if missing; must not hold a run already.
        info: written at once, and again by `write_info`.

    Raises:
        RunExists: the folder holds a run.
        RunNotWritable: the folder cannot be made or written.

    Example:
        >>> import tempfile, time
        >>> from gradscope.records import RunInfo
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = RunWriter(Path(folder) / "run", RunInfo("a", "Net", time.time()))
        ...     writer.write_event(0, "value", {"name": "accuracy", "value": 0.9})
        ...     writer.close()
        ...     sorted(path.name for path in (Path(folder) / "run").iterdir())
        ['events.jsonl', 'run.json', 'steps.arrow', 'summaries.arrow']
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        self.folder = folder
        self._process = os.getpid()
        if (folder / RUN_FILE).exists():
            raise RunExists(
                f"{folder} already holds a run. Give watch() another run_dir, or move that run away; "
                "GradScope never overwrites a run."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._steps_file = (folder / STEPS_FILE).open("xb")
            self._summaries_file = (folder / SUMMARIES_FILE).open("xb")
            self._events_file = (folder / EVENTS_FILE).open("xb")
        except FileExistsError as error:
            raise RunExists(f"{folder} already holds files of a run: {error}. Give another run_dir.") from error
        except OSError as error:
            raise RunNotWritable(
                f"cannot write a run to {folder}: {error}. Give watch() a run_dir that this process may write."
            ) from error
        self._steps = pa.ipc.new_stream(self._steps_file, STEP_SCHEMA)
        self._summaries = pa.ipc.new_stream(self._summaries_file, SUMMARY_SCHEMA, options=_COMPRESSED)
        self.write_info(info)
        self._flush()

    def write_info(self, info: RunInfo) -> None:
        """Replaces `run.json` in one move, so that a reader never sees half of it."""
        if os.getpid() != self._process:
            return
        fresh = self.folder / f"{RUN_FILE}.new"
        fresh.write_bytes(orjson.dumps(info, option=orjson.OPT_INDENT_2))
        os.replace(fresh, self.folder / RUN_FILE)

    def write_steps(self, steps: Rows, learning_rates: list[list[float]]) -> None:
        """Appends closed steps: dtype `STEP`, shape `[N]`, and N lists of learning rates."""
        if os.getpid() != self._process:
            return
        arrays = [*to_arrays(steps), pa.array(learning_rates, STEP_SCHEMA.field("learning_rates").type)]
        self._steps.write_batch(pa.record_batch(arrays, schema=STEP_SCHEMA))
        self._steps_file.flush()

    def write_summaries(self, rows: Rows) -> None:
        """Appends one recorded step: dtype `SUMMARY_ROW`, shape `[N]`."""
        if os.getpid() != self._process:
            return
        self._summaries.write_batch(pa.record_batch(to_arrays(rows), schema=SUMMARY_SCHEMA))
        self._summaries_file.flush()

    def write_event(self, step: int, kind: str, data: dict[str, Any]) -> None:
        """Appends one event."""
        if os.getpid() != self._process:
            return
        event = {"step": step, "time": time.time(), "kind": kind, "data": data}
        self._events_file.write(orjson.dumps(event, default=str, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._events_file.flush()

    def close(self) -> None:
        """Ends the streams and closes the files; harmless when called twice or on a full disk."""
        if os.getpid() != self._process:
            return
        full_disk = contextlib.suppress(OSError)  # what was flushed before stays readable
        for stream, file in ((self._steps, self._steps_file), (self._summaries, self._summaries_file)):
            if not file.closed:
                with full_disk:
                    stream.close()
            with full_disk:
                file.close()
        with full_disk:
            self._events_file.close()

    def _flush(self) -> None:
        for file in (self._steps_file, self._summaries_file, self._events_file):
            file.flush()
