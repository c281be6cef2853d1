"""What is said while a training runs: on stderr, never into what the program itself writes, and never an error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class _Stream:
    """Where notices go; None: to the stderr of the moment."""

    pinned: TextIO | None = None
    silent: bool = False


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line on stderr, or nothing where that is gone: a program may have closed it or taken it away.

    Example:
        >>> say("gradscope: recording to runs/a", sys.stdout)
        gradscope: recording to runs/a
    """
    stream = stream or _Stream.pinned or sys.stderr
    if stream is not None and not _Stream.silent:
        with suppress(Exception):
            print(text, file=stream, flush=True)


def in_a_line(error: BaseException) -> str:
    """An error of anybody's in one line: its class, and what it says, should it be able to.

    Example:
        >>> in_a_line(ValueError("one\\ntwo"))
        'ValueError: one'
    """
    try:
        text = str(error)
    except Exception:  # a class of the user's
        text = "(its text cannot be had)"
    return f"{type(error).__name__}: {text}".split("\n")[0]


@contextmanager
def pinned() -> Iterator[None]:
    """Keeps to the stderr that is there now, wherever a program that runs inside sends its own."""
    before, _Stream.pinned = _Stream.pinned, sys.stderr
    try:
        yield
    finally:
        _Stream.pinned = before


@contextmanager
def silent() -> Iterator[None]:
    """Says nothing inside."""
    before, _Stream.silent = _Stream.silent, True
    try:
        yield
    finally:
        _Stream.silent = before
