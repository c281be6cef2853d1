"""The report as one HTML page: no script, nothing loaded, every name as text, the map's colours the dashboard's."""

from __future__ import annotations

import io
import math
import re
import struct
import sys
import zlib
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradscope.cli import main
from gradscope.dashboard.mutes import mute, unmute
from gradscope.diagnosis import diagnose
from gradscope.records import STEP, SUMMARY_ROW, Diagnosis, NotObserved, Run, RunInfo
from gradscope.reports import cells, html, palette_png, terminal
from gradscope.reports.html import style as html_style
from gradscope.reports.html.data import PageData, page_data
from gradscope.reports.html.lines import nice_ticks, value_ticks
from gradscope.reports.html.skeleton import POLICY
from gradscope.reports.layer_map import MapData
from gradscope.reports.look import Look
from gradscope.reports.loss_line import Scale
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import DARK, LIGHT
from gradscope.rules.handwritten import run as by_hand
from gradscope.store.folders import open_folder
from tests.conftest import SaveRun

NAN = math.nan
EMPTY = Run(RunInfo("empty", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
STEERS = "a\u202eb\x00\x1b[31m"
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "\"'><b>", "x" * 300, STEERS)
VOID = {"meta", "img", "source"}
SICK = by_hand({"a": 1e-9, "b": 1e-4, "c": 1.0}, loss=2.3)


def data_of(run: Run, **changes: Any) -> PageData:
    """What the page of a run is made of; `changes` are of its diagnosis."""
    return page_data(run, replace(diagnose(run), **changes))


def page_of(run: Run, **changes: Any) -> str:
    """The page of a run."""
    return html.render(data_of(run, **changes))


class Reader(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if "style" not in self.open:
            self.words.append(text)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


PAGES = {
    "sick": SICK,
    "empty": EMPTY,
    "one site, one step": by_hand({"a": 1.0}, steps=1),
    "three steps": by_hand({"a": 0.5, "b": 1.0}, loss=[3.0, 2.0, 1.0], steps=3),
    "all NaN": by_hand({"a": NAN, "b": NAN}, loss=NAN, steps=3),
    "no loss": by_hand({"a": 0.5, "b": 1.0}),
    "hostile": by_hand({name: 10.0 ** (place - 9) for place, name in enumerate(HOSTILE)}, loss=1.0),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_runs_nothing(name: str) -> None:
    """[26] Every page is well formed, has its policy, no script, no handler, no form, and only pictures of its own."""
    reader = Reader(page_of(PAGES[name]))
    assert reader.open == []
    assert ("html", {"lang": "en"}) in reader.tags
    policy = {"http-equiv": "Content-Security-Policy", "content": POLICY}
    assert ("meta", policy) in reader.tags
    assert POLICY == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "form", "base", "b"}
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for place in ("src", "srcset", "href"):
            assert (attributes.get(place) or "#").startswith("#" if tag == "a" else ("data:image/png", "#"))


def test_a_muted_finding_stays_and_says_why(save_run: SaveRun) -> None:
    """What somebody has muted is shown, marked in the list, with the reason as text and the day."""
    folder = save_run(SICK)
    finding = diagnose(SICK).findings[0]
    mute(open_folder(folder), finding, "<b>known</b> since May")
    day = datetime.now(timezone.utc).date().isoformat()
    reader = Reader(html.render(page_data(SICK, diagnose(SICK), folder)))
    assert "muted · step 0" in reader.text
    assert f"Muted On {day}: <b>known</b> since May" in reader.text
    unmute(open_folder(folder), finding)
    text = Reader(html.render(page_data(SICK, diagnose(SICK), folder))).text
    assert "muted ·" not in text
    assert "Muted On" not in text


def test_hostile_names_are_text() -> None:
    """[24] A layer's name is shown as it is; what could turn or hide text is spelled out."""
    names = {"model": HOSTILE[0], "id": HOSTILE[1], "script": HOSTILE[2], "versions": {HOSTILE[0]: HOSTILE[1]}}
    sick = by_hand({name: 10.0 ** (place - 9) for place, name in enumerate(HOSTILE)}, loss=1.0, info=names)
    unseen = (NotObserved(HOSTILE[0], STEERS),)
    reader = Reader(html.render(page_data(sick, replace(diagnose(sick), not_observed=unseen), HOSTILE[1])))
    for name in HOSTILE[:3]:
        assert name in reader.text
    assert "a\\u202eb\\x00\\x1b[31m" in reader.text
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "b"})
    assert sum(tag == "img" for tag, _ in reader.tags) == 1  # the map


