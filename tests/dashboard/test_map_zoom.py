"""The map of some steps and of a part of the model: what is folded when all is shown is there when less is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.map import detail, draw_map, map_data, map_rows, step_span
from gradscope.dashboard.figures.map_blocks import blocks, rows_of
from gradscope.dashboard.figures.map_marks import mark, reorder, window
from gradscope.dashboard.parts.map_card import WHOLE, block_choices, folded
from gradscope.records import Finding, Run, Site
from gradscope.reports.cells import MEASURED, NON_FINITE, NOT_RECORDED
from gradscope.reports.layer_map import MOST_ROWS
from gradscope.reports.loss_line import loss_data
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import LIGHT
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.dashboard.test_figures import NOTHING, at_steps

GAIN = METRICS["backward-gain"]
NAN = float("nan")
LONG = 5_000  # steps: ten of them share a column


def long_run(steps: int = LONG) -> Run:
    """Step 1,234 explodes, the one after two thirds is NaN."""
    gain = np.ones(steps)
    gain[1234], gain[steps * 2 // 3] = 1e4, NAN
    loss = np.linspace(2.0, 1.0, steps)
    loss[1234] = 1.9
    return by_hand({"a": gain.tolist(), "b": 1.0}, loss=loss.tolist(), steps=steps)


@pytest.fixture(scope="module")
def long() -> Signals:
    """5,000 recorded steps of two layers."""
    return Signals(long_run())


@pytest.fixture(scope="module")
def deep() -> Signals:
    """70 blocks of ten layers before a flat head of five, of which one vanishes; three layers share a row."""
    names = [f"blocks.{block}.layers.{layer}" for block in range(70) for layer in range(10)]
    gain = dict.fromkeys([*names, *(f"head.{number}" for number in range(5))], 1.0) | {"blocks.7.layers.4": 1e-9}
    return Signals(by_hand(gain, steps=3))


@pytest.fixture(scope="module")
def largest() -> Signals:
    """3,000 layers, three steps."""
    layers = {f"blocks.{number // 10}.layers.{number % 10}": 1.0 for number in range(3_000)}
    return Signals(by_hand(layers, steps=3))


def site(path: str, role: str = "output") -> Site:
    """A row of the map."""
    return Site(path, role, "Linear", 0)  # type: ignore[arg-type]


# steps


def test_an_event_of_one_step_has_its_own_column(long: Signals) -> None:
    """What shares a column with nine others stands alone in a window of a hundred steps."""
    whole, part = map_data(long, GAIN), map_data(long, GAIN, (1200, 1299))
    row = part.rows.index("a")
    assert (whole.per_column, part.per_column) == (10, 1)
    assert part.steps.tolist() == list(range(1200, 1300))
    assert np.flatnonzero(part.decades[row] > 1).tolist() == [34]
    assert part.decades[row, 34] == pytest.approx(4)
    assert part.span == whole.span == (0, LONG - 1)


def test_a_window_that_is_still_too_wide_is_folded_less(long: Signals) -> None:
    """Half of the steps get as many columns as all of them, and no event is lost."""
    part = map_data(long, GAIN, (2500, 4999))
    assert (part.per_column, len(part.steps)) == (5, 500)
    row, column = part.rows.index("a"), (3333 - 2500) // 5
    assert np.flatnonzero(part.states[row] == NON_FINITE).tolist() == [column]
    assert abs(part.places[column] - 3333) <= 2


@pytest.mark.parametrize("first", [0, 1, 3, 1195, 1233, 1234, 4990])
@pytest.mark.parametrize("length", [1, 2, 37, 700])
def test_a_column_shows_the_worst_of_its_steps(long: Signals, first: int, length: int) -> None:
    """Against the slow way: for each column the value farthest from healthy of the steps that it stands for."""
    values = np.log10(GAIN.values(long)[GAIN.rows(long)])
    part = map_data(long, GAIN, (first, first + length - 1))
    for column, step in enumerate(part.steps.tolist()):
        steps = values[:, step : step + part.per_column]
        for row in range(len(steps)):
            if np.isnan(steps[row]).any():
                assert part.states[row, column] == NON_FINITE
            else:
                worst = steps[row][np.abs(steps[row]).argmax()]
                assert part.decades[row, column] == pytest.approx(worst, abs=1e-6)


def test_what_was_recorded_before_a_window_is_held_in_it() -> None:
    """Between two records the window shows the earlier one, and never one that came later."""
    signals = at_steps(by_hand({"a": [1.0, 1e3, 1e-3], "b": 1.0}, steps=3), [0, 1000, 2000], until=2000)
    part = map_data(signals, GAIN, (1500, 1600))
    assert (part.per_column, part.every_step) == (1, False)
    np.testing.assert_allclose(part.decades[part.rows.index("a")], 3, atol=1e-6)
    late = map_data(signals, GAIN, (1990, 2005))
    assert late.steps[-1] == 2000
    np.testing.assert_allclose(late.decades[late.rows.index("a")], [*[3] * 10, -3], atol=1e-6)


def test_a_window_without_steps_of_the_run_shows_all(long: Signals) -> None:
    """A link to steps that this run does not have is no error; one that reaches over the end is cut there."""
    assert len(map_data(long, GAIN, (9000, 9100)).steps) == 500
    assert map_data(long, GAIN, (4950, 9100)).steps.tolist() == list(range(4950, 5000))


def test_only_what_is_folded_is_folded_anew(long: Signals) -> None:
    """A run whose steps all have a column, and whose loss has a point for each, is not drawn again by a zoom."""
    assert detail(long, GAIN, (10, 20), None) == (10, 20)
    assert detail(long, GAIN, None, None) is None
    assert detail(Signals(long_run(400 + 3000)), GAIN, (10, 20), None) == (10, 20)
    assert detail(Signals(by_hand({"a": 1.0}, steps=400)), GAIN, (10, 20), None) is None


def test_the_lines_have_every_step_of_the_window() -> None:
    """Where they are folded they hold all points inside, the old ones outside, and so the same axis."""
    run = long_run()
    whole, part = loss_data(run), loss_data(run, (1000, 1500))
    steps = part.loss[0]
    assert set(range(1000, 1501)) <= set(steps.astype(int).tolist())
    assert (np.diff(steps) > 0).all()
    outside = (whole.loss[0] < 1000) | (whole.loss[0] > 1500)
    assert set(whole.loss[0][outside]) == set(steps[(steps < 1000) | (steps > 1500)])
    assert (part.loss[1].min(), part.loss[1].max()) == (whole.loss[1].min(), whole.loss[1].max())
    assert len(steps) < 2000


def test_a_double_click_leads_to_all_steps(long: Signals) -> None:
    """The step axis of a window knows the ends of the run, and nothing else says how far it reaches."""
    data = map_data(long, GAIN, (1200, 1299))
    drawn = draw_map(data, loss_data(long.run, (1200, 1299)), (), {}, LIGHT)["layout"]["xaxis"]
    assert drawn["autorangeoptions"] == {"minallowed": -0.5, "maxallowed": LONG - 0.5}
    assert "range" not in drawn


def test_the_steps_around_a_findings_onset_are_the_window() -> None:
    """An open finding shows a tenth of the run to each side; what is asked for comes second; nonsense is nothing."""
    found = Finding("a-rule", "error", ("a",), 1234, 1234, "It is sick")
    assert window((0, 4999), found, 1, 2) == (734, 1734)
    assert window((0, 9), found, None, None) == (1232, 1236)
    assert window((0, 4999), None, 7, 9) == (7, 9)
    assert window((0, 4999), None, 9, 7) is None
    assert window(None, found, 1, 2) is None


# parts of the model


def test_the_layers_of_a_block_have_their_own_rows(deep: Signals) -> None:
    """The one that vanishes shares a row with others until its block is chosen."""
    whole, part = map_data(deep, GAIN), map_data(deep, GAIN, None, "blocks.7")
    assert (whole.per_row, part.per_row, part.block) == (3, 1, "blocks.7")
    assert part.rows == tuple(f"blocks.7.layers.{layer}" for layer in range(10))
    assert np.flatnonzero(part.decades[:, 0] < -1).tolist() == [4]


def test_a_block_is_a_path_of_modules_and_no_text(deep: Signals) -> None:
    """Block 7 is not block 70 or 17; what the model does not have shows all of it."""
    assert len(map_data(deep, GAIN, None, "blocks.7").rows) == 10
    assert len(map_data(deep, GAIN, None, "blocks.7.layers.4").rows) == 1
    for unknown in ("blocks.70", "block", "", ".", "layers.4", "zzz … yyy"):
        data = map_data(deep, GAIN, None, unknown)
        assert (data.block, sum(map(len, data.names))) == (None, 705)


def test_blocks_hold_every_row_once_and_fit() -> None:
    """Modules as large as fit; what is too large is taken apart, small neighbours are taken together."""
    paths = ["stem.conv", "stem.norm", "lone"]
    paths += [f"stage.{block}.part.{layer}" for block in range(40) for layer in range(12)]
    paths += [f"flat.{number}" for number in range(1_000)]
    found = blocks([site(path) for path in paths])
    assert [block.name for block in found[:3]] == ["stem", "lone", "stage.0"]
    assert [block.rows for block in found[2:42]] == [12] * 40
    assert [block.name for block in found[42:]] == [
        "flat.0 … flat.249",
        "flat.250 … flat.499",
        "flat.500 … flat.749",
        "flat.750 … flat.999",
    ]
    chosen = [row for block in found for row in rows_of([site(path) for path in paths], block.name)]
    assert chosen == list(range(len(paths)))
    assert max(block.rows for block in found) <= MOST_ROWS


def test_the_parameters_of_a_block_are_those_of_its_modules() -> None:
    """A parameter stands with its module, under the same name of the block as the module's layers."""
    sites = [site(f"blocks.{block}.fc.{name}", "parameter") for block in range(200) for name in ("weight", "bias")]
    assert [block.rows for block in blocks(sites)] == [200, 200]
    assert [sites[row].path for row in rows_of(sites, "blocks.7")] == ["blocks.7.fc.weight", "blocks.7.fc.bias"]
    assert sorted(row for block in blocks(sites) for row in rows_of(sites, block.name)) == list(range(400))


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
@pytest.mark.parametrize("where", [None, (0, 1), (1, 1), (90, 99)])
def test_every_window_and_block_of_every_run_is_drawn(
    metric: Any, where: tuple[int, int] | None, largest: Signals
) -> None:
    """Nothing recorded, one layer, three steps, NaN everywhere, 3,000 layers."""
    small = (NOTHING, by_hand({"a": 1.0}, steps=1), by_hand({"a": NAN, "b": NAN}, steps=3))
    for signals in (*map(Signals, small), largest):
        for block in (None, "a", "blocks.299"):
            data = map_data(signals, metric, where, block)
            figure = draw_map(data, loss_data(signals.run, where), (), {}, LIGHT)
            mark(figure, data, where, (0, 3), ("a",), ("a", 1), LIGHT)
            assert figure["layout"]["yaxis2"]["visible"] == bool(data.decades.size)
            assert len(data.rows) <= MOST_ROWS
            assert block_choices(signals, Address("overview", "r", metric=metric.id, block=block)).data


