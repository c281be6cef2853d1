"""The report as one file in a real browser: opened from disk with the network off, beside the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.reports.html.data import page_data
from gradscope.reports.layer_map import MapData
from gradscope.reports.palette_png import codes, palette
from gradscope.reports.theme import DARK, LIGHT
from gradscope.store import read_run
from tests.dashboard.conftest import Visit
from tests.dashboard.looking import colour, pixel

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
WCAG = "() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})"
Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def reports(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of each run, as the command writes it."""
    folder = tmp_path_factory.mktemp("reports")
    for run in runs.iterdir():
        assert main(["report", str(run), "-f", "html", "-o", str(folder / f"{run.name}.html")]) == 0
    return folder


@pytest.fixture
def opened(browser: Browser, reports: Path) -> Iterator[Open]:
    """Opens a report without a network. It must not complain, ask for anything, or show a dialog."""
    contexts: list[BrowserContext] = []
    heard: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        heard.append(dialog.message)
        dialog.dismiss()

    def open_report(name: str, scheme: Scheme = "light", width: int = 1440) -> Page:
        context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 1000})
        contexts.append(context)
        page, own = context.new_page(), (reports / f"{name}.html").as_uri()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", dismiss)
        page.on("request", lambda asked: heard.extend([asked.url] * (not asked.url.startswith((own, "data:")))))
        page.goto(own)
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert heard == []


SEEN: dict[str, Scheme] = {"exploding": "light", "nan": "dark"}


@pytest.fixture(scope="module", params=SEEN)
def live(request: pytest.FixtureRequest, shared_visit: Visit, server: str) -> tuple[str, Page]:
    """A run's name and its dashboard."""
    return request.param, shared_visit.open(f"{server}/run/{request.param}", scheme=SEEN[request.param])


def middle(page: Page, cells: MapData, row: int, column: int) -> tuple[int, int, int]:
    """The colour of a cell of the report's map, from a picture of the page."""
    image = page.locator(".plot.map img")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    assert box is not None
    x = box["x"] + (column + 0.5) / len(cells.steps) * box["width"]
    y = box["y"] + (row + 0.5) / len(cells.rows) * box["height"]
    return pixel(page, x, y)


def test_it_says_what_the_dashboard_says(live: tuple[str, Page], opened: Open) -> None:
    """[26] Verdict, numbers and findings are the dashboard's."""
    name, dashboard = live
    page = opened(name, SEEN[name])
    for selector, its in (
        ("h1", "h1"),
        (".verdict-word", ".verdict-word"),
        (".number", ".number"),
        (".finding .severity", ".finding .severity"),
        (".finding h3", ".finding-message"),
    ):
        said = page.locator(selector).all_inner_texts()
        assert said
        assert said == dashboard.locator(its).all_inner_texts()
    assert page.locator("h1").count() == 1


def test_its_map_has_the_dashboards_colours(live: tuple[str, Page], opened: Open, runs: Path) -> None:
    """[26] A cell is drawn in one colour in both, a level or two aside, for its index is rounded."""
    name, dashboard = live
    run = read_run(runs / name)
    data = page_data(run, diagnose(run))
    cells, page = data.map, opened(name, SEEN[name])
    colours = palette(DARK if SEEN[name] == "dark" else LIGHT)[codes(cells)]
    onsets = {onset.step for onset in data.onsets}
    columns = [place for place, step in enumerate(cells.steps) if int(step) not in onsets]  # no line is drawn there
    for row in (0, len(cells.rows) // 2, len(cells.rows) - 1):
        for column in (columns[0], columns[-1]):
            mine = middle(page, cells, row, column)
            its = colour(dashboard, cells.rows[row], float(cells.steps[column]))
            assert mine == tuple(colours[row, column])
            assert max(abs(a - b) for a, b in zip(mine, its, strict=True)) <= 4, (row, column, mine, its)


def test_its_policy_stops_scripts_and_requests(browser: Browser, reports: Path) -> None:
    """[26] What would slip into the page could neither run nor call out."""
    page = browser.new_page()
    page.goto((reports / "nan.html").as_uri())
    blocked = page.evaluate(
        """() => new Promise(done => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', event => {
                seen.push(event.effectiveDirective);
                if (seen.length === 2) done(seen.sort());
            });
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:9/x.png';
            document.body.append(image);
        })"""
    )
    assert blocked == ["img-src", "script-src-elem"]
    assert page.evaluate("window.ran") is None
    page.close()


@pytest.mark.parametrize(("name", "scheme"), [("exploding", "light"), ("sigmoid", "dark"), ("hostile", "light")])
def test_everybody_can_use_it(opened: Open, name: str, scheme: Scheme) -> None:
    """[19] [26] axe finds no violation, with all that is folded open."""
    page = opened(name, scheme)
    page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(WCAG)
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []


def test_hostile_names_are_text(opened: Open) -> None:
    """[24] A layer that is called like markup is shown, at any width, and does nothing."""
    page = opened("hostile", width=800)
    assert page.locator(".names").inner_text().count("onerror=alert(1)>") == 1
    assert page.locator("img").count() == 1


@pytest.mark.parametrize("width", [400, 800, 1440])
def test_no_width_needs_sideways_scrolling(opened: Open, width: int) -> None:
    """[22] The page fits every window, hostile names and code included."""
    page = opened("hostile", width=width)
    page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_small_and_prints_whole(opened: Open, reports: Path) -> None:
    """[26] Under 100 kB here, and on paper it is light, with nothing folded away."""
    assert all(file.stat().st_size < 100_000 for file in reports.iterdir())
    page = opened("sigmoid", "dark")
    folded = page.locator("details pre").first
    assert not folded.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert folded.evaluate("each => each.getBoundingClientRect().height") > 20
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(27, 36, 48)"  # LIGHT.text


def test_a_finding_is_one_click_away(opened: Open) -> None:
    """The line of a finding leads to it, by mouse and by keyboard, without a script."""
    page = opened("nan")
    page.locator(".contents a").first.focus()
    page.keyboard.press("Enter")
    assert page.url.endswith("#F1")
    assert page.locator("#F1").bounding_box() is not None
