"""The layers page without a browser: its table, its tree, one layer in full, its strips."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dash.development.base_component import Component
from plotly.utils import PlotlyJSONEncoder
from torch import nn

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.layer_lines import draw_layer_lines, layer_lines_data
from gradscope.dashboard.figures.siblings import draw_siblings, place, siblings_data
from gradscope.dashboard.figures.strip_panels import draw_strips
from gradscope.dashboard.figures.strips import EDGES, MOST_COLUMNS, strips_data
from gradscope.dashboard.live import refresh
from gradscope.dashboard.pages.layers import PAGE
from gradscope.dashboard.parts.layer_detail import detail_head, layer_detail_data, parameter_table
from gradscope.dashboard.parts.layer_drawer import layer_body, layer_numbers
from gradscope.dashboard.parts.layer_rows import LayerRows, container_row, layer_rows
from gradscope.dashboard.parts.layer_table import PAGE_ROWS, cell, layer_table, selected
from gradscope.dashboard.parts.layer_tree import MOST_NODES, layer_tree, layer_tree_data
from gradscope.dashboard.runs import Runs
from gradscope.diagnosis import diagnose
from gradscope.records import HISTOGRAM_BINS, Diagnosis, Finding, Run
from gradscope.reports.theme import LIGHT
from gradscope.rules.handwritten import run
from gradscope.signals import Signals
from tests.dashboard.recorded import mlp, record

HERE = Address("layers", "a")
NAN = float("nan")
Extra = dict[tuple[str, str], dict[str, float | Sequence[float]]]  # summaries that a run written by hand adds


def read(
    recorded: Run, diagnosis: Diagnosis | None = None, step: int | None = None
) -> tuple[Signals, Diagnosis, LayerRows]:
    """Signals, diagnosis and rows of a run."""
    signals = Signals(recorded)
    found = diagnosis or Diagnosis("healthy", "")
    return signals, found, layer_rows(signals, found, step)


def histogram(**shares: float) -> list[float]:
    """1,000 entries by magnitude: `bin_20=0.5` puts half of them into bin 20."""
    bins = [0.0] * HISTOGRAM_BINS
    for name, share in shares.items():
        bins[int(name.removeprefix("bin_"))] = 1000 * share
    return bins


def words(part: Any) -> str:
    """All text of a component."""
    if isinstance(part, str):
        return part
    if isinstance(part, (list, tuple)):
        return "".join(words(each) for each in part)
    return words(getattr(part, "children", None)) if isinstance(part, Component) else ""


def links(part: Any) -> list[str]:
    """Where the links of a component lead."""
    if isinstance(part, (list, tuple)):
        return [link for each in part for link in links(each)]
    if not isinstance(part, Component):
        return []
    return [*([part.href] if hasattr(part, "href") else []), *links(getattr(part, "children", None))]


def named(findings: tuple[Finding, ...]) -> Diagnosis:
    """A diagnosis with findings."""
    return Diagnosis("unhealthy", "sick", findings)


# the rows


def test_each_layer_has_one_row_with_its_numbers() -> None:
    """A row holds the backward gain, the norm of the gradient, the update ratio, the output's rms and the zeros."""
    _, _, layers = read(
        run({"a": 0.5, "b": 1.0}, gradient={"a.weight": 2.0}, update={"a.weight": 0.01}, activation={"a": 3.0})
    )
    first = layers.rows[0]
    assert (first.name, first.kind, layers.step) == ("a", "Linear", 7)
    assert first.measures == pytest.approx((0.5, 2 * math.sqrt(1000), 0.01, 3.0, 0.0, NAN), nan_ok=True)


def test_a_finding_that_names_a_layer_or_its_parameter_is_its_state() -> None:
    """The worst finding that names a layer, or one of its parameters, gives its shape and word."""
    findings = (
        Finding("x", "warning", ("a",), 0, 7, "sick"),
        Finding("y", "error", ("a.weight",), 0, 7, "sicker"),
    )
    _, _, layers = read(run({"a": 1.0, "b": 1.0}), named(findings))
    assert layers.rows[0].state == ("▲", "Error", "error", ("F1", "F2"))
    assert layers.rows[1].state == ("✓", "Healthy", "ok", ())


@pytest.mark.parametrize(
    ("gain", "word"), [(1e-9, "Low gain"), (1e9, "High gain"), (0.0, "Low gain"), (1.0, "Healthy")]
)
def test_without_a_finding_the_gain_says_how_a_layer_fares(gain: float, word: str) -> None:
    """Outside of the healthy band a layer is said to be so, in words."""
    _, _, layers = read(run({"a": gain, "b": 1.0}))
    assert layers.rows[0].state.word == word


