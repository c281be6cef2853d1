"""What the zoo is made of: tasks, networks, counts, the peers' rules and the calibration, on numbers made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from gradscope.catalogue import rules
from gradscope.rules.handwritten import run as by_hand
from tests.test_remedies import REMEDIES
from tests.test_rules import CAUSES
from tests.zoo.__main__ import BEGIN, END, put_into
from tests.zoo.animals import by_id
from tests.zoo.calibrate import ABOVE, BELOW, Noted, Spread, margin, measured, page
from tests.zoo.data import Task, digits, residual, wrong_class
from tests.zoo.judge import Said
from tests.zoo.nets import he_uniform, keras_crossentropy, net
from tests.zoo.peers import PEERS
from tests.zoo.peers.seen import Seen, seen
from tests.zoo.tally import Result, Share, mistakes, table
from tests.zoo.train import Outcome, kept, train

WELL = Outcome(0.1, 0.1, 2.0, 0.1, 100, 1.0)


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
    assert not model[4].bias.any()
    assert (model[4].weight.abs() <= math.sqrt(6 / 8)).all()


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
    assert cells == ["**GradScope**", "0.67", "1.00", "0.00", "0.00", "0.50", "0.50", "0.50", "1.00", "–", "–"]
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
