"""Zooming into a run whose layers and steps share cells of the map, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from gradscope.store import RunWriter
from tests.dashboard.big import Size, begin, steps, summaries, write_big
from tests.dashboard.conftest import Server, Visit
from tests.dashboard.looking import place, ranges, tooltip

SIZE = Size(layers=320, steps=4_000, kept=16)  # two layers share a row, 19 steps a column
PLANTED = SIZE.planted
WINDOW = PLANTED.spike_step - 40, PLANTED.spike_step + 60  # narrow enough for a column a step
BLOCK, LAYER = f"blocks.{PLANTED.spike_layer // 10}", PLANTED.spike_layer % 10
PLACE = PLANTED.spike_layer // 2  # the row of the layer that has the spike, the second of two
ROW = f"{BLOCK}.layers.{LAYER - 1} … {BLOCK}.layers.{LAYER}"
PATIENCE = 30_000  # milliseconds: how fast this is is judged elsewhere
MAP = "document.querySelector('.map-graph .js-plotly-plot')._fullData.find(trace => trace.name === 'map')"
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the run."""
    running = Server(write_big(tmp_path_factory.mktemp("ended") / "big", SIZE))
    yield running.url
    assert running.stop() == ""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[RunWriter]:
    """A writer of the same run, which goes on."""
    writer = begin(tmp_path / "big", SIZE, live=True)
    for rows in summaries(SIZE):
        writer.write_summaries(rows)
    yield writer
    writer.close()


def opened(visit: Visit, url: str, **options: object) -> Page:
    """A page with a map."""
    page = visit.open(url, **options)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE)
    return page


def rows(page: Page) -> list[str]:
    """The rows of the map."""
    found: list[str] = page.evaluate(f"() => {MAP}.y")
    return found


def width(page: Page) -> float:
    """How many steps a column stands for."""
    found: float = page.evaluate(f"() => {MAP}.x[1] - {MAP}.x[0]")
    return found


def wait_for_width(page: Page, steps: int) -> None:
    """Waits until a column stands for so many steps."""
    page.wait_for_function(f"steps => {MAP}.x[1] - {MAP}.x[0] === steps", arg=steps)


def settle(page: Page) -> None:
    """Waits until the figure stands still: new names beside the map move its edge."""
    page.evaluate(
        """async () => {
            const plot = document.querySelector('.map-graph .js-plotly-plot');
            const pause = () => new Promise(then => setTimeout(then, 60));
            for (let before = null, same = 0; same < 4; await pause()) {
                const now = plot._fullLayout.xaxis._offset;
                same = now === before ? same + 1 : 0;
                before = now;
            }
        }"""
    )


def drag(page: Page, first: float, last: float, top: str = ROW, bottom: str = ROW) -> None:
    """Zooms the map."""
    page.mouse.move(*place(page, top, first))
    page.mouse.down()
    page.mouse.move(*place(page, bottom, last), steps=5)
    page.mouse.up()


@pytest.mark.parametrize("page_of", ["run/big", "run/big/timeline"], ids=["overview", "timeline"])
def test_a_zoom_shows_single_steps_and_back_leads_to_all(visit: Visit, ended: str, page_of: str) -> None:
    """[12, 17] A drag folds the map anew, so that a spike of one step is found; Back, Forward, double-click and a link
    show what they should.
    """
    page = opened(visit, f"{ended}{page_of}")
    assert width(page) == 19
    whole = ranges(page)
    assert "steps around" in tooltip(page, ROW, PLANTED.spike_step)
    drag(page, *WINDOW)
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    wait_for_width(page, 1)
    zoomed = ranges(page)
    assert WINDOW[0] - 10 < zoomed[0][0] < PLANTED.spike_step < zoomed[0][1] < WINDOW[1] + 10
    said = tooltip(page, ROW, PLANTED.spike_step)
    assert re.search(rf"step {PLANTED.spike_step:,}, .*log₁₀ gain [67]\.\d\d", said, re.DOTALL), said
    assert re.search(r"gain [-−]?0\.\d\d", tooltip(page, ROW, PLANTED.spike_step - 1))
    link = page.url

    page.go_back()
    page.wait_for_url(re.compile(rf"/{page_of}$|{ended}$"))
    wait_for_width(page, 19)
    assert ranges(page) == whole
    page.go_forward()
    wait_for_width(page, 1)
    assert ranges(page) == zoomed
    page.mouse.dblclick(*place(page, ROW, PLANTED.spike_step))
    wait_for_width(page, 19)
    assert ranges(page) == whole
    assert "from=" not in page.url

    page.goto(link)
    page.wait_for_selector(".map-graph .heatmaplayer image")
    assert (ranges(page), width(page)) == (zoomed, 1)
    page.mouse.dblclick(*place(page, ROW, PLANTED.spike_step))
    wait_for_width(page, 19)
    assert ranges(page) == whole


