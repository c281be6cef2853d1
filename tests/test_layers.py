"""What single layers do: each sickness in a small real training, and its healthy twin at every moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.catalogue import rules
from gradscope.records import Finding, Run
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.signals.units import (
    feeding_layer,
    hidden_activations,
    learned_share,
    onset,
    openness,
    option,
    silent_share,
    small_share,
    spread,
    weight_gain,
)
from tests.test_trainings import beginning
from tests.trainings import Recurrent, ResNet, Transformer, adam, digits, he, mlp, sgd, xavier

RULES = (
    *("dead-units", "saturated-activation", "normalization-fault", "dropout-fault"),
    *("vanishing-through-time", "representation-collapse", "poor-initialization"),
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small matrices are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Recipe:
    """A training on the digits: model, optimizer, and what is done to the data."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: int = 64
    times: float = 1.0  # factor on the inputs
    steps: int = 121
    tests: bool = False  # tests under no_grad in the mode that the model is in

    def record(self, folder: Path, seed: int = 0) -> Run:
        """Runs it under GradScope and reads the run."""
        torch.manual_seed(seed)
        model = self.model()
        optimizer, criterion = self.optimizer(model), nn.CrossEntropyLoss()
        images, labels = digits()
        order = torch.Generator().manual_seed(seed)
        with gradscope.watch(model, optimizer, run_dir=folder, every=5) as scope:
            for step in range(self.steps):
                batch = torch.randint(0, len(images), (self.batch,), generator=order)
                scope.loss(criterion(model(images[batch] * self.times), labels[batch])).backward()
                optimizer.step()
                optimizer.zero_grad()
                if self.tests and step % 10 == 4:
                    with torch.no_grad():
                        model(images[:64])
        return gradscope.read_run(folder)


def findings(run: Run) -> list[Finding]:
    """What the seven rules about layers find."""
    signals = Signals(run)
    return [
        finding for name in RULES if rules()[name].applies(signals) is None for finding in rules()[name].check(signals)
    ]


def biased(value: float) -> nn.Sequential:
    """A ReLU network whose second layer has one bias for all of its units."""
    model = mlp(3, nn.ReLU, he)
    nn.init.constant_(model[2].bias, value)
    return model


def constant(value: float) -> nn.Sequential:
    """A network all of whose weights are one number."""
    return mlp(3, nn.ReLU, lambda weight: nn.init.constant_(weight, value))


