"""The id of every component that a callback or a test names."""

from __future__ import annotations

URL = "url"
THEME = "theme"
SCHEME = "scheme"  # named in assets/gradscope.js too
CLOCK = "clock"
CHIP = "chip"
PAUSE = "pause"
PAUSED = "paused"
RUN = "run"
WAITING = "waiting"
RELOAD = "reload"

VERSION = "version"  # what is on disk
SHOWN = "shown"  # what is on the screen
WISH = "wish"  # what the address asked for

PROBLEM = "problem"
CONTENT = "content"
STATUS = "status"
HEADLINE = "headline"
NEXT = "next"
NUMBERS = "numbers"
FINDINGS = "findings"
CHECKS = "checks"
VERDICT = "verdict"
TITLE = "title"  # the browser tab's

METRIC = "metric"
MAP = "map"
CELL = "cell"  # the cell of the map that was clicked
MAP_TITLE = "map-title"
MAP_HELP = "map-help"
MAP_LEGEND = "map-legend"

DEPTH = "depth"
DEPTH_TITLE = "depth-title"
SLIDER = "step-slider"
EARLIER = "earlier"
LATER = "later"
LATEST = "latest"
STEP = "step"

DRAWER = "drawer"
DRAWER_BODY = "drawer-body"
OPENED = "opened"


def opener(finding: str, place: str) -> dict[str, str]:
    """The id of a button that opens a finding's drawer; `place` tells two buttons of one finding apart."""
    return {"type": "open-finding", "finding": finding, "place": place}
