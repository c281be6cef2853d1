"""What the overview answers: its callbacks, called as functions, and its parts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dash import Patch
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.app import create_app
from gradscope.dashboard.figures.map import map_data
from gradscope.dashboard.figures.map_marks import reorder
from gradscope.dashboard.live import View, refresh
from gradscope.dashboard.pages.overview import PAGE, drawer_content, moved
from gradscope.dashboard.pages.overview_layout import ID
from gradscope.dashboard.parts.chip import chip_text
from gradscope.dashboard.parts.finding_drawer import find
from gradscope.dashboard.parts.findings import checks, finding_cards
from gradscope.dashboard.parts.layer_drawer import layer_numbers
from gradscope.dashboard.parts.numbers import cards
from gradscope.dashboard.parts.search import results, search
from gradscope.dashboard.parts.verdict import headline, next_step, tab_title
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.shell_wiring import tick
from gradscope.dashboard.wording import checks_summary, duration, layer_label, percent, when, where
from gradscope.packaged import packaged
from gradscope.records import Cause, Check, Diagnosis, Evidence, Finding, NotObserved, Site, Suggestion
from gradscope.reports.metrics import METRICS
from gradscope.reports.numbers import Count, HeadlineNumbers, Latest
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.conftest import SaveRun

SUGGESTION = Suggestion("gradient-clipping", "Clip the gradient", "It explodes.", "clip()", "train.py:8")
FINDING = Finding(
    "exploding-gradient",
    "error",
    ("b", "a"),
    3,
    7,
    "Gradients explode",
    (Evidence("gain", 1e4, "", 1e3, "0.1 … 20"),),
    (Cause("init-too-large", 0.8, "each layer doubles it"),),
    (SUGGESTION,),
)
SICK = Diagnosis(
    "broken",
    "Gradients explode in b.",
    (FINDING,),
    (Check("non-finite", "passed"), Check("loss-stalled", "needs-data", "needs 9 more recorded steps")),
    (NotObserved("c", "inside a compiled region"),),
)


@pytest.fixture
def runs(save_run: SaveRun) -> Runs:
    """A folder of two runs; "late" turns NaN at its end."""
    nan = float("nan")
    save_run(by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3), "run")
    late = save_run(by_hand({"a": [1.0, 1.0, nan], "b": [1.0, 1.0, nan]}, loss=[2.0, 1.0, nan], steps=3), "late")
    return Runs(late.parent)


def words(part: Any) -> str:
    """All that a part says, as JSON."""
    return json.dumps(part, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def page_of(runs: Runs, address: Address, shown: dict[str, Any] | None = None, held: bool = False) -> dict[str, Any]:
    """What the overview draws."""
    return refresh(PAGE, runs, address, "light", shown, held)


RUN = Address("overview", "run")


def test_refresh_draws_what_is_not_drawn(runs: Runs) -> None:
    """First everything, then nothing, then only what changed."""
    first = page_of(runs, RUN)
    assert set(first) <= {*PAGE.outputs, "problem", "content", "shown"}
    assert {"status", "map", "depth", "numbers", "findings"} <= set(first)
    nothing = {"problem", "content", "shown"}
    assert set(page_of(runs, RUN, first["shown"])) == nothing
    moved_ = page_of(runs, RUN.at(step=2), first["shown"])
    assert {"depth", "depth_title", "slider"} <= set(moved_)
    assert not {"status", "drawer"} & set(moved_)
    other = page_of(runs, RUN.at(metric="gradient-norm"), first["shown"])
    assert "map" in other
    assert "depth" not in other


def test_refresh_keeps_the_zoom_and_the_silence(runs: Runs, save_run: SaveRun) -> None:
    """A grown run patches the map, and its unchanged verdict is not written, so not announced, again."""
    first = page_of(runs, RUN)
    shutil.rmtree(Path(runs.location) / "run")
    save_run(by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3, steps=9), "run")
    second = page_of(Runs(runs.location), RUN, first["shown"])
    assert isinstance(second["map"], Patch)
    assert "status" not in second
    other = page_of(runs, RUN.at(run="late"), second["shown"])
    assert isinstance(other["map"], dict)


def test_a_window_of_steps_and_an_open_finding_move_the_map(runs: Runs) -> None:
    """[12, 17] The range of the address is shown; a finding shows its onset and dims other layers; closing restores."""
    first = page_of(runs, RUN.at(first=2, last=5))
    assert first["map"]["layout"]["xaxis"]["range"] == [1.5, 5.5]
    opened = page_of(runs, RUN.at(first=2, last=5, finding="F1"))
    assert opened["map"]["layout"]["xaxis"]["range"][0] == -0.5
    assert any(shape.get("opacity") == 0.62 for shape in opened["map"]["layout"]["shapes"])
    closed = page_of(runs, RUN.at(first=2, last=5), opened["shown"])
    said = words(closed["map"])
    assert "[1.5, 5.5]" in said
    assert closed["drawer"] == []


def test_rows_are_in_the_order_that_was_asked_for(runs: Runs) -> None:
    """By depth, by severity of what is found there, by onset."""
    data = map_data(runs.get("run").signals, METRICS["backward-gain"])
    findings = (
        dataclasses.replace(FINDING, severity="note", layers=("c",), first_step=1),
        dataclasses.replace(FINDING, layers=("b",), first_step=3),
    )
    assert reorder(data, "depth", findings).rows == ("a", "b", "c")
    assert reorder(data, "severity", findings).rows == ("b", "c", "a")
    assert reorder(data, "onset", findings).rows == ("c", "b", "a")


def test_a_paused_page_stands_still(runs: Runs, save_run: SaveRun) -> None:
    """[14] What only grew is left as it is; a choice is still obeyed."""
    first = page_of(runs, RUN)
    shutil.rmtree(Path(runs.location) / "run")
    save_run(by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3, steps=9), "run")
    grown = Runs(runs.location)
    assert "map" not in page_of(grown, RUN, first["shown"], held=True)
    assert "map" in page_of(grown, RUN.at(metric="update-ratio"), first["shown"], held=True)
    assert "map" in page_of(grown, RUN, first["shown"])


def test_a_run_that_cannot_be_read_is_said(runs: Runs) -> None:
    """[25] A damaged or missing run gives a headline, the reason and a next step, and hides the page."""
    (Path(runs.location) / "run" / "run.json").write_text("{oops")
    said = page_of(runs, RUN)
    for text in ("This run cannot be read", "is damaged", "Choose another run"):
        assert text in words(said["problem"])
    assert said["content"] == {"display": "none"}
    assert "no run named" in words(page_of(runs, RUN.at(run="../etc"))["problem"])


def test_a_fault_of_ours_is_no_traceback(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody thought of is a sentence on the page."""

    def fail(_: str) -> Snapshot:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(runs, "get", fail)
    assert "This is a fault of GradScope" in words(page_of(runs, RUN)["problem"])


