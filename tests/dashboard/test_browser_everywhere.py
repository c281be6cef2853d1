"""What holds on every page, in a real browser (UI.md §8, numbers in brackets)."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit
from tests.dashboard.recorded import HOSTILE

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
PAGES = [
    "",
    "run/exploding",
    "run/exploding?finding=F1",
    "run/exploding?layer=0&step=5",
    "run/exploding/finding/F1",
    "run/exploding/layers",
    "run/exploding/layers?layer=0&step=5",
    "run/exploding/timeline?brush=4-9",
    "run/exploding/checks",
    "run/exploding/about",
    "compare?a=exploding&b=healthy",
    "learn",
    "learn/adam",
]


def go(page: Page, server: str, path: str) -> None:
    """Opens a page of the same server, and waits until it has been drawn."""
    page.goto(server + path)
    expect(page.locator("h1:visible").first).not_to_have_text("")
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.js-plotly-plot')].some(plot => !plot._fullLayout)", timeout=8000
    )


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request: pytest.FixtureRequest, shared_visit: Visit, server: str) -> Page:
    """A page in each theme."""
    return shared_visit.open(server, scheme=request.param, wait="h1")


@pytest.mark.parametrize("path", PAGES)
def test_everybody_can_use_every_page(page: Page, server: str, path: str) -> None:
    """[19] axe finds no violation of WCAG 2.1 A and AA; one h1, one main part."""
    go(page, server, path)
    if "finding=" in path or ("layer=0" in path and "layers" not in path):
        expect(page.get_by_role("dialog")).to_be_visible()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []
    assert page.locator("h1:visible").count() == 1
    assert page.locator("main").count() == 1


@pytest.mark.parametrize("path", [path for path in PAGES if "finding=" not in path])
def test_no_page_needs_sideways_scrolling(shared_visit: Visit, page: Page, server: str, path: str) -> None:
    """[22] From 800 to 2560 pixels, and at 400, which is 800 at 200 % zoom, nothing sticks out."""
    go(page, server, path)
    for width in (2560, 1440, 1024, 800, 400):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(60)
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0, width
        header, heading = page.locator(".header").bounding_box(), page.locator("h1:visible").bounding_box()
        assert header is not None
        assert heading is not None
        assert header["y"] + header["height"] <= heading["y"] + 1
    page.set_viewport_size({"width": 1440, "height": 1000})


@pytest.mark.parametrize("path", ["", "/layers", "/timeline", "/checks", "/about", "/finding/F1"])
def test_hostile_names_are_text_on_every_page(visit: Visit, server: str, path: str) -> None:
    """[24] Names with markup are shown as they are; nothing runs, nothing sticks out."""
    page = visit.open(f"{server}run/hostile{path}", wait="h1")
    page.wait_for_load_state("networkidle")
    assert page.locator("img[src='x'], main b").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    if path == "/layers":
        expect(page.locator("main")).to_contain_text(HOSTILE)


def test_a_view_is_a_link_and_back_undoes(visit: Visit, server: str) -> None:
    """[17] Every choice is in the address: the address opened anew shows the same; Back and Forward walk."""
    page = visit.open(f"{server}run/exploding")
    page.get_by_role("textbox", name="What the map shows").click()
    page.get_by_role("option", name="Gradient norm of parameters").click()
    expect(page.locator("#overview-map-title")).to_contain_text("Gradient norm of parameters")
    page.locator(".finding").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    linked = page.url
    assert "metric=gradient-norm" in linked
    assert "finding=F1" in linked

    other = visit.open(linked)
    expect(other.get_by_role("dialog")).to_be_visible()
    expect(other.locator("#overview-map-title")).to_contain_text("Gradient norm of parameters")

    page.go_back()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#overview-map-title")).to_contain_text("Gradient norm of parameters")
    page.go_back()
    expect(page.locator("#overview-map-title")).to_contain_text("Backward gain")
    page.go_forward()
    page.go_forward()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_keys_do_what_the_help_says(visit: Visit, server: str) -> None:
    """Theme, order, onsets, search and help by key; Enter follows the first hit."""
    page = visit.open(f"{server}run/exploding")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")
    page.keyboard.press("t")
    page.keyboard.press("2")
    expect(page).to_have_url(f"{server}run/exploding?order=severity")
    page.keyboard.press("1")
    expect(page).to_have_url(f"{server}run/exploding")
    page.keyboard.press("]")
    expect(page).to_have_url(f"{server}run/exploding?step=0")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    box = page.get_by_label("Layer, finding or step")
    expect(box).to_be_focused()
    box.fill("F1")
    expect(page.locator(".hit").first).to_contain_text("F1")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server}run/exploding?finding=F1")


def test_two_tabs_do_not_disturb_each_other(visit: Visit, server: str) -> None:
    """[28] Two runs at once, each with its own selection."""
    one, other = visit.open(f"{server}run/exploding"), visit.open(f"{server}run/healthy?metric=update-ratio")
    one.locator(".finding").first.click()
    expect(one.get_by_role("dialog")).to_be_visible()
    other.wait_for_timeout(1200)
    expect(other.get_by_role("dialog")).to_have_count(0)
    expect(other.locator(".verdict-word")).to_contain_text("healthy")
    expect(other.locator("#overview-map-title")).to_contain_text("Update ratio")
