"""A column of a run as a series of files, so that old parts of it can be replaced while new ones are appended.

    summaries.arrow         the first segment; it alone while the run is small
    summaries-7.arrow       the segment of number 7
    summaries-0-3.arrow     segments 0 to 3 after they were merged; the files that it covers count no more

A file only ever grows at its end, and what replaces others gets another name, in one move: whoever reads or dies in
between finds every row once.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

MOST = 9  # ended segments; beyond, two of them are merged
SHARE = MOST + 3  # of a budget: those, one more that waits, the one being made of two and the one that grows
TRIES = 1000  # listings that a reader takes while files that were listed vanish: the writer may be quick
GAPS = 50  # of them with a gap, before it is taken for one that somebody made, and that stays
_READ_PER_WRITTEN = 5  # bytes that a merge goes through for each byte appended: it ends before the next is due
_UNFINISHED = ".new"


class Segment(NamedTuple):
    """One file of a series and the numbers that it covers."""

    first: int
    last: int
    merged: bool
    name: str

    def covers(self, other: Segment) -> bool:
        """Whether all that is in the other is in this one."""
        return self.merged and self != other and self.first <= other.first and other.last <= self.last


def segments(names: Iterable[str], stem: str, suffix: str) -> list[Segment]:
    """The files of a series that count, in order.

    Example:
        >>> names = ["steps-4.arrow", "steps-0-1.arrow", "steps-3.arrow", "steps-2-3.arrow", "steps.arrow"]
        >>> [segment.name for segment in segments(names, "steps", ".arrow")]
        ['steps-0-1.arrow', 'steps-2-3.arrow', 'steps-4.arrow']
    """
    pattern = re.compile(rf"{re.escape(stem)}(?:-(\d+))?(?:-(\d+))?{re.escape(suffix)}")
    found = []
    for name in names:
        if match := pattern.fullmatch(name):
            first = int(match[1] or 0)
            found.append(Segment(first, int(match[2] or first), match[2] is not None, name))
    return sorted(each for each in found if not any(other.covers(each) for other in found))


def has_gap(found: Sequence[Segment]) -> bool:
    """Whether a file before or between some, which are in order, is missing.

    Example:
        >>> has_gap(segments(["steps.arrow", "steps-1.arrow"], "steps", ".arrow"))
        False
        >>> has_gap(segments(["steps.arrow", "steps-2.arrow"], "steps", ".arrow"))
        True
    """
    numbers = [-1, *(each.last for each in found)]
    return any(each.first != before + 1 for before, each in zip(numbers, found, strict=False))


# Says what one file of at most so many bytes holds instead of these: pieces to write, each (or b"") with the bytes
# that were gone through for it, so that the work can be spread.
Merge = Callable[[list[Path], int], Iterator[tuple[int, bytes]]]


class Segments:
    """Appends to one series of files. Nothing is buffered: a forked child has nothing to flush.

    Args:
        folder: of the run.
        stem, suffix: of the files' names, "steps" and ".arrow".
        header, end: what every file begins with, and what ends it.
        budget: bytes that all files together never exceed, provided that `SHARE` appended pieces fit.
        merge: how two files become one.
        fresh: the run is a new one, which nobody else may have begun meanwhile.

    Raises:
        FileExistsError: somebody has.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        suffix: str,
        header: bytes,
        end: bytes,
        budget: int,
        merge: Merge,
        fresh: bool = False,
    ) -> None:
        self._folder, self._stem, self._suffix = folder, stem, suffix
        self._header, self._end, self._merge = header, end, merge
        self._limit = budget // SHARE
        self._room = max(self._limit - len(header) - len(end), 0)  # for pieces
        self._running: Iterator[int] | None = None
        names = [] if fresh else os.listdir(folder)
        self._ended = segments(names, stem, suffix)
        self._remove_remains(names)
        self._open(self._ended[-1].last + 1 if self._ended else 0)
        while len(self._ended) > MOST:
            self._begin_merge()
            self._advance(None)

    def fits(self, piece: bytes) -> bool:
        """Whether the segment that grows has room for a piece; one that is larger than any gets its own."""
        return self._pieces == 0 or self._pieces + len(piece) <= self._room

    def append(self, piece: bytes) -> None:
        """Appends a piece whole."""
        self._pieces += len(piece)
        _write(self._file, piece)
        self._advance(_READ_PER_WRITTEN * len(piece))

    def roll(self, instead: bytes | None = None) -> None:
        """Ends the segment that grows and begins the next; beyond `MOST` of them, begins to merge two.

        Args:
            instead: a shorter piece that says what the ended segment holds.
        """
        self._advance(None)
        _write(self._file, self._end)
        self._file.close()
        ended = self._current
        self._ended.append(ended)
        if instead is not None:
            list(self._replacing([ended], iter([(0, instead)])))
        self._open(ended.last + 1)
        if len(self._ended) > MOST:
            self._begin_merge()

    def close(self) -> None:
        """Ends the series. A merge that is under way is dropped: its sources are all there."""
        if self._file.closed:
            return
        self._running = None
        self._remove_remains(os.listdir(self._folder))
        with self._file:
            _write(self._file, self._end)

    def _open(self, number: int) -> None:
        name = f"{self._stem}-{number}{self._suffix}" if number else f"{self._stem}{self._suffix}"
        self._current = Segment(number, number, False, name)
        self._file = (self._folder / name).open("xb", buffering=0)
        self._pieces = 0  # bytes
        _write(self._file, self._header)

    def _remove_remains(self, names: list[str]) -> None:
        """Deletes what a killed process left: files that another covers, and unfinished ones."""
        counted = {each.name for each in segments(names, self._stem, self._suffix)}
        for name in names:
            if name not in counted and segments([name.removesuffix(_UNFINISHED)], self._stem, self._suffix):
                (self._folder / name).unlink()

    def _begin_merge(self) -> None:
        """Picks the neighbours that cover least for their age: so older parts grow wider, and sparser."""
        now = self._current.last
        older, newer = min(
            zip(self._ended, self._ended[1:], strict=False),
            key=lambda pair: (pair[1].last - pair[0].first + 1) / (now - pair[0].first),
        )
        files = [self._folder / older.name, self._folder / newer.name]
        self._running = self._replacing([older, newer], self._merge(files, self._room))

    def _replacing(self, sources: list[Segment], pieces: Iterator[tuple[int, bytes]]) -> Iterator[int]:
        """Puts one file in the place of some; gives the bytes gone through, step by step."""
        first, last = sources[0].first, sources[-1].last
        merged = Segment(first, last, True, f"{self._stem}-{first}-{last}{self._suffix}")
        unfinished = self._folder / f"{merged.name}{_UNFINISHED}"
        with unfinished.open("wb", buffering=0) as file:
            _write(file, self._header)
            for gone_through, piece in pieces:
                _write(file, piece)
                yield gone_through
            _write(file, self._end)
        os.replace(unfinished, self._folder / merged.name)
        at = self._ended.index(sources[0])
        self._ended[at : at + len(sources)] = [merged]
        for source in sources:
            (self._folder / source.name).unlink()

    def _advance(self, credit: int | None) -> None:
        """Goes on with a merge for `credit` bytes; None: to its end."""
        while self._running is not None and (credit is None or credit > 0):
            gone_through = next(self._running, None)
            if gone_through is None:
                self._running = None
            elif credit is not None:
                credit -= gone_through


def _write(file: io.FileIO, piece: bytes) -> None:
    """Writes all of it: an unbuffered file may take less at a time."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]
