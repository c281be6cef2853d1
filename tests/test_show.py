"""`gradscope show`: everything around one step for a layer, in the numbers of the dashboard's layer detail."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.cli import main, show
from gradscope.cli._bounded_run import read_bounded
from gradscope.dashboard.figures.depth import nearest
from gradscope.dashboard.parts.layer_drawer import parameter_numbers
from gradscope.dashboard.parts.layer_rows import layer_rows
from gradscope.dashboard.wording import number
from gradscope.diagnosis import diagnose
from gradscope.errors import UnknownId
from gradscope.records import Event, Finding, Run
from gradscope.reports.envelope import Document
from gradscope.reports.layer_window import around, chosen_layers, terminal
from gradscope.reports.layer_window.names import find_layers, layer_places
from gradscope.reports.layer_window.sizes import sizes
from gradscope.reports.layer_window.terminal import _AT_A_STEP
from gradscope.reports.look import Look
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store import RunWriter, bounded, read_run
from gradscope.store.step_rows import rows_of_steps
from tests.conftest import SaveRun, write_run

ROOT = Path(str(files("gradscope"))).parent
NAN = math.nan
NAMES = {"stem": 1e-9, "blocks.0.fc1": 1e-6, "blocks.0.fc2": 1e-3, "blocks.1.fc1": 0.5, "blocks.1.fc2": 1.0}


def told(folder: Path | str, *arguments: str) -> Document:
    """What JSON gives back of `gradscope show`."""
    from gradscope.cli import parser

    options = parser().parse_args(["show", str(folder), *arguments])
    content: Document = json.loads(json.dumps(show._document(read_bounded(options.path), options), allow_nan=False))
    return content


def values(layer: Document, name: str) -> list[float | None]:
    """One quantity of a layer or a parameter of the document."""
    found: list[float | None] = next(each["values"] for each in layer["quantities"] if each["id"] == name)
    return found


def said(layer: Document, name: str) -> list[Any]:
    """The same with words where there is no number."""
    each = next(each for each in layer["quantities"] if each["id"] == name)
    words = each.get("values_words", {})
    return [words.get(str(place), value) for place, value in enumerate(each["values"])]


def example(name: str) -> str:
    """A run that comes with GradScope: a real training."""
    return f"zip://{name}::{(ROOT / 'assets' / 'examples' / name).as_posix()}.zip"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training with what the page has to show: dead units, a frozen weight, a changed rate, a logged value."""
    torch.manual_seed(0)
    images = torch.randn(64, 8)
    labels = (images[:, :2].sum(1) > 0).long()
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    with torch.no_grad():
        model[0].bias[:4] = -100.0
    model[2].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    folder = tmp_path_factory.mktemp("trained") / "run"
    with gradscope.watch(model, optimizer, run_dir=folder, every=1) as scope:
        for step in range(20):
            optimizer.param_groups[0]["lr"] = 0.1 if step < 10 else 0.01
            optimizer.zero_grad()
            scope.loss(nn.functional.cross_entropy(model(images), labels)).backward()
            optimizer.step()
            if step == 12:
                scope.log("accuracy", 0.75)
    return folder


# the numbers


@pytest.mark.parametrize(
    "name", ["vanishing_gradient", "exploding_gradient", "dropout", "layer_norm", "skip_connection"]
)
def test_the_numbers_are_those_of_the_dashboard(name: str) -> None:
    """At each step and layer of real runs: gain, norms, ratios, zeros and dead units of the layer page."""
    run = read_run(example(name))
    signals, diagnosis = Signals(run), diagnose(run)
    compared = 0
    for place in layer_places(signals)[:6]:
        page = told(example(name), "--layer", place.name, "--step", "16", "--window", "50")
        (layer,) = page["layers"]
        assert page["steps"] == signals.steps.tolist()
        for column, step in enumerate(page["steps"]):
            row = next(each for each in layer_rows(signals, diagnosis, step).rows if each.path == place.path)
            for ours, theirs in (
                ("backward_gain", "gain"),
                ("weight_gradient_norm", "gradient_norm"),
                ("update_ratio", "update_ratio"),
                ("activation_rms", "activation_rms"),
                ("activation_zeros", "zeros"),
                ("dead_share", "dead"),
            ):
                known = [each for each in layer["quantities"] if each["id"] == ours]
                mine = known[0]["values"][column] if known else None
                expected = float(getattr(row.measures, theirs))
                assert (mine is None) == (not math.isfinite(expected)), (ours, step)
                if mine is not None:
                    assert mine == pytest.approx(expected, rel=1e-12)
                    compared += 1
    assert compared > 50


