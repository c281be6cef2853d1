"""The zoo: its quick half is judged here, and what judges it is held to closed forms and to runs made by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from gradscope.catalogue import rules
from gradscope.records import Event
from gradscope.rules.handwritten import run as by_hand
from tests.test_remedies import REMEDIES
from tests.test_rules import CAUSES, RULES
from tests.zoo.__main__ import BEGIN, END, put_into
from tests.zoo.animals import PROGRAMS, by_id, find
from tests.zoo.calibrate import ABOVE, BELOW, Noted, Spread, margin, measured, page
from tests.zoo.data import Task, digits, residual, wrong_class
from tests.zoo.judge import MOMENTS, Said, beginning, judge, label, last_step, read
from tests.zoo.nets import he_uniform, keras_crossentropy, net
from tests.zoo.peers import PEERS
from tests.zoo.peers.seen import Seen, seen
from tests.zoo.program import Program, first, first_half, hidden, last, of_kind
from tests.zoo.tally import Result, Share, mistakes, table
from tests.zoo.train import Outcome, kept, train

FAST = find(fast=True)
WELL = Outcome(0.1, 0.1, 2.0, 0.1, 100, 1.0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small matrices are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# the quick half


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


def trained(program: Program, stable: Path) -> Path:
    """The folder of a program's training, trained once."""
    folder = stable / program.id
    if not folder.exists():
        train(program, 0, folder)
    return folder


@pytest.mark.filterwarnings("ignore")  # torch's, about what some programs do on purpose
@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in FAST if not each.sick])
def test_a_healthy_program_is_left_in_peace(program: Program, stable: Path) -> None:
    """A healthy program learns, and at the start, in the middle and at the end there is neither warning nor error."""
    folder = trained(program, stable)
    assert label(program, kept(folder), None) == "healthy"
    assert [said.text for said in judge(program, read(folder)) if said.alarm] == []


@pytest.mark.filterwarnings("ignore")  # torch's, about what some programs do on purpose
@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in FAST if each.sick])
def test_a_sick_program_is_found_with_its_cause(program: Program, stable: Path) -> None:
    """A sick program learns less than its twin; in the end it is found, with a cause and a layer that may be blamed."""
    twin, folder = by_id(program.twin), trained(program, stable)
    assert label(program, kept(folder), kept(trained(twin, stable))) == "sick"
    end = judge(program, read(folder))[-1]
    assert end.alarm
    assert end.cause_right in (True, None), end.text
    assert end.layer_right in (True, None), end.text


# the catalogue


def test_every_program_has_its_own_id() -> None:
    """Ids begin with the letter of their group and are given once."""
    names = [program.id for program in PROGRAMS]
    assert len(set(names)) == len(names)
    assert {program.group for program in PROGRAMS} == set("SCDH")
    assert not any(program.sick for program in PROGRAMS if program.group == "H")


@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in PROGRAMS if each.sick])
def test_a_sick_program_says_what_may_be_said_of_it(program: Program) -> None:
    """It has a healthy twin, and rules, causes and remedies that the design knows."""
    right = program.blame
    assert right is not None
    assert not by_id(program.twin).sick
    assert right.rules
    assert (right.rules - set(RULES), right.causes - set(CAUSES), right.remedies - set(REMEDIES)) == (
        set(),
        set(),
        set(),
    )
    assert bool(right.causes) == bool(right.remedies)


def test_the_published_programs_are_there() -> None:
    """All 48 fixed networks of AutoTrainer with its two bases, the 35 mutations, and the healthy controls 16 to 40."""
    names = [program.id for program in PROGRAMS]
    published = [each for each in PROGRAMS if re.match("C-(circle|blob|mnist|cifar)-", each.id) and each.sick]
    assert len(published) == 50
    assert {f"D{number}" for number in range(1, 36)} <= set(names)
    assert {int(name[1:3]) for name in names if name.startswith("H")} >= set(range(16, 41))


def test_the_quick_half_has_every_kind() -> None:
    """Every rule that a sick program may be found by is in the quick half as well."""
    possible = {rule for program in PROGRAMS if program.blame for rule in program.blame.rules}
    quick = {rule for program in FAST if program.blame for rule in program.blame.rules}
    assert quick == possible


