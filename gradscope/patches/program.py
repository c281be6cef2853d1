"""A program's lines that matter to its training, in the user's own names."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.records import RunInfo


@dataclass(frozen=True)
class Edit:
    """Lines of a file that are replaced; an insertion replaces none."""

    file: str
    first: int  # line, counted from 1
    removed: int  # lines from there on that go; 0: the new ones are put before `first`
    lines: tuple[str, ...]  # without line ends
    says: str  # what it does, in words: "insert before optimizer.step()"


class Program:
    """The program of a run."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