def test_non_finite_steps_are_counted_over_the_whole_run() -> None:
    """A layer whose gradient was NaN at two steps says so whatever the step shown."""
    _, _, layers = read(run({"a": [1.0, NAN, NAN, 1.0], "b": 1.0}, steps=4), step=0)
    assert (layers.rows[0].non_finite_steps, cell(layers.rows[0], "non_finite")) == (2, "2 steps")
    assert layers.rows[0].state.word == "NaN or Inf"


def test_a_number_of_a_tensor_that_is_not_finite_says_so() -> None:
    """Where a tensor holds NaN at the step shown, its number is neither made up nor "not recorded"."""
    _, _, layers = read(run({"a": NAN, "b": 1.0}, gradient={"a.weight": NAN}, activation={"a": NAN}))
    shown = {column: cell(layers.rows[0], column) for column in ("gain", "gradient_norm", "activation_rms")}
    assert set(shown.values()) == {"NaN or Inf"}


def test_dead_units_of_a_smooth_activation_are_those_as_good_as_silent() -> None:
    """The derivative of GELU is never quite 0: what lies below 2^-12 counts as dead."""
    extra: Extra = {("a", "lasting_slope"): {"histogram": histogram(bin_3=0.25, bin_30=0.75), "zeros": 0.0}}
    _, _, layers = read(run({"a": 1.0, "b": 1.0}, kinds={"a": "GELU"}, extra=extra))
    assert layers.rows[0].measures.dead == 0.25


# the table


def test_the_filters_and_the_order_are_the_addresss() -> None:
    """?find, ?kind, ?unhealthy choose rows, ?sort orders them, NaN counts as largest, unknown is last."""
    _, _, layers = read(run({"one": 1e-9, "two": NAN, "three": 0.5, "four": 1.0}, kinds={"three": "ReLU"}))

    def names(**asked: Any) -> list[str]:
        return [row.name for row in selected(layers.rows, HERE.at(**asked))]

    assert names(find="T") == ["two", "three"]
    assert names(find="relu") == ["three"]
    assert names(kind="Linear") == ["one", "two", "four"]
    assert names(unhealthy=True) == ["one", "two"]
    assert names(sort="-gain") == ["two", "four", "three", "one"]
    assert names(sort="gain") == ["one", "three", "four", "two"]
    assert names(sort="gradient_norm")[-1] == "three"
    assert names(sort="nonsense") == ["one", "two", "three", "four"]


def test_three_thousand_layers_are_shown_a_page_at_a_time() -> None:
    """100 rows, where they stand and a link to the next ones; a page beyond the last is the last."""
    signals, _, layers = read(run({f"b.{i}": 1.0 for i in range(3000)}, steps=2))
    rows = selected(layers.rows, HERE)
    first, last = layer_table(signals, rows, HERE), layer_table(signals, rows, HERE.at(after=99_999))
    assert "Rows 1 to 100 of 3,000" in words(first)
    assert "Rows 2,901 to 3,000 of 3,000" in words(last)
    assert len(json.dumps(first, cls=PlotlyJSONEncoder)) < 250_000
    assert PAGE_ROWS == 100


def test_a_name_is_text_and_a_link_that_keeps_the_filters() -> None:
    """A row's link opens the layer and keeps the filters; a hostile name is a plain child."""
    signals, _, layers = read(run({"<img src=x>": 1.0, "b": 1.0}))
    table = layer_table(signals, list(layers.rows), HERE.at(find="i"))
    assert "<img src=x>" in words(table)
    assert "/run/a/layers?layer=%3Cimg%20src%3Dx%3E&find=i" in links(table)


def test_no_row_left_is_said_with_the_way_back() -> None:
    """A filter that nothing passes leads back to all layers."""
    signals, _, _ = read(run({"a": 1.0}))
    assert words(layer_table(signals, [], HERE.at(find="zz"))) == "No layer is like that. Show all layers"


# the tree


def test_a_module_shows_the_worst_of_what_is_in_it() -> None:
    """The state of the worst layer goes up to the model, and each module counts its unhealthy layers."""
    found = named((Finding("x", "error", ("block.0.fc",), 0, 7, "sick"),))
    signals, _, layers = read(run({"block.0.fc": 1.0, "block.1.fc": 1.0, "head": 1.0}), found)
    root = layer_tree_data(signals, found, layers.rows)
    block = root.children[0]
    assert [(node.path, node.state.word, node.unhealthy, node.layers) for node in (root, block, *block.children)] == [
        ("", "Error", 1, 3),
        ("block", "Error", 1, 2),
        ("block.0", "Error", 1, 1),
        ("block.1", "Healthy", 0, 1),
    ]
    assert "1 of 2 layers unhealthy" in words(layer_tree(root, HERE))


