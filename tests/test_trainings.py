"""End to end: sick trainings on real data are found with their cause, healthy ones are left in peace."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Run
from tests.trainings import HEALTHY, SICK, Training, adam, he, mlp, sgd, xavier


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small matrices are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Functions(nn.Module):
    """A network whose activations are functions, as many write it."""

    def __init__(
        self,
        depth: int,
        activation: Callable[[torch.Tensor], torch.Tensor],
        init: Callable[[torch.Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(depth))
        self.head = nn.Linear(64, 10)
        for layer in (*self.layers, self.head) if init is not None else ():
            init(layer.weight)  # type: ignore[misc, arg-type, operator]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.head(x)


WRITTEN_WITH_FUNCTIONS = {
    "sigmoid 20, functions": Training(lambda: Functions(20, torch.sigmoid), sgd(0.1)),
    "ReLU 20, torch's init, functions": Training(lambda: Functions(20, torch.relu), sgd(0.1)),
    "tanh 20, init x8, functions": Training(lambda: Functions(20, torch.tanh, lambda w: xavier(w, 8)), sgd(0.01)),
}
# By the beginning of the name: the rules and the causes that may lead.
EXPECTED = {
    "sigmoid 20": ({"vanishing-gradient"}, {"activation-contracts"}),
    "ReLU 20, torch's init": ({"vanishing-gradient"}, {"init-too-small"}),
    "tanh 20, init x8": ({"exploding-gradient"}, {"init-too-large"}),
    "ReLU 20, He x2": ({"exploding-gradient"}, {"init-too-large"}),
    "targets x1e4": ({"unscaled-data", "exploding-gradient"}, {"unscaled-target"}),
}


def expected(name: str) -> tuple[set[str], set[str]]:
    """The rules of which one must lead and the causes that may lead."""
    return next(value for beginning, value in EXPECTED.items() if name.startswith(beginning))


@pytest.mark.parametrize(
    ("name", "training"), [*SICK.items(), *WRITTEN_WITH_FUNCTIONS.items()], ids=[*SICK, *WRITTEN_WITH_FUNCTIONS]
)
def test_a_sick_training_is_found_within_five_steps(name: str, training: Training, tmp_path: Path) -> None:
    """After five steps the first finding names the sickness, its likeliest cause, and the layers that have it."""
    run = training.record(tmp_path / "run", 5)
    diagnosis = diagnose(run)
    rules, causes = expected(name)
    finding = diagnosis.findings[0]
    assert diagnosis.verdict in ("unhealthy", "broken")
    assert finding.rule in rules
    assert (finding.severity, finding.first_step) == ("error", 0)
    assert finding.causes[0].id in causes
    assert finding.suggestions
    first = "layers.0" if "functions" in name else "0"
    head = run.info.sites[run.info.heads[0]].path
    if name.startswith("targets"):
        assert finding.layers == (head,)
    else:
        assert first in finding.layers
        assert head not in finding.layers
    assert not any("stopped" in missing.why for missing in diagnosis.not_observed)


def beginning(run: Run, last: int) -> Run:
    """What had been recorded of a run when step `last` had closed."""
    steps = run.steps[run.steps["step"] <= last]
    return replace(
        run,
        steps=steps,
        learning_rates=run.learning_rates[: len(steps)],
        summaries=run.summaries[run.summaries["step"] <= last],
    )


SLOW = ("ResNet, SGD", "ResNet, Adam", "pre-norm transformer, Adam")  # one seed each


@pytest.mark.parametrize(
    ("name", "seed"),
    [(name, seed) for name in HEALTHY for seed in range(1 if name in SLOW else 3)],
    ids=lambda item: str(item),
)
def test_a_healthy_training_is_left_in_peace(name: str, seed: int, tmp_path: Path) -> None:
    """After 10 steps and after 100 a healthy training is called healthy, without so much as a note."""
    run = HEALTHY[name].record(tmp_path / "run", 101, every=5, seed=seed)
    for last in (10, 100):
        diagnosis = diagnose(beginning(run, last))
        assert (diagnosis.verdict, diagnosis.findings) == ("healthy", ())
    assert run.steps["loss"][-1] < run.steps["loss"][0]


LONG = {  # steps and the loss that they reach at least
    "He-ReLU 4, SGD": (1500, 0.01),
    "Xavier-tanh 20, Adam": (400, 0.1),
    "ResNet, SGD": (160, 0.05),
    "pre-norm transformer, Adam": (250, 0.5),
}


@pytest.mark.parametrize(("name", "steps", "reached"), [(name, *item) for name, item in LONG.items()], ids=LONG)
def test_a_converged_training_is_still_healthy(name: str, steps: int, reached: float, tmp_path: Path) -> None:
    """Long after convergence, when all gradients are tiny, a healthy training is healthy at every look in between."""
    run = HEALTHY[name].record(tmp_path / "run", steps, every=20)
    assert run.steps["loss"][-20:].mean() < reached
    for last in range(40, steps, steps // 10):
        assert diagnose(beginning(run, last)).findings == ()
    assert diagnose(run).verdict == "healthy"


@pytest.mark.parametrize(
    ("sick", "cured"),
    [
        (Training(lambda: mlp(20, nn.ReLU), adam()), Training(lambda: mlp(20, nn.ReLU, he), adam())),
        (
            Training(lambda: mlp(20, nn.Tanh, lambda w: xavier(w, 8)), adam()),
            Training(lambda: mlp(20, nn.Tanh, xavier), adam()),
        ),
    ],
    ids=["ReLU 20: He for torch's init", "tanh 20: Xavier for Xavier x8"],
)
def test_the_healthy_twin_differs_by_the_cure_alone(sick: Training, cured: Training, tmp_path: Path) -> None:
    """The same network with the first suggestion followed is no longer sick."""
    finding = diagnose(sick.record(tmp_path / "sick", 11)).findings[0]
    assert finding.suggestions[0].remedy == "initialization"
    assert diagnose(cured.record(tmp_path / "cured", 11)).verdict == "healthy"


def test_infinite_weights_are_recorded_without_a_warning(tmp_path: Path) -> None:
    """A weight that stays infinite is found from the first step on; warnings turned into errors stop nothing."""
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3))
    model[0].weight.data[9] = -math.inf  # a row that is never looked up
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(5):
            optimizer.zero_grad()
            scope.loss(model(torch.arange(6)).square().mean()).backward()
            optimizer.step()
    diagnosis = diagnose(gradscope.read_run(tmp_path / "run"))
    assert [(finding.rule, finding.layers) for finding in diagnosis.findings] == [("non-finite", ("0",))]
    assert diagnosis.not_observed == ()