def test_a_zoom_into_rows_is_in_the_address_too(visit: Visit, ended: str) -> None:
    """[17] A drag over both axes, Back and Forward restore both; another order shows all rows again."""
    page = opened(visit, f"{ended}run/big")
    whole = ranges(page)
    bottom = rows(page)[PLACE + 10]
    drag(page, *WINDOW, bottom=bottom)
    page.wait_for_url(re.compile(rf"rows={PLACE}-{PLACE + 10}\b"))
    wait_for_width(page, 1)
    zoomed = ranges(page)
    assert zoomed[1] == [PLACE + 10.5, PLACE - 0.5]
    page.go_back()
    wait_for_width(page, 19)
    assert ranges(page) == whole
    page.go_forward()
    wait_for_width(page, 1)
    assert ranges(page) == zoomed
    page.keyboard.press("2")
    page.wait_for_function(
        "() => document.querySelector('.map-graph .js-plotly-plot')._fullLayout.yaxis2.range[0] === 159.5"
    )
    assert "rows=" not in page.url
    assert ranges(page)[0] == zoomed[0]


def test_live_updates_keep_the_zoom_and_its_detail(
    visit: Visit, live: RunWriter, tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[12] After three updates the ranges are what they were, the columns are still single steps, and a double-click
    shows all steps, the new ones too.
    """
    page = opened(visit, serve_path(tmp_path / "big").url)
    drag(page, *WINDOW, bottom=rows(page)[PLACE + 10])
    wait_for_width(page, 1)
    zoomed = ranges(page)
    page.evaluate(
        """() => { window.seen = new Set();
            const plot = document.querySelector('.map-graph .js-plotly-plot');
            const look = () => { seen.add(JSON.stringify(['xaxis', 'yaxis2'].map(a => plot._fullLayout[a].range)));
                requestAnimationFrame(look); };
            look(); }"""
    )
    *_, newest = summaries(SIZE)
    step = steps(SIZE)[:1]
    for number in range(SIZE.steps, SIZE.steps + 3):
        newest["step"] = step["step"] = number
        live.write_summaries(newest)
        live.write_steps(step, [[1e-3]])
        expect(page.locator("#chip")).to_contain_text(f"step {number:,}", timeout=PATIENCE)
    assert ranges(page) == zoomed
    assert page.evaluate("() => seen.size") == 1
    assert width(page) == 1
    page.mouse.dblclick(*place(page, ROW, PLANTED.spike_step))
    wait_for_width(page, 19)
    assert ranges(page)[0] == [-0.5, SIZE.steps + 2.5]


def test_a_block_is_chosen_and_left_by_keyboard(visit: Visit, ended: str) -> None:
    """The select shows the layers of a block singly, says so, and the line below leads back; Back does too."""
    page = opened(visit, f"{ended}run/big", bypass_csp=True)
    folded = page.locator("#overview-map-folded")
    expect(folded).to_contain_text("Each row shows 2 neighbouring layers and each column 19 steps")
    assert rows(page)[PLACE] == ROW
    select = page.get_by_role("textbox", name="Part of the model that the map shows")
    select.focus()
    select.fill(BLOCK)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf"block={BLOCK}$"))
    expect(folded).to_contain_text(f"Only {BLOCK} is shown, 10 layers", timeout=PATIENCE)
    page.wait_for_function(f"() => {MAP}.y.length === 10")
    assert rows(page) == [f"{BLOCK}.layers.{layer}" for layer in range(10)]
    settle(page)
    tooltip(page, f"{BLOCK}.layers.{LAYER}", PLANTED.spike_step)  # a column is a pixel: of its neighbour at first
    expect(page.locator(".map-graph .hoverlayer")).to_contain_text(re.compile(r"gain [67]\.\d\d"), timeout=PATIENCE)
    page.add_script_tag(path=AXE)
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []

    folded.get_by_role("link", name="back to all layers").press("Enter")
    page.wait_for_function(f"() => {MAP}.y.length === 160")
    expect(select).to_have_value("all 320 layers", timeout=PATIENCE)
    page.go_back()
    page.wait_for_function(f"() => {MAP}.y.length === 10")
    expect(select).to_have_value(f"{BLOCK} · 10 layers", timeout=PATIENCE)


def test_cells_and_onsets_are_reached_within_a_zoom(visit: Visit, ended: str) -> None:
    """Arrow keys move in single steps and from row to row, a layer inside a shared row has its frame, and ] takes the
    zoom along to the next onset.
    """
    layer = ROW.split(" … ")[1]
    asked = f"layer={layer}&step={PLANTED.spike_step}&from={WINDOW[0]}&to={WINDOW[1]}"
    page = opened(visit, f"{ended}run/big/timeline?{asked}")
    frame = "document.querySelector('.map-graph .js-plotly-plot')._fullLayout.shapes.find(each => each.name === 'cell')"
    edges = page.evaluate(f"() => [{frame}.x0, {frame}.x1, {frame}.y0, {frame}.y1]")
    assert edges == [PLANTED.spike_step - 0.5, PLANTED.spike_step + 0.5, PLACE - 0.5, PLACE + 0.5]
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile(rf"step={PLANTED.spike_step + 1}\b"))
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile(rf"layer={BLOCK}\.layers\.{LAYER + 1}\b"))
    page.get_by_role("link", name="back to all steps").press("Enter")
    wait_for_width(page, 19)
    page.go_back()
    wait_for_width(page, 1)
    page.locator("h1").click()
    page.keyboard.press("]")
    page.wait_for_url(re.compile(rf"step={PLANTED.broken_from}\b"))
    half = (WINDOW[1] - WINDOW[0]) // 2
    page.wait_for_function(
        "first => document.querySelector('.map-graph .js-plotly-plot')._fullLayout.xaxis.range[0] === first",
        arg=PLANTED.broken_from - half - 0.5,
    )
    wait_for_width(page, 1)
