"""The comparison in a real browser, on real recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from gradscope.comparison import Side, compare, to_document
from gradscope.diagnosis import diagnose
from gradscope.store import read_run
from tests.dashboard.conftest import Visit

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
MAP = "#compare-map .heatmaplayer image"


@pytest.fixture(scope="module")
def seen(shared_visit: Visit, server: str) -> Page:
    """The sigmoid network beside the healthy one."""
    return shared_visit.open(f"{server}compare?a=sigmoid&b=healthy", wait=MAP)


def cells(page: Page) -> list[list[float | None]]:
    """The numbers of the difference map; null where it has none."""
    found: list[list[float | None]] = page.evaluate(
        """() => {
            const data = document.querySelector('#compare-map .js-plotly-plot')._fullData;
            const trace = data.find(each => each.name === 'difference');
            return Array.from(trace.z, row => Array.from(row, value => isNaN(value) ? null : value));
        }"""
    )
    return found


def document(runs: Path, a: str, b: str) -> dict[str, Any]:
    """The comparison as JSON, made from the runs on disk."""
    made = [read_run(runs / name) for name in (a, b)]
    sides = [Side(name, each, diagnose(each)) for name, each in zip((a, b), made, strict=True)]
    return to_document(compare(*sides))


def test_the_page_says_what_the_json_says(seen: Page, runs: Path) -> None:
    """[27] The settings that differ and the three lists of findings are those of the JSON."""
    said = document(runs, "sigmoid", "healthy")
    differing = [setting for setting in said["settings"] if setting["differs"]]
    expect(seen.locator("#compare-settings h2")).to_contain_text(f"{len(differing)} of {len(said['settings'])}")
    expect(seen.locator("#compare-settings .table").first.locator("tbody tr")).to_have_count(len(differing))
    columns = seen.locator("#compare-findings > div")
    for place, name in enumerate(("only_a", "both", "only_b")):
        expect(columns.nth(place).locator("li")).to_have_count(len(said[name]))
        for line in said[name]:
            expect(columns.nth(place)).to_contain_text(line["message"])
    expect(seen.locator("#compare-verdicts")).to_contain_text(said["a"]["headline"])
    expect(seen.locator("#compare-verdicts")).to_contain_text(said["b"]["headline"])


def test_swapping_negates_the_map_and_exchanges_the_lists(seen: Page, server: str) -> None:
    """[27] The link "Swap" leads to the same cells with the other sign, and Back to the first view."""
    before, title = cells(seen), seen.locator("h1").inner_text()
    assert max(value for row in before for value in row if value is not None) > 3
    seen.get_by_role("link", name="Swap A and B").click()
    expect(seen.locator("h1")).to_have_text(title.replace("only in A", "only in B"))
    seen.wait_for_function(
        """() => {
            const data = document.querySelector('#compare-map .js-plotly-plot')._fullData;
            return data.find(trace => trace.name === 'difference').z[0][0] < 0;
        }"""
    )
    assert cells(seen) == [[None if value is None else -value for value in row] for row in before]
    assert "a=healthy&b=sigmoid" in seen.url
    seen.go_back()
    expect(seen.locator("h1")).to_have_text(title)


def test_choosing_a_run_and_an_alignment_changes_the_address(visit: Visit, server: str) -> None:
    """[17] The selects are parts of the address, and a link restores them."""
    page = visit.open(f"{server}compare?a=sigmoid&b=healthy&by=share&metric=forward-gain", wait=MAP)
    expect(page.locator("#compare-by")).to_have_value("by share of the training")
    expect(page.locator("#compare-map-title")).to_contain_text("activation rms")
    page.locator("#compare-b").click()
    page.get_by_role("option", name="nan", exact=True).click()
    page.wait_for_url("**/compare?a=sigmoid&b=nan*")
    expect(page.locator("#compare-verdicts")).to_contain_text("Broken")
    expect(page.locator("#compare-by")).to_have_value("by share of the training")


def test_a_missing_run_is_said(visit: Visit, server: str) -> None:
    """[25] A link to a run that is gone has words and a next step, and the page goes on from there."""
    page = visit.open(f"{server}compare?a=gone&b=healthy", wait="#compare-missing .notice")
    expect(page.locator("#compare-missing")).to_contain_text("No run named 'gone' is here")
    page.locator("#compare-a").click()
    page.get_by_role("option", name="sigmoid", exact=True).click()
    page.wait_for_selector(MAP)
    expect(page.locator("#compare-missing")).not_to_contain_text("gone")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_comparison_is_accessible_and_narrow_enough(visit: Visit, server: str, scheme: str) -> None:
    """[19] [22] axe finds no violation, and at 800 px nothing scrolls sideways, hostile names included."""
    page = visit.open(
        f"{server}compare?a=hostile&b=nan",
        scheme=scheme,
        wait="#compare-verdicts section",
        viewport={"width": 800, "height": 900},
        bypass_csp=True,
    )
    expect(page.locator("#compare-findings")).to_contain_text("Only in B")
    page.get_by_text("The layers as a table").click()
    page.add_script_tag(path=AXE)
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