def test_parameters_are_those_of_the_dashboard(trained: Path) -> None:
    """Each parameter's gradient norm, size and update ratio, in the words of the layer page."""
    signals = Signals(read_run(trained))
    (layer,) = told(trained, "--layer", "0", "--step", "7")["layers"]
    column = nearest(signals.steps, 7)
    assert column is not None
    assert [each["name"] for each in layer["parameters"]] == ["0.weight", "0.bias"]
    for each in layer["parameters"]:
        theirs = parameter_numbers(signals, signals.site(each["name"], "parameter"), column)
        assert number(values(each, "weight_gradient_norm")[5]) == theirs.gradient_norm
        assert number(values(each, "update_ratio")[5]) == theirs.update_ratio
        rms = (values(each, "weight_norm")[5] or 0.0) / math.sqrt(math.prod(each["shape"]))
        assert number(rms) == theirs.weight_rms


def test_the_numbers_are_those_of_the_training(trained: Path) -> None:
    """The loss, the gradient norm and the rates of each step, as they were recorded."""
    rows = read_run(trained).steps
    page = told(trained, "--layer", "0", "--step", "10")
    assert page["steps"] == list(range(5, 16))
    assert page["training"]["loss"]["values"] == rows["loss"][5:16].tolist()
    assert page["training"]["gradient_norm"]["values"] == rows["gradient_norm"][5:16].tolist()
    assert page["training"]["learning_rates"] == [{"values": [0.1] * 5 + [0.01] * 6}]
    assert page["training"]["not_recorded_between"] == 0


def test_weights_and_gradients_match_the_model() -> None:
    """A norm is the root of the sum of squares over all entries: a closed form."""
    made = by_hand({"a": [4.0] * 8, "b": 1.0}, gradient={"a.weight": 2.0}, update={"a.weight": 0.25})
    signals = Signals(made)
    (place,) = find_layers(signals, "a")
    from gradscope.reports.layer_window.series import output_quantities, parameter_quantities

    assert place.module is not None
    output = {each.id: each.values[0] for each in output_quantities(signals, place.module)}
    weights = {each.id: each.values[0] for each in parameter_quantities(signals, place.parameters)}
    assert output["activation_norm"] == pytest.approx(math.sqrt(1000))
    assert output["gradient_norm"] == pytest.approx(4.0)
    assert output["backward_gain"] == pytest.approx(4.0)
    assert weights["weight_norm"] == pytest.approx(math.sqrt(1000))
    assert weights["weight_gradient_norm"] == pytest.approx(2 * math.sqrt(1000))
    assert weights["update_norm"] == pytest.approx(0.25 * math.sqrt(1000))
    assert weights["update_ratio"] == pytest.approx(0.25)


def test_the_own_gain_is_that_of_the_budget(trained: Path) -> None:
    """In decades, from what came in to what was handed back."""
    signals = Signals(read_run(trained))
    (layer,) = told(trained, "--layer", "2", "--step", "10", "--window", "0")["layers"]
    assert values(layer, "own_gain") == [pytest.approx(signals.own_gain(signals.site("2"))[10])]


# which layer


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("stem", ["stem"]),
        ("blocks.*.fc1", ["blocks.0.fc1", "blocks.1.fc1"]),
        ("*", list(NAMES)),
        ("blocks.[1]*", ["blocks.1.fc1", "blocks.1.fc2"]),
        ("stem.weight", ["stem.weight"]),
        ("*.fc1.weight", ["blocks.0.fc1.weight", "blocks.1.fc1.weight"]),
        ("(model)", ["(model)"]),
    ],
)
def test_a_layer_is_found_by_path_or_pattern(typed: str, expected: list[str]) -> None:
    """A path is exact; a pattern is of layers first, then of what holds layers, then of parameters."""
    assert [place.name for place in find_layers(Signals(by_hand(NAMES)), typed)] == expected


