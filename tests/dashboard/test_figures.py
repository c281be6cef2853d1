"""What the figures draw, as plain values; the drawing itself is looked at in the browser."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from gradscope.dashboard.figures.depth import depth_data, depth_help, draw_depth, latest, nearest
from gradscope.dashboard.figures.loss import decade_range, draw_onsets, loss_scale
from gradscope.dashboard.figures.map import draw_map, map_data
from gradscope.dashboard.figures.plotly import frame, graph_config, redrawn, typed
from gradscope.dashboard.figures.sparkline import draw_sparkline, sparkline_data
from gradscope.records import STEP, SUMMARY_ROW, Finding, Run, RunInfo
from gradscope.reports.cells import MEASURED, NON_FINITE, NOT_RECORDED, ZERO
from gradscope.reports.layer_map import marked_rows, short
from gradscope.reports.loss_line import downsample, loss_data, onsets
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import LIGHT
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store import read_run
from tests.dashboard.recorded import mlp, record

GAIN = METRICS["backward-gain"]
NOTHING = Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))


def at_steps(run: Run, steps: list[int], until: int | None = None) -> Signals:
    """The run with its recorded steps moved to `steps`, and a loss at every step until `until`."""
    summaries = run.summaries.copy()
    summaries["step"] = np.array(steps)[summaries["step"]]
    rows = np.zeros((until if until is not None else steps[-1]) + 1, run.steps.dtype)
    rows["step"] = np.arange(len(rows))
    return Signals(dataclasses.replace(run, steps=rows, summaries=summaries))


def finding(step: int, severity: str = "error", layers: tuple[str, ...] = ()) -> Finding:
    """A finding that begins at a step."""
    return Finding("a-rule", severity, layers, step, step + 5, "It is sick")  # type: ignore[arg-type]


def test_the_map_is_log10_of_the_gain_in_forward_order() -> None:
    """A gain of 1e-9 is -9 decades; the first layer is the first row."""
    data = map_data(Signals(by_hand({"a.x": 1e-9, "a.y": 100.0, "a.z": 1.0}, steps=3)), GAIN)
    assert data.rows[-3:] == ("a.x", "a.y", "a.z")
    np.testing.assert_allclose(data.decades[-3:, 1], [-9, 2, 0], atol=1e-6)


def test_the_map_tells_zero_non_finite_and_unrecorded_apart() -> None:
    """An exact 0 is no -inf, NaN is no gap, and a gain over a head without gradient is unknown."""
    nan = float("nan")
    data = map_data(
        Signals(by_hand({"a": [0.0, 1.0, nan], "b": [1.0, 1.0, 1.0]}, scale=[1.0, 0.0, 1.0], steps=3)), GAIN
    )
    row = data.rows.index("a")
    assert data.states[row].tolist() == [ZERO, NOT_RECORDED, NON_FINITE]
    assert np.isnan(data.decades[row]).all()


def test_a_value_is_never_shown_before_it_was_taken() -> None:
    """Between two records the map shows the earlier one, and after twice the usual distance that nothing is known."""
    signals = at_steps(by_hand({"a": [1.0, 1.0, 1.0, float("nan")], "b": 1.0}, steps=4), [0, 1, 2, 20], until=24)
    data = map_data(signals, GAIN)
    states = data.states[data.rows.index("a")].tolist()
    assert states == [MEASURED] * 4 + [NOT_RECORDED] * 16 + [NON_FINITE] * 5
    assert not data.every_step


def test_a_regular_cadence_has_no_stripes() -> None:
    """Every tenth step recorded fills the map."""
    data = map_data(at_steps(by_hand({"a": 1.0, "b": 1.0}, steps=4), [0, 10, 20, 30], until=39), GAIN)
    assert (data.states == MEASURED).all()


def test_no_event_is_averaged_away() -> None:
    """One step out of 5,000 that explodes and one NaN are still there when steps share a column."""
    gain = np.ones(5000)
    gain[1234], gain[3333], gain[4444] = 1e4, float("nan"), 1e-7
    data = map_data(Signals(by_hand({"a": gain.tolist(), "b": 1.0}, steps=5000)), GAIN)
    row = data.rows.index("a")
    assert data.per_column == 10
    assert data.decades.shape[1] == 500
    assert data.decades[row, 1234 // 10] == pytest.approx(4)
    assert data.states[row, 3333 // 10] == NON_FINITE
    assert data.decades[row, 4444 // 10] == pytest.approx(-7)


def test_many_layers_share_rows_and_keep_the_worst() -> None:
    """1,300 layers fit into 300 rows; the one that vanishes is seen, and its row names its ends."""
    names = [f"layers.{number}" for number in range(1300)]
    gain = dict.fromkeys(names, 1.0) | {"layers.650": 1e-9}
    data = map_data(Signals(by_hand(gain, steps=2)), GAIN)
    assert len(data.rows) <= 300
    row = int(np.nanargmin(data.decades[:, 0]))
    assert data.decades[row, 0] == pytest.approx(-9)
    first, last = data.rows[row].split(" … ")
    assert int(first.split(".")[1]) <= 650 <= int(last.split(".")[1])


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.id)
def test_every_metric_draws_every_run(metric: object) -> None:
    """No metric fails on a run without layers, with one step or with NaN everywhere."""
    for run in (NOTHING, by_hand({"a": 1.0}, steps=1), by_hand({"a": float("nan")}, steps=2)):
        data = map_data(Signals(run), metric)  # type: ignore[arg-type]
        figure = draw_map(data, loss_data(run), (), {}, LIGHT)
        assert figure["layout"]["yaxis2"]["visible"] == bool(data.decades.size)


def test_names_are_text_to_plotly() -> None:
    """Markup in a layer's name is escaped in the map and in the profile."""
    run = by_hand({"<b>x</b>": 1.0, "b": 1.0})
    signals = Signals(run)
    drawn = str(draw_map(map_data(signals, GAIN), loss_data(run), (), {}, LIGHT)) + str(
        draw_depth(depth_data(signals, None), LIGHT)
    )
    assert "<b>x" not in drawn
    assert "&lt;b&gt;x&lt;/b&gt;" in drawn


