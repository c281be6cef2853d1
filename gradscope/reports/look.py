"""How a stream wants its text: how wide, with colour or without, in Unicode or ASCII."""

from __future__ import annotations

import codecs
import os
import shutil
from typing import Literal, NamedTuple, TextIO

Color = Literal["auto", "always", "never"]
DEFAULT_WIDTH, MOST_WIDTH = 80, 100  # columns; longer lines are hard to read


class Look(NamedTuple):
    """How text is to be laid out for one stream."""

    width: int = DEFAULT_WIDTH  # columns
    color: bool = False
    unicode: bool = True


def look_of(stream: TextIO, color: Color = "auto") -> Look:
    """The look for a stream. `auto` heeds NO_COLOR, FORCE_COLOR and TERM=dumb, in this order, then asks for a TTY.

    Example:
        >>> import io
        >>> look_of(io.StringIO())
        Look(width=80, color=False, unicode=True)
    """
    terminal = stream.isatty()
    width = min(shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns, MOST_WIDTH) if terminal else DEFAULT_WIDTH
    return Look(max(width, 40), _has_color(terminal, color), _is_unicode(stream))


def _has_color(terminal: bool, color: Color) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):  # no-color.org: an empty value does not count
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return terminal and os.environ.get("TERM") != "dumb"


def _is_unicode(stream: TextIO) -> bool:
    try:
        return codecs.lookup(stream.encoding or "utf-8").name.startswith("utf")
    except LookupError:
        return False
