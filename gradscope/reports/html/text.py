"""Text on its way into a page: nothing that a user wrote can become markup."""

from __future__ import annotations

from collections.abc import Iterable
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


def percent(share: float) -> str:
    """A place in a box, for CSS and SVG."""
    return f"{100 * share:.6g}%"
