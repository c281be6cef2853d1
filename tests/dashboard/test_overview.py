"""What the overview answers: its callbacks, called as functions, and its parts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dash import Patch
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.app import assets_folder, create_app
from gradscope.dashboard.figures.trial_curves import draw_trial_curves, trial_curves_data
from gradscope.dashboard.pages.overview_callbacks import clicked_cell, drawer_content, move, open_address, refresh, tick
from gradscope.dashboard.pages.overview_wiring import DRAWN
from gradscope.dashboard.parts.chip import chip_text
from gradscope.dashboard.parts.finding_drawer import find, finding_body
from gradscope.dashboard.parts.findings import checks, finding_cards
from gradscope.dashboard.parts.layer_drawer import layer_numbers
from gradscope.dashboard.parts.numbers import cards
from gradscope.dashboard.parts.tag import effect_tag
from gradscope.dashboard.parts.verdict import headline, next_step, tab_title
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.view import View, parse_view
from gradscope.dashboard.wording import checks_summary, duration, layer_label, percent, when, where
from gradscope.records import Cause, Check, Diagnosis, Evidence, Finding, NotObserved, Site, Suggestion
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


def test_an_address_is_understood_and_nonsense_ignored(runs: Runs) -> None:
    """Run, metric, step and drawer come from the query; what is unknown falls back to the defaults."""
    view = parse_view("?run=run&metric=update-ratio&step=3&finding=F1")
    assert view == View("run", "update-ratio", 3, "F1", None)
    assert parse_view("?metric=nonsense&step=-1&x=%00") == View()
    assert parse_view(None) == View()
    assert open_address(runs, "?run=run&layer=a")[0] == "run"
    assert open_address(runs, "?run=../etc")[0] in runs.names()


def test_refresh_draws_what_is_not_drawn(runs: Runs) -> None:
    """First everything, then nothing, then only what changed."""
    version = {"run": "run", "version": "1"}
    first = refresh(runs, version, "backward-gain", None, "light", None)
    assert set(first) <= set(DRAWN)
    assert {"status", "map", "depth", "numbers", "findings"} <= set(first)
    with pytest.raises(PreventUpdate):
        refresh(runs, version, "backward-gain", None, "light", first["shown"])
    moved = refresh(runs, version, "backward-gain", {"run": "run", "step": 2}, "light", first["shown"])
    assert set(moved) == {"depth", "depth_title", "shown", "interval"}
    other = refresh(runs, version, "gradient-norm", None, "light", first["shown"])
    assert "map" in other
    assert "depth" not in other


def test_refresh_keeps_the_zoom_and_the_silence(runs: Runs) -> None:
    """A grown run patches the map, and its unchanged verdict is not written, so not announced, again."""
    first = refresh(runs, {"run": "run", "version": "1"}, "backward-gain", None, "light", None)
    second = refresh(runs, {"run": "run", "version": "2"}, "backward-gain", None, "light", first["shown"])
    assert isinstance(second["map"], Patch)
    assert "status" not in second
    other = refresh(runs, {"run": "late", "version": "2"}, "backward-gain", None, "light", second["shown"])
    assert isinstance(other["map"], dict)


def test_a_run_that_cannot_be_read_is_said(runs: Runs) -> None:
    """A damaged run gives a headline, the reason and a next step, and hides the charts."""
    (Path(runs.location) / "run" / "run.json").write_text("{oops")
    said = refresh(runs, {"run": "run", "version": "1"}, "backward-gain", None, "light", None)
    assert "This run cannot be read" in words(said["status"])
    assert "is damaged" in words(said["problem"])
    assert "Choose another run" in words(said["problem"])
    assert said["content"] == {"display": "none"}


def test_a_fault_of_ours_is_no_traceback(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody thought of is a sentence on the page."""

    def fail(_: str) -> Snapshot:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(runs, "get", fail)
    said = refresh(runs, {"run": "run", "version": "1"}, "backward-gain", None, "light", None)
    assert "This is a fault of GradScope" in words(said["problem"])


def test_the_clock_tells_new_from_known_and_stops_at_the_end(runs: Runs) -> None:
    """A new version is handed on, a known one is not; the clock of an ended run stops."""
    version, text, state, goes_on = tick(runs, "run", False, None)
    assert version["run"] == "run"
    assert (text, state) == ("✓ ended · 8 steps", "chip chip-ended")
    assert goes_on == -1
    again = tick(runs, "run", False, version)
    assert again[0] is not version
    assert not isinstance(again[0], dict)
    assert again[3] == 0


def test_steps_are_walked_one_by_one_and_followed(runs: Runs) -> None:
    """Earlier, later, the slider and a click choose a step; Latest follows; another run forgets the choice."""
    snapshot = runs.get("run")
    here, last, chosen = move(snapshot, None, None, None, None, 0)
    assert (here, last, chosen) == (7, 7, {"run": "run", "step": None})
    assert move(snapshot, ids.EARLIER, chosen, 7, None, 0)[2]["step"] == 6
    assert move(snapshot, ids.CELL, chosen, 7, None, 3)[:1] == (3,)
    assert move(snapshot, ids.SLIDER, chosen, 2, None, 0)[2]["step"] == 2
    assert move(snapshot, ids.LATEST, {"run": "run", "step": 2}, 2, None, 0)[2]["step"] is None
    assert move(snapshot, ids.LATER, chosen, 7, None, 0)[0] == 7
    assert move(snapshot, None, {"run": "late", "step": 1}, 1, 1, 0)[2]["step"] is None
    assert move(snapshot, None, None, None, 4, 0)[2]["step"] == 4