def test_3000_layers_can_all_be_seen_singly(largest: Signals) -> None:
    """Each block of the largest model has a row for each of its layers, and together they are all."""
    choices = block_choices(largest, Address("overview", "r"))
    assert choices.data[0] == {"value": WHOLE, "label": "all 3,000 layers"}
    assert choices.data[1] == {"value": "blocks.0", "label": "blocks.0 · 10 layers"}
    assert (choices.value, choices.display) == (WHOLE, None)
    seen = [row for choice in choices.data[1:] for row in map_data(largest, GAIN, None, choice["value"]).rows]
    assert seen == [site.name for site in map_rows(largest, GAIN)]


def test_a_small_model_offers_no_blocks_until_a_link_chose_one(long: Signals) -> None:
    """Where every layer has a row there is nothing to choose, but a chosen part has a way back."""
    assert block_choices(long, Address("overview", "r")).display == "none"
    chosen = block_choices(long, Address("overview", "r", block="a"))
    assert (chosen.value, chosen.display) == ("a", None)
    assert {"value": "a", "label": "a"} in chosen.data


def test_the_card_says_what_is_folded(deep: Signals, long: Signals) -> None:
    """How many layers and steps share a cell, what it shows of them, how to see more, and the way back."""
    address = Address("overview", "r", block="blocks.7")

    def said(signals: Signals, where: tuple[int, int] | None = None, block: str | None = None) -> str:
        parts = folded(map_data(signals, GAIN, where, block), address)
        return "".join(part if isinstance(part, str) else str(part.children) for part in parts)

    assert said(deep) == (
        "Each row shows 3 neighbouring layers: of these the one farthest from healthy. "
        "Choose a block to see its layers singly. "
    )
    assert said(deep, None, "blocks.7") == "Only blocks.7 is shown, 10 layers: back to all layers. "
    back = folded(map_data(deep, GAIN, None, "blocks.7"), address)[3]
    assert back.href == "/run/r"  # type: ignore[union-attr]
    assert said(long) == (
        "Each column shows 10 steps: of these the one farthest from healthy. "
        "Drag over a part to see its steps more finely. "
    )
    assert said(long, (1200, 1299)) == ""
    address = Address("overview", "r", rows=(1, 2), first=1200, last=1299)
    assert said(long, (1200, 1299)) == "Steps 1,200 to 1,299 are shown: back to all steps. "
    assert folded(map_data(long, GAIN), address)[1].href == "/run/r"  # type: ignore[union-attr]
    address = Address("overview", "r", rows=(1, 2))
    assert said(long, (1200, 1299)) == "Some rows are shown: back to all rows. "


