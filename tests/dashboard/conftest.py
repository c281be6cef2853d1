"""A real chromium, a real server and real recorded runs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route

from tests.dashboard.recorded import record_all

CHROMIUM = os.environ.get("GRADSCOPE_CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
SIZE = {"width": 1440, "height": 1000}


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, object]) -> dict[str, object]:
    """Debian's chromium. A missing one is a failure, not a skip: an unseen page is an untested page."""
    if not os.path.exists(CHROMIUM):
        pytest.fail(f"no chromium at {CHROMIUM}: install it, or name it in GRADSCOPE_CHROMIUM", pytrace=False)
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": FLAGS, "headless": True}


class Server:
    """`gradscope dashboard PATH --port 0` in its own process."""

    def __init__(self, path: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "gradscope", "dashboard", str(path), "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the server did not start: {self.stop()}")

    def stop(self) -> str:
        """Ends it; what it wrote to stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=10)[1]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real runs: those of the demos, recorded with a trial of the first cure, and some recorded here."""
    folder = record_all(tmp_path_factory.mktemp("runs"))
    for example in EXAMPLES.glob("*.zip"):
        with zipfile.ZipFile(example) as archive:
            if not (folder / example.stem).exists():
                archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def server(runs: Path) -> Iterator[str]:
    """The address of a server over all runs."""
    running = Server(runs)
    yield running.url
    assert running.stop() == ""


@pytest.fixture
def serve_path() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    started: list[Server] = []

    def start(path: Path, port: int = 0) -> Server:
        started.append(Server(path, port))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()


class Visit:
    """Pages that may talk to their own server only and must not complain in the console."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[object] = []
        self.complaints: list[str] = []
        self.outside: list[str] = []
        self.dialogs: list[str] = []

    def open(
        self, url: str, *, scheme: str = "light", wait: str = ".map-graph .heatmaplayer image", **options: object
    ) -> Page:
        """Opens a page in a context of its own and waits for a part of it."""
        context = self._browser.new_context(
            **{"viewport": SIZE, "color_scheme": scheme, "reduced_motion": "reduce", **options}
        )
        self._contexts.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(8000)
        own = tuple(f"{kind}{url.split('//')[1].split('/')[0]}" for kind in ("http://", "ws://"))
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

        def route(request: Route) -> None:
            if request.request.url.startswith((*own, "data:", "blob:")):
                request.continue_()
            else:
                self.outside.append(request.request.url)
                request.abort()

        page.route("**/*", route)
        page.goto(url)
        if wait:
            page.wait_for_selector(wait, timeout=15_000)
        return page

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def close(self) -> None:
        """Closes every page."""
        for context in self._contexts:
            context.close()  # type: ignore[attr-defined]

    def judge(self) -> None:
        """Every test of the browser is also a test of these."""
        assert (self.complaints, self.outside, self.dialogs) == ([], [], [])


@pytest.fixture
def visit(browser: Browser, serve_path: Callable[..., Server]) -> Iterator[Visit]:
    """Opens pages for one test, which are closed before their servers."""
    visits = Visit(browser)
    yield visits
    visits.close()
    visits.judge()


@pytest.fixture(scope="module")
def shared_visit(browser: Browser) -> Iterator[Visit]:
    """Opens pages that all tests of a module look at."""
    visits = Visit(browser)
    yield visits
    visits.close()
    visits.judge()
