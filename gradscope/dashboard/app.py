"""The app: the overview of one run, or of one of a folder's runs."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dash import Dash, Input, Output, no_update
from dash.development.base_component import Component
from flask import has_request_context, request

from gradscope.dashboard import ids
from gradscope.dashboard.guard import guard
from gradscope.dashboard.pages import overview, overview_callbacks, overview_wiring
from gradscope.dashboard.parts.notice import no_run
from gradscope.dashboard.runs import Runs
from gradscope.dashboard.shell import shell, waiting

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


def create_app(path: Path | str) -> Dash:
    """The dashboard of a run folder, or of a folder of runs, as a Dash app.

    Raises:
        RunNotFound: nothing is at `path`.
        NotARun: `path` is a file.
    """
    runs = Runs(path)
    app = Dash(
        __name__,
        assets_folder=str(assets_folder()),
        assets_path_ignore=["pictures"],
        title="gradscope",
        update_title=None,  # type: ignore[arg-type]  # None: the tab does not flicker at each tick
        serve_locally=True,
        suppress_callback_exceptions=True,  # the waiting page lacks the overview's components
    )
    app.index_string = _index(app.index_string)
    app.layout = lambda: _layout(runs)
    overview_wiring.register(app, runs)
    _reload_when_found(app, runs)
    digest = base64.b64encode(hashlib.sha256(_SCHEME_SCRIPT.encode()).digest()).decode()
    guard(app, [f"'sha256-{digest}'", *app.csp_hashes()])
    return app


def assets_folder() -> Path:
    """The folder of the page's CSS, script and icon: inside the installed package, else the checkout's."""
    package = Path(str(files("gradscope")))
    packaged = package / "assets"
    return packaged if packaged.is_dir() else package.parent / "assets"


def _index(template: str) -> str:
    page: str = template.replace("<html>", '<html lang="en">')
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    icon = '<link rel="icon" type="image/svg+xml" href="/assets/favicon.svg">'
    page = page.replace("{%favicon%}", icon)
    return page.replace("<head>", f"<head>{viewport}<script>{_SCHEME_SCRIPT}</script>")


def _layout(runs: Runs) -> Component:
    names = runs.names()
    if not names:
        return waiting(no_run(str(runs.location)))
    asked = urlsplit(request.referrer or "").query if has_request_context() else ""
    run, _, _ = overview_callbacks.open_address(runs, asked)
    try:
        diagnosis = runs.get(run or names[0]).diagnosis
    except Exception:  # the page says it, once it is there
        diagnosis = None
    return shell(overview.layout(diagnosis), names)


def _reload_when_found(app: Dash, runs: Runs) -> None:
    @app.callback(Output(ids.RELOAD, "href"), Input(ids.WAITING, "n_intervals"), prevent_initial_call=True)
    def _reload(_: int) -> Any:
        return "/" if runs.names() else no_update
