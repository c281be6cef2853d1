"""A rule's page, fitted to a stream."""

from __future__ import annotations

import textwrap

from gradscope.reports import words
from gradscope.reports.look import Look


def render(page: str, look: Look | None = None) -> str:
    """A page as text, ending in a line end: paragraphs flow anew into the width, indented lines stay lines.

    Example:
        >>> page = "a-rule\\n======\\n\\nTwo lines\\nmake one.\\n\\nSources:\\n    one\\n    two"
        >>> print(render(page, Look(40)), end="")
        a-rule
        ======
        <BLANKLINE>
        Two lines make one.
        <BLANKLINE>
        Sources:
            one
            two
    """
    look = look or Look()
    text = page if look.unicode else words.ascii_only(page)
    return "\n\n".join(_fitted(paragraph, look.width) for paragraph in text.strip("\n").split("\n\n")) + "\n"


def _fitted(paragraph: str, width: int) -> str:
    lines = paragraph.split("\n")
    if any(line.startswith((" ", "==")) for line in lines):
        return "\n".join(_hanging(line, width) for line in lines)
    return _hanging(" ".join(lines), width)


def _hanging(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    wrapped = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapped)
