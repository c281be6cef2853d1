"""The layers page in a real browser, on real recorded runs."""

from __future__ import annotations

import re
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit
from tests.dashboard.recorded import HOSTILE

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
QUERY = ("layer", "find", "kind", "unhealthy", "sort", "step", "after")
TABLE, STRIPS = ".layer-table tbody tr", "#layers-strips .heatmaplayer image"


@pytest.fixture(scope="module")
def layers(shared_visit: Visit, server: str) -> Page:
    """The layers of a sick run, open for all tests of this module."""
    return shared_visit.open(f"{server}run/sigmoid/layers", wait=TABLE)


def names(page: Page) -> list[str]:
    """The layers listed."""
    return page.locator(".layer-table .layer-link").all_text_contents()


@pytest.fixture
def page(layers: Page, server: str) -> Page:
    """The same page, as it was at first."""
    if not layers.url.endswith("/layers"):
        layers.evaluate("all => window.dash_clientside.gradscope.go(all)", dict.fromkeys(QUERY))
        expect(layers.locator(".layer-link").first).to_have_attribute("href", "/run/sigmoid/layers?layer=0")
        expect(layers.locator(TABLE)).to_have_count(39)
    return layers


def test_the_table_lists_every_layer_with_its_state(page: Page) -> None:
    """Each row has a name, a state in words and its numbers; the heading says how many there are."""
    expect(page.locator("h1")).to_have_text("Layers")
    expect(page.locator(TABLE)).to_have_count(39)
    expect(page.locator("#layers-summary")).to_contain_text("39 layers")
    expect(page.locator(TABLE).first).to_contain_text("▲ Error")


def test_finding_as_you_type_leaves_the_rows_that_match(page: Page) -> None:
    """The rows follow what is typed, the address too; emptying the field brings all rows back."""
    page.locator("#layers-find").type("sigm", delay=30)
    expect(page.locator(TABLE)).to_have_count(19)
    expect(page).to_have_url(re.compile("find=sigm"))
    page.locator("#layers-find").fill("")
    expect(page.locator(TABLE)).to_have_count(39)


def test_back_fills_in_the_filters(page: Page) -> None:
    """[17] A kind that is chosen is in the address, and Back takes it out of address, field and table."""
    page.locator("#layers-kind").click()
    page.get_by_role("option", name="Linear (20)").click()
    expect(page.locator(TABLE)).to_have_count(20)
    expect(page).to_have_url(re.compile("kind=Linear"))
    page.go_back()
    expect(page.locator(TABLE)).to_have_count(39)
    expect(page.locator("#layers-kind")).to_have_value("")


def test_a_heading_sorts_and_says_so(page: Page) -> None:
    """A click puts the largest first, another one the smallest; screen readers hear which."""
    heading = page.get_by_role("columnheader", name="Backward gain")
    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert names(page)[0] == "38"
    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert names(page)[0] == "0"


def test_a_row_opens_its_layer_and_escape_closes_it(page: Page) -> None:
    """Enter on a name opens the layer with its strips, in the address too; Escape closes it, focus is on its row."""
    page.get_by_role("link", name="4", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(STRIPS)
    expect(page.locator("#layers-head h2")).to_contain_text("4")
    expect(page).to_have_url(re.compile("layer=4"))
    assert page.locator(STRIPS).count() >= 6
    page.keyboard.press("Escape")
    expect(page.locator("#layers-detail")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("layer="))
    expect(page.get_by_role("link", name="4", exact=True)).to_be_focused()


def test_the_arrow_keys_move_between_rows(page: Page) -> None:
    """Down goes to the next layer's name, up to the one before."""
    page.get_by_role("link", name="4", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="5", exact=True)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("link", name="4", exact=True)).to_be_focused()


def test_the_strips_share_their_steps_and_say_what_a_cell_is(page: Page) -> None:
    """Zooming into one strip zooms all; hovering names the step and the share of entries."""
    page.get_by_role("link", name="4", exact=True).click()
    page.wait_for_selector(STRIPS)
    page.locator("#layers-strips").scroll_into_view_if_needed()
    plot = "document.querySelector('#layers-strips .js-plotly-plot')"
    page.evaluate(f"() => Plotly.relayout({plot}, {{'xaxis3.range': [2, 6]}})")
    shown = f"() => ['xaxis', 'xaxis2', 'xaxis4'].map(axis => {plot}._fullLayout[axis].range)"
    assert page.evaluate(shown) == [[2, 6]] * 3
    x, y = page.evaluate(
        """() => {
            const plot = document.querySelector('#layers-strips .js-plotly-plot');
            const {xaxis3, yaxis3} = plot._fullLayout, box = plot.getBoundingClientRect();
            return [box.left + xaxis3._offset + xaxis3.d2p(4), box.top + yaxis3._offset + yaxis3.d2p(-0.4)];
        }"""
    )
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y, steps=2)
    hover = page.locator("#layers-strips .hoverlayer .hovertext")
    hover.first.wait_for()
    assert re.search(r"step 4.*of entries", hover.first.text_content() or "")


def test_the_tree_folds_the_model(page: Page) -> None:
    """The tree starts at the model, with the worst state of what is in it; a name in it opens the layer."""
    page.get_by_role("link", name="Tree").click()
    expect(page.locator(".tree .line").first).to_contain_text("(model)")
    expect(page.locator(".tree .line").first).to_contain_text("▲ Error")
    page.locator(".tree").get_by_role("link", name="6", exact=True).click()
    expect(page.locator("#layers-head h2")).to_contain_text("6")


def test_the_data_of_the_table_comes_as_a_file(page: Page) -> None:
    """The link below the table gives the rows as CSV, without leaving the page."""
    with page.expect_download() as started:
        page.locator("#layers-links").get_by_role("link", name="CSV").click()
    assert started.value.suggested_filename == "sigmoid-layers.csv"
    assert Path(started.value.path()).read_text().startswith("layer,kind,state,findings,gain")


def test_hostile_names_are_text_here_too(visit: Visit, server: str) -> None:
    """[24] Markup in a layer's name is shown as it is, in the table, in the detail and in the strips."""
    page = visit.open(f"{server}run/hostile/layers", wait=TABLE)
    assert names(page)[0] == HOSTILE
    page.locator(".layer-link").first.click()
    page.wait_for_selector(STRIPS)
    expect(page.locator("#layers-head h2")).to_contain_text(HOSTILE)
    page.locator(".layer-link").nth(2).click()
    expect(page.locator("#layers-head h2")).to_contain_text("x" * 300)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("width", "scheme"), [(800, "light"), (1440, "dark")])
def test_every_form_of_the_page_is_for_everybody(visit: Visit, server: str, width: int, scheme: str) -> None:
    """[19] [22] axe finds no violation in table, tree and layer, and nothing scrolls sideways."""
    size = {"width": width, "height": 1000}
    page = visit.open(f"{server}run/nan/layers", scheme=scheme, wait=TABLE, viewport=size, bypass_csp=True)
    page.add_script_tag(path=AXE)
    for query, there in (({}, TABLE), ({"sort": "tree"}, ".tree"), ({"layer": "4"}, STRIPS)):
        page.evaluate("query => window.dash_clientside.gradscope.go(query)", query)
        page.wait_for_selector(there)
        found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
        problems = [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found["violations"]]
        assert problems == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