def test_the_tree_of_three_thousand_layers_stays_readable() -> None:
    """Only some hundred nodes are drawn; the rest is behind a link."""
    signals, found, layers = read(run({f"blocks.{i // 6}.l{i % 6}": 1.0 for i in range(3000)}, steps=2))
    drawn = layer_tree(layer_tree_data(signals, found, layers.rows), HERE)
    assert json.dumps(drawn, cls=PlotlyJSONEncoder).count("layer-link") <= MOST_NODES + 1
    assert "420 more in here" in words(drawn)


# one layer


def test_a_layer_is_found_by_its_name_and_by_its_parameters() -> None:
    """?layer=a.weight opens its owner, ?layer=block the module around layers, anything else nothing."""
    recorded = run({"a": 1.0, "b": 1.0})
    signals, found, layers = read(recorded)
    for name, row in (("a", "a"), ("a.weight", "a"), ("(model)", "(model)")):
        data = layer_detail_data(signals, found, layers, name)
        assert data is not None
        assert data.row.name == row
    assert layer_detail_data(signals, found, layers, "zz") is None
    assert container_row(signals, found, None, "zz") is None


def test_the_detail_says_what_the_layer_is_and_which_findings_name_it() -> None:
    """Label, shape, number of parameters, and a link to each finding."""
    found = named((Finding("x", "error", ("a",), 0, 7, "It is sick"),))
    signals, _, layers = read(run({"a": 1.0, "b": 1.0}), found)
    data = layer_detail_data(signals, found, layers, "a")
    assert data is not None
    assert data.facts == ("Linear", "output 10×100 float32", "1,000 parameters")
    assert "F1 · It is sick" in words(detail_head(data, HERE.at(layer="a")))
    assert "weight" in words(parameter_table(signals, data, HERE))


def test_the_place_among_siblings_is_said_in_words() -> None:
    """Few siblings are counted, many give a percentile."""
    assert place(0.0, np.array([1.0, 2.0]), "Linear") == "the smallest beside the 2 other Linear layers"
    assert place(3.0, np.array([1.0]), "Linear") == "larger than in the one other Linear layer"
    assert place(1.0, np.array([1.0, 1.0]), "ReLU") == "the same as in the 2 other ReLU layers"
    assert place(1.0, np.array([]), "ReLU") == "the only ReLU layer"
    assert place(98.5, np.arange(100.0), "Linear") == "99th percentile of the 100 other Linear layers"


def test_siblings_are_those_of_the_same_kind() -> None:
    """A ReLU is not compared with Linear layers; a layer alone has no picture."""
    _, _, layers = read(run({"a": 1.0, "b": 0.5, "c": 2.0, "r": 1.0}, kinds={"r": "ReLU"}))
    first, lone = siblings_data(layers.rows, layers.rows[0]), siblings_data(layers.rows, layers.rows[3])
    assert (first[0].title, first[0].words) == ("Backward gain", "larger than 1 of the 2 other Linear layers")
    assert draw_siblings(first[0], LIGHT) is not None
    assert draw_siblings(lone[0], LIGHT) is None


# the strips


def test_a_strip_holds_the_share_of_entries_in_each_bin() -> None:
    """Bins over steps, zeros and what is not finite apart; together they are all entries."""
    extra: Extra = {
        ("b", "activation"): {"histogram": histogram(bin_20=0.5, bin_21=0.25), "zeros": 200.0, "nans": 50.0}
    }
    signals = Signals(run({"a": 1.0, "b": 1.0}, extra=extra))
    value = strips_data(signals, signals.site("b"), (), 7).strips[1][0]
    assert (value.of, value.what, value.share.shape) == ("output", "value", (len(EDGES) - 1, 8))
    assert value.share[20, 0] == 0.5
    assert np.isnan(value.share[19, 0])
    assert np.nansum(value.share[:, 3]) + value.zeros[3] + value.non_finite[3] == pytest.approx(1.0)
    assert value.said == "rms 1.00 · zeros 20 %"


def test_what_a_layer_is_fed_is_what_the_one_before_puts_out() -> None:
    """The input's strip is the output's of the module that feeds it."""
    extra: Extra = {("a", "activation"): {"histogram": histogram(bin_9=1.0)}}
    signals = Signals(run({"a": 1.0, "b": 1.0}, extra=extra))
    fed = strips_data(signals, signals.site("b"), (), 7).strips[0][0]
    assert (fed.of, fed.missing, fed.share[9, 0]) == ("input", "", 1.0)


def test_what_is_not_recorded_is_said() -> None:
    """A tensor without rows, and one without a histogram, say so instead of an empty chart."""
    signals = Signals(run({"a": 1.0, "b": 1.0}))
    (fed, fed_gradient), (output, _), (_, frozen) = strips_data(
        Signals(run({"a": 1.0}, trainable={"a.weight": False})), 1, (2,), 7
    ).strips
    assert "not recorded" in fed_gradient.missing
    assert fed.missing
    assert output.missing == "the run holds no histogram of it"
    assert frozen.missing == "frozen: it gets no gradient"
    texts = [each["text"] for each in draw_strips(strips_data(signals, 1, (), 7), LIGHT)["layout"]["annotations"]]
    assert any("holds no histogram" in text for text in texts)


