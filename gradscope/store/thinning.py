"""What is kept when old parts of a run are made shorter.

Kept: the first steps, steps around what went wrong, the extremes; then, evenly spaced, as many others as fit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.records import QUANTITIES, STEP, SUMMARY_ROW, Rows
from gradscope.store.messages import Decoder, Encoder, one_by_one
from gradscope.store.schema import (
    COMPRESSION,
    STEP_SCHEMA,
    SUMMARIES,
    SUMMARY_SCHEMA,
    parse_event,
    plain,
    step_batch,
    summary_batch,
    to_rows,
)
from gradscope.store.segments import segments

FIRST_STEPS = 5  # what the rules about initialization speak from
_AT_ONCE = 1000  # events looked at before the training goes on
# by what their extremes tell, most first, where room is short
TELLING = ("gradient", "activation_gradient", "update", "activation", "weight", "second_moment", "first_moment")
_FEW_COLUMNS = pa.ipc.IpcReadOptions(
    included_fields=[
        SUMMARY_SCHEMA.get_field_index(name) for name in ("step", "quantity", "sum_squares", "non_finite")
    ],
    use_threads=False,
)


def choose(steps: NDArray[np.int64], sizes: NDArray[np.int64], special: Sequence[int], room: int) -> NDArray[np.bool_]:
    """Which of some pieces to keep, at least one.

    Args:
        steps: of each piece, in order.
        sizes: bytes of each.
        special: indices that go first, the most important first; they get half of the room.
        room: bytes.

    Example:
        >>> choose(np.arange(9), np.full(9, 10), special=[7], room=40).nonzero()[0].tolist()
        [0, 4, 7, 8]
    """
    if sizes.sum() <= room:
        return np.ones(len(steps), bool)
    steps = np.maximum.accumulate(steps)  # a resumed training may go back a little
    kept = np.zeros(len(steps), bool)
    first = np.array(list(dict.fromkeys(special)), np.int64)
    kept[first[np.cumsum(sizes[first]) <= room // 2]] = True
    others = np.flatnonzero(~kept)
    count = int((room - sizes[kept].sum()) // max(sizes[others].mean(), 1)) if len(others) else 0
    if count:
        wanted = np.linspace(steps[others[0]], steps[others[-1]], count)
        others = others[np.unique(np.searchsorted(steps[others], wanted).clip(max=len(others) - 1))]
        kept[others[np.cumsum(sizes[others]) <= room - sizes[kept].sum()]] = True
    if not kept.any():
        kept[-1] = True
    return kept


class _Seen(NamedTuple):
    """What one recorded step says without its histograms."""

    step: int
    size: int  # bytes
    non_finite: bool
    largest: NDArray[np.float64]  # squared norm of any site's tensor, by quantity; -Inf where there is none
    smallest: NDArray[np.float64]  # Inf where there is none


def merge_summaries(files: list[Path], room: int, marks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Recorded steps of some files, as many as fit into one: each is looked at, then those kept are copied.

    Args:
        marks: steps around which something happened.
    """
    encoder = Encoder(SUMMARY_SCHEMA, COMPRESSION)
    seen: list[_Seen] = []
    for piece in _pieces(files, encoder):
        seen.append(_look(encoder.header, piece))
        yield len(piece), b""
    if not seen:
        return
    steps, sizes = np.array([each.step for each in seen]), np.array([each.size for each in seen])
    kept = choose(steps, sizes, _special(seen, steps, marks), room)
    for keep, piece in zip(kept, _pieces(files, encoder), strict=True):
        yield len(piece), piece if keep else b""


def _pieces(files: list[Path], encoder: Encoder) -> Iterator[bytes]:
    """The messages of recorded steps in these files, one after another, each under its checksum."""
    for file in files:
        with file.open("rb") as stream:  # not mapped: a disk error would be a signal that ends the training
            messages = one_by_one(stream)
            if next(messages, None) == encoder.header:
                yield from messages
                continue
        for content in _contents([file]):  # by another version of ours or of Arrow, or with a damaged header
            for _, batch in Decoder(SUMMARY_SCHEMA).batches(content, first=True):
                yield encoder.message(summary_batch(to_rows(batch, SUMMARY_ROW)))


def last_step_of_summaries(folder: Path) -> list[int]:
    """The last recorded step in a run's folder; none where there is none."""
    encoder = Encoder(SUMMARY_SCHEMA, COMPRESSION)
    for segment in reversed(segments(os.listdir(folder), *SUMMARIES)):
        last = b""
        for piece in _pieces([folder / segment.name], encoder):
            last = piece
        if last:
            return [_look(encoder.header, last).step]
    return []


