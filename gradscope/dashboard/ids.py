"""The ids of the components that surround every page; a page's own begin with its name, see `of`."""

from __future__ import annotations

URL = "url"
MAIN = "main"
PAGE = "page"  # holds the main part of the page that the address asks for
SHOWN_PAGE = "shown-page"
NAVIGATION = "navigation"
THEME = "theme"
SCHEME = "scheme"  # named in assets/gradscope.js too
CLOCK = "clock"  # there too
VERSION = "version"  # of the runs that the page shows, on disk
CHIP = "chip"
PAUSE = "pause"
PAUSED = "paused"
HELD = "held"  # the step at which the page stands still
RUN = "run"
STATE = "state"  # what the tab's title and icon say
BADGE = "badge"
SEARCH = "search"
SEARCH_TEXT = "search-text"
SEARCH_RESULTS = "search-results"
SEARCH_OPEN = "search-open"
HELP = "help"
HELP_OPEN = "help-open"


def of(page: str, part: str) -> str:
    """The id of a part of a page.

    Example:
        >>> of("layers", "table")
        'layers-table'
    """
    return f"{page}-{part}"
