"""The gain budget as a waterfall: its bars, its words, its card."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plotly.utils import PlotlyJSONEncoder
from torch import Tensor, nn

import gradscope
from gradscope.dashboard.figures.plotly import Figure
from gradscope.dashboard.figures.waterfall import MOST_BARS, By, WaterfallData, waterfall_data
from gradscope.dashboard.figures.waterfall_drawing import draw_waterfall, waterfall_height
from gradscope.dashboard.parts.waterfall import (
    summary,
    waterfall_card,
    waterfall_frame,
    waterfall_id,
    waterfall_outputs,
    waterfall_values,
)
from gradscope.records import STEP, SUMMARY_ROW, Run, RunInfo
from gradscope.reports.theme import DARK, LIGHT
from gradscope.rules.handwritten import run
from gradscope.signals import Signals
from tests.dashboard.recorded import mlp, record
from tests.theory import Residual

BOTH: tuple[By, By] = ("mechanism", "block")
NAN = float("nan")


def chain(gain: Mapping[str, Any], kinds: Mapping[str, str] | None = None, steps: int = 3) -> Signals:
    """A chain of layers written by hand."""
    return Signals(run(gain, kinds=kinds, steps=steps))


def recorded(folder: Path, model: nn.Module, inputs: Tensor) -> Signals:
    """One step of a model."""
    with gradscope.watch(model, run_dir=folder / "run", every=1) as scope:
        loss = model(inputs).square().mean()
        scope.loss(loss)
        loss.backward()
        scope.step()
    return Signals(gradscope.read_run(folder / "run"))


def added_up(data: WaterfallData) -> float:
    """What the counted bars add up to."""
    return sum(bar.decades for bar in data.bars if bar.state in ("part", "block", "untold"))


def names(data: WaterfallData) -> list[str]:
    """The bars' labels, without the total."""
    return [bar.label for bar in data.bars[:-1]]


def texts(component: Any) -> str:
    """All that a component says, its figures included."""
    return json.dumps(component.to_plotly_json(), cls=PlotlyJSONEncoder, ensure_ascii=False)


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory: pytest.TempPathFactory) -> Signals:
    """Twenty layers of sigmoids, trained for two steps."""
    folder = record(tmp_path_factory.mktemp("runs") / "sigmoid", mlp(nn.Sigmoid, 21), 2)
    return Signals(gradscope.read_run(folder))


def test_twenty_sigmoids_are_one_bar(sigmoid: Signals) -> None:
    """Modules of one kind share a bar that says how many they are and what each does; the largest is the first."""
    data = waterfall_data(sigmoid, 0)
    first, second, total = data.bars
    assert first.label.startswith("20 Sigmoid × −0.6")
    assert second.label.startswith("20 Linear × −0.2")
    assert (first.effect, first.count, first.state) == ("activation", 20, "part")
    assert (first.start, second.start) == (0.0, first.end)
    assert [first.end, second.end] == pytest.approx([first.decades, data.total])
    assert (total.start, total.end, total.state) == (0.0, data.total, "total")


@pytest.mark.parametrize("by", BOTH)
def test_the_bars_of_a_chain_add_up_to_the_first_layers_gain(sigmoid: Signals, by: By) -> None:
    """The total is the backward gain that map and profile show, and the bars end there with nothing untold."""
    data = waterfall_data(sigmoid, None, by)
    assert data.total == pytest.approx(math.log10(sigmoid.backward_gain[sigmoid.layers[0], -1]), abs=1e-9)
    assert added_up(data) == pytest.approx(data.total, abs=1e-9)
    assert not any(bar.state == "untold" for bar in data.bars)
    for before, after in zip(data.bars, data.bars[1:-1], strict=False):
        assert after.start == before.end


def test_the_sentence_names_who_ate_what(sigmoid: Signals) -> None:
    """The largest share of the whole, with the whole, in the words of the issue."""
    said = summary(waterfall_data(sigmoid, 0))
    assert said.startswith("20 Sigmoid took 12.")
    assert "decades that the gradient loses on its way from the model's output to the first layer, layer 0." in said