def test_rows_of_findings_are_marked() -> None:
    """Each finding marks the row where it is worst: the layer, the layer's first parameter, or the row it shares."""
    found = (finding(0, layers=("b",)), finding(0, layers=("b",)), finding(0, layers=("gone",)), finding(0))
    data = map_data(Signals(by_hand({"a": 1.0, "b": 1.0})), METRICS["gradient-norm"])
    assert data.rows == ("a.weight", "b.weight")
    assert marked_rows(data, found) == {"b.weight": "F1 F2"}
    many = {f"layers.{number}": 1.0 for number in range(700)}
    data = map_data(Signals(by_hand(many, steps=1)), GAIN)
    assert marked_rows(data, (finding(0, layers=("layers.4",)),)) == {"layers.3 … layers.5": "F1"}


def test_the_loss_ends_where_it_turns_nan() -> None:
    """The end of the line that is not finite is named; a single NaN in between is not an end."""
    nan = float("nan")
    assert loss_data(by_hand({"a": 1.0}, loss=[1.0, nan, 1.0, nan, nan], steps=5)).non_finite_since == 3
    assert loss_data(by_hand({"a": 1.0}, loss=[1.0, nan, 1.0], steps=3)).non_finite_since is None
    assert loss_data(by_hand({"a": 1.0}, loss=[nan, nan], steps=2)).non_finite_since == 0
    assert loss_data(by_hand({"a": 1.0}, steps=3)).non_finite_since is None


def test_downsampling_keeps_spikes_and_gaps() -> None:
    """One spike up and one down among 10,000 points survive; all-NaN stretches stay gaps."""
    values = np.zeros(10_000)
    values[5000], values[7001], values[8000:9000] = 9.0, -9.0, np.nan
    steps, shown = downsample(np.arange(10_000), values)
    assert len(shown) <= 1000
    assert (np.nanmax(shown), np.nanmin(shown)) == (9.0, -9.0)
    assert np.isnan(shown[(steps > 8050) & (steps < 8950)]).all()


def test_onsets_of_one_step_share_a_mark() -> None:
    """F1 and F3 begin together: one mark, in the colour of the worse."""
    marks = onsets((finding(9, "note"), finding(4), finding(9, "warning")))
    assert [(mark.step, mark.label, mark.severity) for mark in marks] == [(4, "F2", "error"), (9, "F1 F3", "warning")]


def test_labels_that_would_overlap_are_joined() -> None:
    """Two onsets close to each other are two lines under one label."""
    layout = frame(LIGHT)
    run = by_hand({"a": 1.0}, loss=1.0, steps=200)
    draw_onsets(layout, onsets((finding(100), finding(102))), loss_data(run), LIGHT)
    assert len(layout["shapes"]) == 2
    assert len(layout["annotations"]) == 1


def test_a_flat_loss_looks_flat() -> None:
    """A wobble of a percent fills a small part of the axis; a fall fills it all; nothing has no range."""
    low, high = loss_scale(np.array([2.29, 2.31]))["range"]
    assert 0.02 / (high - low) < 0.1
    low, high = loss_scale(np.array([2.3, 0.3]))["range"]
    assert 2.0 / (high - low) > 0.9
    assert loss_scale(np.array([np.nan])) == {}


def test_a_loss_that_falls_by_decades_is_drawn_in_decades() -> None:
    """Its end would be a line at 0; one that touches 0 has no decades."""
    scale = loss_scale(np.array([2.0, np.nan, 2e-6]))
    assert scale["type"] == "log"
    assert scale["range"][0] < np.log10(2e-6) < np.log10(2.0) < scale["range"][1]
    assert "type" not in loss_scale(np.array([2.0, 0.0]))


def test_a_log_axis_spans_at_least_a_decade() -> None:
    """Whole decades, never an empty range."""
    assert decade_range(np.array([0.2, 0.3])) == [-1, 0]
    assert decade_range(np.array([1.0])) == [0, 1]
    assert decade_range(np.array([np.nan, 0.0])) == [-1, 1]


