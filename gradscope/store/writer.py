"""Writes a run while it happens. Each batch is written whole, so that a kill loses at most the step in flight."""

from __future__ import annotations

import contextlib
import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from gradscope.errors import RunExists, RunNotWritable
from gradscope.records import STEP, Rows, RunInfo
from gradscope.store.folders import open_folder
from gradscope.store.messages import END, Encoder
from gradscope.store.reader import event_series, read_info, step_series
from gradscope.store.schema import (
    COMPRESSION,
    EVENTS,
    RUN_FILE,
    STEP_SCHEMA,
    STEPS,
    SUMMARIES,
    SUMMARY_SCHEMA,
    step_batch,
    summary_batch,
)
from gradscope.store.segments import Segments, segments
from gradscope.store.single_steps import SingleSteps
from gradscope.store.thinning import last_step_of_summaries, merge_events, merge_steps, merge_summaries

BUDGET = 512 * 2**20  # bytes of a run; a reader unpacks them to some 3.5 GB of memory, what a laptop has
# What each part of a run may take of it; run.json, which is there twice while it is replaced, has the rest.
SHARES = {SUMMARIES: 7 / 8, STEPS: 1 / 16, EVENTS: 1 / 32}
_STEPS_AT_ONCE = 512  # steps that are packed into one batch once they are so many: 25 times shorter