def test_words_choose_programs() -> None:
    """Programs are chosen by how their ids begin, or all of them."""
    assert find() == list(PROGRAMS)
    assert [program.id for program in find("d33,D34")] == ["D33", "D34"]
    with pytest.raises(KeyError):
        by_id("no such program")


# labels and moments


@pytest.mark.parametrize(
    ("error", "twin", "expected"),
    [(0.1, 0.1, "unharmed"), (0.17, 0.1, "unharmed"), (0.18, 0.1, "sick"), (5.0, 0.9, "unharmed"), (0.9, 0.5, "sick")],
)
def test_a_sick_program_is_compared_with_its_twin(error: float, twin: float, expected: str) -> None:
    """It counts where its error is above the twin's by a quarter and 0.05; errors above 1 count as 1."""
    program = by_id("S-rate-low")
    assert label(program, replace(WELL, error=error), replace(WELL, error=twin)) == expected


def test_what_cannot_be_compared_is_taken_at_its_word() -> None:
    """A program that is sick by construction, or whose error is unknown, is sick; a healthy one has to have learned."""
    assert label(by_id("S-double-softmax"), WELL, WELL) == "sick"
    assert label(by_id("S-rate-low"), replace(WELL, error=math.nan), WELL) == "sick"
    healthy = by_id("S-mse")
    assert label(healthy, WELL, None) == "healthy"
    assert label(healthy, replace(WELL, error=math.nan), None) == "healthy"
    assert label(healthy, replace(WELL, error=0.9), None) == "unlearned"
    assert label(healthy, replace(WELL, broke="ValueError"), None) == "unlearned"


def test_a_run_is_cut_at_a_moment() -> None:
    """The start is ten steps, the middle half of them, the end all; steps, rates, summaries and events are cut."""
    whole = replace(by_hand({"a": 1.0}, steps=40), events=(Event(3, 0.0, "value"), Event(30, 0.0, "value")))
    assert [last_step(whole, moment) for moment in MOMENTS] == [9, 19, 39]
    part = beginning(whole, 9)
    assert part.steps["step"].tolist() == list(range(10))
    assert len(part.learning_rates) == 10
    assert part.summaries["step"].max() == 9
    assert part.events == whole.events[:1]
    assert last_step(by_hand({"a": 1.0}, steps=4), "start") == 3


def test_where_a_finding_may_point() -> None:
    """Predicates compare a path, a part of it or what holds it, with the layers in the order in which they run."""
    run = by_hand({"a": 1.0, "b.x": 1.0, "c": 1.0, "d": 1.0})
    layers = [site for site in run.info.sites if site.role == "output" and site.path in ("a", "b.x", "c", "d")]
    assert [first(2)(path, layers) for path in ("a", "b.x", "b", "a.weight", "c", "")] == [True] * 4 + [False] * 2
    assert [last(1)(path, layers) for path in ("d", "c")] == [True, False]
    assert [first_half(path, layers) for path in ("b.x", "c")] == [True, False]
    assert [hidden(path, layers) for path in ("c", "d")] == [True, False]
    assert of_kind(layers[0].kind)("a", layers)
    assert not of_kind("Norm")("a", layers)


# tasks and networks


def test_an_error_is_a_share_of_what_a_constant_has() -> None:
    """0 when all is right, 1 for the best constant, unknown for what is no number; the same for numbers."""
    labels = torch.tensor([0, 0, 1, 2])
    assert wrong_class(torch.eye(3)[labels], labels) == 0
    assert wrong_class(torch.eye(3)[torch.zeros(4, dtype=torch.long)], labels) == 1
    assert math.isnan(wrong_class(torch.full((4, 3), math.nan), labels))
    targets = torch.tensor([[1.0], [2.0], [4.0]])
    assert residual(targets, targets) == 0
    assert residual(targets.mean().expand(3, 1), targets) == pytest.approx(math.sqrt(2 / 3))  # an unbiased deviation


def test_batches_repeat_with_their_seed() -> None:
    """The same seed gives the same batches, another one others, a batch as large as the data all of it."""
    one, same, other = (digits().batches(4, seed) for seed in (1, 1, 2))
    assert torch.equal(one(0)[0], same(0)[0])
    assert not torch.equal(one(1)[0], other(1)[0])
    small = Task(torch.ones(3, 1), torch.ones(3), torch.ones(1, 1), torch.ones(1), residual)
    assert torch.equal(small.batches(8, 0)(0)[0], small.x)