def test_a_bare_number_is_found_as_findings_say_it() -> None:
    """A finding's sentence says "layer 3" where the path is 3."""
    signals = Signals(by_hand({"0": 1.0, "1": 1.0}))
    assert [place.name for place in find_layers(signals, "layer 1")] == ["1"]


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("stm", "no layer is called 'stm'; did you mean stem? The run has stem, blocks.0.fc1"),
        ("fc2", "no layer is called 'fc2'; did you mean blocks.0.fc2 or blocks.1.fc2? The run has stem"),
        ("nothing like it", "no layer is called 'nothing like it'. The run has stem, blocks.0.fc1, blocks.0.fc2, "),
        ("head.*", "no layer matches 'head.*'. The run has stem"),
    ],
)
def test_an_unknown_layer_is_told_with_those_that_are_close(typed: str, text: str) -> None:
    """What was expected, what came, and what may have been meant."""
    with pytest.raises(UnknownId) as error:
        find_layers(Signals(by_hand(NAMES)), typed)
    assert str(error.value).startswith(text)


def test_of_many_layers_an_error_names_a_few() -> None:
    """A model of 3,000 layers fills no screen."""
    signals = Signals(by_hand({f"layers.{i}": 1.0 for i in range(3000)}, steps=1))
    with pytest.raises(UnknownId) as error:
        find_layers(signals, "x")
    assert str(error.value).endswith("layers.7 and 2,992 more.")
    assert len(str(error.value)) < 300


def test_without_a_layer_the_worst_of_the_findings_are_shown(save_run: SaveRun) -> None:
    """Two of each finding, three in all; where nothing is sick, the lowest and the highest gain."""
    page = told(save_run(by_hand(NAMES, loss=2.3)))
    assert [layer["name"] for layer in page["layers"]] == ["stem", "blocks.0.fc1"]
    assert page["layers"][0]["findings"] == ["F1"]
    well = Signals(by_hand({"a": 0.5, "b": 2.0, "c": 1.0}))
    assert [place.name for place in chosen_layers(well, diagnose(well.run), [])] == ["a", "b"]


def test_a_finding_of_a_parameter_leads_to_its_layer() -> None:
    """A weight that no optimizer holds is named by its own path; its layer is shown."""
    signals = Signals(by_hand({"a": 1.0, "b": 1.0}))
    found = (Finding("untrained-parameter", "error", ("a.weight",), 3, 7, "a.weight does not learn"),)
    diagnosis = replace(diagnose(signals.run), findings=found)
    places = chosen_layers(signals, diagnosis, [])
    assert [place.name for place in places] == ["a"]
    middle = around(signals.steps, (0, 7), diagnosis, places, signals, None, 1)
    assert (middle.step, middle.why) == (3, "F1 begins here")


def test_several_layers_may_be_named_and_each_is_shown_once(save_run: SaveRun) -> None:
    """In the order in which they were asked for."""
    page = told(save_run(by_hand(NAMES)), "--layer", "blocks.1.fc1", "--layer", "blocks.*.fc1", "--layer", "stem")
    assert [layer["name"] for layer in page["layers"]] == ["blocks.1.fc1", "blocks.0.fc1", "stem"]