class RunWriter:
    """Appends to one run folder. Not for use in a forked child: it does nothing there.

    Args:
        folder: made if missing; must not hold a run already, unless `resume`.
        info: written at once, and again by `write_info`.
        resume: go on with the run that the folder holds, if any, behind its last whole records.
        budget: bytes that the run's files never exceed, provided that a dozen recorded steps fit; old steps are
            thinned to make room, see `thinning`.

    Attributes:
        last_step: the last step of the run that is resumed; None where there is none.

    Raises:
        RunExists: the folder holds a run.
        NotARun, UnsupportedSchema: what the folder holds cannot be resumed.
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

    def __init__(self, folder: Path, info: RunInfo, *, resume: bool = False, budget: int = BUDGET) -> None:
        self.folder = folder
        self.last_step: int | None = None
        self._process = os.getpid()
        self._marks: list[int] = []  # steps at which something happened: those around them are kept
        self._lost = False  # whether the last loss was NaN or Inf
        names = os.listdir(folder) if folder.is_dir() else []
        if RUN_FILE in names and resume:
            self._go_on()
        elif RUN_FILE in names:
            raise RunExists(
                f"{folder} already holds a run. Give watch() another run_dir, or move that run away; "
                "GradScope never overwrites a run."
            )
        elif found := [each.name for series in SHARES for each in segments(names, *series)]:
            raise RunExists(f"{folder} already holds files of a run: {', '.join(found)}. Give another run_dir.")
        self._step_encoder, self._summary_encoder = Encoder(STEP_SCHEMA, None), Encoder(SUMMARY_SCHEMA, COMPRESSION)
        self._single_steps = SingleSteps(self._step_encoder)
        self._packed_steps = Encoder(STEP_SCHEMA, COMPRESSION)
        self._recent = np.empty(_STEPS_AT_ONCE, STEP)  # the steps in the segment that grows
        self._recent_rates: list[list[float]] = []  # theirs

        def share(series: tuple[str, str]) -> int:
            return int(budget * SHARES[series])

        summaries, steps = partial(merge_summaries, marks=self._marks), partial(merge_steps, marks=self._marks)
        fresh = RUN_FILE not in names  # then its first file is exclusive: of two that begin at once one is refused
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._summaries = Segments(
                folder, *SUMMARIES, self._summary_encoder.header, END, share(SUMMARIES), summaries, fresh
            )
            self._steps = Segments(folder, *STEPS, self._step_encoder.header, END, share(STEPS), steps, fresh)
            self._events = Segments(folder, *EVENTS, b"", b"", share(EVENTS), merge_events, fresh)
            self.write_info(info)
        except FileExistsError as error:
            raise RunExists(f"{folder} already holds files of a run: {error}. Give another run_dir.") from error
        except OSError as error:
            raise RunNotWritable(
                f"cannot write a run to {folder}: {error}. Give watch() a run_dir that this process may write."
            ) from error

    def _go_on(self) -> None:
        """Takes up the run that is there; torn ends of its files stay behind, for new segments are begun."""
        read_info(self.folder)
        folder, stamps = open_folder(self.folder), open_folder(self.folder).files()
        steps, events = step_series(), event_series()
        steps.read(folder, stamps)
        events.read(folder, stamps)
        found = [*steps.tables[0]["step"][-1:].tolist(), *last_step_of_summaries(self.folder)]
        self.last_step = max(found, default=None)
        self._marks += [event.step for event in events.tables[0] if _tells(event.kind)]

    def write_info(self, info: RunInfo) -> None:
        """Replaces `run.json` in one move, so that a reader never sees half of it."""
        if os.getpid() != self._process:
            return
        fresh = self.folder / f"{RUN_FILE}.new"
        fresh.write_bytes(orjson.dumps(info, option=orjson.OPT_INDENT_2))
        os.replace(fresh, self.folder / RUN_FILE)

    def write_steps(self, steps: Rows, learning_rates: list[list[float]]) -> None:
        """Appends closed steps: dtype `STEP`, shape `[N]`, and N lists of learning rates."""
        if os.getpid() != self._process or not len(steps):
            return
        for start in range(0, len(steps), _STEPS_AT_ONCE):
            end = start + _STEPS_AT_ONCE
            self._write_some_steps(steps[start:end], learning_rates[start:end])
        for step, has_loss, loss in zip(*(steps[name].tolist() for name in ("step", "has_loss", "loss")), strict=True):
            lost = has_loss and not math.isfinite(loss)
            if lost and not self._lost:
                self._marks.append(step)
            self._lost = lost

    def _write_some_steps(self, steps: Rows, learning_rates: list[list[float]]) -> None:
        if len(steps) == 1:
            piece = self._single_steps.message(steps, learning_rates[0])
        else:
            piece = self._step_encoder.message(step_batch(steps, learning_rates))
        recent = len(self._recent_rates)
        if recent and (recent + len(steps) > _STEPS_AT_ONCE or not self._steps.fits(piece)):
            packed = step_batch(self._recent[:recent], self._recent_rates)
            self._steps.roll(self._packed_steps.message(packed))
            self._recent_rates, recent = [], 0
        self._steps.append(piece)
        self._recent[recent : recent + len(steps)] = steps
        self._recent_rates += learning_rates

    def write_summaries(self, rows: Rows) -> None:
        """Appends one recorded step: dtype `SUMMARY_ROW`, shape `[N]`."""
        if os.getpid() != self._process or not len(rows):
            return
        piece = self._summary_encoder.message(summary_batch(rows))
        if not self._summaries.fits(piece):
            self._summaries.roll()
        self._summaries.append(piece)

    def write_event(self, step: int, kind: str, data: dict[str, Any]) -> None:
        """Appends one event; steps around one that is no logged value are not thinned."""
        if os.getpid() != self._process:
            return
        if _tells(kind):
            self._marks.append(step)
        event = {"step": step, "time": time.time(), "kind": kind, "data": data}
        line = orjson.dumps(event, default=str, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        if not self._events.fits(line):
            self._events.roll()
        self._events.append(line)

    def close(self) -> None:
        """Ends the streams and closes the files; harmless when called twice or on a full disk."""
        if os.getpid() != self._process:
            return
        for series in (self._summaries, self._steps, self._events):
            with contextlib.suppress(OSError):  # what was written before stays readable
                series.close()


def _tells(kind: str) -> bool:
    """Whether an event says that something happened at its step."""
    return kind not in ("value", "ended")