def test_many_steps_share_the_columns_of_a_strip() -> None:
    """Neighbouring steps merge; one that is not finite is still seen."""
    broken = [0.0] * 1000
    broken[500] = 1.0
    extra: Extra = {("a", "activation"): {"histogram": histogram(bin_20=1.0), "non_finite": broken}}
    signals = Signals(run({"a": 1.0}, extra=extra, steps=1000))
    value = strips_data(signals, signals.site("a"), (), 999).strips[1][0]
    assert value.share.shape[1] <= MOST_COLUMNS
    assert (value.non_finite > 0).sum() == 1
    assert np.nanmax(value.share) == 1.0


@pytest.mark.parametrize(
    "recorded",
    [
        run({"a": 1.0}, steps=1),
        run({"a": 1.0, "b": 0.5}, steps=3),
        run({"a": NAN, "b": NAN}, activation={"a": NAN, "b": NAN}, gradient={"a.weight": NAN, "b.weight": NAN}),
    ],
    ids=["one site", "three steps", "all NaN"],
)
def test_every_run_can_be_drawn(recorded: Run) -> None:
    """One site, three steps, all NaN: table, tree, strips and lines are drawn without complaint."""
    signals, found, layers = read(recorded, diagnose(recorded))
    assert layer_table(signals, list(layers.rows), HERE)
    assert layer_tree(layer_tree_data(signals, found, layers.rows), HERE)
    data = layer_detail_data(signals, found, layers, "a")
    assert data is not None
    for figure in (
        draw_strips(strips_data(signals, data.row.site, data.shown, data.step), LIGHT),
        draw_layer_lines(layer_lines_data(signals, data.row.site, data.shown, data.step), LIGHT),
    ):
        json.dumps(figure, allow_nan=False)


def test_an_empty_run_has_layers_without_numbers() -> None:
    """A run without a recorded step lists no made-up numbers."""
    recorded = run({"a": 1.0}, steps=1)
    empty = Run(recorded.info, recorded.steps[:0], recorded.learning_rates[:0], recorded.summaries[:0])
    signals, found, layers = read(empty)
    assert (layers.step, cell(layers.rows[0], "gain")) == (None, "—")
    assert layer_detail_data(signals, found, layers, "a") is not None


def test_the_lines_tell_how_far_each_parameter_moves() -> None:
    """One line a parameter for the update ratio; the optimizer's state only where it was recorded."""
    adam = {("a.weight", quantity): {"rms": 0.1, "sum": 10.0} for quantity in ("first_moment", "second_moment")}
    plain_run, moments = Signals(run({"a": 1.0})), Signals(run({"a": 1.0}, extra=adam))
    weight = plain_run.parameters[0]
    assert [panel.title for panel in layer_lines_data(plain_run, 1, (weight,), 7).panels] == [
        "backward gain",
        "update / weight (rms Δw / rms w)",
    ]
    panels = layer_lines_data(moments, 1, (weight,), 7).panels
    assert panels[1].lines["weight"][1] == pytest.approx(np.full(8, -3.0))
    if len(panels) == 3:
        assert set(panels[2].lines) == {"weight: rms m", "weight: √mean v"}


# the drawer


def test_the_drawer_leads_to_the_layers_page_and_says_the_place_among_siblings() -> None:
    """The overview's drawer links to the histograms and compares with layers of the kind."""
    recorded = run({"a": 0.5, "b": 1.0})
    numbers = layer_numbers(Signals(recorded), "a", None)
    assert numbers is not None
    body = layer_body(numbers, Diagnosis("healthy", ""), Address("overview", "r"))
    assert "smaller than in the one other Linear layer" in words(body)
    assert "/run/r/layers?layer=a" in links(body)


def test_the_page_is_drawn_from_the_address(tmp_path: Path) -> None:
    """The page's areas give every output that they name, for the table, the tree, a layer and one that is not there."""
    record(tmp_path / "r", mlp(nn.ReLU, 3), 3)
    runs, here = Runs(tmp_path), Address("layers", "r")
    for address in (here, here.at(sort="tree"), here.at(layer="0"), here.at(layer="zz")):
        drawn = refresh(PAGE, runs, address, "dark", None)
        assert drawn["problem"] == []
        assert set(drawn) - {"problem", "content", "shown"} <= set(PAGE.outputs)
    assert "5 layers" in words(refresh(PAGE, runs, here, "light", None)["summary"])
    again = refresh(PAGE, runs, here, "light", refresh(PAGE, runs, here, "light", None)["shown"])
    assert "list" not in again
