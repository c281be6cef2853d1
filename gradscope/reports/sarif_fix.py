"""A unified diff as the exact replacements of lines that SARIF calls a fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")


def replacements(patch: str) -> dict[str, list[dict[str, Any]]]:
    r"""The replacements of each file by its name in the diff; empty where the diff cannot be said exactly.

    Lines are replaced whole: from the start of the first to the start of the one behind the last.

    Example:
        >>> replacements("--- a.py\n+++ a.py\n@@ -3,2 +3,2 @@\n b()\n-lr = 1\n+lr = 0.1\n")["a.py"][0]["insertedContent"]
        {'text': 'lr = 0.1\n'}
    """
    files: dict[str, list[dict[str, Any]]] = {}
    lines = iter(patch.split("\n"))
    if "\r" in patch or "\n\\" in patch:  # other line ends, or none at the file's end
        return {}
    changes: list[dict[str, Any]] = []
    for line in lines:
        hunk = _HUNK.match(line)
        if hunk:
            old, new = (1 if each is None else int(each) for each in hunk.groups()[1:])
            changes += _of_hunk(lines, int(hunk[1]) + (old == 0), old, new)  # of no line, the one before is named
        elif line.startswith("+++ "):
            changes = files.setdefault(line[4:].split("\t")[0], [])
    return files


def _of_hunk(lines: Iterator[str], at: int, old: int, new: int) -> Iterator[dict[str, Any]]:
    """What one hunk replaces: `old` lines of the file from `at` on by `new` ones. Only its counts say where it ends."""
    inserted: list[str] = []
    removed = 0
    while old > 0 or new > 0:
        line = next(lines)
        sign, text = line[:1], line[1:]
        if sign == "+":
            inserted.append(f"{text}\n")
        elif sign == "-":
            removed, at = removed + 1, at + 1
        else:
            if inserted or removed:
                yield _replacement(at - removed, removed, "".join(inserted))
            inserted, removed, at = [], 0, at + 1
        old, new = old - (sign != "+"), new - (sign != "-")
    if inserted or removed:
        yield _replacement(at - removed, removed, "".join(inserted))


def _replacement(first: int, amount: int, text: str) -> dict[str, Any]:
    region = {"startLine": first, "startColumn": 1, "endLine": first + amount, "endColumn": 1}
    return {"deletedRegion": region, **({"insertedContent": {"text": text}} if text else {})}