def test_blocks_go_from_the_output_to_the_input(sigmoid: Signals) -> None:
    """At most 14 bars; neighbours share one so that each holds the same kinds in turn."""
    data = waterfall_data(sigmoid, 0, "block")
    assert len(data.bars) <= MOST_BARS + 1
    assert names(data)[0] == "layers 37–40"
    assert names(data)[-1] == "layers 1–4"
    assert {bar.count for bar in data.bars[:-1]} == {4}
    assert data.bars[0].effect.startswith("2 Sigmoid −")


def test_few_blocks_stand_alone_with_their_kind() -> None:
    """A bar of one layer says its name and its class."""
    data = waterfall_data(chain({"a": 1e-2, "act": 1e-1, "b": 1.0}, {"act": "Tanh"}), 0, "block")
    assert names(data) == ["b Linear", "act Tanh"]
    assert [bar.decades for bar in data.bars] == [pytest.approx(-1), pytest.approx(-1), pytest.approx(-2)]


def test_who_takes_back_is_said() -> None:
    """Where one added more than the whole, the sentence says what the others took, and the other way round."""
    grown = waterfall_data(chain({"a": 1e5, "r": 1e7, "b": 1.0}, {"r": "ReLU"}), 0)
    assert summary(grown).startswith("b (Linear) added 7.00 decades")
    assert "the others took 2.00 away: the gradient grows by 5.00 decades" in summary(grown)
    eaten = waterfall_data(chain({"a": 1e-5, "r": 1e-7, "b": 1.0}, {"r": "ReLU"}), 0)
    assert "took 7.00 decades and the others gave 2.00 back: the gradient loses 5.00 decades" in summary(eaten)


def test_a_healthy_gain_is_said_to_be_healthy() -> None:
    """Within 0.1 … 20 nobody is blamed."""
    said = summary(waterfall_data(chain({"a": 0.5, "b": 1.0}), 0))
    assert said.startswith("The gradient keeps its size")
    assert "−0.30 decades (−1 to +1.3 are healthy)" in said


@pytest.mark.parametrize("by", BOTH)
def test_what_pooling_takes_is_not_counted(by: By) -> None:
    """A pooling has its bar, which moves nothing: the total is the gain that rules and map judge by."""
    gain = {"a": 1e-3, "pool": 1e-2, "r": 1e-1, "b": 1.0}
    data = waterfall_data(chain(gain, {"pool": "AdaptiveAvgPool2d", "r": "ReLU"}), 0, by)
    (pool,) = [bar for bar in data.bars if bar.state == "not-counted"]
    assert pool.decades == pytest.approx(-1)
    assert data.total == pytest.approx(-2)
    assert added_up(data) == pytest.approx(data.total)
    assert "Pooling's 1.00 are arithmetic" in summary(data)


def test_a_closed_branch_is_no_infinite_bar() -> None:
    """A gain of exactly 0 names the layer that closes the way; every number that is drawn is finite."""
    for by in BOTH:
        data = waterfall_data(chain({"a": 0.0, "gate": 0.0, "b": 0.5, "c": 1.0}, {"gate": "ReLU"}), 0, by)
        assert [bar.state for bar in data.bars] == ["part", "closed", "total"]
        assert data.total == -math.inf
        drawn = draw_waterfall(data, LIGHT)
        assert "Infinity" not in json.dumps(drawn)
        assert any("closed: exactly 0" in each["text"] for each in drawn["layout"]["annotations"])
    assert summary(data).startswith("b (Linear) is closed: exactly 0 of the gradient comes through it")