def normalised(depth: int = 3, momentum: float = 0.1) -> nn.Sequential:
    """Linear, BatchNorm, ReLU, several times."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(64, 64), nn.BatchNorm1d(64, momentum=momentum), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def dropping(*rates: float, width: int = 128) -> nn.Sequential:
    """Linear, ReLU, Dropout, several times."""
    layers: list[nn.Module] = []
    for number, rate in enumerate(rates):
        layers += [nn.Linear(width if number else 64, width), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def single_feature(width: int) -> nn.Sequential:
    """A bottleneck that LayerNorm normalises."""
    return nn.Sequential(nn.Linear(64, width), nn.LayerNorm(width), nn.Linear(width, 10))


def frozen_mode(model: nn.Module) -> nn.Module:
    """A model that was left in eval mode."""
    return model.eval()


def small(weight: torch.Tensor) -> None:
    """Draws weights of deviation 0.01."""
    nn.init.normal_(weight, std=0.01)


# sick training: rule, the cause that leads, the first layer, how bad
SICK: dict[str, tuple[Recipe, str, str, str, str]] = {
    "biases of -30": (Recipe(lambda: biased(-30.0), adam()), "dead-units", "init-too-large", "2", "error"),
    "a step killed it": (
        Recipe(lambda: mlp(3, nn.ReLU, he), sgd(5.0)),
        *("dead-units", "learning-rate-too-high", "", "error"),
    ),
    "inputs x100 into tanh": (
        Recipe(lambda: mlp(3, nn.Tanh, xavier), sgd(0.001), times=100.0),
        *("saturated-activation", "unscaled-input", "0", "warning"),
    ),
    "weights x30 into tanh": (
        Recipe(lambda: mlp(3, nn.Tanh, lambda weight: xavier(weight, 30)), sgd(0.1)),
        *("saturated-activation", "init-too-large", "0", "warning"),
    ),
    "a step saturated it": (
        Recipe(lambda: mlp(3, nn.Tanh, xavier), sgd(5.0)),
        *("saturated-activation", "learning-rate-too-high", "0", "error"),
    ),
    "batches of 2": (Recipe(normalised, adam(), batch=2), "normalization-fault", "dead-path", "1", "error"),
    "LayerNorm over one feature": (
        Recipe(lambda: single_feature(1), adam()),
        *("normalization-fault", "dead-path", "1", "error"),
    ),
    "BatchNorm left in eval mode": (
        Recipe(lambda: frozen_mode(normalised()), adam()),
        *("normalization-fault", "frozen", "7", "warning"),
    ),
    "inputs so small that eps takes over": (
        Recipe(normalised, sgd(0.05), times=1e-5),
        *("normalization-fault", "unscaled-input", "1", "warning"),
    ),
    "0.95 in every layer": (
        Recipe(lambda: dropping(0.95, 0.95, 0.95), adam()),
        *("dropout-fault", "dead-path", "2", "error"),
    ),
    "dropout left in eval mode": (
        Recipe(lambda: frozen_mode(dropping(0.3)), adam()),
        *("dropout-fault", "frozen", "2", "warning"),
    ),
    "dropout on in tests": (
        Recipe(lambda: dropping(0.3), adam(), tests=True),
        *("dropout-fault", "frozen", "2", "warning"),
    ),
    "20 sigmoids": (
        Recipe(lambda: mlp(20, nn.Sigmoid, xavier), adam()),
        *("representation-collapse", "activation-contracts", "", "warning"),
    ),
    "all weights 0.01": (
        Recipe(lambda: constant(0.01), adam()),
        *("poor-initialization", "symmetric-init", "0", "error"),
    ),
    "all weights 0": (Recipe(lambda: constant(0.0), adam()), "poor-initialization", "symmetric-init", "0", "error"),
    "weights of N(0, 1)": (
        Recipe(lambda: mlp(3, nn.ReLU, nn.init.normal_), adam()),
        *("poor-initialization", "init-too-large", "0", "warning"),
    ),
    "weights of N(0, 0.01)": (
        Recipe(lambda: mlp(5, nn.ReLU, small), sgd(0.05)),
        *("poor-initialization", "init-too-small", "0", "warning"),
    ),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SICK)
def test_a_sick_layer_is_found_with_its_cause(name: str, seed: int, tmp_path: Path) -> None:
    """The rule for it fires, names the layer to repair first, and ranks the right cause first."""
    recipe, rule, cause, layer, severity = SICK[name]
    found = {finding.rule: finding for finding in findings(recipe.record(tmp_path / "run", seed))}
    assert rule in found
    assert (found[rule].causes[0].id, found[rule].severity) == (cause, severity)
    assert found[rule].layers[0] == layer or not layer


@pytest.mark.parametrize(
    "name",
    [
        *("biases of -30", "inputs x100 into tanh", "batches of 2", "LayerNorm over one feature", "20 sigmoids"),
        *("0.95 in every layer", "all weights 0.01", "weights of N(0, 1)", "BatchNorm left in eval mode"),
    ],
)
def test_what_is_sick_at_the_start_is_said_then(name: str, tmp_path: Path) -> None:
    """After a few looks, and since step 0."""
    recipe, rule, *_ = SICK[name]
    found = {finding.rule: finding for finding in findings(beginning(recipe.record(tmp_path / "run"), 10))}
    assert rule in found
    assert found[rule].first_step == 0


@pytest.mark.parametrize("name", ["a step killed it", "a step saturated it"])
def test_what_came_later_is_told_from_what_was_there(name: str, tmp_path: Path) -> None:
    """A layer that a step killed or saturated was well at step 0."""
    recipe, rule, *_ = SICK[name]
    found = {finding.rule: finding for finding in findings(recipe.record(tmp_path / "run"))}
    assert found[rule].first_step > 0


class Gated(nn.Module):
    """A squeeze-and-excitation block around a layer, with gates that start nearly shut."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        self.gate = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid())
        nn.init.constant_(self.gate[2].bias, -8.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.layer(x))
        return self.head(hidden + hidden * self.gate(x))


