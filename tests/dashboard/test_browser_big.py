"""The largest run in a real browser: 3,000 layers, 100,000 steps; `make bench ARGS=--big` has it with all that is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Response, expect

from gradscope.dashboard.figures.map import map_data
from gradscope.dashboard.runs import Runs
from gradscope.reports.metrics import METRICS
from tests.dashboard.big import Size, begin, steps, summaries
from tests.dashboard.conftest import Server, Visit
from tests.dashboard.looking import colour, near, tooltip

SIZE = Size(kept=14)
A_SMALL_RUN = 1.9  # seconds that one takes to open where these limits were set; they grow with a slower machine
MAP = ".map-graph .heatmaplayer image"


def memory(server: Server, what: str = "VmRSS") -> int:
    """Bytes that the server holds, or held at most ("VmHWM")."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) * 1024


def row_of(layer: int) -> str:
    """The row of the map that shows a layer: ten neighbours share one."""
    first, last = (f"blocks.{number // 10}.layers.{number % 10}" for number in (layer // 10 * 10, layer // 10 * 10 + 9))
    return f"{first} … {last}"


class Payloads:
    """The sizes of what the server answered to the page's callbacks."""

    def __init__(self, page: Page) -> None:
        self._responses: list[Response] = []
        page.on("response", lambda response: "_dash-update" in response.url and self._responses.append(response))

    def sizes(self) -> list[int]:
        """Bytes of each."""
        return [len(response.body()) for response in self._responses if response.status == 200]


@pytest.mark.alone
def test_the_largest_run_opens_grows_and_reloads(
    visit: Visit, server: str, tmp_path: Path, serve_path: Callable[..., Server], request: pytest.FixtureRequest
) -> None:
    """[23, 28] It opens in 5 s, no answer is over 1 MB, the planted events are on the map, new steps come in, and
    reloads do not fill the memory.
    """
    writer = begin(tmp_path / "big", SIZE, live=True)
    request.addfinalizer(writer.close)
    for rows in summaries(SIZE):
        writer.write_summaries(rows)
    big = serve_path(tmp_path / "big")
    started = time.monotonic()
    visit.open(f"{server}run/healthy")
    slowness = max(1.0, (time.monotonic() - started) / A_SMALL_RUN)
    started = time.monotonic()
    page = visit.open(big.url, wait="h1:has-text('NaN')")
    page.wait_for_selector(MAP)
    assert time.monotonic() - started < 5 * slowness
    payloads = Payloads(page)

    planted = SIZE.planted
    data = map_data(Runs(tmp_path / "big").get("big").signals, METRICS["backward-gain"])

    def shown(layer: int, step: int) -> tuple[str, float]:
        """The cell of the map that a layer at a step is folded into."""
        row = next(row for row, name in enumerate(data.rows) if name == row_of(layer))
        return data.rows[row], float(data.places[np.searchsorted(data.steps, step, side="right") - 1])

    spike = tooltip(page, *shown(planted.spike_layer, planted.spike_step))
    assert re.search(r"log₁₀ gain [67]\.\d\d", spike)
    assert "the one farthest from healthy" in spike
    first, end = planted.vanishing_steps
    vanished = next(int(step) for step in SIZE.recorded if first <= step < end)
    assert near(colour(page, *shown(planted.vanishing_layers[0] + 50, vanished)), "#16265C")
    row, _ = shown(planted.spike_layer, SIZE.steps - 1)
    beside = float(data.places[-1]) - data.per_column / 4  # the line where the finding begins
    assert near(colour(page, row, beside), "#000000")

    step = steps(SIZE)[:1]
    for number in range(SIZE.steps, SIZE.steps + 2):
        rows["step"] = step["step"] = number
        writer.write_summaries(rows)
        writer.write_steps(step, [[1e-3]])
        expect(page.locator("#chip")).to_contain_text(f"step {number:,}", timeout=30_000)
    assert max(payloads.sizes()) < 1_000_000

    held = []
    for _ in range(4):
        page.reload()
        page.wait_for_selector(MAP)
        held.append(memory(big))
    assert max(held) < 500e6
    assert held[-1] - held[1] < 20e6
    assert memory(big, "VmHWM") < 500e6
