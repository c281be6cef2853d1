"""The lessons, the terms and "how to read" in a real browser (UI.md §8, numbers in brackets)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit

LOOKED_AT = ("mse", "group-norm", "skip-connections", "vanishing")  # long formulas, cells, boxes, terms
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over a folder without runs: a newcomer's."""
    yield from serve(tmp_path_factory.mktemp("nothing"))


def serve(folder: Path, *options: str) -> Iterator[str]:
    """The address of a server."""
    command = [sys.executable, "-m", "gradscope", "dashboard", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="module")
def lesson(shared_visit: Visit, shelf: str) -> Page:
    """One lesson, with its run."""
    return shared_visit.open(f"{shelf}learn/vanishing", wait=".lesson-run .card")


def test_a_newcomer_reads_a_lesson_and_opens_its_run(visit: Visit, shelf: str) -> None:
    """From the index to a lesson, to the packaged run's own page, and back; the whole dashboard works on it."""
    page = visit.open(f"{shelf}learn", wait=".lesson-card")
    page.get_by_role("link", name="Exploding gradients Factors").click()
    expect(page.locator("h1")).to_have_text("Exploding gradients")
    expect(page.locator(".lesson-run")).to_contain_text("Gradients explode on their way back")
    page.get_by_role("link", name="Open the run").click()
    page.wait_for_selector(".map-graph .heatmaplayer image")
    expect(page.locator("h1")).to_contain_text("Gradients explode on their way back")
    page.go_back()
    page.wait_for_selector(".lesson-run .card")
    page.get_by_role("link", name="F1 exploding-gradient").click()
    expect(page.locator("h1")).to_contain_text("Gradients explode")
    page.go_back()
    page.locator(".lesson-rules").get_by_role("link", name="exploding-gradient").click()
    expect(page.locator("#check-exploding-gradient")).to_be_visible()


def test_lessons_lead_to_one_another(visit: Visit, shelf: str) -> None:
    """The text and the run change together, without a reload."""
    page = visit.open(f"{shelf}learn/adam", wait=".lesson-run .card")
    page.evaluate("() => window.stayed = true")
    page.get_by_role("link", name="BatchNorm →").click()
    expect(page.locator("h1")).to_have_text("BatchNorm")
    expect(page.locator(".lesson-run")).to_contain_text("batch_norm.py")
    assert page.evaluate("() => window.stayed")
    page.get_by_role("link", name="Learn", exact=True).last.click()
    expect(page.locator("h1")).to_have_text("Learn")
    expect(page.locator(".lesson-run")).to_be_empty()


def test_a_term_opens_by_mouse_and_by_keyboard(lesson: Page) -> None:
    """Enter opens, Escape closes and the focus is where it was; a click elsewhere closes; one is open at a time."""
    term, card = lesson.get_by_role("button", name="flat ends"), lesson.locator(".term-card:popover-open")
    expect(card).to_have_count(0)
    term.focus()
    lesson.keyboard.press("Enter")
    expect(card).to_have_count(1)
    expect(term).to_have_attribute("aria-expanded", "true")
    expect(card.locator(".term-sentence")).to_have_count(3)
    assert lesson.evaluate("() => document.querySelector('.term-card:popover-open img').naturalWidth") > 0
    box = card.bounding_box()
    assert box is not None
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 1000
    lesson.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(term).to_be_focused()
    expect(term).to_have_attribute("aria-expanded", "false")
    term.click()
    lesson.get_by_role("button", name="gain budget").first.click()
    expect(card).to_have_count(1)
    expect(card.locator(".term-title")).to_have_text("gain budget")
    lesson.locator("h1").click()
    expect(card).to_have_count(0)
    term.click()
    term.click()
    expect(card).to_have_count(0)


def test_tabbing_goes_through_a_card_and_on(lesson: Page) -> None:
    """From the word to the card's link, and from there back to the word, the card closed."""
    lesson.get_by_role("button", name="flat ends").focus()
    lesson.keyboard.press("Enter")
    lesson.keyboard.press("Tab")
    expect(lesson.locator(".term-card:popover-open .term-more")).to_be_focused()
    lesson.keyboard.press("Tab")
    expect(lesson.locator(".term-card:popover-open")).to_have_count(0)


def test_a_link_leads_to_a_word_of_the_glossary(visit: Visit, shelf: str) -> None:
    """[17] Opened directly, and from another page: the word is on the screen."""
    page = visit.open(f"{shelf}learn#update-ratio", wait="#update-ratio")
    expect(page.locator("#update-ratio")).to_be_in_viewport()
    page.goto(f"{shelf}learn")
    page.get_by_role("link", name="glossary", exact=True).click()
    expect(page.locator("#glossary")).to_be_in_viewport()


def test_an_expert_sees_plain_words(visit: Visit, tmp_path: Path) -> None:
    """With --expert terms are words: no line, nothing that opens, nothing to tab to."""
    server = serve(tmp_path, "--expert")
    page = visit.open(f"{next(server)}learn/vanishing", wait=".lesson-run .card")
    term = page.locator(".term").first
    expect(term).to_be_disabled()
    assert term.evaluate("each => getComputedStyle(each).textDecorationLine") == "none"
    term.click(force=True)
    expect(page.locator(".term-card:popover-open")).to_have_count(0)
    page.close()
    assert next(server, None) is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_lessons(visit: Visit, shelf: str, scheme: str) -> None:
    """[19, 20, 22] axe finds nothing in the index and in lessons, a term open; at 800 pixels nothing sticks out."""
    page = visit.open(f"{shelf}learn", scheme=scheme, wait=".lesson-card")
    for path in ("learn", *(f"learn/{topic}" for topic in LOOKED_AT)):
        page.goto(shelf + path)
        page.wait_for_selector(".lesson-run .card" if "/" in path else ".lesson-card")
        if page.locator(".lesson .term").count():
            page.locator(".lesson .term").first.click()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []
        for width in (800, 1440):
            page.set_viewport_size({"width": width, "height": 1000})
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (path, width)