class Sparse(nn.Module):
    """A wide layer of which eight units a sample are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.relu, self.down = nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.relu(self.up(x))
        values, places = hidden.topk(8, dim=1)
        return self.down(torch.zeros_like(hidden).scatter(1, places, values))


class FromZero(nn.Module):
    """Residual branches and a head that start at zero, as Fixup and ReZero have it."""

    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(depth)
        )
        self.head = nn.Linear(64, 10)
        for layer in (*(block[2] for block in self.blocks), self.head):
            nn.init.zeros_(layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


HEALTHY = {
    "ReLU": Recipe(lambda: mlp(3, nn.ReLU, he), adam(), steps=401),
    "ReLU, 20 layers": Recipe(lambda: mlp(20, nn.ReLU, he), adam()),
    "tanh": Recipe(lambda: mlp(3, nn.Tanh, xavier), adam(3e-3), steps=601),
    "sigmoid, 5 layers": Recipe(lambda: mlp(5, nn.Sigmoid, xavier), adam(3e-3), steps=601),
    "a ReLU network 8 units wide": Recipe(lambda: mlp(3, nn.ReLU, he, width=8), adam(3e-3), steps=401),
    "gates that are shut": Recipe(Gated, adam()),
    "eight units of 256": Recipe(Sparse, adam(), steps=301),
    "branches and head from zero": Recipe(FromZero, adam()),
    "BatchNorm": Recipe(normalised, adam()),
    "BatchNorm, 20 layers": Recipe(lambda: normalised(20), adam()),
    "BatchNorm, batches of 4": Recipe(normalised, adam(), batch=4, steps=301),
    "LayerNorm over 32 features": Recipe(lambda: single_feature(32), adam()),
    "dropout of 0.5 in every layer": Recipe(lambda: dropping(0.5, 0.5, 0.5, 0.5), adam(), steps=301),
    "dropout of 0.8 once": Recipe(lambda: dropping(0.8), adam()),
    "an LSTM": Recipe(Recurrent, adam()),
    "a transformer": Recipe(lambda: Transformer(dropout=0.1), adam(), steps=61),
    "a ResNet": Recipe(ResNet, sgd(0.05, 0.9), steps=61),
}


SLOW = (  # one seed each
    *("ReLU, 20 layers", "sigmoid, 5 layers", "BatchNorm, 20 layers", "a transformer", "a ResNet", "an LSTM"),
    *("tanh", "eight units of 256", "dropout of 0.5 in every layer"),
)


@pytest.mark.parametrize(
    ("name", "seed"), [(name, seed) for name in HEALTHY for seed in range(1 if name in SLOW else 2)]
)
def test_a_healthy_twin_is_left_in_peace_at_every_moment(name: str, seed: int, tmp_path: Path) -> None:
    """At the start, in the middle and at the end none of the rules about layers says anything, not even a note."""
    run = HEALTHY[name].record(tmp_path / "run", seed)
    last = HEALTHY[name].steps - 1
    assert [findings(beginning(run, step)) for step in (10, 20, last // 2, last)] == [[], [], [], []]
    assert run.steps["loss"][-10:].mean() < run.steps["loss"][:5].mean()


class Adding(nn.Module):
    """Reads two numbers that stand apart in a long sequence, and adds them."""

    def __init__(self, radius: float, activation: str = "tanh") -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(2, 24, batch_first=True, nonlinearity=activation), nn.Linear(24, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=radius)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def add(model: nn.Module, folder: Path, steps: int, rate: float = 1e-3) -> Run:
    """Trains a model on sequences of 60 numbers, two of which are marked."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    with gradscope.watch(model, optimizer, run_dir=folder, every=5) as scope:
        for _ in range(steps):
            marks, values = torch.zeros(32, 60), torch.rand(32, 60)
            marks[torch.arange(32), torch.randint(0, 20, (32,))] = 1
            marks[torch.arange(32), torch.randint(20, 40, (32,))] = 1
            target = (marks * values).sum(1, keepdim=True)
            scope.loss(nn.functional.mse_loss(model(torch.stack([values, marks], -1)), target)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return gradscope.read_run(folder)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_memory_too_short_for_its_task_is_found(seed: int, tmp_path: Path) -> None:
    """A tanh RNN of spectral radius 0.7 over 60 time steps hands nothing back to the first ones, and learns nothing."""
    torch.manual_seed(seed)
    finding, *others = findings(add(Adding(0.7), tmp_path / "run", 151))
    assert {other.follows for other in others} <= {finding.rule}
    assert (finding.rule, finding.severity, finding.layers) == ("vanishing-through-time", "error", ("rnn",))
    assert finding.causes[0].id == "long-backprop-chain"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_recurrence_that_grows_is_found_at_once(seed: int, tmp_path: Path) -> None:
    """A ReLU RNN of spectral radius 2 multiplies the gradient by √2 or so at each of 60 time steps."""
    torch.manual_seed(seed)
    (finding,) = [
        found
        for found in findings(add(Adding(2.0, "relu"), tmp_path / "run", 16, 1e-5))
        if found.rule == "vanishing-through-time"
    ]
    assert finding.message.startswith("Gradients explode through time in rnn: ")
    assert (finding.layers, finding.first_step) == (("rnn",), 0)
    assert {"long-backprop-chain", "no-clipping"} <= {cause.id for cause in finding.causes}


# the signals


def measured(model: nn.Module, folder: Path) -> Signals:
    """What three steps of a model on the digits say."""
    return Signals(Recipe(lambda: model, sgd(0.0), steps=11, batch=256).record(folder))


def test_openness_is_the_derivative_over_that_of_unit_inputs(tmp_path: Path) -> None:
    """A tanh after Xavier weights is open; one whose inputs have deviation 8 lets sqrt(4/3 · pdf(0) / 8) through."""
    torch.manual_seed(0)
    wide = nn.Linear(64, 2000, bias=False)
    nn.init.normal_(wide.weight, std=8 / 8)  # the digits have unit size
    signals = measured(nn.Sequential(wide, nn.Tanh(), nn.Linear(2000, 10)), tmp_path / "run")
    (tanh,) = hidden_activations(signals)
    passes = math.sqrt(4 / 3 / math.sqrt(2 * math.pi) / 8)
    assert openness(signals, tanh)[0] == pytest.approx(passes / 10**-0.167, rel=0.05)
    assert (signals.sites[tanh.layer].path, tanh.kind, tanh.gate) == ("0", "Tanh", False)


def test_a_silent_unit_is_counted_for_all_samples(tmp_path: Path) -> None:
    """Of 8 units whose biases hold 3 below zero for every digit, 3 are dead."""
    layer = nn.Linear(64, 8)
    nn.init.constant_(layer.weight, 0.0)
    layer.bias.data = torch.tensor([1.0, 1, 1, 1, 1, -1, -1, -1])
    signals = measured(nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 10)), tmp_path / "run")
    (relu,) = hidden_activations(signals)
    assert silent_share(signals, "lasting_slope")[relu.site, 0] == 3 / 8
    assert small_share(signals, "slope", -2)[relu.site, 0] == 3 / 8


