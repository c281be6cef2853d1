"""untrained-parameter on real trainings: each way to leave a parameter out, and the ways in which that is meant."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Finding, Run
from tests.trainings import adam, digits, he, mlp, sgd

Step = Callable[[nn.Module, torch.optim.Optimizer], object]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    *,
    steps: int = 12,
    after: Step | None = None,
    every: int = 1,
) -> Run:
    """Trains on digits; `after` is called behind every step."""
    images, labels = digits()
    order = torch.Generator().manual_seed(0)
    with gradscope.watch(model, optimizer, run_dir=folder, every=every) as scope:
        for _ in range(steps):
            batch = torch.randint(0, len(images), (64,), generator=order)
            output = model(images[batch])
            output = output[0] if isinstance(output, tuple) else output
            scope.loss(functional.cross_entropy(output, labels[batch])).backward()
            optimizer.step()
            optimizer.zero_grad()
            if after is not None:
                after(model, optimizer)
    return gradscope.read_run(folder)


def found(run: Run) -> list[Finding]:
    """What the rule says."""
    return [finding for finding in diagnose(run).findings if finding.rule == "untrained-parameter"]


class Parts(nn.Module):
    """An encoder of two layers, a branch beside it and a head; `between` is what the encoder's output goes through."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 32)
        self.branch = nn.Linear(64, 32)
        self.head = nn.Linear(32, 10)
        self.between = between

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.between(self.encode(x)) + torch.relu(self.branch(x)))


def _through_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.detach().numpy())


@pytest.mark.parametrize(
    "cut", [lambda x: x.detach(), lambda x: x.data, _through_numpy], ids=["detach", "data", "numpy"]
)
def test_a_cut_is_named_with_the_modules_on_its_two_sides(
    cut: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    """The module right before the cut comes first, then what lies before it; the first behind it with a gradient is said."""
    model = Parts(cut)
    (finding,) = found(train(model, sgd(0.1)(model), tmp_path / "run"))
    assert (finding.severity, finding.layers, finding.first_step) == ("error", ("second", "first"), 0)
    assert finding.causes[0].id == "detached"
    assert "the graph is cut between second and branch" in finding.message
    assert finding.suggestions[0].remedy == "reattach"
    assert "the graph is cut between second and branch" in finding.suggestions[0].why


class Blind(Parts):
    """Runs its encoder under no_grad."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().encode(x)


def test_what_runs_under_no_grad_is_told_from_what_never_runs(tmp_path: Path) -> None:
    """An encoder under no_grad whose parameters the optimizer holds is found; without the optimizer it is meant."""
    model = Blind()
    (finding,) = found(train(model, sgd(0.1)(model), tmp_path / "sick"))
    assert (finding.severity, set(finding.layers)) == ("warning", {"first", "second"})
    assert finding.causes[0].id == "detached"
    model = Blind()
    held = [*model.branch.parameters(), *model.head.parameters()]
    assert found(train(model, torch.optim.SGD(held, lr=0.1), tmp_path / "meant")) == []


class Teacher(Parts):
    """Has a copy of its encoder that follows it and runs under no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.first)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            aim = self.teacher(x)
        return super().forward(x) + 0 * aim[:, :10]


