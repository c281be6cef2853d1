"""Follows a series of growing files: only what is new is read, and what was replaced is exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gradscope.records import Rows
from gradscope.store.folders import Folder, Stamp
from gradscope.store.segments import has_gap, segments


class Growing:
    """An array that grows at its end without being copied each time. What it gave out never changes.

    Args:
        empty: of its dtype, shape `[0]`, or `[0, columns]` where columns may be added: NaN for earlier rows.
    """

    def __init__(self, empty: Rows) -> None:
        self._buffer = empty
        self._length = 0

    @property
    def rows(self) -> Rows:
        """All rows, a view."""
        return self._buffer[: self._length]

    def append(self, rows: Rows, expected: int = 0) -> None:
        """Adds rows at the end, of which `expected` more are likely to follow: room that is not used costs nothing."""
        length, columns = self._length + len(rows), self._buffer.shape[1:]
        if rows.ndim == 2:
            columns = (max(columns[0], rows.shape[1]),)
        if length > len(self._buffer) or columns != self._buffer.shape[1:]:
            grown = np.empty((max(length + expected, len(self._buffer) * 3 // 2), *columns), self._buffer.dtype)
            grown[: self._length] = _widened(self.rows, columns)
            self._buffer = grown
        self._buffer[self._length : length] = _widened(rows, columns)
        self._length = length


def _widened(rows: Rows, columns: tuple[int, ...]) -> Rows:
    if rows.shape[1:] == columns:
        return rows
    return np.pad(rows, ((0, 0), (0, columns[0] - rows.shape[1])), constant_values=np.nan)


@dataclass
class _File:
    name: str
    start: int  # of its rows in the whole
    length: int = 0  # rows
    position: int = 0  # bytes used
    size: int = 0  # bytes seen; more than `position` where the end was cut


# Takes a file's bytes and whether they are its first; gives pieces: rows for every table, and the bytes used so far.
Parse = Callable[[bytes, bool], Iterator[tuple[tuple[Rows, ...], int]]]


class Series:
    """What a series of files holds, as one or more tables of equal length.

    Args:
        stem, suffix: of the files' names.
        tables: empty ones.
        parse: gives their rows.
    """

    def __init__(self, stem: str, suffix: str, tables: tuple[Rows, ...], parse: Parse) -> None:
        self._stem, self._suffix, self._empty, self._parse = stem, suffix, tables, parse
        self._forget()

    @property
    def tables(self) -> tuple[Rows, ...]:
        """The rows of each table."""
        return tuple(table.rows for table in self._tables)

    def has_gap(self, names: Iterable[str]) -> bool:
        """Whether a file between others is missing."""
        return has_gap(segments(names, self._stem, self._suffix))

    def read(self, folder: Folder, stamps: dict[str, Stamp]) -> bool:
        """Takes in what is new; says whether anything is.

        Raises:
            FileNotFoundError: a file was replaced since `stamps` were taken; ask for new ones.
        """
        names = [each.name for each in segments(stamps, self._stem, self._suffix)]
        if any(file.name in stamps and stamps[file.name].size < file.position for file in self._files):
            self._forget()  # another run is there now
        unchanged = 0
        for name, file in zip(names, self._files, strict=False):
            if name != file.name or stamps[name].size != file.size:
                break
            unchanged += 1
        if unchanged == len(names) == len(self._files):
            return False
        try:
            self._take(folder, stamps, names, unchanged)
        except FileNotFoundError:
            self._keep(sum(file.length for file in self._files))
            raise
        return True

    def _forget(self) -> None:
        self._files: list[_File] = []
        self._tables = tuple(Growing(empty) for empty in self._empty)

    def _take(self, folder: Folder, stamps: dict[str, Stamp], names: list[str], unchanged: int) -> None:
        """Brings the files behind the `unchanged` ones up to date."""
        rest = self._files[unchanged:]
        at_the_end = len(rest) <= 1 and names[unchanged : unchanged + len(rest)] == [file.name for file in rest]
        before = self.tables
        if not at_the_end:  # something in the middle changed: what lies behind it is moved, not read again
            self._keep(rest[0].start)
        known = {file.name: file for file in rest}
        del self._files[unchanged:]
        for name in names[unchanged:]:
            start = len(self._tables[0].rows)
            file = known.get(name) or _File(name, start)
            grown = stamps[name].size != file.size
            content = folder.read(name, file.position) if grown else b""  # first of all: the file may be gone
            if not at_the_end and file.length:
                self._append(tuple(table[file.start : file.start + file.length] for table in before))
                file.start = start
            if grown:
                file.size = file.position + len(content)
                position, left = file.position, sum(stamps[later].size for later in names[len(self._files) + 1 :])
                for rows, used in self._parse(content, position == 0):
                    file.position = position + used
                    file.length += len(rows[0])
                    # as many rows a byte as in this piece, and some
                    self._append(rows, (len(content) - used + left) * len(rows[0]) * 11 // (10 * used))
            self._files.append(file)

    def _keep(self, length: int) -> None:
        """Drops the rows behind the first ones; those given out stay as they are."""
        before = self.tables
        self._tables = tuple(Growing(empty) for empty in self._empty)
        self._append(tuple(table[:length] for table in before))

    def _append(self, rows: tuple[Rows, ...], expected: int = 0) -> None:
        for table, new in zip(self._tables, rows, strict=True):
            table.append(new, expected)