def test_marks_find_a_layer_in_the_row_that_it_shares(deep: Signals) -> None:
    """The frame of the open cell, what stays bright and the order of rows know all layers of a row."""
    data = map_data(deep, GAIN)
    row = data.row_of("blocks.7.layers.4")
    assert row == 74 // 3
    figure = mark(
        draw_map(data, loss_data(deep.run), (), {}, LIGHT), data, None, None, (), ("blocks.7.layers.4", 1), LIGHT
    )
    (frame,) = [shape for shape in figure["layout"]["shapes"] if shape.get("name") == "cell"]
    assert [frame[edge] for edge in ("x0", "x1", "y0", "y1")] == [0.5, 1.5, row - 0.5, row + 0.5]
    found = (Finding("a-rule", "error", ("blocks.7.layers.4",), 1, 2, "It is sick"),)
    assert reorder(data, "severity", found).names[0] == data.names[row]
    assert len(reorder(data, "onset", found).names) == len(data.rows)


def test_an_open_cell_outside_the_window_has_no_frame(long: Signals) -> None:
    """It is not drawn at the window's edge, where it is not."""
    data = map_data(long, GAIN, (1200, 1299))
    for step, frames in ((1199, 0), (1200, 1), (1299, 1), (1300, 0)):
        figure = mark(
            draw_map(data, loss_data(long.run), (), {}, LIGHT), data, (1200, 1299), None, (), ("a", step), LIGHT
        )
        assert sum(shape.get("name") == "cell" for shape in figure["layout"]["shapes"]) == frames


def test_all_states_of_a_window_are_those_of_the_run(long: Signals) -> None:
    """Nothing is made up at the edges of a window, and nothing is kept of another run."""
    assert (map_data(long, GAIN, (0, 99)).states == MEASURED).all()
    other = Signals(dataclasses.replace(long.run, summaries=long.run.summaries[:0]))
    assert map_data(other, GAIN, (0, 99)).decades.size == 0
    assert step_span(other) is None
    gone = at_steps(by_hand({"a": 1.0, "b": 1.0}, steps=2), [0, 1], until=2_000)
    assert (map_data(gone, GAIN, (1000, 1100)).states == NOT_RECORDED).all()
