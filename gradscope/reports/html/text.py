"""Text on its way into a page: nothing that a user wrote can become markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from gradscope.records import Severity
from gradscope.reports import words
from gradscope.reports.page_words import SEVERITY_WORDS


def shown(text: str, keep: str = "") -> str:
    r"""Text as a page shows it: markup escaped, invisible characters spelled out; those in `keep` stay.

    Example:
        >>> shown("<b>\u202ea</b>")
        '&lt;b&gt;\\u202ea&lt;/b&gt;'
    """
    return escape(words.harmless(text, keep))


def severity_tag(severity: Severity) -> str:
    """`▲ Error`."""
    shape = words.SHAPES[severity][0]
    said = SEVERITY_WORDS[severity]
    return f'<span class="severity tone-{severity}"><span aria-hidden="true">{shape}</span> {said}</span>'


def listed(lines: Iterable[str]) -> str:
    """Lines of text as a list."""
    return f'<ul class="list">{"".join(f"<li>{shown(line)}</li>" for line in lines)}</ul>'


def diff(patch: str) -> str:
    r"""A unified diff whose signs say what its colours do.

    Example:
        >>> diff("--- a\n+++ a\n@@ -1 +1 @@\n--- x\n").splitlines()[-1]  # a line that begins with two dashes is gone
        '<span class="removed">--- x</span>'
    """
    lines = patch.rstrip("\n").split("\n")
    drawn = []
    for at, text in enumerate(lines):
        head = any(_begins_file(lines, top) for top in (at, at - 1) if top >= 0)
        kind = "place" if head else {"+": "added", "-": "removed", "@": "place"}.get(text[:1])
        said = shown(text.removesuffix("\r"), keep="\t")
        drawn.append(f'<span class="{kind}">{said}</span>' if kind else said)
    return "\n".join(drawn)


def _begins_file(lines: Sequence[str], at: int) -> bool:
    """Whether a line and the next two are the head of a file's changes."""
    heads = zip(("--- ", "+++ ", "@@ "), lines[at : at + 3], strict=False)
    return len(lines) > at + 2 and all(line.startswith(head) for head, line in heads)


def percent(share: float) -> str:
    """A place in a box, for CSS and SVG."""
    return f"{100 * share:.6g}%"