def test_the_profile_follows_the_last_step_that_can_be_judged() -> None:
    """Without a choice the profile shows the last step at which most gains are numbers."""
    nan = float("nan")
    signals = Signals(by_hand({"a": [1e-3, 1e-4, nan], "b": [1.0, 1.0, nan]}, steps=3))
    assert latest(signals) == 1
    data = depth_data(signals, None)
    assert data.step == 1
    assert data.backward[-2] == pytest.approx(1e-4)
    assert depth_data(signals, 2).non_finite[-2:].tolist() == [True, True]


def test_a_step_between_two_records_shows_the_earlier() -> None:
    """Step 15 of records at 10 and 20 is 10; before the first it is the first; without records there is none."""
    steps = np.array([10, 20])
    assert [nearest(steps, step) for step in (15, 20, 99, 3)] == [0, 1, 1, 0]
    assert nearest(np.array([], np.int64), 3) is None


def test_the_profiles_axis_is_the_same_at_every_step() -> None:
    """Scrubbing through steps moves the line, not the axis."""
    signals = Signals(by_hand({"a": [1.0, 1e-12], "b": 1.0}, steps=2))
    assert depth_data(signals, 0).decades == depth_data(signals, 1).decades


def test_the_profile_shows_what_theory_expects_of_the_start(tmp_path: Path) -> None:
    """Beside every layer's gains stand those of fresh weights of that size, the same at every step, in dotted lines."""
    signals = Signals(read_run(record(tmp_path / "run", mlp(nn.ReLU, 4, width=128), 3)))
    for step in (0, 2):
        data = depth_data(signals, step)
        assert data.missing == ""
        np.testing.assert_allclose(np.log10(data.expected_backward / depth_data(signals, 0).backward), 0, atol=0.2)
        np.testing.assert_allclose(np.log10(data.expected_forward / depth_data(signals, 0).forward), 0, atol=0.2)
    dotted = [trace for trace in draw_depth(data, LIGHT)["data"] if trace.get("line", {}).get("dash") == "dot"]
    assert [trace["name"] for trace in dotted] == [
        "expected at init",
        "activation expected at init",
        "gradient expected at init",
    ]
    assert len(depth_help(data)) == 2


def test_the_profile_says_why_nothing_is_expected() -> None:
    """Layers of which nothing is known have gaps, no line in the legend, and a reason in the help."""
    data = depth_data(Signals(by_hand({"a": 1.0, "b": 1.0}, kinds={"a": "Odd", "b": "Odd"}, steps=2)), None)
    assert np.isnan(data.expected_forward).all()
    assert "expected at init" not in str(draw_depth(data, LIGHT)["data"])
    assert depth_help(data)[-1] == "Here it is not complete: no closed form is known for a."


def test_an_array_is_sent_as_its_bytes() -> None:
    """The bytes of a typed array are those of numpy, with plotly's name of the type and the shape."""
    sent = typed(np.array([[1.5, np.nan]], np.float32))
    assert (sent["dtype"], sent["shape"]) == ("f4", "1, 2")
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(sent["bdata"]), np.float32), [1.5, np.nan])


def test_no_figure_can_be_sent_anywhere() -> None:
    """The settings of every graph switch plotly's cloud off."""
    config = graph_config()
    assert (config["showSendToCloud"], config["plotlyServerURL"], config["displaylogo"]) == (False, "", False)


def test_redrawing_leaves_the_zoom_alone() -> None:
    """The changes to a drawn figure name no range of an axis that can be zoomed."""
    run = by_hand({"a": 1.0, "b": 1.0}, loss=1.0)
    changes = redrawn(draw_map(map_data(Signals(run), GAIN), loss_data(run), (), {}, LIGHT)).to_plotly_json()
    places = {tuple(change["location"]) for change in changes["operations"]}
    assert ("layout", "xaxis", "range") not in places
    assert ("layout", "yaxis2", "autorange") not in places
    assert ("layout", "yaxis", "range") in places


def test_names_are_cut_at_the_front() -> None:
    """The end of a path says which layer it is."""
    assert short("blocks.9.mlp.fc1", 8) == "…mlp.fc1"
    assert short("head", 8) == "head"


def test_a_sparkline_shows_the_worst_layer_or_the_loss() -> None:
    """A layer's gain, a parameter's gradient, else the loss; a single point is no line."""
    signals = Signals(by_hand({"a": [1.0, 1e-3, 1e-6], "b": 1.0}, loss=1.0, steps=3))
    assert sparkline_data(signals, finding(0, layers=("a",))).values == pytest.approx([0, -3, -6])
    assert "b.weight" in sparkline_data(signals, finding(0, layers=("b.weight",))).what
    assert sparkline_data(signals, finding(0)).what == "Loss"
    assert (draw_sparkline(sparkline_data(signals, finding(0, layers=("a",)))) or "").startswith("data:image/svg+xml")
    one = Signals(by_hand({"a": 1.0}, steps=1))
    assert draw_sparkline(sparkline_data(one, finding(0, layers=("a",)))) is None
