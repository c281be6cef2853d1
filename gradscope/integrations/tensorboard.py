"""A run for TensorBoard: its numbers as scalars, its diagnosis as text.

Written with TensorBoard's own event writer; neither torch nor TensorFlow is needed. TensorBoard keeps scalars as float32:
a number that is too small or too large for it becomes the smallest or the largest that it can hold, never 0 or Inf.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from gradscope.integrations.recorded import diagnosis_markdown, folder_for, judged, needed, stretches
from gradscope.integrations.scalars import moments
from gradscope.store import resolve_run
from gradscope.store.folders import Location

_SMALLEST, _LARGEST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)


def export(location: Location, folder: str, *, follow: bool = False) -> str:
    """Writes an event file into a folder, as a run of TensorBoard; gives a sentence that says what was written.

    Args:
        location: a run, or a folder of runs, of which the newest is taken.
        folder: of the run in TensorBoard; made if missing. An event file that is there is left as it is.
        follow: go on with what is recorded, until the training has ended.

    Raises:
        MissingPackage: TensorBoard is not installed.
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.
        ReportNotWritable: the folder cannot be made.

    Example:
        >>> export("runs/latest", "logs/gradscope")  # doctest: +SKIP
        "1,234 numbers of 50 steps written to logs/gradscope; look at them with `tensorboard --logdir logs/gradscope`"
    """
    writer_module = needed("tensorboard.summary.writer.event_file_writer", "tensorboard", "TensorBoard")
    protocol = needed("tensorboard.compat.proto.event_pb2", "tensorboard", "TensorBoard")
    location = resolve_run(location)
    steps, numbers = set(), 0
    writer = writer_module.EventFileWriter(str(folder_for(folder)))
    try:
        for moment in moments(stretches(location, follow)):
            event = protocol.Event(wall_time=moment.time, step=moment.step)
            for name, value in moment.values.items():
                event.summary.value.add(tag=name, simple_value=_as_float32(value))
            writer.add_event(event)
            steps.add(moment.step)
            numbers += len(moment.values)
        run, diagnosis = judged(location)
        last = int(run.steps["step"][-1]) if len(run.steps) else 0
        writer.add_event(_text("gradscope/diagnosis", diagnosis_markdown(diagnosis), last, protocol))
    finally:
        writer.close()
    return (
        f"{numbers:,} numbers of {len(steps):,} steps written to {folder}; look at them with "
        f"`tensorboard --logdir {folder}`"
    )


def _as_float32(value: float) -> float:
    if not math.isfinite(value) or value == 0:
        return value
    return math.copysign(min(max(abs(value), _SMALLEST), _LARGEST), value)


def _text(tag: str, markdown: str, step: int, protocol: Any) -> Any:
    """The event of a text, as the text plugin reads it."""
    tensors = needed("tensorboard.util.tensor_util", "tensorboard", "TensorBoard")
    plugin = needed("tensorboard.plugins.text.metadata", "tensorboard", "TensorBoard")
    event = protocol.Event(wall_time=time.time(), step=step)
    event.summary.value.add(
        tag=tag,
        tensor=tensors.make_tensor_proto(markdown.encode()),
        metadata=plugin.create_summary_metadata("", ""),
    )
    return event
