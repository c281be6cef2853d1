"""A finding as a person uses it: reads it, copies from it, mutes it, measures what it suggests."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Page, expect

from gradscope.diagnosis import diagnose
from gradscope.records import Finding
from gradscope.store import RunWriter, read_info, read_run
from tests.dashboard.conftest import Server, Visit
from tests.dashboard.test_finding import TRIAL
from tests.dashboard.test_measuring import SIGMOIDS

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
MEASURED = {**TRIAL, "rule": "vanishing-gradient", "remedies": ["batch-norm"], "random": 2.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that remembers its script, with a trial of one suggestion; each training takes a while."""
    work = tmp_path_factory.mktemp("finding")
    (work / "train.py").write_text(SIGMOIDS.replace("STEPS", "12").replace("PAUSE", "0"))
    done = subprocess.run(
        [sys.executable, "-m", "gradscope", "run", "--every", "1", "--run-dir", "runs/sick", "train.py"],
        cwd=work, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (work / "train.py").write_text(SIGMOIDS.replace("STEPS", "1000").replace("PAUSE", "0.1"))
    run = work / "runs" / "sick"
    writer = RunWriter(run, read_info(run), resume=True)
    writer.write_event(11, "trial", MEASURED)
    writer.close()
    return work


@pytest.fixture(scope="module")
def sick(folder: Path) -> Finding:
    """The finding at the root of it."""
    return diagnose(read_run(folder / "runs" / "sick")).findings[0]


@pytest.fixture(scope="module")
def base(folder: Path) -> Iterator[str]:
    """The address of its server."""
    running = Server(folder / "runs")
    yield running.url
    assert running.stop() == ""


@pytest.fixture(scope="module")
def page(shared_visit: Visit, base: str) -> Page:
    """The finding's own page."""
    return shared_visit.open(
        f"{base}run/sick/finding/F1", wait=".curves .main-svg", permissions=["clipboard-read", "clipboard-write"]
    )


def test_the_page_answers_since_when_where_why_and_what_to_do(page: Page, sick: Finding) -> None:
    """Its own address shows all parts below one h1, no heading skips a level."""
    expect(page.locator("h1")).to_contain_text(sick.message)
    for heading in ("When", "Where", "Why we say this", "What to do"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    levels = page.evaluate(
        "() => [...document.querySelectorAll('main h1,main h2,main h3,main h4')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.locator(".mini-map .cell-hit").count() >= 2


def test_the_copy_button_puts_exactly_the_shown_code_on_the_clipboard(page: Page, sick: Finding) -> None:
    """[10] Code that compiles, the diff as it is, the link and the Markdown; it is announced."""
    best = page.locator(".suggestion").first
    best.get_by_text("The same as code to paste by hand").click()
    best.get_by_role("button", name="Copy the code of").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    code = page.evaluate("() => navigator.clipboard.readText()")
    assert code == sick.suggestions[0].code
    ast.parse(code)
    best.get_by_role("button", name="Copy the diff of").click()
    page.wait_for_function("() => navigator.clipboard.readText().then((text) => text.startsWith('---'))")
    assert page.evaluate("() => navigator.clipboard.readText()") == sick.suggestions[0].patch
    page.get_by_role("button", name="Copy as Markdown").click()
    page.wait_for_function("() => navigator.clipboard.readText().then((text) => text.startsWith('### '))")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("() => navigator.clipboard.readText().then((text) => text === location.href)")


def test_the_effect_is_that_of_the_stored_record(page: Page) -> None:
    """[11] Measured only where the run holds it; the numbers are the record's, the others are estimates."""
    best, *_ = tags = page.locator(".suggestion .tag").all_text_contents()
    assert best == "✓ measured on this training"
    assert {*tags[1:]} <= {"estimate", "○ not tried: needs your edit"}
    table = page.locator(".trial-table").first
    expect(table).to_contain_text("2 of 2")
    expect(table.locator("tbody tr").nth(1)).to_have_text("Loss after 20 steps, median0.4102.302.10")
    legend = page.locator(".curves .legendtext").all_text_contents()
    assert legend == ["With it", "No change", "A random change"]
    expect(page.locator(".trial").first).to_contain_text("gradscope trial train.py")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits(visit: Visit, base: str, scheme: str) -> None:
    """[19] [22] No violation that axe knows, in both themes; nothing scrolls sideways on narrow screens."""
    page = visit.open(
        f"{base}run/sick/finding/F1", scheme=scheme, wait=".curves .main-svg", viewport={"width": 800, "height": 900}
    )
    for folded in page.locator("summary").all():
        folded.evaluate("summary => summary.parentElement.open = true")
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_findings_are_sorted_filtered_and_muted(visit: Visit, base: str, folder: Path) -> None:
    """A muted one leaves the list with its reason kept in the run's folder; it is counted, shown and taken back."""
    page = visit.open(f"{base}run/sick", wait=".finding")
    cards = page.locator(".finding")
    every = cards.count()
    page.get_by_role("link", name="onset").click()
    page.wait_for_url("**/run/sick?sort=onset")
    page.go_back()
    cards.first.click()
    page.get_by_text("Mute …").click()
    page.get_by_label("Why it may be left out of the list").fill("known")
    page.get_by_role("button", name="Mute", exact=True).click()
    expect(page.locator(".muted-said")).to_contain_text("known")
    assert "known" in (folder / "runs" / "sick" / "mutes.json").read_text()
    expect(page.get_by_role("button", name="Unmute")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".mantine-Drawer-content")).to_have_count(0)
    expect(cards).to_have_count(every - 1)
    page.get_by_role("link", name="show", exact=True).click()
    expect(page.locator(".finding-muted")).to_have_count(1)
    page.locator(".finding-muted").click()
    page.get_by_role("button", name="Unmute").click()
    expect(page.get_by_text("Mute …")).to_be_visible()


def test_measuring_starts_is_followed_through_a_reload_and_cancelled(visit: Visit, base: str) -> None:
    """It says what will run, shows how far it is, and ends with all of its own when it is cancelled."""
    page = visit.open(f"{base}run/sick/finding/F1", wait=".suggestion-folded")
    second = page.locator(".suggestion-folded").first
    second.locator("summary").first.click()
    second.get_by_text("Measure it now").click()
    expect(second.locator(".measure")).to_contain_text("each of these runs writes")
    second.get_by_role("button", name="Quick look").click()
    expect(page.locator("#finding-said")).to_contain_text("Started measuring")
    expect(second.locator(".measuring")).to_contain_text("0 of 7 runs done", timeout=20_000)
    expect(page.get_by_role("button", name="Cancel measuring")).to_be_focused()
    page.reload()
    expect(page.locator(".measuring")).to_contain_text("of 7 runs done")
    page.get_by_role("button", name="Cancel measuring").click()
    expect(page.locator(".said")).to_contain_text("was cancelled", timeout=15_000)
    expect(page.locator("#finding-said")).to_contain_text("was cancelled")
