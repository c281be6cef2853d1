"""The overview while a training runs, in a real browser (UI.md §8, numbers in brackets)."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from gradscope.records import Run
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunWriter
from tests.dashboard.conftest import Server, Visit
from tests.dashboard.looking import place, ranges

LAYERS = [f"layers.{number}" for number in range(8)]


class Training:
    """Writes a run step by step, as a recorder would. From step 20 on everything is NaN."""

    def __init__(self, folder: Path) -> None:
        broken = np.where(np.arange(40) < 20, 1.0, np.nan)
        loss = np.where(np.arange(40) < 20, 2.3 - 0.05 * np.arange(40), np.nan)
        run: Run = by_hand(
            dict.fromkeys(LAYERS, broken),
            activation=dict.fromkeys(LAYERS, broken),
            gradient={f"{layer}.weight": broken for layer in LAYERS},
            loss=loss,
            steps=40,
        )
        self._run = dataclasses.replace(run, info=dataclasses.replace(run.info, state="recording"))
        self._writer = RunWriter(folder, self._run.info)
        self.step = -1

    def go_to(self, step: int) -> None:
        """Takes the steps up to and with `step`."""
        for here in range(self.step + 1, step + 1):
            self._writer.write_summaries(self._run.summaries[self._run.summaries["step"] == here])
            self._writer.write_steps(self._run.steps[here : here + 1], [[0.1]])
        self.step = step

    def end(self) -> None:
        """Ends the run."""
        self._writer.write_info(dataclasses.replace(self._run.info, state="ended"))
        self.stop()

    def stop(self) -> None:
        """Closes the files and leaves the run as if it went on."""
        self._writer.close()


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    """A training at step 9."""
    started = Training(tmp_path / "live")
    started.go_to(9)
    yield started
    started.stop()


def chip(page: Page, text: str) -> None:
    """The live chip says it within 3 s."""
    expect(page.locator("#chip")).to_contain_text(text, timeout=3000)


def test_the_page_follows_a_growing_run(
    visit: Visit, training: Training, tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[12, 13, 14] Steps, verdict and title follow within 3 s; a zoom survives them; Pause holds the picture."""
    page = visit.open(serve_path(tmp_path / "live").url)
    chip(page, "live · step 9")
    expect(page).to_have_title(re.compile("Healthy|Not enough data|Watch"))
    page.evaluate(
        """() => { window.announced = [];
            const say = () => announced.push(document.querySelector('h1').textContent);
            const all = {childList: true, subtree: true, characterData: true};
            new MutationObserver(say).observe(document.querySelector('[role=status]'), all);
        }"""
    )

    left, right = place(page, LAYERS[1], 2), place(page, LAYERS[5], 7)
    page.mouse.move(*left)
    page.mouse.down()
    page.mouse.move(*right, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile("from=2&to=7"))
    page.wait_for_function("() => document.querySelector('.map-graph .js-plotly-plot').layout.xaxis.range[0] === 1.5")
    zoomed = ranges(page)
    assert max(zoomed[1]) < 7
    for step in (11, 12, 13):
        training.go_to(step)
        chip(page, f"step {step}")
    assert ranges(page) == zoomed
    page.mouse.dblclick(*place(page, LAYERS[3], 4))
    page.wait_for_timeout(400)
    assert ranges(page)[0][1] >= 13
    assert ranges(page)[1][0] > ranges(page)[1][1]  # the first layer is on top again

    page.get_by_role("button", name="Pause").click()
    chip(page, "paused at step 13")
    training.go_to(16)
    page.wait_for_timeout(2200)
    chip(page, "paused at step 13")
    assert ranges(page)[0][1] < 15
    page.get_by_role("button", name="Resume").click()
    chip(page, "live · step 16")

    training.go_to(25)
    expect(page).to_have_title("▲ Broken · gradscope", timeout=3000)
    expect(page.locator("h1")).to_contain_text(re.compile("NaN|non-finite", re.IGNORECASE))
    training.go_to(27)
    chip(page, "step 27")
    announced = page.evaluate("() => announced")
    assert len(announced) == len(set(announced)) or announced.count(announced[-1]) <= 2

    training.end()
    chip(page, "ended · 28 steps")


def test_a_lost_server_is_said_and_found_again(
    visit: Visit, training: Training, tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[16] A dead server is said; once it is back the page goes on without a reload."""
    server = serve_path(tmp_path / "live")
    page = visit.open(server.url)
    chip(page, "step 9")
    server.stop()
    expect(page.get_by_text("Connection lost")).to_be_visible(timeout=5000)
    training.go_to(12)
    serve_path(tmp_path / "live", int(server.url.rstrip("/").rpartition(":")[2]))
    chip(page, "step 12")
    expect(page.get_by_text("Connection lost")).to_be_hidden()
    visit.complaints = [
        text
        for text in visit.complaints
        if not re.search("ERR_CONNECTION|ERR_CONTENT_LENGTH|ERR_EMPTY|Failed to fetch|server did not respond", text)
    ]


def test_each_kind_of_nothing_has_its_own_words(
    visit: Visit, tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[25] No run, no step, a damaged run, a cut file: a sentence and a next step, never a traceback."""
    server = serve_path(tmp_path)
    page = visit.open(server.url, wait=".notice")
    expect(page.locator(".notice")).to_contain_text("No run here yet")

    started = Training(tmp_path / "fresh")
    page.get_by_role("link", name="fresh", exact=True).click(timeout=8000)  # it appears by itself
    expect(page.locator("main")).to_contain_text("no step yet")
    started.go_to(2)
    started.stop()
    page.wait_for_selector(".map-graph .heatmaplayer image")
    expect(page.locator(".notice")).to_have_count(0)

    with (tmp_path / "fresh" / "summaries.arrow").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 7)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{oops")
    page.goto(f"{server.url}run/damaged")
    expect(page.locator("h1:visible")).to_contain_text("This run cannot be read")
    expect(page.locator(".notice")).to_contain_text("damaged")
    page.goto(f"{server.url}run/fresh")
    page.wait_for_selector(".map-graph .heatmaplayer image")


def test_a_slow_answer_is_shown_and_never_overtaken(
    visit: Visit, training: Training, tmp_path: Path, serve_path: Callable[..., Server]
) -> None:
    """[15] With answers that take 1.5 s the page still follows, and no two of the clock's are under way at once."""
    page = visit.open(serve_path(tmp_path / "live").url)
    under_way, most, answers = 0, 0, 0

    def slow(route: Route) -> None:
        nonlocal under_way, most, answers
        if "overview-shown.data" not in json.loads(route.request.post_data or "{}")["output"]:
            return route.fallback()
        under_way, answers = under_way + 1, answers + 1
        most = max(most, under_way)
        page.wait_for_timeout(1500)
        route.fallback()
        under_way -= 1
        return None

    page.route(re.compile("_dash-update-component"), slow)
    for step in (11, 13, 15):
        training.go_to(step)
        expect(page.locator(".number-card").first).to_contain_text(f"at step {step}", timeout=8000)
    assert most == 1
    assert answers >= 3