def test_the_page_says_what_the_terminal_says() -> None:
    """The verdict, every finding, cause, suggestion and reason are in the same words."""
    missing = (NotObserved("lstm", "it is fused"),)
    data = data_of(SICK, not_observed=missing)
    said = Reader(html.render(data)).text
    printed = re.sub(r"\s+", " ", terminal.render(data.document, Look(100)))
    document = data.document
    assert document["findings"]
    for sentence in (
        document["headline"],
        document["findings"][0]["message"],
        document["findings"][0]["causes"][0]["id"],
        document["findings"][0]["suggestions"][0]["title"],
        "lstm: it is fused",
        "Not observed",
    ):
        assert sentence in printed
        assert sentence in said
    for check in document["checks"]["passed"]:
        assert check in said
    assert 'tone-error"><span aria-hidden="true">▲</span> Error' in html.render(data)


def test_the_most_likely_root_comes_first() -> None:
    """Findings stand in the diagnosis' order, with a line for each that leads to it."""
    diagnosis = diagnose(by_hand({"a": NAN, "b": NAN, "c": 1.0}, loss=[1.0] * 4 + [NAN] * 4))
    page = html.render(page_data(SICK, diagnosis))
    numbers = [f"F{place}" for place in range(1, len(diagnosis.findings) + 1)]
    assert re.findall(r'<article class="[^"]*" id="(F\d+)"', page) == numbers
    assert re.findall(r'href="#(F\d+)"', page) == numbers


def test_code_and_trials_are_shown() -> None:
    """A suggestion has its diff or code; a tried one its tag, its outcome and its curves."""
    diagnosis = diagnose(SICK)
    finding = diagnosis.findings[0]
    trial = {
        "effect": "helped",
        "outcome": "sickness gone in 3 of 3",
        "curves": {"activation-swap": [2.3, 1.0, 0.1], "no change": [2.3, 2.3, NAN], "random change": [2.3] * 3},
        "steps": 3,
    }
    tried = replace(finding.suggestions[0], trial=trial, patch="--- a.py\n+++ a.py\n@@ -1 +1 @@\n-x<1\n+x<2\n")
    sick = replace(diagnosis, findings=(replace(finding, suggestions=(tried, *finding.suggestions[1:])),))
    page = html.render(page_data(SICK, sick))
    assert 'tag-ok"><span aria-hidden="true">✓</span> measured on this training' in page
    assert "Sickness gone in 3 of 3." in page
    assert '<span class="removed">-x&lt;1</span>\n<span class="added">+x&lt;2</span>' in page
    assert 'aria-label="Loss over 2 steps: with it ends at 0.1, no change ends at 2.3' in page
    assert "estimate</span>" in page


