"""What a page is in: a file without a script that loads nothing, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.reports.html.style import style
from gradscope.reports.html.text import shown

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # so no script runs, and nothing is loaded


def skeleton(title: str, body: Iterable[str], more_style: str = "") -> str:
    """The page as text.

    Args:
        title: of the window, as plain text.
        body: its parts, which are HTML already.
        more_style: what its style sheet has besides that of all pages.

    Example:
        >>> skeleton("a < b", ["<h1>Hello</h1>"]).splitlines()[-4:]
        ['<h1>Hello</h1>', '</main>', '</body>', '</html>']
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{shown(title)}</title>\n<style>\n{style()}{more_style}</style>\n</head>\n<body>\n<main>",
            *body,
            "</main>\n</body>\n</html>\n",
        ]
    )


def footer(version: str, said: Iterable[str]) -> str:
    """Who wrote the page, and what else is said at its end, which is HTML already."""
    written = f"Written by gradscope {shown(version)}. This page has no script and loads nothing."
    return f"<footer>{' '.join([written, *said])}</footer>"
