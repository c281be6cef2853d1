"""Changes of lines, and what a file is after them."""

from __future__ import annotations

import ast
import difflib
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradscope.errors import NoPatch


@dataclass(frozen=True)
class Edit:
    """Lines of a file that are replaced; an insertion replaces none."""

    file: str
    first: int  # line, counted from 1
    removed: int  # lines from there on that go; 0: the new ones are put before `first`
    lines: tuple[str, ...]  # without line ends
    says: str  # what it does, in words: "insert before optimizer.step()"


def split_lines(text: str) -> list[str]:
    r"""The lines of a program with their ends, split where Python splits them: not at a form feed.

    Example:
        >>> split_lines("a\r\nb\x0cc\nd")
        ['a\r\n', 'b\x0cc\n', 'd']
    """
    return list(io.StringIO(text, newline=""))


def edited(text: str, edits: Iterable[Edit]) -> str:
    r"""The text of a file after the edits; its line ends are kept.

    Raises:
        NoPatch: two edits want the same lines, or what comes out is no Python.

    Example:
        >>> edited("a = 1\nb = 2\n", [Edit("", 2, 0, ("print(a)",), "")])
        'a = 1\nprint(a)\nb = 2\n'
    """
    lines = split_lines(text)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    made: list[str] = []
    position = 0  # lines of the old text that are done
    for edit in sorted(edits, key=lambda each: (each.first, each.removed > 0)):
        start = edit.first - 1
        if start < position:
            raise NoPatch(f"two changes want line {edit.first:,}")
        made += lines[position:start]
        if edit.lines and made and not made[-1].endswith(("\n", "\r")):
            made[-1] += end
        made += [line + end for line in edit.lines]
        position = start + edit.removed
    made += lines[position:]
    if made and lines and not lines[-1].endswith(("\n", "\r")) and position >= len(lines):
        made[-1] = made[-1].removesuffix(end)  # the file had no end of line at its end, and has none now
    new = "".join(made)
    try:
        parse(new)
    except SyntaxError as error:
        raise NoPatch(f"the changed file would be no Python any more: {error.msg}, line {error.lineno}") from error
    return new


def unified_diff(old: str, new: str, name: str) -> str:
    r"""What `patch -p0` and `git apply -p0` read.

    Example:
        >>> print(unified_diff("lr = 1\n", "lr = 0.1\n", "train.py"), end="")
        --- train.py
        +++ train.py
        @@ -1 +1 @@
        -lr = 1
        +lr = 0.1
    """
    told: list[str] = []
    for line in difflib.unified_diff(split_lines(old), split_lines(new), name, name):
        ended = line.endswith(("\n", "\r"))
        told.append(line if ended else f"{line}\n\\ No newline at end of file\n")
    return "".join(told)


def parse(text: str) -> ast.Module:
    """The syntax tree, without Python's remarks on the text.

    Raises:
        SyntaxError: it is no Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text.removeprefix("\ufeff"))
        except ValueError as error:  # a null byte
            raise SyntaxError(str(error)) from error


def by_file(edits: Sequence[Edit]) -> dict[str, list[Edit]]:
    """The edits of each file, the files in the order of their first one; what was said twice is done once."""
    files: dict[str, list[Edit]] = {}
    for edit in dict.fromkeys(edits):
        files.setdefault(edit.file, []).append(edit)
    return files