def test_why_a_gain_is_undefined_is_a_sentence() -> None:
    """No step, no output, no gradient there, NaN there, NaN at the first layer: each its own, and no bars."""
    nothing = Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
    made = run({"a": 1.0, "b": 1.0}, steps=2)
    headless = dataclasses.replace(made, info=dataclasses.replace(made.info, heads=()))
    cases = {
        "No step was recorded": Signals(nothing),
        "The model's output was not found": Signals(headless),
        "exactly 0 at step 0": Signals(run({"a": 1.0, "b": 1.0}, scale=0.0, steps=2)),
        "gradient at the model's output is NaN or Inf": chain({"a": 1.0, "b": NAN}),
        "gradient at the first layer, a, is NaN or Inf": chain({"a": NAN, "b": 1.0}),
    }
    for words, signals in cases.items():
        data = waterfall_data(signals, 0)
        assert words in data.problem, data
        assert data.bars == ()
        assert words in texts(waterfall_card(signals, 0, "light"))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_model_of_one_layer_has_nothing_to_break_down(steps: int) -> None:
    """Its first layer is its output."""
    signals = chain({"a": 1.0}, steps=steps)
    assert "nothing between them" in texts(waterfall_card(signals, None, "light"))


def test_blocks_in_which_ways_part_are_measured_as_one(tmp_path: Path) -> None:
    """Skip connections: one bar a block, said to be one, its parts listed and not added up; the whole is exact."""
    torch.manual_seed(0)
    blocks = [Residual(nn.LayerNorm(16), nn.Linear(16, 16), nn.Tanh()) for _ in range(3)]
    signals = recorded(tmp_path, nn.Sequential(nn.Linear(8, 16), *blocks, nn.Linear(16, 2)), torch.randn(8, 8))
    for by in BOTH:
        data = waterfall_data(signals, 0, by)
        assert added_up(data) == pytest.approx(data.total, abs=1e-6)
        assert sum(bar.count for bar in data.bars if bar.state == "block") == 3
        assert data.blocks == ("layer 1", "layer 2", "layer 3")
    card = texts(waterfall_card(signals, 0, "dark"))
    assert "Ways part and join in layer 1, layer 2, layer 3: each is measured as one block." in card


class Wide(nn.Module):
    """Two ways from the input, one of them twice as long, that meet; then a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right, self.more = (nn.Linear(8, 8) for _ in range(4))
        self.mix, self.head = nn.Linear(16, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Stem, two ways, mix, head."""
        x = self.stem(x)
        both = torch.cat([self.left(x), self.more(torch.tanh(self.right(x)))], dim=1)
        out: Tensor = self.head(torch.sigmoid(self.mix(both)))
        return out


def test_a_model_that_branches_is_cut_where_all_ways_meet(tmp_path: Path) -> None:
    """Between two modules that everything goes through lies one measured block, named after them, with what is in it."""
    torch.manual_seed(0)
    signals = recorded(tmp_path, Wide(), torch.randn(16, 8))
    data = waterfall_data(signals, 0, "block")
    assert names(data) == ["head Linear", "between mix and head Sigmoid", "mix Linear", "between stem and mix"]
    assert data.bars[3].state == "block"
    assert data.inside[0] == "between stem and mix"
    assert {part for part, _, _ in data.inside[1]} == {"left", "right", "more"}
    assert added_up(data) == pytest.approx(data.total, abs=1e-6)
    assert "In what lies between stem and mix: 3 parts" in texts(waterfall_card(signals, 0, "light"))


class Watched(nn.Module):
    """A chain whose middle a second loss looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and what the middle gave."""
        middle = self.b(torch.tanh(self.a(x)))
        return self.c(torch.tanh(middle)), middle


def test_a_second_loss_in_the_middle_is_in_the_whole(tmp_path: Path) -> None:
    """Gradient that enters on the way is measured too: whatever it does to the parts, bars and total agree."""
    torch.manual_seed(0)
    model = Watched()
    with gradscope.watch(model, run_dir=tmp_path / "run", every=1) as scope:
        out, middle = model(torch.randn(16, 8))
        loss = out.square().mean() + 100 * middle.square().mean()
        scope.loss(loss)
        loss.backward()
        scope.step()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    for by in BOTH:
        data = waterfall_data(signals, 0, by)
        assert data.blocks == ("between b and c",)
        assert added_up(data) == pytest.approx(data.total, abs=1e-6)


