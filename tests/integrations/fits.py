"""What the tests of all adapters share: nets, digits, and what a training leaves behind."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradscope.integrations.training import Watching
from gradscope.records import Run
from gradscope.store import read_run
from tests.trainings import digits, he, mlp, xavier

BATCH = 64
RULES = {"vanishing": "vanishing-gradient", "exploding": "exploding-gradient"}


def net(kind: str = "healthy") -> nn.Sequential:
    """A net that is healthy, or whose gradients vanish or explode on the way to its first layers; from seed 0."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    if kind == "vanishing":
        return mlp(20, nn.Sigmoid)
    if kind == "exploding":
        return mlp(20, nn.Tanh, lambda weight: xavier(weight, 8))
    return nn.Sequential(*mlp(3, nn.ReLU, he)[:-1], nn.Dropout(0.1), nn.Linear(64, 10))  # moves the random numbers


def data(batches: int = 8) -> TensorDataset:
    """So many batches of digits."""
    images, labels = digits()
    return TensorDataset(images[: batches * BATCH], labels[: batches * BATCH])


def loader(batches: int = 8) -> DataLoader[tuple[torch.Tensor, ...]]:
    """So many batches of digits, shuffled."""
    return DataLoader(data(batches), batch_size=BATCH, shuffle=True)


def everything(
    model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], losses: Iterable[float]
) -> list[torch.Tensor]:
    """All that a training leaves behind: weights, the optimizers' state, the random numbers to come, the losses."""
    found = [value.clone() for value in model.state_dict().values()]
    for optimizer in optimizers:
        for state in optimizer.state_dict()["state"].values():
            found += [value.clone() for value in state.values() if isinstance(value, torch.Tensor)]
    found += [torch.get_rng_state(), torch.tensor([random.random(), np.random.random()], dtype=torch.float64)]
    return [*found, torch.tensor(list(losses), dtype=torch.float64)]


def recorded(watching: Watching) -> Run:
    """The run of the training that ended last."""
    assert watching.run_dir is not None
    return read_run(watching.run_dir)


def ended(watching: Watching) -> str:
    """How that run ended."""
    events = [event for event in recorded(watching).events if event.kind == "ended"]
    return str(events[-1].data["reason"])


def values(watching: Watching, name: str) -> list[float]:
    """What was written down under a name."""
    events = [event for event in recorded(watching).events if event.kind == "value"]
    return [float(event.data["value"]) for event in events if event.data["name"] == name]


def assert_healthy(watching: Watching, losses: Iterable[float]) -> None:
    """The run is healthy and has exactly these losses, one a step."""
    run = recorded(watching)
    assert watching.diagnosis.verdict == "healthy", watching.diagnosis
    assert run.steps["has_loss"].all()
    np.testing.assert_allclose(run.steps["loss"], list(losses), rtol=1e-5)


def assert_sick(watching: Watching, kind: str, path: str = "") -> None:
    """The first finding is the net's sickness, and it is in the net's first layers."""
    finding = watching.diagnosis.findings[0]
    assert finding.rule == RULES[kind], watching.diagnosis
    assert f"{path}0" in finding.layers
    assert watching.diagnosis.verdict in ("unhealthy", "broken")