def test_a_function_is_an_activation_of_the_layer_before_it(tmp_path: Path) -> None:
    """torch.tanh in a forward is named after the module that would do the same, and fed by the Linear."""

    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(torch.tanh(self.one(x)))

    signals = measured(Functions(), tmp_path / "run")
    (tanh,) = hidden_activations(signals)
    assert (tanh.kind, signals.sites[tanh.layer].path) == ("Tanh", "one")
    assert feeding_layer(signals, tanh.site) == tanh.layer


def test_a_gate_is_known_by_what_it_multiplies(tmp_path: Path) -> None:
    """The sigmoid of a squeeze-and-excitation block leaves its container and meets a product."""
    signals = measured(Gated(), tmp_path / "run")
    gates = {signals.sites[item.site].path: item.gate for item in hidden_activations(signals)}
    assert gates["gate.3"]
    assert not gates["gate.1"]


def test_what_weights_stretch_follows_from_their_initialization(tmp_path: Path) -> None:
    """rms(W)·√fan_in is √2 after He and √⅓ after torch's own (THEORY T2)."""
    torch.manual_seed(0)
    signals = measured(
        nn.Sequential(nn.Linear(64, 500), nn.ReLU(), nn.Linear(500, 500), nn.Linear(500, 10)), tmp_path / "a"
    )
    assert weight_gain(signals, signals.site("2"))[0] == pytest.approx(math.sqrt(1 / 3), rel=0.02)
    signals = measured(mlp(2, nn.ReLU, he, width=300), tmp_path / "b")
    assert weight_gain(signals, signals.site("2"))[0] == pytest.approx(math.sqrt(2), rel=0.02)
    assert np.isnan(weight_gain(signals, signals.site("1"))).all()