def test_3000_layers_fit_into_14_bars_quickly() -> None:
    """Wide chains are folded, and the card is made in less than a second."""
    gain = {f"layers.{i}": 10 ** ((i - 2999) / 300) for i in range(3000)}
    signals = chain(gain, {name: "Sigmoid" for i, name in enumerate(gain) if i % 2})
    for by in BOTH:
        data = waterfall_data(signals, None, by)
        assert len(data.bars) <= MOST_BARS + 1
        assert added_up(data) == pytest.approx(data.total, abs=1e-6)
    assert names(data)[-1].startswith("layers.1 … ")
    assert len(texts(waterfall_card(signals, None, "light"))) < 60_000


def test_many_kinds_end_in_others() -> None:
    """More kinds than bars: the smallest are one bar together."""
    gain = {f"l{i}": 10.0 ** (i - 30) for i in range(31)}
    data = waterfall_data(chain(gain, {f"l{i}": f"Kind{i}" for i in range(30)}), 0)
    assert len(data.bars) == MOST_BARS + 1
    assert names(data)[-1] == "17 others"
    assert added_up(data) == pytest.approx(-30)


def drawn_numbers(figure: Figure) -> list[float]:
    """Where the bars are."""
    (bars,) = figure["data"]
    return [*bars["base"], *bars["x"]]


def test_names_from_user_code_are_text() -> None:
    """[24] Markup in a layer's name is escaped in the figure; a long one loses its middle."""
    hostile = "<img src=x onerror=alert(1)>"
    signals = chain({"a": 1e-3, hostile: 1e-2, "x" * 300: 0.1, "b": 1.0}, {hostile: "<b>"})
    drawn = draw_waterfall(waterfall_data(signals, 0, "block"), DARK)
    assert "<img" not in json.dumps(drawn)
    assert "&lt;img" in json.dumps(drawn)
    assert max(len(each["text"]) for each in drawn["layout"]["annotations"]) < 80
    assert all(math.isfinite(value) for value in drawn_numbers(drawn))


def test_blue_eats_and_orange_adds() -> None:
    """Colours are the map's; a pattern and words say the same."""
    data = waterfall_data(chain({"a": 1e-2, "r": 1e2, "b": 1.0}, {"r": "ReLU"}), 0)
    for theme in (LIGHT, DARK):
        colours = draw_waterfall(data, theme)["data"][0]["marker"]["color"]
        assert colours == [theme.diverging[1], theme.diverging[5], theme.dimmed]
    assert waterfall_height(data) < 200


def test_a_page_can_hold_the_card_and_change_what_is_in_it(sigmoid: Signals) -> None:
    """Every output is a component of the frame, and every value has its output: a new step makes nothing anew."""
    outputs, values = waterfall_outputs("page"), waterfall_values(sigmoid, 1, "dark")
    frame = texts(waterfall_frame("page"))
    assert outputs.keys() == values.keys()
    assert all(f'"{output.component_id}"' in frame for output in outputs.values())
    filled = texts(waterfall_frame("page", values=values))
    assert filled == texts(waterfall_card(sigmoid, 1, "dark", page="page"))
    assert values["budget_body"] == {}
    assert waterfall_values(chain({"a": 1.0}), 0, "light")["budget_body"] == {"display": "none"}


def test_the_card_has_its_figures_and_its_tables(sigmoid: Signals) -> None:
    """Two figures with ids of the page, a table of the same numbers for each, and how to read it."""
    card = texts(waterfall_card(sigmoid, 0, "light", page="finding", level=3))
    for by in BOTH:
        assert f'"{waterfall_id("finding", by)}"' in card
    assert "Gain budget at step 0" in card
    assert card.count('"Data table"') == 2
    assert card.count("20 Sigmoid × −0.6") >= 2
    assert "How to read the gain budget" in card
