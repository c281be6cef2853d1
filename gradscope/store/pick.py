"""Which recorded steps of a large run are read whole.

The newest, the first ones, those around what went wrong and where much changed at once; then others, evenly spaced, the
same ones while the run grows; then those before the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.records import QUANTITIES, Rows
from gradscope.store.messages import Message
from gradscope.store.thinning import FIRST_STEPS, TELLING, around, around_marks

_AT_LEAST = 3  # of the first steps: health is said from these
_SPECIAL = 3 / 4  # of the room, at most, for the steps that tell most


class Seen(NamedTuple):
    """What recorded steps say at a glance: one entry each, in order."""

    steps: NDArray[np.int64]
    rows: NDArray[np.int64]  # how many each has
    starts: NDArray[np.int64]  # where its message lies in its file
    ends: NDArray[np.int64]
    non_finite: NDArray[np.bool_]  # whether any tensor is
    # log10 of the largest and of the smallest squared norm of any tensor, shape `[steps, TELLING]`; NaN: there is none
    largest: NDArray[np.float32]
    smallest: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Rows, batches: Sequence[pa.RecordBatch], messages: Sequence[Message], start: int) -> Seen:
        """From rows with the columns of `LOOK_ROW`, their batches and messages, which lie behind `start` in the file."""
        lengths = np.array([batch.num_rows for batch in batches], np.int64)
        firsts = np.cumsum(lengths) - lengths
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = np.log10(rows["sum_squares"])
        high, low = (
            np.full((len(TELLING), len(lengths)), np.nan, np.float32),
            np.full((len(TELLING), len(lengths)), np.nan, np.float32),
        )
        for place, name in enumerate(TELLING):
            known = np.isfinite(squares) & (rows["quantity"] == QUANTITIES.index(name))
            most = np.maximum.reduceat(np.where(known, squares, -np.inf), firsts)
            least = np.minimum.reduceat(np.where(known, squares, np.inf), firsts)
            high[place], low[place] = (np.where(np.isfinite(each), each, np.nan) for each in (most, least))
        return cls(
            rows["step"][firsts],
            lengths,
            np.array([start + message.start for message in messages], np.int64),
            np.array([start + message.end for message in messages], np.int64),
            np.logical_or.reduceat(rows["non_finite"], firsts),
            high.T,
            low.T,
        )

    @classmethod
    def join(cls, parts: Sequence[Seen]) -> Seen:
        """One behind the other."""
        if not parts:
            nothing, none = np.empty(0, np.int64), np.empty((0, len(TELLING)), np.float32)
            return cls(nothing, nothing, nothing, nothing, np.empty(0, bool), none, none)
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def pick(seen: Seen, room: int, marks: Iterable[int]) -> NDArray[np.bool_]:
    """Which recorded steps to read whole, the newest at least.

    Args:
        seen: all of them.
        room: rows.
        marks: steps around which something happened.
    """
    picked = np.zeros(len(seen.steps), bool)
    if not len(picked) or seen.rows.sum() <= room:
        return ~picked
    picked[-1] = True
    _add(picked, seen.rows, _special(seen, marks), int(room * _SPECIAL))
    left = int((room - seen.rows[picked].sum()) // max(seen.rows.mean(), 1))
    _add(picked, seen.rows, _evenly(seen.steps, left), room)
    _add(picked, seen.rows, np.arange(len(picked))[::-1], room)
    return picked


def _add(picked: NDArray[np.bool_], rows: NDArray[np.int64], indices: Iterable[int], room: int) -> None:
    """Picks these, the first ones first, until there is no room."""
    used = int(rows[picked].sum())
    for index in indices:
        if not picked[index]:
            used += int(rows[index])
            if used > room:
                return
            picked[index] = True


def _special(seen: Seen, marks: Iterable[int]) -> list[int]:
    """Indices of the recorded steps that tell most, the most important first."""
    length = len(seen.steps)
    first = np.flatnonzero(seen.steps < FIRST_STEPS).tolist()
    broken = np.flatnonzero(seen.non_finite[1:] != seen.non_finite[:-1]) + 1
    jumps, extremes = _jumps(seen), [*_largest(seen.largest), *_largest(-seen.smallest)]
    told = [*first[:_AT_LEAST], *broken[:1], *jumps, *extremes]
    beside = [*around(broken, length), *around(np.array(jumps, np.int64), length)]
    return [int(index) for index in (*told, *beside, *around_marks(np.maximum.accumulate(seen.steps), marks), *first)]


def _largest(values: NDArray[np.float32]) -> list[int]:
    """For each column with a number in it, the index of its largest."""
    there = np.isfinite(values).any(axis=0)
    return [int(index) for index in np.nanargmax(values[:, there], axis=0)]


def _jumps(seen: Seen) -> list[int]:
    """For each quantity the recorded steps at which its extremes rose and fell most, where that is a decade at once."""
    found = []
    for extremes in (seen.largest, seen.smallest):
        change = np.nan_to_num(np.diff(extremes, axis=0), nan=0.0)
        for direction in (1, -1):
            if len(change):
                most = (direction * change).argmax(axis=0)
                decades = (direction * change).max(axis=0) / 2  # of a norm: these are squares
                found += (most[decades > 1] + 1).tolist()
    return list(dict.fromkeys(found))


def _evenly(steps: NDArray[np.int64], most: int) -> list[int]:
    """Indices of at most so many steps whose distances are alike, by powers of 2 so that they stay the same ones."""
    if most < 1:
        return []
    spacing = 1 << max(int(steps[-1] - steps[0]) // most, 0).bit_length()
    grid = np.arange(steps[0] - steps[0] % spacing, steps[-1] + 1, spacing)
    indices = np.searchsorted(np.maximum.accumulate(steps), grid)
    return [int(index) for index in np.unique(indices[indices < len(steps)])]