def test_samples_that_are_alike_have_no_spread(tmp_path: Path) -> None:
    """A layer of zero weights gives the same for every digit; the digits' own differences pass a random one."""
    model = mlp(2, nn.ReLU, he)
    nn.init.zeros_(model[2].weight)
    nn.init.ones_(model[2].bias)
    signals = measured(model, tmp_path / "run")
    assert spread(signals)[signals.site("2"), 0] == 0
    assert spread(signals)[signals.site("0"), 0] > 0.3


def test_what_is_learned_is_told_by_the_loss_of_the_best_constant() -> None:
    """0 at that loss, 1 at none, and against the first losses where it is not known."""
    loss = [4.0] * 5 + [0.5] * 15
    known = Signals(by_hand({"a": 1.0}, loss=loss, columns={"trivial_loss": 2.0}, steps=20))
    assert learned_share(known) == (0.75, 20)
    assert learned_share(Signals(by_hand({"a": 1.0}, loss=loss, steps=20))) == (0.875, 20)
    assert math.isnan(learned_share(Signals(by_hand({"a": 1.0})))[0])
    assert math.isnan(learned_share(Signals(by_hand({"a": 1.0}, loss=-3.0)))[0])


def test_an_onset_is_the_beginning_of_what_lasts() -> None:
    """Looks that are not known count neither way; what is over has no onset."""
    sick = np.array([True, False, True, True, False, True])
    assert onset(sick, np.array([True, True, True, True, False, True])) == 2
    assert onset(sick, np.ones(6, bool)) == 5
    assert onset(~sick, np.ones(6, bool)) is None
    assert onset(sick, np.zeros(6, bool)) is None


@pytest.mark.parametrize(
    ("label", "name", "value"),
    [
        ("Dropout(p=0.5, inplace=False)", "p", 0.5),
        ("BatchNorm1d(64, eps=1e-05, momentum=0.1, affine=True)", "eps", 1e-5),
        ("BatchNorm1d(64, eps=1e-05, momentum=0.1, affine=True)", "momentum", 0.1),
    ],
)
def test_a_modules_options_are_read_from_its_label(label: str, name: str, value: float) -> None:
    """As torch prints them."""
    assert option(label, name) == value


def test_an_option_that_is_no_number_is_not_known() -> None:
    """`momentum=None` is a mean of all batches."""
    assert math.isnan(option("BatchNorm1d(64, eps=1e-05, momentum=None)", "momentum"))