def test_another_pages_address_draws_nothing(runs: Runs) -> None:
    """While a page makes room for another it stays as it is."""
    with pytest.raises(PreventUpdate):
        page_of(runs, Address("checks", "run"))


def test_the_clock_tells_new_from_known_and_stops_at_the_end(runs: Runs) -> None:
    """A new version is handed on, a known one is not; the clock of an ended run stops; the tab says the verdict."""
    version, held, text, state, goes_on, tab, *_ = tick(runs, PAGE, RUN, None)
    assert version["of"] == "/run/run"
    assert held is None
    assert (text, state, goes_on) == ("✓ ended · 8 steps", "chip chip-ended", -1)
    assert tab == {"title": "▲ Unhealthy · gradscope", "shape": "▲", "tone": "error"}
    again = tick(runs, PAGE, RUN, version)
    assert not isinstance(again[0], dict)
    assert again[4] == 0


def test_a_paused_chip_says_how_far_it_is_behind(save_run: SaveRun) -> None:
    """[14] The step that is shown, and how many were taken since; nothing new is handed on."""
    run = by_hand({"a": 1.0}, loss=2.0, steps=9)
    folder = save_run(dataclasses.replace(run, info=dataclasses.replace(run.info, state="recording")), "live")
    address = Address("overview", "live")
    first = tick(Runs(folder), PAGE, address, None, {})
    assert first[1] == {"of": "/run/live", "step": 8}
    later = tick(Runs(folder), PAGE, address, None, {"of": "/run/live", "step": 5})
    assert later[2] == "‖ paused at step 5 · 3 newer"
    assert not isinstance(later[0], dict)


def test_steps_are_walked_one_by_one_and_followed(runs: Runs) -> None:
    """Earlier, later and the slider choose a step; Latest follows; a slider that only follows asks for nothing."""
    snapshot = runs.get("run")
    assert moved(snapshot, ID["earlier"], 7, None) == 6
    assert moved(snapshot, ID["slider"], 2, None) == 2
    assert moved(snapshot, ID["later"], 6, 6) is None
    assert moved(snapshot, ID["later"], 7, None) is None
    assert moved(snapshot, ID["latest"], 2, 2) is None
    assert moved(snapshot, ID["slider"], 2, 2) == 2


def test_the_drawer_says_what_is_gone(runs: Runs) -> None:
    """A link to a finding or layer that is not there gets an answer, not an empty drawer."""
    snapshot = runs.get("run")
    gone = View(runs, RUN.at(finding="F99"), (snapshot,), ("1",), "light", {})
    assert "no finding F99" in words(drawer_content(gone)[1])
    assert "no layer 'z'" in words(drawer_content(dataclasses.replace(gone, address=RUN.at(layer="z")))[1])
    assert find(SICK, "F1") is FINDING
    assert [find(SICK, name) for name in ("F0", "F2", "x", "F-1")] == [None] * 4


def test_search_finds_findings_layers_and_steps(runs: Runs) -> None:
    """By number or words, by part of a name or kind, by step; nothing is said as nothing."""
    snapshot = runs.get("run")
    assert search(snapshot, "f1")[0].address == RUN.at(finding="F1")
    assert [hit.address.layer for hit in search(snapshot, "b") if hit.kind == "layer"] == ["b"]
    assert search(snapshot, "step 3")[0].address == RUN.at(step=3)
    assert search(snapshot, "99999") == ()
    assert "Nothing is called" in words(results((), "zzz"))
    assert {hit.kind for hit in search(snapshot, "")} == {"finding"}


