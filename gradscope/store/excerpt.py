"""Follows the summaries of a run that does not fit into memory: some recorded steps whole, a look at each of them.

                      ┌─► pick ─► rows, whole, of the steps that tell most and of others evenly spaced
every recorded step ──┤
                      └─► look ─► what the caller makes of the columns that tell where something happened
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.records import HISTOGRAM_BINS, SUMMARY_ROW, Rows
from gradscope.store.folders import Folder, Stamp
from gradscope.store.messages import Decoder, Message
from gradscope.store.pick import Seen, pick
from gradscope.store.schema import SUMMARIES, SUMMARY_SCHEMA, to_rows
from gradscope.store.segments import segments

# What a look sees of each row; a fifteenth of it.
LOOK_ROW = np.dtype([(name, SUMMARY_ROW[name]) for name in
                     ("step", "site", "quantity", "count", "sum_squares", "non_finite")])  # fmt: skip
# The rows that are kept: histograms as float32, for they are most of a row, and 7 digits of a share are plenty.
EXCERPT_ROW = np.dtype(
    [
        (name, ("f4", (HISTOGRAM_BINS,)) if name == "histogram" else SUMMARY_ROW[name])
        for name in SUMMARY_ROW.names or ()
    ]
)
_ROWS_AT_ONCE = 1 << 19  # looked at together: 16 MB

# Takes rows of dtype `LOOK_ROW`, whole recorded steps in order, and gives what is to be kept of them.
Look = Callable[[Rows], object]


@dataclass
class _Stretch:
    """Recorded steps of one file that were looked at together."""

    seen: Seen
    look: object


@dataclass
class _File:
    name: str
    position: int = 0  # bytes looked at
    size: int = 0  # bytes seen; more than `position` where the end was cut
    header: bytes = b""
    decoder: Decoder = field(default_factory=lambda: Decoder(SUMMARY_SCHEMA, LOOK_ROW.names or ()))
    stretches: list[_Stretch] = field(default_factory=list)


class Excerpt:
    """Recorded steps of a run, as many as fit, and a look at all of them.

    Args:
        memory: bytes that the rows may take.
        look: called for each stretch of recorded steps, once; again after `forget_looks`.

    Attributes:
        rows: of the picked steps, dtype `EXCERPT_ROW`, in order.
        left: bytes that were not looked at yet.
    """

    def __init__(self, memory: int, look: Look) -> None:
        self.rows: Rows = np.empty(0, EXCERPT_ROW)
        self.left = 0
        self._most_rows = memory // EXCERPT_ROW.itemsize
        self._look = look
        self._files: list[_File] = []
        self._stale = False
        self._whole: dict[tuple[str, int], tuple[int, int]] = {}  # which of `rows` are of the message in a file, at

    @property
    def looks(self) -> list[object]:
        """What each look gave, in order."""
        return [stretch.look for file in self._files for stretch in file.stretches]

    @property
    def steps(self) -> NDArray[np.int64]:
        """All recorded steps that were looked at."""
        return self._seen().steps

    def forget_looks(self) -> None:
        """Looks at everything anew, for what a look depends on has changed."""
        self._files = [_File(file.name) for file in self._files]

    def read(self, folder: Folder, stamps: dict[str, Stamp], seconds: float) -> bool:
        """Looks at what is new; says whether anything is.

        Args:
            folder: of the run.
            stamps: its files.
            seconds: after which no further stretch is looked at; the next call goes on there.

        Raises:
            FileNotFoundError: a file was replaced since `stamps` were taken; ask for new ones.
        """
        until = time.perf_counter() + seconds
        before = [(file.name, file.size) for file in self._files]
        known = {file.name: file for file in self._files if file.position <= stamps.get(file.name, _NO_FILE).size}
        names = [each.name for each in segments(stamps, *SUMMARIES)]
        self._files = [known.get(name) or _File(name) for name in names]
        changed = [file.name for file in self._files] != [name for name, _ in before]
        for file in [*self._files[-1:], *self._files[:-1]]:  # what happens now comes first
            if stamps[file.name].size != file.size:
                changed |= self._go_on(folder, file, until)
            if time.perf_counter() > until:
                break
        pa.default_memory_pool().release_unused()
        self.left = sum(max(stamps[file.name].size - file.size, 0) for file in self._files)
        self._stale |= changed
        return changed

    def pick(self, folder: Folder, marks: Iterable[int]) -> bool:
        """Brings `rows` up to date with what was looked at; says whether they changed.

        Args:
            folder: of the run.
            marks: steps around which something happened.

        Raises:
            FileNotFoundError: see `read`, which comes first then.
        """
        if not self._stale:
            return False
        self._take(folder, marks)
        self._stale = False
        return True

    def _go_on(self, folder: Folder, file: _File, until: float) -> bool:
        """Looks at what is new in a file, as far as time allows; says whether there was a recorded step."""
        content, first = folder.read(file.name, file.position), file.position == 0
        start, count = file.position, len(file.stretches)
        for messages, batches in self._stretches(file.decoder, content, first):
            if first and not file.header:
                file.header = content[: messages[0].start]
            rows = np.concatenate([to_rows(batch, LOOK_ROW) for batch in batches])
            file.stretches.append(_Stretch(Seen.of(rows, batches, messages, start), self._look(rows)))
            file.position = file.size = start + messages[-1].end
            if time.perf_counter() > until:
                return True
        file.size = start + len(content)
        return len(file.stretches) > count

    def _stretches(
        self, decoder: Decoder, content: bytes, first: bool
    ) -> Iterator[tuple[list[Message], list[pa.RecordBatch]]]:
        messages: list[Message] = []
        batches: list[pa.RecordBatch] = []
        rows = 0
        for message, batch in decoder.batches(content, first):
            messages.append(message)
            batches.append(batch)
            rows += batch.num_rows
            if rows >= _ROWS_AT_ONCE:
                yield messages, batches
                messages, batches, rows = [], [], 0
        if messages:
            yield messages, batches

    def _seen(self) -> Seen:
        return Seen.join([stretch.seen for file in self._files for stretch in file.stretches])

    def _take(self, folder: Folder, marks: Iterable[int]) -> None:
        """Reads the picked steps that are not there yet, and lets go of those that are no longer picked."""
        seen = self._seen()
        owners = [file for file in self._files for stretch in file.stretches for _ in stretch.seen.steps]
        chosen = np.flatnonzero(pick(seen, self._most_rows, marks))
        rows = np.empty(int(seen.rows[chosen].sum()), EXCERPT_ROW)
        whole: dict[tuple[str, int], tuple[int, int]] = {}
        end = 0
        for index in chosen:
            file, start = owners[index], int(seen.starts[index])
            taken = self._rows_of(folder, file, start, int(seen.ends[index]))
            rows[end : end + len(taken)] = taken
            whole[file.name, start] = end, end + len(taken)
            end += len(taken)
        self.rows, self._whole = rows[:end], whole

    def _rows_of(self, folder: Folder, file: _File, start: int, end: int) -> Rows:
        """The rows of one recorded step; none where the file is another one by now."""
        if (there := self._whole.get((file.name, start))) is not None:
            return self.rows[slice(*there)]
        content = file.header + folder.read(file.name, start, end - start)
        found = [to_rows(batch, EXCERPT_ROW) for _, batch in Decoder(SUMMARY_SCHEMA).batches(content, first=True)]
        return found[0] if found else np.empty(0, EXCERPT_ROW)


_NO_FILE = Stamp(-1, "", 0.0, 0.0)
