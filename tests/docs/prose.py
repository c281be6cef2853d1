"""Docstrings, which are plain text for a terminal, as Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

_LEAD = re.compile(r"^([A-Z][^.:,;()]{2,22}): ")  # "Why it hurts: ..."
_SPAN = re.compile(r"(`[^`]*`|https?://\S+)")


class Page(NamedTuple):
    """A page, and what the index says of it."""

    summary: str
    text: str


def markdown(text: str) -> str:
    """Paragraphs as paragraphs, what is indented as code, a lead such as "Why it hurts:" in bold."""
    return "\n\n".join(_block(block) for block in re.split(r"\n\s*\n", text.strip("\n")) if block.strip())


def _block(block: str) -> str:
    lines = block.splitlines()
    if all(line.startswith("    ") for line in lines if line.strip()):
        return f"```text\n{textwrap.dedent(block)}\n```"
    if any(line.startswith(" ") for line in lines):  # a line and what hangs below it
        head = [line for line in lines if not line.startswith(" ")]
        rest = [line for line in lines if line.startswith(" ")]
        return f"{escaped(' '.join(head))}\n\n```text\n{textwrap.dedent(chr(10).join(rest))}\n```"
    if len(lines) == 2 and set(lines[1]) == {"="}:
        return f"### {escaped(lines[0])}"
    said = escaped(" ".join(lines))
    return _LEAD.sub(r"**\1:** ", said)


def escaped(text: str) -> str:
    """Text in which only what stands in backticks is markup."""
    parts = _SPAN.split(text)
    return "".join(
        part if place % 2 else re.sub(r"([*<>\[\]])", r"\\\1", part).replace("|", "&#124;")
        for place, part in enumerate(parts)
    )


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table; cells are Markdown already."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), ' ') for cell in line)} |" for line in lines)