def test_a_pattern_of_many_layers_shows_some(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty are shown, and how many there are is said."""
    folder = save_run(by_hand({f"layers.{i}": 1.0 for i in range(30)}, steps=2))
    page = told(folder, "--layer", "layers.*")
    assert (len(page["layers"]), page["matched"]) == (20, 30)
    assert main(["show", str(folder), "--layer", "layers.*"]) == 0
    assert "10 more layers of that name: narrow the pattern to see them." in capsys.readouterr().out


def test_a_container_has_its_own_numbers(save_run: SaveRun) -> None:
    """The model itself can be looked at; its output is the head's."""
    folder = save_run(by_hand({"a": 0.5, "b": 1.0}))
    model, head = told(folder, "--layer", "(model)", "--layer", "b")["layers"]
    assert values(model, "gradient_norm") == values(head, "gradient_norm")


def test_a_parameter_alone_has_no_output(save_run: SaveRun) -> None:
    """Only its own numbers are shown, and why there is no strip is said."""
    (layer,) = told(save_run(by_hand(NAMES)), "--layer", "stem.weight")["layers"]
    assert {each["id"] for each in layer["quantities"]} <= {
        *_AT_A_STEP,
        "weight_non_finite",
        "weight_gradient_non_finite",
    }
    assert (layer["whole_run"], layer["whole_run_words"]) == (None, "no output of it was recorded")
    assert layer["label"] == "a parameter of Linear"


# which step


def spiky() -> Run:
    """A layer that vanishes from step 12 on, of which every third step was recorded."""
    gain = {"a": [0.5] * 12 + [1e-9] * 28, "b": 1.0}
    made = by_hand(gain, loss=2.3, steps=40)
    kept = made.summaries[made.summaries["step"] % 3 == 0]
    return replace(made, summaries=kept)


def test_the_step_is_where_the_first_finding_begins(save_run: SaveRun) -> None:
    """That of the layer that was asked for; the last recorded step where no finding names it."""
    folder = save_run(spiky())
    page = told(folder, "--layer", "a", "--window", "2")
    assert (page["step"], page["why"], page["steps"]) == (12, "F1 begins here", [6, 9, 12, 15, 18])
    assert (page["asked"], page["asked_words"]) == (None, "no step was asked for")
    page = told(folder, "--layer", "b", "--window", "1")
    assert (page["step"], page["why"], page["steps"]) == (39, "the last recorded step", [36, 39])


def test_a_step_that_was_not_recorded_in_full_is_said(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest recorded one before it is shown, with the loss of all steps between."""
    folder = save_run(spiky())
    page = told(folder, "--layer", "a", "--step", "20", "--window", "1")
    assert (page["step"], page["asked"], page["steps"], page["span"]) == (18, 20, [15, 18, 21], [15, 23])
    assert page["training"]["not_recorded_between"] == 6
    assert page["training"]["loss_line"]["steps"] == list(range(15, 24))
    main(["show", str(folder), "--layer", "a", "--step", "20", "--window", "1"])
    text = capsys.readouterr().out
    assert "Step 20 was not recorded in full; step 18 is the nearest that was." in text
    assert "6 steps between or after them were not recorded in full" in text


@pytest.mark.parametrize("step", [40, 10**9])
def test_a_step_outside_of_the_run_is_said(step: int, save_run: SaveRun) -> None:
    """Which steps there are is part of the text."""
    with pytest.raises(UnknownId) as error:
        told(save_run(spiky()), "--step", str(step))
    assert str(error.value) == f"no step {step:,} in this run: it has the steps 0 to 39."


@pytest.mark.parametrize("window", ["0", "1", "50"])
def test_a_window_ends_where_the_run_does(window: str, save_run: SaveRun) -> None:
    """At either end fewer steps are shown, never others."""
    folder = save_run(by_hand({"a": 1.0, "b": 1.0}, loss=1.0))
    for step in (0, 7):
        page = told(folder, "--layer", "a", "--step", str(step), "--window", window)
        first, last = max(0, step - int(window)), min(7, step + int(window))
        assert page["steps"] == list(range(first, last + 1))
        assert page["layers"][0]["quantities"][0]["values"] == [pytest.approx(math.sqrt(1000))] * len(page["steps"])


# what is missing, and what happened


def test_what_is_not_finite_or_undefined_is_said() -> None:
    """NaN is told from what was not recorded, and a gain without a gradient at the output from both."""
    nothing = by_hand({"a": [1.0, NAN, 1.0, 1.0], "b": [1.0, 1.0, 1.0, 0.0]}, steps=4)
    dropped = (nothing.summaries["step"] == 2) & (nothing.summaries["site"] == 1)
    made = replace(nothing, summaries=nothing.summaries[~dropped])
    signals = Signals(made)
    from gradscope.reports.layer_window.series import output_quantities

    gain = next(each for each in output_quantities(signals, 1) if each.id == "backward_gain")
    assert gain.words == ("", "NaN or Inf", "not recorded", "undefined, the output's gradient is 0")
    assert gain.values == (1.0, None, None, None)
    lost = next(each for each in output_quantities(signals, 1) if each.id == "gradient_non_finite")
    assert lost.values[0] == 0.0
    assert (lost.values[1] or 0) > 0


def test_quantities_that_were_never_recorded_are_named(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first layer is fed data that need no gradient: its own gain cannot be known, and a frozen bias has none."""
    (layer,) = told(trained, "--layer", "0")["layers"]
    assert layer["not_recorded"] == ["own gain"]
    main(["show", str(trained), "--layer", "2"])
    text = capsys.readouterr().out
    assert re.search(r"bias \(frozen\) +16 +0\.\d+ +· +0 +0", text)


def test_shares_of_activations_are_known_where_they_are(trained: Path) -> None:
    """Four of sixteen ReLUs are dead; that a unit is saturated is said of a tanh alone."""
    relu, tanh = told(trained, "--layer", "1", "--layer", "3", "--step", "10", "--window", "19")["layers"]
    assert 0.25 <= max(value for value in values(relu, "dead_share") if value is not None) < 1
    assert 0.25 <= max(value for value in values(relu, "silent_share") if value is not None) < 1
    assert "saturated_share" in {each["id"] for each in tanh["quantities"]}
    assert "saturated_share" not in {each["id"] for each in relu["quantities"]}


def test_what_happened_is_listed(trained: Path) -> None:
    """A changed learning rate and a logged value, at their steps and not outside of the window."""
    events = told(trained, "--layer", "0", "--step", "11", "--window", "2")["events"]
    found = {(each["step"], each["kind"]): each["text"] for each in events}
    assert found[10, "learning rate"] == "the learning rate went from 0.100 to 0.0100"
    assert found[13, "value"] == "accuracy is 0.75"
    assert told(trained, "--layer", "0", "--step", "3", "--window", "2")["events"] == []


def test_findings_skips_scales_and_a_lost_loss_are_listed(save_run: SaveRun) -> None:
    """In the order of their steps."""
    made = by_hand(
        {"a": [0.5] * 4 + [1e-9] * 36, "b": 1.0},
        loss=[2.0] * 6 + [NAN] * 34,
        columns={"scale": [1024.0] * 5 + [512.0] * 35},
        skipped=(4,),
        steps=40,
    )
    made = replace(made, events=(Event(7, 0.0, "warning", {"text": "something odd"}), Event(8, 0.0, "trial", {})))
    events = told(save_run(made), "--layer", "a", "--step", "5", "--window", "4")["events"]
    assert [(each["step"], each["kind"]) for each in events if each["kind"] != "finding"] == [
        (4, "skipped"), (5, "loss scale"), (6, "loss"), (7, "warning"),
    ]  # fmt: skip
    assert any(each["text"].startswith("F1 ") and " begins: " in each["text"] for each in events)
    assert next(each["text"] for each in events if each["kind"] == "loss") == "the loss is NaN"


def test_many_events_are_cut(save_run: SaveRun) -> None:
    """A value logged at each step fills no page: forty are listed, and how many more there are."""
    made = by_hand({"a": 1.0}, loss=1.0, steps=80)
    logged = tuple(Event(step, 0.0, "value", {"name": "x", "value": 1.0}) for step in range(80))
    events = told(save_run(replace(made, events=logged)), "--layer", "a", "--window", "50")["events"]
    assert len(events) == 41
    assert re.fullmatch(r"and \d+ more events", events[-1]["text"])


def _nulls(content: Any, path: str = "") -> list[str]:
    """Where a null has no words beside it."""
    found = []
    if isinstance(content, dict):
        for name, value in content.items():
            found += [f"{path}/{name}"] if value is None and not content.get(f"{name}_words") else []
            if isinstance(value, list):
                words = content.get(f"{name}_words", {})
                found += [f"{path}/{name}/{i}" for i, each in enumerate(value) if each is None and str(i) not in words]
            found += _nulls(value, f"{path}/{name}")
    elif isinstance(content, list):
        found += [each for i, item in enumerate(content) for each in _nulls(item, f"{path}/{i}")]
    return found


ODD: dict[str, Run] = {
    "nothing recorded": by_hand({"a": 1.0, "b": 1.0}, steps=0),
    "all NaN": by_hand({"a": NAN, "b": NAN}, loss=NAN, steps=3),
    "one layer, one step": by_hand({"a": 1.0}, steps=1),
    "no loss": by_hand({"a": 1e-9, "b": 1.0}),
    "exactly zero": by_hand({"a": 0.0, "b": 1.0}, zeros=1.0),
    "vanishes": by_hand(NAMES, loss=2.3),
}


@pytest.mark.parametrize("name", ODD)
def test_any_run_can_be_shown(name: str, save_run: SaveRun) -> None:
    """A page and a document come out, in which each null has words."""
    folder = save_run(ODD[name])
    for arguments in ((), ("--layer", "a") if name != "vanishes" else ("--layer", "*")):
        page = told(folder, *arguments)
        assert _nulls(page) == []
        for look in (Look(40, unicode=False), Look(80), Look(100, color=True)):
            text = terminal.render(page, look)
            assert text.isascii() or look.unicode
            if not look.color:
                assert max(map(len, text.split("\n"))) <= look.width


def test_a_run_without_a_step_says_so(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a page of its own; a step of it cannot be asked for."""
    folder = save_run(ODD["nothing recorded"])
    assert main(["show", str(folder)]) == 0
    assert "Nothing was recorded yet: there is no step to look at." in capsys.readouterr().out
    assert main(["show", str(folder), "--step", "3"]) == 2
    assert "no step 3 in this run: nothing of it was recorded yet." in capsys.readouterr().err


# strips


def test_sizes_are_shares_by_decade() -> None:
    """A tensor of entries between 0.5 and 1 lies in the decade from 0.1 to 1; all of a layer have one axis."""
    made = by_hand({"a": 1.0, "b": 1.0}, steps=1)
    rows = made.summaries.copy()
    from gradscope.records import EXPONENT_EDGES, QUANTITIES

    half, small = (int(np.searchsorted(EXPONENT_EDGES, exponent, side="right")) for exponent in (-2, -40))
    for quantity, place in (("weight", half), ("gradient", small)):
        here = (rows["quantity"] == QUANTITIES.index(quantity)) & (rows["site"] == 2)
        rows["histogram"][here, place] = 1000.0
    signals = Signals(replace(made, summaries=rows))
    (place_of_a,) = find_layers(signals, "a")
    found = {each.of: each for each in sizes(signals, place_of_a.module, place_of_a.parameters, 0)}
    weights, gradient = found["weights"], found["their gradient"]
    assert weights.first == gradient.first == -13
    assert len(weights.shares) == len(gradient.shares) == 13
    assert sum(weights.shares) == pytest.approx(1.0)
    assert weights.shares[-1] == pytest.approx(1.0)
    assert sum(gradient.shares[:2]) == pytest.approx(1.0)


def test_without_histograms_there_are_no_strips() -> None:
    """Nothing is drawn that was not recorded."""
    signals = Signals(by_hand({"a": 1.0, "b": 1.0}))
    (place,) = find_layers(signals, "a")
    assert sizes(signals, place.module, place.parameters, 0) == []


# large runs


def test_a_large_run_shows_the_very_steps_that_were_asked_for(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summaries around the step are read for it, whatever the excerpt that its findings are from holds."""
    gain = {"a": [1.0 + step / 1000 for step in range(300)], "b": 1.0}
    folder = save_run(by_hand(gain, loss=1.0, steps=300))
    whole = told(folder, "--layer", "a", "--step", "151")
    monkeypatch.setattr(bounded, "MEMORY", 60_000)
    page = told(folder, "--layer", "a", "--step", "151")
    assert page["steps"] == list(range(146, 157))
    assert page["run"]["recorded_steps"] == 300
    assert re.match(r"Findings are judged from \d+ of its 300 recorded steps", page["run"]["note"])
    assert page["layers"][0]["quantities"] == whole["layers"][0]["quantities"]
    assert values(page["layers"][0], "backward_gain")[5] == pytest.approx(1.151)


def test_rows_of_steps_are_those_on_disk(tmp_path: Path) -> None:
    """Of the steps between two ends, whole; of a step that was recorded again, the last; nothing where there is none."""
    made = by_hand({"a": 1.0, "b": 1.0}, steps=20)
    folder = write_run(made, tmp_path / "run")
    expected = made.summaries[(made.summaries["step"] >= 5) & (made.summaries["step"] <= 8)]
    assert rows_of_steps(folder, 5, 8).tobytes() == expected.tobytes()
    assert len(rows_of_steps(folder, 100, 200)) == 0
    again = made.summaries[made.summaries["step"] == 6].copy()
    again["sum_squares"] = 7.0
    twice = tmp_path / "twice"
    writer = RunWriter(twice, made.info)
    for rows in (made.summaries[made.summaries["step"] == 6], again):
        writer.write_summaries(rows)
    writer.close()
    assert set(rows_of_steps(twice, 6, 6)["sum_squares"].tolist()) == {7.0}


def test_rows_of_steps_are_found_where_rank_0_did_not_watch(tmp_path: Path) -> None:
    """A run may be a single part, of another rank."""
    made = by_hand({"a": 1.0}, steps=3)
    write_run(made, tmp_path / "run" / "rank-1")
    assert rows_of_steps(tmp_path / "run", 0, 9).tobytes() == made.summaries.tobytes()


# the command


def test_the_terminal_page(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which run, around which step; the training, what happened, the layer with its parameters; the next command."""
    assert main(["show", str(trained), "--layer", "0", "--step", "10", "--window", "1"]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == "run: Sequential, steps 0 to 19, 20 of them recorded in full."
    assert lines[1] == "Around step 10 (asked for): the recorded steps 9 to 11."
    assert any(re.match(r"  ▸ 10 +0\.\d+ +0\.\d+ +0\.01$", line) for line in lines)
    assert any(re.match(r"  step 10 +the learning rate went from 0\.100 to 0\.0100", line) for line in lines)
    assert any(line.startswith("0  Linear(in_features=8, out_features=16, bias=True)") for line in lines)
    assert "  Its parameters at step 10" in lines
    assert "  Sizes of entries at step 10, a decade a character" in lines
    assert lines[-2].startswith("Next:  gradscope report ")


def test_runs_are_named_as_everywhere(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name `runs`, of it the newest; `runs/latest`; a URL; and the error where there is none."""
    one = save_run(by_hand({"a": 1.0}), "runs/one")
    monkeypatch.chdir(one.parent.parent)
    for arguments in ([], ["runs/latest"], [f"file://{one}"]):
        assert main(["show", *arguments, "--layer", "a", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["run"]["name"] == "one"
    assert main(["show", "nowhere", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "RunNotFound"


@pytest.mark.parametrize("window", ["-1", "51", "x"])
def test_a_wrong_window_is_a_usage_error(window: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was expected and what came are said."""
    assert main(["show", "--window", window]) == 2
    assert "--window" in capsys.readouterr().err


def test_an_unknown_layer_is_exit_code_2(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json in the envelope of every document."""
    assert main(["show", str(save_run(by_hand(NAMES))), "--layer", "stm", "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["kind"] == "UnknownId"
    assert "did you mean stem?" in told.err


def test_names_cannot_steer_the_terminal(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """[24] A layer's name is text, also in an error."""
    name = "a\x1b[31m\u202eb"
    folder = save_run(by_hand({name: 1e-9, "b": 1.0}, loss=2.3))
    assert main(["show", str(folder)]) == 0
    text = capsys.readouterr().out
    assert not any(char in text for char in "\x1b\u202e")
    assert "a\\x1b[31m" in text
    assert main(["show", str(folder), "--layer", "x"]) == 2
    assert not any(char in capsys.readouterr().err for char in "\x1b\u202e")


def test_no_torch_is_needed(save_run: SaveRun) -> None:
    """The page is made from files: torch and the dashboard's packages stay out."""
    import subprocess

    folder = save_run()
    program = (
        "import sys\nfrom gradscope.cli import main\n"
        f"main(['show', {str(folder)!r}, '-o', {str(folder.parent / 'x')!r}])\n"
        "print(*sorted({'torch', 'dash', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
