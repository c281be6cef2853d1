"""The list of runs, the checks, the run info and the token, in a real browser (UI.md §8, numbers in brackets)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


@pytest.fixture(scope="module")
def listed(shared_visit: Visit, server: str) -> Page:
    """The list of runs, read to its end."""
    page = shared_visit.open(server, wait="table.runs tbody tr")
    expect(page.locator("td.runs-verdict").filter(has_text="reading")).to_have_count(0, timeout=15_000)
    return page


def test_the_list_shows_every_run(listed: Page, runs: Path) -> None:
    """Each run has its row: a verdict in shape and word, its steps, its findings."""
    expect(listed.locator("h1")).to_have_text("Runs")
    folders = [each for each in runs.iterdir() if each.is_dir() and not each.is_symlink()]
    expect(listed.locator("table.runs tbody tr")).to_have_count(len(folders))
    row = listed.locator("table.runs tbody tr").filter(has=listed.get_by_role("link", name="healthy", exact=True))
    expect(row).to_contain_text("✓ Healthy")
    expect(row).to_contain_text("✓ ended")


def test_the_filter_is_in_the_address_and_two_runs_lead_to_compare(listed: Page) -> None:
    """Typing filters and changes the address; choosing two runs gives a link; Back takes a choice back."""
    listed.locator("#runs-find").fill("healthy")
    expect(listed).to_have_url(re.compile("find=healthy"))
    listed.locator("#runs-find").fill("")
    expect(listed).not_to_have_url(re.compile("find="))
    listed.get_by_role("link", name="Choose healthy for a comparison").click()
    expect(listed.locator("#runs-compare")).to_contain_text("Choose a second run")
    listed.get_by_role("link", name="Choose nan for a comparison").click()
    link = listed.get_by_role("link", name="Compare A with B")
    expect(link).to_have_attribute("href", "/compare?a=healthy&b=nan")
    listed.go_back()
    expect(listed.locator("#runs-compare")).to_contain_text("Choose a second run")
    listed.go_back()


def test_a_check_leads_to_its_finding_and_explains_itself(visit: Visit, server: str) -> None:
    """The rule that fired comes first; its page and thresholds unfold."""
    page = visit.open(f"{server}run/sigmoid/checks", wait=".check")
    first = page.locator(".check").first
    expect(first).to_contain_text("vanishing-gradient")
    first.get_by_text("Explain").click()
    expect(first).to_contain_text("When it is harmless")
    first.get_by_text("thresholds").click()
    expect(first.get_by_role("table")).to_contain_text("backward gain, a factor")
    expect(first.get_by_role("link", name="F1 error")).to_have_attribute("href", "/run/sigmoid/finding/F1")


def test_the_run_info_can_be_taken_away(visit: Visit, server: str, runs: Path) -> None:
    """It is copied as text, and run.json is downloaded as it is."""
    page = visit.open(f"{server}run/healthy/about", wait=".facts", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy all as text").click()
    expect(page.locator(".copied")).to_have_text("Copied")
    assert "Optimizer\n  SGD: lr 0.100" in page.evaluate("() => navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download run.json").click()
    assert Path(download.value.path()).read_bytes() == (runs / "healthy" / "run.json").read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_these_pages(visit: Visit, server: str, scheme: str) -> None:
    """[19, 22] axe finds no violation of WCAG 2.1 A and AA; at 800 pixels nothing sticks out."""
    page = visit.open(server, scheme=scheme, wait="table.runs tbody tr")
    for path, wait in (("", "table.runs tbody tr"), ("run/sigmoid/checks", ".check"), ("run/sigmoid/about", ".facts")):
        page.goto(server + path)
        page.wait_for_selector(wait)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []
        page.set_viewport_size({"width": 800, "height": 1000})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        page.set_viewport_size({"width": 1440, "height": 1000})


@pytest.fixture
def open_address(runs: Path) -> Iterator[str]:
    """The address of a server that listens everywhere, as it is reached from here."""
    command = [sys.executable, "-m", "gradscope", "dashboard", str(runs), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield re.sub(r"//[^:/]+:", "//127.0.0.1:", process.stdout.readline().strip())
        process.terminate()


def test_the_token_opens_the_page_and_leaves_the_address(visit: Visit, open_address: str) -> None:
    """[29] The printed address opens the list without the token in it, and a reload needs it no more."""
    page = visit.open(open_address, wait="table.runs tbody tr")
    assert "token" not in page.url
    page.reload()
    page.wait_for_selector("table.runs tbody tr")
