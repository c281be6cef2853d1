"""The timeline without a browser: what changed, the lanes, the figure, the page."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from dash import Patch
from dash.development.base_component import Component
from plotly.utils import PlotlyJSONEncoder

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.lanes import MOST_LANES, lanes_data, lanes_traces, with_lanes
from gradscope.dashboard.figures.timeline import draw_timeline, timeline_data, timeline_height
from gradscope.dashboard.live import refresh
from gradscope.dashboard.pages.timeline import OUTPUTS, PAGE
from gradscope.dashboard.runs import Runs
from gradscope.diagnosis import diagnose
from gradscope.records import Finding, Run
from gradscope.reports.theme import DARK, LIGHT
from gradscope.rules.handwritten import run
from gradscope.signals import Signals
from gradscope.signals.changes import Change, suspects, what_changed_most, window_before
from tests.conftest import SaveRun

NAN = float("nan")
HOSTILE = "<img src=x onerror=alert(1)>"


def planted(**gradients: list[float]) -> Signals:
    """24 recorded steps of two layers, with gradients of your choice."""
    return Signals(run({"a": 1.0, "b": 1.0}, gradient={f"{k}.weight": v for k, v in gradients.items()}, steps=24))


def sentences(signals: Signals, first: int, last: int) -> list[str]:
    """What is said to have changed."""
    return [change.sentence for change in what_changed_most(signals, first, last)]


def words(part: Any) -> str:
    """All text of a component."""
    if isinstance(part, (list, tuple)):
        return "".join(words(each) for each in part)
    if isinstance(part, Component):
        return words(getattr(part, "children", None))
    return "" if part is None else str(part)


# what changed most


def test_a_planted_change_is_found_with_its_factor() -> None:
    """A gradient that is 340 times as large in the window is the only change."""
    signals = planted(a=[1e-3] * 20 + [0.34] * 4)
    assert sentences(signals, 20, 23) == ["×340 gradient of a.weight"]
    (change,) = what_changed_most(signals, 20, 23)
    assert (change.before, change.inside) == pytest.approx((1e-3, 0.34))


def test_the_larger_of_two_sure_changes_leads() -> None:
    """Changes beyond doubt are ordered by their size, up or down."""
    signals = planted(a=[1e-3] * 20 + [0.01] * 4, b=[1.0] * 20 + [1e-4] * 4)
    assert sentences(signals, 20, 23) == ["÷10,000 gradient of b.weight", "×10.0 gradient of a.weight"]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_what_changed_does_not_depend_on_a_scale(scale: float) -> None:
    """Gradients multiplied by anything change by the same factor and count the same spreads."""
    noise = 10 ** np.random.default_rng(0).normal(0, 0.1, 20)
    values = scale * np.concatenate([noise, 50 * noise[:4]])
    (change,) = what_changed_most(planted(a=list(values)), 20, 23)
    logs = np.log10(noise)
    assert change.factor == pytest.approx(50 * 10 ** (np.median(logs[:4]) - np.median(logs)))
    assert 10 < change.spreads < 40


def test_noise_and_one_spike_are_no_change() -> None:
    """What the usual spread explains is not listed, nor is one value out of four."""
    noise = list(10 ** np.random.default_rng(1).normal(0, 0.3, 24))
    assert sentences(planted(a=noise), 20, 23) == []
    assert sentences(planted(a=[1e-3] * 20 + [1e-3, 1e3, 1e-3, 1e-3]), 20, 23) == []


def test_an_earlier_spike_hides_no_change() -> None:
    """One value before the window that was larger still does not make the window usual."""
    assert sentences(planted(a=[1e-3] * 10 + [1e3] + [1e-3] * 9 + [0.34] * 4), 20, 23) == ["×340 gradient of a.weight"]


def test_the_window_is_compared_with_the_time_before_it() -> None:
    """At least 20 and at most four times as many recorded steps count as before; later ones never do."""
    made = Signals(run({"a": 1.0, "b": 1.0}, steps=200))
    assert window_before(made, 100, 103) == (80, 99)
    assert window_before(made, 100, 129) == (0, 99)
    assert window_before(made, 1, 4) is None
    assert sentences(planted(a=[1e-3] * 10 + [0.34] * 14), 5, 8) == []


def test_what_is_not_finite_any_more_leads_in_the_order_of_steps() -> None:
    """NaN and Inf come first, the earliest one at the top, then what went to exactly 0."""
    made = run(
        {"a": 1.0, "b": 1.0},
        gradient={"a.weight": [1e-3] * 22 + [NAN, NAN], "b.weight": [1e-3] * 21 + [NAN] * 3},
        update={"a.weight": [1e-3] * 20 + [0.0] * 4},
        steps=24,
    )
    assert sentences(Signals(made), 20, 23)[:3] == [
        "gradient of b.weight became NaN or Inf at step 21",
        "gradient of a.weight became NaN or Inf at step 22",
        "update ratio of a.weight became 0 at step 20",
    ]


def test_what_was_set_is_said_before_what_followed() -> None:
    """A learning rate that leapt stands above the gradients that grew with it."""
    made = run({"a": 1.0, "b": 1.0}, gradient={"a.weight": [1e-3] * 20 + [10.0] * 4}, steps=24)
    made = dataclasses.replace(made, learning_rates=np.array([[0.01]] * 20 + [[0.1]] * 4))
    assert sentences(Signals(made), 20, 23) == ["×10.0 learning rate", "×10,000 gradient of a.weight"]


def test_a_loss_that_turns_nan_or_changes_its_sign_is_said() -> None:
    """A loss need not be positive: where a factor means nothing both values are said."""
    nan = run({"a": 1.0}, loss=[1.0] * 20 + [NAN] * 4, steps=24)
    assert sentences(Signals(nan), 20, 23) == ["loss became NaN or Inf at step 20"]
    negative = run({"a": 1.0}, loss=[0.3] * 20 + [-1.2] * 4, steps=24)
    assert sentences(Signals(negative), 20, 23) == ["loss went from 0.300 to −1.20"]


def test_at_most_twenty_changes_of_3000_layers() -> None:
    """3,000 layers that all change are told in 20 rows."""
    names = {f"layers.{i}": [1.0] * 12 + [100.0] * 4 for i in range(3000)}
    signals = Signals(run({**names, "head": 1.0}, steps=16))
    assert len(what_changed_most(signals, 12, 15)) == 20


def with_rates(rates: list[float]) -> Signals:
    """One learning rate a step."""
    made = run({"a": 1.0}, steps=len(rates))
    return Signals(dataclasses.replace(made, learning_rates=np.array(rates)[:, None]))


def test_what_was_changed_on_purpose_is_marked() -> None:
    """A leap of the learning rate, the end of a warm-up, a loss scale that was cut, the first clipping."""
    ramp = [0.01 * (i + 1) for i in range(10)] + [0.1] * 5 + [0.5] * 5
    assert [(s.step, s.kind) for s in suspects(with_rates(ramp))] == [(9, "warm-up end"), (15, "learning rate")]
    columns = {"scale": [1024.0] * 4 + [512.0] * 4, "clipped_gradient_norm": [1.0] * 6 + [0.5] * 2}
    made = suspects(Signals(run({"a": 1.0}, columns=columns)))
    assert [(s.step, s.kind) for s in made] == [(4, "loss scale"), (6, "clipping")]


@pytest.mark.parametrize(
    "rates", [[0.1] * 20, [0.1 * 0.99**i for i in range(20)], [NAN] * 20, [0.0] * 20, [0.1]], ids=str
)
def test_a_steady_schedule_is_no_suspect(rates: list[float]) -> None:
    """Constant, slowly decaying, unknown and zero rates are nothing to mark."""
    assert suspects(with_rates(rates)) == ()


def test_of_many_suspects_those_near_the_onsets_are_kept() -> None:
    """A scaler that cuts its scale again and again does not bury the cut before the onset."""
    scale = [2.0 ** (i % 2) for i in range(400)]
    kept = suspects(Signals(run({"a": 1.0}, columns={"scale": scale}, steps=400)), near=(200,))
    assert len(kept) == 12
    assert all(abs(mark.step - 200) <= 10 for mark in kept)


def test_a_change_of_a_layer_with_a_hostile_name_is_text() -> None:
    """[24] A sentence holds the name as it is; the page escapes it as it does all text."""
    change = Change("gradient", HOSTILE, "changed", 1.0, 2.0, 2.0, 9.0, 3)
    assert change.sentence == f"×2.00 gradient of {HOSTILE}"


# lanes


def finding(number: int, first: int = 0, last: int = 7, **more: Any) -> Finding:
    """A finding with a rule of its own."""
    return Finding(
        **{"rule": f"rule-{number}", "severity": "error", "layers": ("a",), "message": "m", **more},
        first_step=first,
        last_step=last,
    )  # type: ignore[arg-type]


def test_a_lane_goes_from_the_first_step_to_the_last() -> None:
    """Each finding is one bar, with a shape and a word, that leads to it."""
    found = (finding(1, 3, 7, severity="warning"), finding(2, 5, 5))
    lanes = lanes_data(found, 7)
    bars, starts = lanes_traces(lanes, LIGHT, lambda number: f"/to/{number}")
    assert (bars["base"], bars["x"]) == ([2.5, 4.5], [5, 1])
    assert (starts["x"], starts["marker"]["symbol"]) == ([3, 5], ["square", "triangle-up"])
    assert bars["customdata"] == ["/to/F1", "/to/F2"]
    assert "■ Warning F1 rule-1" in bars["hovertext"][0]
    assert "since step 3, still on" in bars["hovertext"][0]
    assert bars["marker"]["color"] == [LIGHT.severity["warning"], LIGHT.severity["error"]]


def test_what_still_holds_goes_on_to_the_last_step() -> None:
    """A run is not recorded at every step: what holds at the last recorded one has not ended there."""
    lanes = lanes_data((finding(1, 3, 128), finding(2, 3, 64)), 128, 159)
    assert [lane.last for lane in lanes] == [159, 64]


def test_many_findings_have_a_dozen_lanes_and_none_has_none() -> None:
    """The lanes never push the map off the screen."""
    assert len(lanes_data(tuple(finding(i) for i in range(40)), 7)) == MOST_LANES
    figure: dict[str, Any] = {"data": [], "layout": {}}
    assert with_lanes(figure, (), LIGHT, str, 500) == {"data": [], "layout": {}}


def test_a_message_of_a_hostile_name_is_text_in_the_tooltip() -> None:
    """[24] plotly reads markup in its texts: names are escaped."""
    lanes = lanes_data((finding(1, message=f"dead units in {HOSTILE}"),), 7)
    assert "<img" not in lanes_traces(lanes, LIGHT, str)[0]["hovertext"][0]


# the figure


ODD = {
    "one layer": run({"a": 1.0}),
    "three steps": run({"a": 1e-9, "b": 1.0}, loss=[2.0, 1.0, 0.5], steps=3),
    "all NaN": run({"a": NAN, "b": NAN}, loss=NAN),
    "3,000 layers": run({f"layers.{i}": 1.0 for i in range(3000)}, steps=3),
}


@pytest.mark.parametrize("made", list(ODD.values()), ids=list(ODD))
@pytest.mark.parametrize("order", ["depth", "severity", "onset"])
def test_any_run_has_a_timeline(made: Run, order: str) -> None:
    """One layer, three steps, nothing but NaN and 3,000 layers: the parts stand above each other, in JSON."""
    signals = Signals(made)
    findings = diagnose(made, signals).findings
    data = timeline_data(made, signals, findings, "backward-gain", order)
    for theme in (LIGHT, DARK):
        figure = draw_timeline(data, theme, str)
        layout = figure["layout"]
        domains = [layout[name]["domain"] for name in ("yaxis2", "yaxis4", "yaxis") if name in layout]
        assert all(low < high for low, high in domains)
        assert all(below[1] <= above[0] for below, above in itertools.pairwise(domains))
        assert len(json.dumps(figure, cls=PlotlyJSONEncoder)) < 1_000_000
    assert 300 < timeline_height(data) < 1200
    assert len(data.lanes) == min(len(findings), MOST_LANES)


# the page


@pytest.fixture
def runs(save_run: SaveRun) -> Runs:
    """A run whose learning rate leaps at step 20 and which turns NaN at step 22."""
    made = run(
        {"a": [1.0] * 22 + [NAN] * 4, "b": [1.0] * 22 + [NAN] * 4},
        loss=[2.0] * 22 + [NAN] * 4,
        gradient={"a.weight": [1e-3] * 20 + [0.3] * 6},
        steps=26,
    )
    made = dataclasses.replace(made, learning_rates=np.array([[0.01]] * 20 + [[0.1]] * 6))
    return Runs(save_run(made, "late").parent)


HERE = Address("timeline", "late")


def test_the_page_draws_everything_once(runs: Runs) -> None:
    """A first look draws every output; a second one nothing."""
    drawn = refresh(PAGE, runs, HERE, "light", None)
    assert set(OUTPUTS) <= set(drawn)
    again = refresh(PAGE, runs, HERE, "light", drawn["shown"])
    assert set(again) == {"problem", "content", "shown"}


def test_onsets_are_in_the_page_for_the_keys(runs: Runs) -> None:
    """The keys [ and ] go to the steps at which findings begin."""
    steps = {found.first_step for found in runs.get("late").diagnosis.findings}
    drawn = refresh(PAGE, runs, HERE, "light", None)
    assert drawn["onsets"] == " ".join(map(str, sorted(steps)))


def test_a_brush_lists_what_changed_and_marks_it(runs: Runs) -> None:
    """[17] ?brush=20-21 lists what changed there against what was before, and fills the two fields."""
    first = refresh(PAGE, runs, HERE, "light", None)
    drawn = refresh(PAGE, runs, HERE.at(brush=(20, 21)), "light", first["shown"])
    assert (drawn["brush_first"], drawn["brush_last"]) == (20, 21)
    text = words(drawn["changes"])
    assert "Steps 20 to 21 against steps 0 to 19 before them" in text
    assert "×10.0 learning rate" in text
    assert "×300 gradient of a.weight" in text
    assert isinstance(drawn["map"], Patch)


@pytest.mark.parametrize(
    ("brush", "said"),
    [
        ((0, 3), "Fewer than two steps were recorded before step 0"),
        ((90, 99), "No layer was recorded between step 90 and step 99"),
        ((10, 15), "nothing is clearly different"),
    ],
)
def test_a_window_without_an_answer_says_why(runs: Runs, brush: tuple[int, int], said: str) -> None:
    """Too early, beyond the end and quiet: each has its own words, and there is no empty table."""
    assert said in words(refresh(PAGE, runs, HERE.at(brush=brush), "light", None)["changes"])


def test_suspects_name_the_findings_that_begin_soon_after(runs: Runs) -> None:
    """The leap of the learning rate at step 20 stands beside the NaN of step 22."""
    text = words(refresh(PAGE, runs, HERE, "light", None)["suspects"])
    assert "Step 20: the learning rate went from 0.0100 to 0.100. F1" in text
    assert "within 20 steps" in text


def test_from_and_to_are_what_the_step_axis_shows(runs: Runs) -> None:
    """[17] A link with from and to shows these steps; without them all are shown."""
    figure = refresh(PAGE, runs, HERE.at(first=5, last=12), "light", None)["map"]
    assert figure["layout"]["xaxis"]["range"] == [4.5, 12.5]
    assert "range" not in refresh(PAGE, runs, HERE, "light", None)["map"]["layout"]["xaxis"]


def test_the_chosen_cell_is_said_in_words(runs: Runs) -> None:
    """Without a mouse: the layer, the step and the value of the address, NaN as a word."""
    cell = refresh(PAGE, runs, HERE.at(layer="a", step=3), "light", None)["cell"]
    assert "a at step 3: backward gain is 1.00, +0.00 decades" in words(cell)
    cell = refresh(PAGE, runs, HERE.at(layer="a", step=24), "light", None)["cell"]
    assert "is NaN or Inf" in words(cell)
    assert "no row 'nowhere'" in words(refresh(PAGE, runs, HERE.at(layer="nowhere", step=3), "light", None)["cell"])


def test_the_table_holds_the_maps_numbers(runs: Runs) -> None:
    """The same decades as the map, at 8 of the steps that are shown."""
    details = refresh(PAGE, runs, HERE.at(first=5, last=12), "light", None)["table"]
    table = details.children[2].children.data
    assert table["head"] == ["Layer", *(f"step {step}" for step in range(5, 13))]
    assert table["body"][0] == ["a", *["+0.00"] * 8]


@pytest.mark.parametrize("made", list(ODD.values()), ids=list(ODD))
def test_the_page_shows_any_run(save_run: SaveRun, made: Run) -> None:
    """One layer, three steps, all NaN, 3,000 layers: no problem, and less than 1 MB."""
    there = Runs(save_run(made, "odd").parent)
    drawn = refresh(PAGE, there, Address("timeline", "odd", brush=(2, 2)), "dark", None)
    assert drawn["problem"] == []
    assert len(json.dumps(drawn, cls=PlotlyJSONEncoder)) < 1_000_000