def test_a_network_is_a_line_of_text() -> None:
    """Shapes follow from what comes before; a bracket repeats; weights and zero biases are as asked for."""
    model = net("1x6x6 | c2k3 relu pool flat 2 x (5 tanh) 3 softmax", he_uniform)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == [*("Conv2d", "ReLU", "MaxPool2d", "Flatten"), *("Linear", "Tanh") * 2, "Linear", "Softmax"]
    assert model[4].in_features == 8
    assert float(model[4].bias.abs().max()) == 0
    assert float(model[4].weight.abs().max()) <= math.sqrt(6 / 8)


def test_the_crossentropy_of_keras_divides_by_the_sum() -> None:
    """Outputs that do not add up to one are made to; a share of 0 counts as 1e-7."""
    outputs, labels = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([0, 0])
    assert float(keras_crossentropy(outputs, labels)) == pytest.approx(-(math.log(0.25) + math.log(1e-7)) / 2)


# counting


def test_wilsons_interval_has_its_closed_forms() -> None:
    """Of n without a hit it ends at z²/(n + z²), with n hits it begins at n/(n + z²), of a half it is symmetric."""
    z = 1.959964
    assert Share(0, 20).interval == pytest.approx((0, z**2 / (20 + z**2)))
    assert Share(20, 20).interval == pytest.approx((20 / (20 + z**2), 1))
    low, high = Share(5, 10).interval
    assert low + high == pytest.approx(1)
    assert high - low == pytest.approx(z / math.sqrt(10 + z**2))
    assert str(Share(0, 0)) == "–"
    assert str(Share(1, 2)) == "0.50 (0.09–0.91) of 2"


def _result(name: str, kind: str, end: Said, start: Said | None = None) -> Result:
    moments = (start or Said("start", "healthy"), Said("middle", "healthy"), end)
    return Result(by_id(name), 0, WELL, kind, moments, {"somebody": (Said("start", "quiet"),) * 3})  # type: ignore[arg-type]


RIGHT = Said("end", "unhealthy", True, "r", "c", "0", True, True, ("warmup",), 1, "found")
WRONG = Said("end", "unhealthy", True, "r", "c", "0", False, False, ("warmup", "zero-grad"), 2, "found")
RESULTS = [
    _result("S-rate-low", "sick", RIGHT),
    _result("S-no-zero-grad", "sick", WRONG),
    _result("S-sigmoid-20-sgd", "sick", Said("end", "healthy")),
    _result("S-mse", "healthy", Said("end", "healthy"), Said("start", "watch", True, text="no")),
    _result("D9", "unharmed", RIGHT),
]


def test_the_table_counts() -> None:
    """What is found is a share of the sick; causes, layers and remedies of what is found; false alarms of the healthy."""
    first_line = table(RESULTS).splitlines()[2]
    cells = [cell.split(" (")[0] for cell in first_line.strip("| ").split(" | ")]
    assert cells == ["**GradScope**", "0.67", "1.00", "0.00", "0.00", "0.50", "0.50", "0.50", "1.00"]
    assert "| somebody | 0.00 (" in table(RESULTS)
    text = put_into(f"before\n{BEGIN}\nold\n{END}\nafter", table(RESULTS))
    assert text.startswith(f"before\n{BEGIN}\n|")
    assert text.endswith(f"|\n{END}\nafter")
    with pytest.raises(ValueError, match="no place for the table"):
        put_into("a README without marks", "table")


def test_every_mistake_is_listed() -> None:
    """Misses, false alarms, wrong causes, layers and remedies, a line each; what is neither sick nor healthy in brackets."""
    kinds = [line.split()[0] for line in mistakes(RESULTS)]
    assert kinds == ["MISS", "FALSE", "CAUSE", "LAYER", "REMEDY", "(unharmed"]


# the peers