@torch.no_grad()
def follow(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """Moves a teacher a little towards what it teaches."""
    assert isinstance(model, Teacher)
    for ours, theirs in zip(model.teacher.parameters(), model.first.parameters(), strict=True):
        ours.lerp_(theirs, 0.1)


def test_a_copy_that_follows_the_model_is_meant(tmp_path: Path) -> None:
    """A teacher that is an average of the student moves without gradients, though the optimizer was given all."""
    model = Teacher()
    assert found(train(model, sgd(0.1)(model), tmp_path / "run", after=follow)) == []


def test_an_optimizer_of_before_the_head_was_replaced(tmp_path: Path) -> None:
    """The new head is in no optimizer, which holds the old one; the cure is to build it when the model is final."""
    model = Parts()
    optimizer = sgd(0.1)(model)
    model.head = nn.Linear(32, 10)
    (finding,) = found(train(model, optimizer, tmp_path / "sick"))
    assert (finding.severity, finding.layers) == ("warning", ("head",))
    assert finding.causes[0].id == "not-in-optimizer"
    assert "holds 2 tensors that are none of the model's" in finding.causes[0].explanation
    assert finding.suggestions[0].remedy == "add-to-optimizer"
    assert "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)" in finding.suggestions[0].code
    assert found(train(model, sgd(0.1)(model), tmp_path / "cured")) == []


class InForward(Parts):
    """Makes a layer anew in each forward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.Linear(64, 64)(x))


def test_a_layer_that_is_made_in_forward(tmp_path: Path) -> None:
    """A module with parameters that runs in the model and is no part of it learns nothing."""
    model = InForward()
    (finding,) = found(train(model, sgd(0.1)(model), tmp_path / "run"))
    assert finding.severity == "error"
    assert "Linear(in_features=64, out_features=64, bias=True)" in finding.message
    assert finding.causes[0].id == "not-in-optimizer"
    assert "__init__" in finding.suggestions[0].code


class OnCopies(torch.optim.SGD):
    """Updates copies of what it was given, as one does that somebody wrapped wrongly."""

    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.clone().detach().sub_(group["lr"] * parameter.grad)


def test_an_optimizer_that_moves_nothing(tmp_path: Path) -> None:
    """Gradients flow, the learning rate is 0.1, and every step leaves every weight exactly as it was."""
    model = mlp(2, nn.ReLU, he)
    (finding,) = found(train(model, OnCopies(model.parameters(), lr=0.1), tmp_path / "sick"))
    assert (finding.severity, set(finding.layers)) == ("error", {"0", "2", "4"})
    assert "are left as they were by every step" in finding.message
    assert found(train(model, sgd(0.1)(model), tmp_path / "cured")) == []
    # a rate of 0 is another sickness
    assert found(train(model, sgd(0.0)(model), tmp_path / "rate")) == []


def test_weights_that_are_put_back(tmp_path: Path) -> None:
    """A loop that loads the same weights before every step trains nothing, though each step moves them."""
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU, he)
    weights = copy.deepcopy(model.state_dict())
    optimizer = adam()(model)
    run = train(model, optimizer, tmp_path / "run", after=lambda model, _: model.load_state_dict(weights))
    (finding,) = found(run)
    assert finding.severity == "error"
    assert "are put back after every step" in finding.message


class Experts(nn.Module):
    """Sends all samples to the first of three experts; the others run on nothing, or not at all."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)) for _ in range(3))
        self.dense = dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.dense:
            return self.experts[0](x)
        gates = torch.tensor([1.0, 0.0, 0.0])
        return sum(gate * expert(x) for gate, expert in zip(gates, self.experts, strict=True))  # type: ignore[return-value]


class TwoHeads(Parts):
    """Has a second head whose output no loss uses."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        features = self.encode(x) + torch.relu(self.branch(x))
        return self.head(features), self.value(features)


class ZeroBranch(Parts):
    """A branch that begins at exactly 0 (LoRA, ReZero)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(64, 4, bias=False), nn.Linear(4, 10, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.up(self.down(x))


class Attention(nn.Module):
    """Attention, whose key bias gets no gradient but rounding, and a bias before a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(8)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(x.view(-1, 8, 8)))
        return self.head(self.attention(x, x, x)[0].mean(1))


MEANT: dict[str, Callable[[], nn.Module]] = {
    "experts without samples": lambda: Experts(True),
    "experts that do not run": lambda: Experts(False),
    "a branch that begins at 0": ZeroBranch,
    "attention and normalisation": Attention,
    "a chain": lambda: mlp(3, nn.ReLU, he),
}


@pytest.mark.parametrize("make", [sgd(0.1), adam()], ids=["SGD", "Adam"])
@pytest.mark.parametrize("name", MEANT)
def test_what_gets_nothing_by_design_is_left_in_peace(
    name: str, make: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path
) -> None:
    """At the start and in the middle."""
    model = MEANT[name]()
    assert found(train(model, make(model), tmp_path / "run", steps=4)) == []
    model = MEANT[name]()
    assert found(train(model, make(model), tmp_path / "long", steps=60, every=4)) == []


def test_a_head_that_no_loss_uses_gets_a_note(tmp_path: Path) -> None:
    """A second head of which the loss takes nothing is no cut."""
    model = TwoHeads()
    (finding,) = found(train(model, sgd(0.1)(model), tmp_path / "run"))
    assert (finding.severity, set(finding.layers)) == ("note", {"value.0", "value.2"})


def test_a_frozen_backbone_is_left_in_peace(tmp_path: Path) -> None:
    """Frozen by requires_grad, and the head learns."""
    model = Parts()
    for part in (model.first, model.second, model.branch):
        part.requires_grad_(False)
    run = train(model, adam(0.01)(model), tmp_path / "run", steps=150, every=10)
    assert found(run) == []
    assert run.steps["loss"][-1] < 0.7 * run.steps["loss"][0]


def test_a_frozen_model_that_learns_nothing_is_found(tmp_path: Path) -> None:
    """All but the last bias is frozen, and the loss stays where it is: a warning says what is frozen."""
    model = Parts()
    model.requires_grad_(False)
    model.head.bias.requires_grad_(True)
    (finding,) = found(train(model, sgd(1e-3)(model), tmp_path / "run", steps=150, every=10))
    assert (finding.severity, finding.causes[0].id) == ("warning", "frozen")
    assert finding.suggestions[0].remedy == "reattach"
