"""The same in a real browser: how soon it is seen, how busy it keeps the page, and whether the page's memory grows."""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

from playwright.sync_api import CDPSession, Page, sync_playwright

from gradscope.store import RunWriter
from tests.bench.growing import grow, more
from tests.dashboard.big import Size, begin, summaries
from tests.dashboard.conftest import CHROMIUM, FLAGS, SIZE

MAP = ".map-graph .heatmaplayer image"
MINUTE = 60.0


@dataclass(frozen=True)
class Seen:
    """What the page takes for one run that grows by a recorded step a second.

    Attributes:
        verdict, map: seconds from the address to the sentence, and to the picture.
        busy: share of the time that the page's main thread worked, in [0, 1].
        heaps: bytes of the page's objects after garbage collection, once a minute.
        updates: how often the step that the page names moved, a minute.
    """

    verdict: float
    map: float
    busy: float
    heaps: tuple[int, ...]
    updates: float

    def lines(self) -> Iterator[str]:
        """The figures beside what they are to stay under."""
        grown = (self.heaps[-1] - self.heaps[1]) / 1e6 if len(self.heaps) > 2 else 0.0
        yield f"  verdict seen in        {self.verdict:7.2f} s    goal   3"
        yield f"  map seen in            {self.map:7.2f} s    goal   5"
        yield f"  main thread busy       {self.busy * 100:7.0f} %    goal  50    {self.updates:.0f} updates a minute"
        minutes = len(self.heaps) - 2
        yield f"  heap                   {self.heaps[-1] / 1e6:7.1f} MB   grows by {grown:.1f} in {minutes} minutes"


def measure_in_browser(size: Size, minutes: int = 6) -> Seen:
    """Opens a large run's page and follows it while the run grows; the first minute fills the caches."""
    with tempfile.TemporaryDirectory() as place:
        writer = begin(Path(place) / "big", size, live=True)
        for rows in summaries(size):
            writer.write_summaries(rows)
        seen = _follow(Path(place) / "big", writer, size, minutes)
        writer.close()
    return seen


def _follow(folder: Path, writer: RunWriter, size: Size, minutes: int) -> Seen:
    with _server(folder) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        started = time.perf_counter()
        page.goto(url)
        page.wait_for_selector("h1:has-text('NaN')", timeout=60_000)
        verdict = time.perf_counter() - started
        page.wait_for_selector(MAP, timeout=60_000)
        drawn = time.perf_counter() - started
        cdp = page.context.new_cdp_session(page)
        cdp.send("Performance.enable")
        heaps, busy, updates = [_heap(cdp)], [], []
        with _growing(writer, size):
            for _ in range(minutes):
                before, chip = _worked(cdp), _Chip(page)
                chip.follow(MINUTE)
                worked, passed = (now - then for now, then in zip(_worked(cdp), before, strict=True))
                busy.append(worked / passed)
                updates.append(chip.moves)
                heaps.append(_heap(cdp))
        browser.close()
    return Seen(verdict, drawn, statistics.median(busy), tuple(heaps), statistics.median(updates))


class _Chip:
    """Counts how often the step that the page names moves."""

    def __init__(self, page: Page) -> None:
        self._page, self.moves = page, 0

    def follow(self, seconds: float) -> None:
        until, last = time.perf_counter() + seconds, ""
        while time.perf_counter() < until:
            said = self._page.locator("#chip").inner_text()
            self.moves += bool(last) and said.split("·")[1] != last
            last = said.split("·")[1]
            time.sleep(0.5)


def _metrics(cdp: CDPSession) -> dict[str, float]:
    return {each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]}


def _worked(cdp: CDPSession) -> tuple[float, float]:
    """Seconds that the main thread worked, and the time."""
    found = _metrics(cdp)
    return found["TaskDuration"], found["Timestamp"]


def _heap(cdp: CDPSession) -> int:
    cdp.send("HeapProfiler.collectGarbage")
    return int(_metrics(cdp)["JSHeapUsedSize"])


@contextmanager
def _growing(writer: RunWriter, size: Size) -> Iterator[None]:
    """A recorded step a second, from a thread: the page is asked from this one."""
    ended = threading.Event()

    def write() -> None:
        for step, rows in more(size, sys.maxsize):
            if ended.wait(1.0):
                return
            grow(writer, step, rows)

    training = threading.Thread(target=write)
    training.start()
    try:
        yield
    finally:
        ended.set()
        training.join()


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "gradscope", "dashboard", str(folder), "--port", "0"]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