LAYERS = {
    "0": {"kind": "Linear"},
    "1": {"kind": "Sigmoid"},
    "2": {"kind": "Linear"},
}
OUTPUT = {
    **{"mean": 0.1, "deviation": 1.0, "size": 0.5, "finite": 1.0, "at_most_zero": 0.5, "idle_neurons": 0.0},
    **{"silent_neurons": 0.0, "saturated_neurons": 0.0, "fed_beyond_5": 0.0, "fed_low": -1.0, "fed_high": 1.0},
}
PARAMETER = {
    **{"weight": 1.0, "weight_norm": 10.0, "variance": 1.0, "dimensions": 2.0, "update": 1e-3, "update_norm": 1e-2},
    **{"gradient": 0.1, "gradient_norm": 1.0, "gradient_zeros": 0.0, "gradient_count": 100.0, "gradient_spread": 0.3},
}


def trace(
    *,
    layer: dict[str, float] | None = None,
    parameter: dict[str, float] | None = None,
    epoch: dict[str, float] | None = None,
    modules: dict[str, dict[str, str]] | None = None,
    fed: tuple[float, float] = (-1.0, 1.0),
    rate: float = 1e-3,
) -> Seen:
    """What a healthy network of three layers shows in 20 epochs, with something changed in its first layers."""
    layers = {name: {**OUTPUT, "mean": 0.1, **(layer or {} if name != "2" else {})} for name in LAYERS}
    looks = []
    for step in range(20):
        moving = {name: {**numbers, "mean": numbers["mean"] * (1 + step / 100)} for name, numbers in layers.items()}
        parameters = {"0.weight": {**PARAMETER, **(parameter or {})}, "2.weight": dict(PARAMETER)}
        looks.append({"step": step, "rate": rate, "layers": moving, "parameters": parameters})
    fall = [0.9**step for step in range(20)]
    epochs = [
        {"step": step, "loss": loss, "error": loss, "held_error": loss, "held_loss": loss, **(epoch or {})}
        for step, loss in enumerate(fall)
    ]
    known = {name: {"rate": 0.0, **module} for name, module in (modules or LAYERS).items()}
    return Seen(known, fed, looks, epochs, 0.9, "cross_entropy")  # type: ignore[arg-type]


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_is_quiet_where_nothing_is_wrong(peer: str) -> None:
    """On the trace of a network that learns steadily no rule set says a word."""
    assert PEERS[peer](trace()) is None


BAD = {"gradient_norm": 1e-5, "gradient": 1e-8}
SAID = [
    ("AutoTrainer", {"parameter": BAD, "epoch": {"error": 0.99}}, "vanish"),
    ("AutoTrainer", {"parameter": {"gradient_norm": 71.0}, "epoch": {"error": 0.99}}, "explode"),
    ("AutoTrainer", {"parameter": {"gradient_norm": math.nan}, "epoch": {"error": 0.99}}, "explode"),
    ("AutoTrainer", {"epoch": {"error": 0.99}}, "slow convergence"),
    ("AutoTrainer", {"epoch": {"loss": math.nan, "error": 1.0}}, "nan loss"),
    ("AutoTrainer", {"layer": {"size": 11.0}}, "data"),
    ("DeepDiagnosis", {"layer": {"mean": math.nan}}, "numerical error"),
    ("DeepDiagnosis", {"layer": {"fed_beyond_5": 0.6}}, "saturated activation"),
    ("DeepDiagnosis", {"parameter": BAD}, "vanishing gradient"),
    ("DeepDiagnosis", {"epoch": {"loss": 1.0}}, "loss not decreasing"),
    ("UMLAUT", {"fed": (0.0, 255.0)}, "input exceeds its range"),
    ("UMLAUT", {"rate": 0.1}, "high learning rate"),
    ("UMLAUT", {"modules": {"0": {"kind": "Linear"}, "1": {"kind": "ReLU"}}}, "activation on the last layer"),
    ("TheDeepChecker", {"layer": {"deviation": 0.1}}, "unstable activations"),
    ("TheDeepChecker", {"layer": {"saturated_neurons": 0.6}}, "saturated layer"),
    ("TheDeepChecker", {"parameter": {"update": 0.2}}, "fast updates"),
    ("TheDeepChecker", {"parameter": {"gradient": 1e-7}}, "vanishing gradient"),
    ("TheDeepChecker", {"epoch": {"loss": 1.0}}, "loss hardly falls"),
    ("SageMaker Debugger", {"parameter": BAD}, "vanishing gradient"),
    ("SageMaker Debugger", {"layer": {"fed_high": 17.0}}, "saturated activation"),
    ("SageMaker Debugger", {"parameter": {"variance": 11.0}}, "poor weight initialization"),
    ("SageMaker Debugger", {"epoch": {"loss": 1.0}}, "loss not decreasing"),
]