def test_a_layers_numbers_are_those_of_its_step() -> None:
    """The drawer's numbers are the signals at that step; a parameter's path leads to its layer."""
    signals = Signals(by_hand({"a": [1e-4, 0.5], "b": 1.0}, activation={"a": 3.0}, steps=2))
    early = layer_numbers(signals, "a", 0)
    assert early is not None
    assert dict(early.numbers)["Backward gain"] == "1.00e-4"
    assert "Too little" in early.state
    late = layer_numbers(signals, "a.weight", 1)
    assert late is not None
    assert (late.path, late.step, late.state) == ("a", 1, "Within the healthy band, 0.1 … 20.")
    assert [parameter.name for parameter in late.parameters] == ["weight"]
    assert layer_numbers(signals, "gone", 0) is None


def test_the_cards_keep_the_last_finite_value() -> None:
    """NaN is a word with the last finite value and its step; what is not recorded is a dash with a hint."""
    nan = float("nan")
    shown = cards(HeadlineNumbers(Latest(nan, 9, 4.64, 7), Latest(), Count(3, 9), Count(0, 0), 0.018), 1200)
    assert shown[0][:3] == ("Loss", "NaN", "last finite 4.64 at step 7")
    assert shown[1].value == "—"
    assert (shown[2].value, shown[2].note, shown[2].tone) == ("3 of 9", "at step 1,200", "error")
    assert shown[3].value == "—"
    assert shown[4].value == "1.8 %"


def test_the_verdict_is_a_shape_a_word_and_a_sentence() -> None:
    """The tab, the headline and the next step."""
    assert tab_title(SICK) == "▲ Broken · gradscope"
    assert "Training is broken" in words(headline(SICK))
    assert "Clip the gradient" in words(next_step(SICK, RUN))
    assert next_step(Diagnosis("healthy", "Fine."), RUN) == []


def test_findings_and_checks_say_what_they_are() -> None:
    """Cards carry number, step and fix; passed checks and blind spots are counted."""
    signals = Signals(by_hand({"a": 1.0, "b": 1e4}))
    said = words(finding_cards(SICK, signals, 7, RUN))
    for text in ("Error", "F1", "since step 3, still on", "b and 1 more", "Clip the gradient", "estimate"):
        assert text in said
    said = words(checks(SICK))
    assert "1 check passed · 1 waiting for more data" in said
    assert "1 thing not observed" in said
    assert "Nothing found" in words(finding_cards(Diagnosis("healthy", "Fine."), signals, 7, RUN))


@pytest.mark.parametrize(
    ("state", "age", "paused", "text"),
    [
        ("recording", 1.0, False, "● live · step 1,199 · 1 s ago"),
        ("recording", 200.0, False, "○ nothing new for 3 min · step 1,199"),
        ("recording", 1.0, True, "‖ paused at step 1,199"),
        ("ended", 900.0, False, "✓ ended · 1,200 steps"),
        ("stopped", 900.0, True, "■ recording stopped at step 1,199"),
    ],
)
def test_the_chip_tells_live_from_stale_from_over(state: str, age: float, paused: bool, text: str) -> None:
    """A word, a shape and since when."""
    info = dataclasses.replace(by_hand({"a": 1.0}).info, state=state)
    assert chip_text(info, 1199, 1200, age, paused)[0] == text


def test_words() -> None:
    """Spans, shares and lists as people say them."""
    assert [duration(seconds) for seconds in (-1, 3, 119, 120, 7200, 200_000)] == [
        "0 s", "3 s", "119 s", "2 min", "2 h", "2 days",
    ]  # fmt: skip
    assert [percent(share) for share in (None, 0.0, 0.0004, 0.018, 1.36)] == ["—", "0 %", "< 0.1 %", "1.8 %", "136 %"]
    assert when(FINDING, 9) == "steps 3 to 7"
    assert where(("", "b", "c")) == "(model) and 2 more"
    assert checks_summary(SICK.passed) == "1 check passed · 1 waiting for more data"
    assert layer_label(Site("layers.3", "output", "Linear", 1)) == "layers.3 Linear"
    assert layer_label(Site("head", "output", "Linear", 1)) == "head"


def test_ids_are_one_of_a_kind() -> None:
    """No two components share an id."""
    names = [value for name, value in vars(ids).items() if name.isupper()]
    assert len(names) == len(set(names))


def test_the_assets_are_there(save_run: SaveRun) -> None:
    """The folder is found from the checkout, and the page names its icon."""
    folder = packaged("")
    assert {"gradscope.css", "gradscope.js", "favicon.svg"} <= {path.name for path in folder.iterdir()}
    page = create_app(Path(save_run())).server.test_client().get("/run/run", headers={"Host": "127.0.0.1"}).text
    assert "/assets/favicon.svg" in page
    assert '<html lang="en">' in page