def _contents(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        if file.stat().st_size:  # none: a killed process had just made it
            yield file.read_bytes()


def _look(header: bytes, piece: bytes) -> _Seen:
    (batch,) = pa.ipc.open_stream(header + piece, options=_FEW_COLUMNS)
    quantity, squares = plain(batch.column("quantity")), plain(batch.column("sum_squares"))
    non_finite = bool(np.any(plain(batch.column("non_finite"))))
    largest, smallest = np.full(len(QUANTITIES), -np.inf), np.full(len(QUANTITIES), np.inf)
    finite = np.isfinite(squares)
    np.maximum.at(largest, quantity[finite], squares[finite])
    np.minimum.at(smallest, quantity[finite], squares[finite])
    return _Seen(batch.column("step")[0].as_py(), len(piece), non_finite, largest, smallest)


def _special(seen: list[_Seen], steps: NDArray[np.int64], marks: Iterable[int]) -> list[int]:
    """Indices of the recorded steps that tell most: the first ones, those around what went wrong, the extremes."""
    special = np.flatnonzero(steps < FIRST_STEPS).tolist()
    broken = np.array([each.non_finite for each in seen])
    special += around(np.flatnonzero(broken[1:] != broken[:-1]) + 1, len(seen))
    special += around_marks(steps, marks)
    quantities = [QUANTITIES.index(name) for name in TELLING]
    largest = np.array([each.largest[quantities] for each in seen])
    smallest = np.array([each.smallest[quantities] for each in seen])
    there = np.isfinite(largest).any(axis=0)
    special += largest.argmax(axis=0)[there].tolist()
    special += smallest.argmin(axis=0)[there].tolist()
    return special


def around_marks(steps: NDArray[np.int64], marks: Iterable[int]) -> list[int]:
    """Indices of these steps that lie around marked ones."""
    within = [mark for mark in marks if steps[0] <= mark <= steps[-1]]
    return around(np.searchsorted(steps, np.array(within, np.int64)), len(steps))


def around(indices: NDArray[np.int64], length: int) -> list[int]:
    """These indices and those before and behind, the earliest first, without what is outside of `0 … length`."""
    beside = np.concatenate([indices, indices - 1, indices + 1])
    return sorted({int(index) for index in beside if 0 <= index < length})


def merge_steps(files: list[Path], room: int, marks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Closed steps of some files as one batch, which is much shorter than a batch for each; as many as fit."""
    encoder = Encoder(STEP_SCHEMA, COMPRESSION)
    rows, rates = [], []
    for content in _contents(files):
        for message, batch in Decoder(STEP_SCHEMA).batches(content, first=True):
            rows.append(to_rows(batch, STEP))
            rates += batch.column("learning_rates").to_pylist()
            yield message.end - message.start, b""
    if not rows:
        return
    steps, kept = np.concatenate(rows), np.ones(sum(map(len, rows)), bool)
    piece = encoder.message(step_batch(steps, rates))
    while len(piece) > room and kept.sum() > 1:
        # a little less than what the size says, for some rows pack worse than others
        sizes = np.full(kept.sum(), int(1.02 * len(piece) / kept.sum()) + 1)
        special = _special_steps(steps[kept], marks, room // 2 // int(sizes[0]))
        kept[kept] = choose(steps["step"][kept], sizes, special, room)
        piece = encoder.message(step_batch(steps[kept], [rates[index] for index in np.flatnonzero(kept)]))
    yield len(piece), piece


def _special_steps(steps: Rows, marks: Iterable[int], most: int) -> list[int]:
    """Indices of the steps that tell most; those with summaries are among them if they are few."""
    special = np.flatnonzero(steps["step"] < FIRST_STEPS).tolist()
    lost = ~np.isfinite(steps["loss"])
    special += around(np.flatnonzero(lost[1:] != lost[:-1]) + 1, len(steps))
    special += around_marks(steps["step"], marks)
    for name in ("loss", "gradient_norm"):
        values = np.where(np.isfinite(steps[name]), steps[name], np.nan)
        if not np.isnan(values).all():
            special += [int(np.nanargmax(values)), int(np.nanargmin(values))]
    recorded = np.flatnonzero(steps["recorded"]).tolist()
    return special + recorded if len(special) + len(recorded) <= most else special


def merge_events(files: list[Path], room: int) -> Iterator[tuple[int, bytes]]:
    """Lines of some files, as many as fit: what went wrong first, then values that the user logged."""
    lines: list[bytes] = []
    for content in _contents(files):
        lines += content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        yield len(content), b""
    steps: list[int] = []  # of the pieces: what was logged at one step is kept together
    pieces: list[bytes] = []
    special: dict[int, None] = {}
    for number, line in enumerate(lines):
        event = parse_event(line)
        if event is not None:
            if not steps or event.step != steps[-1]:
                steps.append(event.step)
                pieces.append(b"")
            pieces[-1] += line
            if event.kind != "value":
                special[len(steps) - 1] = None
        if number % _AT_ONCE == 0:
            yield _AT_ONCE * len(line), b""
    if steps:
        kept = choose(np.array(steps), np.array([len(piece) for piece in pieces]), list(special), room)
        text = b"".join(piece for piece, keep in zip(pieces, kept, strict=True) if keep)
        yield len(text), text