@pytest.mark.parametrize(("peer", "change", "symptom"), SAID, ids=[f"{peer}: {symptom}" for peer, _, symptom in SAID])
def test_a_peer_says_what_its_rules_say(peer: str, change: dict, symptom: str) -> None:  # type: ignore[type-arg]
    """A trace beyond one of its thresholds makes it name that symptom."""
    alarm = PEERS[peer](trace(**change))
    assert alarm is not None
    assert alarm.symptom == symptom
    assert alarm.cause in (*CAUSES, "")
    assert set(alarm.remedies) <= set(REMEDIES)


def test_the_trace_of_a_training_can_be_read(tmp_path: Path) -> None:
    """What is kept of a training shows each layer, parameter and epoch, and can be cut at a step."""
    program = replace(by_id("S-mse"), build=lambda seed: replace(by_id("S-mse").build(seed), steps=40))
    outcome = train(program, 0, tmp_path / "kept")
    assert kept(tmp_path / "kept") == outcome
    assert outcome.steps == 40
    whole = seen(tmp_path / "kept", 39)
    assert [epoch["step"] for epoch in whole.epochs] == list(range(1, 40, 2))
    assert whole.kernels == ["0.weight", "2.weight", "4.weight"]
    assert {"gradient", "update", "variance"} <= set(whole.looks[0]["parameters"]["0.weight"])
    assert set(whole.looks[0]["layers"]) == set("01234")
    assert len(seen(tmp_path / "kept", 9).looks) == 10
    assert json.loads((tmp_path / "kept" / "trace.json").read_text())["loss"] == "mse_loss"


# calibration


@cache
def _noted() -> tuple[Noted, list[tuple[str, object]]]:
    told: list[tuple[str, object]] = []
    value = Noted(2.0)
    value.note = lambda side, number: told.append((side, np.asarray(number).tolist()))
    return value, told


@pytest.mark.parametrize("number", [1.0, np.float64(1.0), np.array([1.0, 3.0]), 1])
def test_a_threshold_notes_what_it_is_compared_with(number: object) -> None:
    """Whatever is compared with it, and from whichever side, is noted, and the answer is as without."""
    value, told = _noted()
    told.clear()
    plain = np.asarray(number).tolist()
    assert np.array_equal(number < value, number < 2.0)  # type: ignore[operator]
    assert np.array_equal(value >= number, number <= 2.0)  # type: ignore[operator]
    assert np.array_equal(number > value, number > 2.0)  # type: ignore[operator]
    assert told == [(BELOW, plain), (BELOW, plain), (ABOVE, plain)]
    assert np.log2(value) == 1
    assert (np.array([4.0]) / value).tolist() == [2.0]


def test_calibration_measures_what_the_rules_compare() -> None:
    """A gain of 1e-9 is noted at vanishing-gradient's thresholds, which are what they were afterwards."""
    before = {rule: dict(each.thresholds()) for rule, each in rules().items()}
    numbers = measured(by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3))
    assert numbers["vanishing-gradient", "warning", BELOW] == pytest.approx(1e-9, rel=0.01)
    assert {rule: dict(each.thresholds()) for rule, each in rules().items()} == before
    assert all(
        type(each.value) is float for rule in before.values() for each in rule.values() if each.value != int(each.value)
    )


def test_a_margin_is_in_decades() -> None:
    """From the threshold to the healthy number that comes nearest; negative beyond it; none without numbers."""
    assert margin(1e-3, BELOW, [0.1, 1.0]) == "+2.0"
    assert margin(10.0, ABOVE, [0.1, 1.0]) == "+1.0"
    assert margin(10.0, ABOVE, [100.0]) == "-1.0"
    assert margin(10.0, ABOVE, []) == "–"
    line = page({("vanishing-gradient", "warning", BELOW): Spread([0.1, 1.0], [1e-9])}).splitlines()[-1]
    assert line.startswith("| vanishing-gradient | warning | below 0.001 | 0.1, 0.1,")
    assert line.endswith("| +2.0 |")
