"""What a person does with the page over a while: cures a script with what was copied, reloads, leaves it open."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from gradscope.diagnosis import diagnose
from gradscope.store import read_run, resolve_run
from tests.dashboard.conftest import Server, Visit
from tests.dashboard.test_browser_big import memory
from tests.dashboard.test_browser_live import Training, chip

DEMOS = Path(__file__).parents[2] / "demos"
RELOADS, SETTLED = 50, 15


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[str], Training]]:
    """Begins trainings, which end with the test."""
    begun: list[Training] = []

    def training(name: str) -> Training:
        begun.append(Training(tmp_path / name))
        return begun[-1]

    yield training
    for each in begun:
        each.stop()


def _rules(work: Path) -> set[str]:
    """Runs the script under observation; what its run has."""
    command = [sys.executable, "-m", "gradscope", "run", "squared_error.py"]
    subprocess.run(command, cwd=work, check=True, capture_output=True)
    return {finding.rule for finding in diagnose(read_run(resolve_run(work / "runs"))).findings}


def test_what_is_copied_from_the_page_cures_the_script(
    visit: Visit, tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[10] The diff on the clipboard, put into the script by `patch`, takes the finding away when it runs again."""
    shutil.copy(DEMOS / "squared_error.py", tmp_path)
    before = _rules(tmp_path)
    assert "unscaled-data" in before
    page = visit.open(
        f"{serve_path(tmp_path / 'runs').url}run/{resolve_run(tmp_path / 'runs').name}/finding/F1",
        wait=".suggestion",
        permissions=["clipboard-read", "clipboard-write"],
    )
    page.locator(".suggestion").first.get_by_role("button", name="Copy the diff of").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    subprocess.run(["patch", "-p0"], input=copied, text=True, cwd=tmp_path, check=True, capture_output=True)
    assert _rules(tmp_path) & before == set()


@pytest.mark.alone
def test_fifty_reloads_do_not_fill_the_servers_memory(visit: Visit, server: str, runs: Path, tmp_path: Path) -> None:
    """[28] Once the caches are filled, fifty reloads of a page cost the server less than 10 MB."""
    held: list[int] = []
    running = Server(runs)
    try:
        page = visit.open(f"{running.url}run/exploding")
        for _ in range(RELOADS):
            page.reload()
            page.wait_for_selector(".map-graph .heatmaplayer image")
            held.append(memory(running))
        visit.close()
    finally:
        assert running.stop() == ""
    assert held[-1] - held[SETTLED] < 10e6


def test_the_timeline_follows_a_growing_run(
    visit: Visit, begin: Callable[[str], Training], tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[13] Its map gets new columns within 3 s, and its lanes the finding when it begins."""
    training = begin("live")
    training.go_to(9)
    page = visit.open(f"{serve_path(tmp_path / 'live').url}run/live/timeline")
    chip(page, "step 9")
    ends_at = "step => document.querySelector('.map-graph .js-plotly-plot')._fullLayout.xaxis.range[1] === step + 0.5"
    page.wait_for_function(ends_at, arg=9, timeout=4000)
    training.go_to(14)
    chip(page, "step 14")
    page.wait_for_function(ends_at, arg=14, timeout=4000)
    training.go_to(25)
    expect(page.locator("main")).to_contain_text("NaN", timeout=4000)
    page.wait_for_function(ends_at, arg=25, timeout=4000)


def test_the_list_of_runs_follows_what_comes_and_ends(
    visit: Visit, begin: Callable[[str], Training], tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """A run that begins comes into the list by itself, and one that ends is said to have ended."""
    first = begin("one")
    first.go_to(9)
    begin("two").go_to(3)
    page = visit.open(serve_path(tmp_path).url, wait="text=two")

    def row(name: str) -> Locator:
        return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))

    expect(row("one")).to_contain_text("live")
    begin("three").go_to(5)
    expect(row("three")).to_be_visible(timeout=8000)
    first.go_to(25)
    first.end()
    expect(row("one")).to_contain_text(re.compile("ended"), timeout=8000)
    expect(row("one")).to_contain_text("Broken")