def test_a_click_names_its_cell() -> None:
    """The layer's name is text again; a click on the loss names none."""
    assert clicked_cell({"points": [{"x": 3, "y": "&lt;b&gt;"}]}) == ("<b>", 3)
    assert clicked_cell({"points": [{"x": 3, "y": "a … b"}]}) == ("a", 3)
    assert clicked_cell({"points": [{"x": 3.0, "y": 2.3}]}) == (None, 3)
    assert clicked_cell(None) == (None, 0)


def test_the_drawer_says_what_is_gone(runs: Runs) -> None:
    """A link to a finding or layer that is not there gets an answer, not an empty drawer."""
    snapshot = runs.get("run")
    assert "no finding F99" in words(drawer_content(snapshot, {"finding": "F99"}, None)[1])
    assert "no layer 'z'" in words(drawer_content(snapshot, {"layer": "z"}, None)[1])
    assert find(SICK, "F1") is FINDING
    assert [find(SICK, name) for name in ("F0", "F2", "x", "F-1")] == [None] * 4


def test_a_findings_drawer_holds_all_of_it() -> None:
    """When, where, evidence against threshold, causes with confidence, the code, and what was not observed."""
    said = words(finding_body(FINDING, SICK, 7))
    for text in ("Since step 3, still on", "gain", "10,000", "1e3", "0.1 … 20", "Init too large", "80 %", "clip()"):
        assert text in said
    assert "train.py:8" in said
    assert "inside a compiled region" in said


def test_only_a_trial_makes_a_suggestion_measured() -> None:
    """Without a record of a trial it is an estimate."""
    assert effect_tag(SUGGESTION).children == "estimate"
    assert effect_tag(dataclasses.replace(SUGGESTION, needs_edit="own code")).children == "○ not tried: needs your edit"
    assert effect_tag(dataclasses.replace(SUGGESTION, trial={"p": 0.03})).children == "✓ measured on this training"


def test_the_drawer_says_what_a_trial_measured_and_what_failed() -> None:
    """The outcome's sentence, its numbers and the command that measures them again; a failure is said as one."""
    trial = {
        "effect": "helped",
        "outcome": "gone in 5 of 5",
        "gone": 5,
        "loss": 0.41,
        "p_random": None,
        "command": "x y",
    }
    helped = dataclasses.replace(SUGGESTION, trial=trial)
    said = words(finding_body(dataclasses.replace(FINDING, suggestions=(helped,)), SICK, 7))
    for text in ("✓ measured on this training", "gone in 5 of 5", "Loss with it", "0.410", "Measure again: ", "x y"):
        assert text in said
    failed = dataclasses.replace(SUGGESTION, trial={**trial, "effect": "failed"})
    assert effect_tag(failed).children == "✗ tried, did not help"
    said = words(finding_body(dataclasses.replace(FINDING, suggestions=(failed,)), SICK, 7))
    assert "Tried, did not help: " in said
    assert "Solid: with it" not in said


def test_a_trials_curves_are_drawn_beside_their_controls() -> None:
    """In decades where all losses are positive; a gap where one is not finite; the cure on top; nothing without any."""
    kept = {"batch-norm": [10.0, 1.0], "no change": [10.0, 100.0, None], "random change": [1000.0, 10.0]}
    curves = trial_curves_data({"curves": kept})
    assert [curve.name for curve in curves] == ["no change", "random change", "batch-norm"]
    np.testing.assert_equal([curve.values.tolist() for curve in curves], [[1, 2, float("nan")], [3, 1], [1, 0]])
    assert [bool(curve.dashes) for curve in curves] == [True, True, False]
    assert (draw_trial_curves(curves) or "").startswith("data:image/svg+xml;base64,")
    assert draw_trial_curves(trial_curves_data({"p": 0.03})) is None
    raw = trial_curves_data({"curves": {"no change": [-1.0, 1.0]}})
    np.testing.assert_equal(raw[0].values, [-1.0, 1.0])


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
    assert "Clip the gradient" in words(next_step(SICK))
    assert next_step(Diagnosis("healthy", "Fine.")) == []


def test_findings_and_checks_say_what_they_are() -> None:
    """Cards carry number, step and fix; passed checks and blind spots are counted."""
    signals = Signals(by_hand({"a": 1.0, "b": 1e4}))
    said = words(finding_cards(SICK, signals, 7))
    for text in ("Error", "F1", "since step 3, still on", "b and 1 more", "Clip the gradient", "estimate"):
        assert text in said
    said = words(checks(SICK))
    assert "1 check passed · 1 waiting for more data" in said
    assert "1 thing not observed" in said
    assert "Nothing found" in words(finding_cards(Diagnosis("healthy", "Fine."), signals, 7))


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
    folder = assets_folder()
    assert {"gradscope.css", "gradscope.js", "favicon.svg"} <= {path.name for path in folder.iterdir()}
    page = create_app(Path(save_run())).server.test_client().get("/", headers={"Host": "127.0.0.1"}).text
    assert "/assets/favicon.svg" in page
    assert '<html lang="en">' in page
