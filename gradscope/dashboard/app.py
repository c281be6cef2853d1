"""The app: the shell, its pages, and the guard in front of them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from dash import Dash
from dash.development.base_component import Component
from flask import has_request_context, redirect, request
from werkzeug.wrappers import Response

from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.downloads import register_downloads
from gradscope.dashboard.guard import guard
from gradscope.dashboard.live import frame, register_page
from gradscope.dashboard.pages import PAGES
from gradscope.dashboard.runs import Runs
from gradscope.dashboard.shell import shell
from gradscope.dashboard.shell_wiring import register_shell
from gradscope.packaged import packaged

# Before anything is drawn: the scheme chosen last, else the system's, so that a dark page never flashes white.
_SCHEME_SCRIPT = """
try {
  var scheme = localStorage.getItem("mantine-color-scheme-value");
  if (scheme !== "dark" && scheme !== "light") {
    scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.setAttribute("data-mantine-color-scheme", scheme);
} catch (error) {}
"""


def create_app(path: Path | str, expert: bool = False) -> Dash:
    """The dashboard of a run folder, or of a folder of runs, as a Dash app.

    Args:
        path: a run folder or a folder of runs, a path or a URL.
        expert: leaves out what explains terms and charts.

    Raises:
        RunNotFound: nothing is at `path`.
        NotARun: `path` is a file.
    """
    runs = Runs(path)
    app = Dash(
        __name__,
        assets_folder=str(packaged("")),
        assets_path_ignore=["pictures"],
        title="gradscope",
        update_title=None,  # type: ignore[arg-type]  # None: the tab does not flicker at each tick
        serve_locally=True,
        suppress_callback_exceptions=True,  # each page has components that the others lack
    )
    app.index_string = _index(app.index_string)
    app.layout = lambda: _layout(runs, expert)
    register_shell(app, runs, PAGES)
    for page in PAGES.values():
        register_page(app, runs, page)
    register_downloads(app, runs)
    _open_the_only_run(app, runs)
    digest = base64.b64encode(hashlib.sha256(_SCHEME_SCRIPT.encode()).digest()).decode()
    guard(app, [f"'sha256-{digest}'", *app.csp_hashes()])
    return app


def _index(template: str) -> str:
    page: str = template.replace("<html>", '<html lang="en">')
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    icon = '<link rel="icon" type="image/svg+xml" href="/assets/favicon.svg">'
    page = page.replace("{%favicon%}", icon)
    return page.replace("<head>", f"<head>{viewport}<script>{_SCHEME_SCRIPT}</script>")


def _layout(runs: Runs, expert: bool) -> Component:
    """The first page that a browser shows: it asks for the layout from the address that it stands at."""
    asked = urlsplit(request.referrer or "") if has_request_context() else urlsplit("")
    address = parse(asked.path, asked.query)
    return shell(frame(PAGES[address.page], runs, address), address, runs.names(), expert)


def _open_the_only_run(app: Dash, runs: Runs) -> None:
    def to_the_only_run() -> Response | None:
        names = runs.names() if request.path == "/" and request.method == "GET" else []
        if len(names) != 1:
            return None
        query = f"?{request.query_string.decode()}" if request.query_string else ""
        return redirect(Address("overview", names[0]).path + query)

    app.server.before_request(to_the_only_run)
