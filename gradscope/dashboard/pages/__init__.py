"""One file a page: its `PAGE`. Longer ones have further files beside them that begin with its name."""

from gradscope.dashboard.live import Page
from gradscope.dashboard.pages import about, checks, compare, finding, layers, learn, overview, runs, timeline

_MODULES = (runs, overview, finding, layers, timeline, checks, about, compare, learn)
PAGES: dict[str, Page] = {module.PAGE.name: module.PAGE for module in _MODULES}