def decoded(picture: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A palette PNG's indices and colours, read by the book: length, name, content and checksum of each chunk."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, position = {}, 8
    while position < len(picture):
        (length,) = struct.unpack(">I", picture[position : position + 4])
        name, content = picture[position + 4 : position + 8], picture[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", picture[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(name + content)
        chunks[name], position = content, position + 12 + length
    columns, rows, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert (lines[:, 0] == 0).all()
    return lines[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3)


def test_the_picture_is_a_palette_png() -> None:
    """[26] What is written can be read back: one pixel a cell, 254 and 255 for what is no number."""
    indices = np.array([[0, 126, 253], [254, 255, 7]], np.uint8)
    read, colours = decoded(palette_png.png(indices, palette_png.palette(LIGHT)))
    assert (read == indices).all()
    for index, colour in ((0, LIGHT.diverging[0]), (253, LIGHT.diverging[-1]), (254, "#CDD2DA"), (255, "#000000")):
        assert "#{:02X}{:02X}{:02X}".format(*colours[index]) == colour


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_palette_goes_through_the_scales_stops(theme: Any) -> None:
    """Colours between two stops lie on a straight line, as plotly draws them: at most one level off anywhere."""
    colours = palette_png.palette(theme)[:254].astype(float)
    stops = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in theme.diverging]
    for index, colour in enumerate(colours):
        place = index / 253 * 6
        below = min(int(place), 5)
        for channel in range(3):
            start, end = stops[below][channel], stops[below + 1][channel]
            assert abs(colour[channel] - (start + (place - below) * (end - start))) <= 0.5


def test_a_cells_index_says_its_decades() -> None:
    """−6 decades is the first colour, 0 the middle, +6 the last; an exact zero is the first, too."""
    decades = np.array([[-6, -9, 6, 9, 0, 3, NAN, NAN, NAN]], np.float32)
    states = np.array([[0, 0, 0, 0, 0, 0, cells.ZERO, cells.NOT_RECORDED, cells.NON_FINITE]], np.uint8)
    steps = np.arange(9)
    data = MapData("backward-gain", ("a",), ("a",), steps, 1, True, decades, states)
    assert palette_png.codes(data).tolist() == [[0, 0, 253, 253, 126, 190, 0, 254, 255]]


def test_the_map_is_the_dashboards() -> None:
    """[26] The page folds the same cells in the same way, also where neither rows nor columns have room."""
    from gradscope.dashboard.figures.map import map_data
    from gradscope.signals import Signals

    rng = np.random.default_rng(0)
    many = by_hand({f"layers.{i}": list(10 ** rng.normal(0, 2, 900)) for i in range(40)}, steps=900)
    for run in (SICK, many, PAGES["all NaN"]):
        mine, its = page_data(run, Diagnosis("healthy", "")).map, map_data(Signals(run), METRICS["backward-gain"])
        assert (mine.rows, mine.labels, mine.per_column) == (its.rows, its.labels, its.per_column)
        assert (mine.steps == its.steps).all()
        assert (mine.states == its.states).all()
        np.testing.assert_array_equal(mine.decades, its.decades)
    assert mine.per_column == 1
    assert page_data(many, Diagnosis("healthy", "")).map.per_column == 2


def test_the_pages_colours_are_the_dashboards() -> None:
    """The page and the dashboard look alike in both schemes."""
    sheet = (Path(__file__).parents[1] / "assets" / "gradscope.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in sheet.split("}")[:2])
    for theme, mine, its in ((LIGHT, html_style._LIGHT, light), (DARK, html_style._DARK, dark)):
        for name, colour in html_style.variables(theme, mine).items():
            if name in its:
                assert (name, colour) == (name, its[name])
    assert len(html_style._LIGHT.keys() & light.keys()) == len(html_style._LIGHT)


def test_a_large_noisy_run_stays_under_two_megabytes() -> None:
    """[26] Noise does not compress, and 3,000 layers have long names: the page is small all the same."""
    rng = np.random.default_rng(0)
    names = [f"module.encoder.blocks.{i}.attention.projection" for i in range(3000)]
    noisy = by_hand(dict(zip(names, 10 ** rng.normal(0, 2, (3000, 30)), strict=True)), steps=30)
    data = page_data(noisy, Diagnosis("healthy", "Fine."))
    cells_of = MapData(
        "backward-gain",
        data.map.rows,
        data.map.labels,
        np.arange(250),
        1,
        True,
        rng.normal(0, 3, (300, 250)).astype(np.float32),  # as many cells as a map ever has
        np.zeros((300, 250), np.uint8),
    )
    page = html.render(data._replace(map=cells_of))
    assert len(data.map.rows) == 300
    assert 100_000 < len(page) < 500_000
    assert len(page_of(SICK)) < 100_000


def test_a_non_finite_loss_is_said_and_shaded() -> None:
    """The loss' line ends where the numbers end, and the page says NaN there and since when."""
    page = page_of(by_hand({"a": 1.0, "b": 1.0}, loss=[3.0, 2.0, 1.0, NAN, NAN, NAN], steps=6))
    assert "not a number since step 3" in page
    assert '<span class="nan-word"' in page
    assert "last finite 1.00 at step 2" in page


def test_without_data_the_page_says_so() -> None:
    """An empty run has no made-up axes."""
    page = page_of(EMPTY)
    assert "No loss and no backward gain is recorded yet." in page
    assert 'class="chart"' not in page
    assert "No backward gain is recorded yet." in page_of(replace(EMPTY, steps=SICK.steps))


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [(0, 159, 6, [0, 50, 100, 150]), (0, 1, 4, [0, 0.5, 1]), (-0.5, 0.5, 2, [-0.5, 0, 0.5]), (3, 3, 4, [3])],
)
def test_ticks_are_round_numbers(low: float, high: float, most: int, expected: list[float]) -> None:
    """Steps of 1, 2 or 5 times a power of ten; one tick where there is no width."""
    assert nice_ticks(low, high, most) == expected


def test_the_loss_axis_says_its_values() -> None:
    """Decades on a logarithmic axis, plain numbers on the other, from the top."""
    assert [text for _, text in value_ticks(Scale(True, -2.1, 1.2))] == ["0.01", "0.1", "1", "10"]
    assert value_ticks(Scale(False, 0, 4)) == [(1, "0"), (0.75, "1"), (0.5, "2"), (0.25, "3"), (0, "4")]


def test_the_command_writes_the_page(save_run: SaveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-f html -o FILE` writes one file in UTF-8, and the same page twice: reports can be compared."""
    run = save_run(SICK)
    pages = []
    for name in ("a.html", "b.html"):
        assert main(["report", str(run), "-f", "html", "-o", str(tmp_path / name)]) == 0
        pages.append((tmp_path / name).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    assert pages[0].startswith('<!DOCTYPE html>\n<html lang="en">')
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", f"written to {tmp_path / 'a.html'}")


def test_a_stream_without_unicode_gets_a_whole_page(save_run: SaveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stdout that knows ASCII only, shapes and names are character references."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert main(["report", str(save_run(SICK)), "-f", "html"]) == 0
    assert "▲" in Reader(raw.getvalue().decode("ascii")).text
