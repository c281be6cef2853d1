"""The timeline in a real browser, on real recorded runs."""

from __future__ import annotations

import re
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit
from tests.dashboard.looking import place, ranges

# the fields say what the address says, so the page has answered
DRAWN = """asked => {
    const query = new URLSearchParams(asked), field = part => document.getElementById(`timeline-${part}`)?.value;
    return field('first') === (query.get('from') ?? '') && field('brush-first') === (query.get('brush') ?? '').split('-')[0];
}"""
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


@pytest.fixture(scope="module")
def seen(shared_visit: Visit, server: str) -> Page:
    """The timeline of the run that turns NaN at step 10, shared by the tests that begin with `at`."""
    return shared_visit.open(f"{server}run/nan/timeline")


def at(page: Page, server: str, query: str = "") -> Page:
    """The same page at another query, drawn."""
    page.evaluate("href => window.dash_clientside.gradscope.visit(href)", f"/run/nan/timeline{query}")
    page.wait_for_selector(".map-graph .heatmaplayer image")
    page.wait_for_function(DRAWN, arg=query)
    return page


def query(page: Page, name: str) -> str | None:
    """A part of the address."""
    found: str | None = page.evaluate("name => new URLSearchParams(location.search).get(name)", name)
    return found


def test_one_figure_shows_loss_lanes_and_map_on_one_axis(seen: Page) -> None:
    """The loss stands above the lanes, the lanes above the map, and all share the step axis."""
    expect(seen.locator("h1")).to_have_text("Timeline of nan")
    below, lanes, loss = seen.evaluate(
        """() => {
            const layout = document.querySelector('.map-graph .js-plotly-plot')._fullLayout;
            return ['yaxis2', 'yaxis4', 'yaxis'].map(name => layout[name].domain);
        }"""
    )
    assert below[1] <= lanes[0] < lanes[1] <= loss[0]
    axes = "() => document.querySelector('.map-graph .js-plotly-plot')._fullData.map(trace => trace.xaxis)"
    assert set(seen.evaluate(axes)) == {"x"}
    names = seen.locator(".map-graph .y4tick text").all_text_contents()
    assert names[0] == "▲ F1 non-finite"


def test_a_click_on_a_lane_opens_its_finding(seen: Page, server: str) -> None:
    """A bar leads to its finding, anywhere along its length; Back leads to the timeline."""
    at(seen, server)
    x, _ = place(seen, "0", 14)
    y = seen.locator(".map-graph .y4tick").first.bounding_box()
    assert y is not None
    seen.mouse.move(x - 3, y["y"] + y["height"] / 2)
    seen.mouse.move(x, y["y"] + y["height"] / 2)
    expect(seen.locator(".map-graph .hoverlayer")).to_contain_text("non-finite")
    seen.mouse.click(x, y["y"] + y["height"] / 2)
    seen.wait_for_url(re.compile(r"/run/nan/finding/F1$"))
    seen.go_back()
    expect(seen.locator("h1")).to_have_text("Timeline of nan")


def test_a_deep_link_restores_the_view(seen: Page, server: str) -> None:
    """[17] Metric, order, range, window and cell are in the address, and a link leads to the same view."""
    at(seen, server, "?metric=gradient-norm&order=severity&from=4&to=12&brush=10-12&layer=4.weight&step=9")
    assert ranges(seen)[0] == [3.5, 12.5]
    expect(seen.locator("#timeline-map-title")).to_contain_text("gradient norm of parameters")
    expect(seen.locator("#timeline-brush-first")).to_have_value("10")
    expect(seen.locator("#timeline-first")).to_have_value("4")
    expect(seen.locator("#timeline-changes table tbody tr").first).to_contain_text("NaN or Inf at step 10")
    expect(seen.locator("#timeline-cell")).to_contain_text("4.weight at step 9: gradient norm of parameters is")


def test_the_zoom_is_in_the_address_and_back_works(seen: Page, server: str) -> None:
    """[12] [17] A drag zooms and writes ?from=&to=; a double-click shows all steps again."""
    at(seen, server)
    x0, y = place(seen, "2", 3)
    x1, _ = place(seen, "2", 8)
    seen.mouse.move(x0, y)
    seen.mouse.down()
    seen.mouse.move(x1, y, steps=4)
    seen.mouse.up()
    expect(seen.locator("#timeline-first")).not_to_have_value("")
    first, last = query(seen, "from"), query(seen, "to")
    assert first is not None
    assert last is not None
    assert 2 <= int(first) <= 4 < 6 <= int(last) <= 9
    seen.mouse.dblclick(*place(seen, "2", 5))
    expect(seen.locator("#timeline-first")).to_have_value("")
    assert query(seen, "from") is None


def test_shift_and_drag_asks_what_changed_there(seen: Page, server: str) -> None:
    """Shift and a drag choose a window; the figure keeps its zoom, and the window is in the address."""
    at(seen, server)
    before = ranges(seen)
    x0, y = place(seen, "2", 9.6)
    x1, _ = place(seen, "2", 12.4)
    seen.keyboard.down("Shift")
    seen.mouse.move(x0, y)
    seen.mouse.down()
    seen.mouse.move(x1, y, steps=4)
    expect(seen.locator(".timeline-band")).to_have_count(1)
    seen.mouse.up()
    seen.keyboard.up("Shift")
    expect(seen.locator(".timeline-band")).to_have_count(0)
    expect(seen.locator("#timeline-changes")).to_contain_text("Steps 10 to 12 against")
    assert query(seen, "brush") == "10-12"
    assert ranges(seen) == before
    seen.go_back()
    expect(seen.locator("#timeline-brush-first")).to_have_value("")


def test_a_window_is_chosen_without_a_mouse(seen: Page, server: str) -> None:
    """Two fields for the steps, and a link for each onset, do what the drag does."""
    at(seen, server)
    seen.locator("#timeline-brush-first").fill("10")
    seen.locator("#timeline-brush-last").fill("13")
    seen.keyboard.press("Tab")
    expect(seen.locator("#timeline-changes")).to_contain_text("Steps 10 to 13 against")
    seen.get_by_role("link", name="F1 at step 10").press("Enter")
    expect(seen.locator("#timeline-changes")).to_contain_text("Steps 10 to 12 against")
    assert query(seen, "step") == "10"


def test_the_bracket_keys_go_from_onset_to_onset(seen: Page, server: str) -> None:
    """] goes to the next step at which a finding begins, [ to the one before."""
    at(seen, server)
    marks = [int(mark) for mark in (seen.locator("#timeline-onsets").get_attribute("data-onsets") or "").split()]
    seen.locator("h1").click()
    seen.keyboard.press("]")
    expect(seen.locator("#timeline-cell")).to_contain_text(f"At step {marks[0]}")
    if len(marks) > 1:
        seen.keyboard.press("]")
        expect(seen.locator("#timeline-cell")).to_contain_text(f"At step {marks[1]}")
        seen.keyboard.press("[")
        expect(seen.locator("#timeline-cell")).to_contain_text(f"At step {marks[0]}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_timeline_is_accessible_and_narrow_enough(visit: Visit, server: str, scheme: str) -> None:
    """[19] [22] axe finds no violation, and at 800 px nothing scrolls sideways."""
    page = visit.open(
        f"{server}run/nan/timeline?brush=10-12&layer=4&step=9",
        scheme=scheme,
        viewport={"width": 800, "height": 900},
        bypass_csp=True,
    )
    expect(page.locator("#timeline-changes table")).to_be_visible()
    page.get_by_text("The same numbers as a table").click()
    page.add_script_tag(path=AXE)
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
