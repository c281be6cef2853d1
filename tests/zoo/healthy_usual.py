"""Healthy trainings of usual networks: optimizers, schedules, fine-tuning, long after convergence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainings import adam, mlp, sgd
from tests.zoo.basics_deep import on_digits
from tests.zoo.data import digits
from tests.zoo.healthy_networks import on_images
from tests.zoo.nets import he, net
from tests.zoo.program import Program


class Adapter(nn.Module):
    """A frozen layer beside two thin ones, the second of which begins at 0 (LoRA)."""

    def __init__(self, frozen: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + self.up(self.down(x))


def learned() -> nn.Sequential:
    """A network that has learned which digits are below five."""
    model = net("64 | 64 relu 64 relu 2", he)
    optimizer, batch = torch.optim.Adam(model.parameters(), 3e-3), digits().batches(64, 99)
    for step in range(150):
        x, y = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x), (y < 5).long()).backward()
        optimizer.step()
    return model


def adapted() -> nn.Module:
    """A network whose layers are adapted to another task, with a new head."""
    model = learned()
    return nn.Sequential(Adapter(model[0]), nn.ReLU(), Adapter(model[2]), nn.ReLU(), nn.Linear(64, 10))  # type: ignore[arg-type]


def tuned() -> nn.Module:
    """A frozen network with a new head."""
    model = learned()
    return nn.Sequential(model[:-1].requires_grad_(False), nn.Linear(64, 10))


def trainable(rate: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Adam for what is not frozen."""
    return lambda model: torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)


def cosine(steps: int) -> Callable[[int], float]:
    """Warm-up over a tenth, then down to nothing."""
    return lambda step: min(
        (step + 1) / (steps / 10), 0.5 + 0.5 * float(torch.cos(torch.tensor(3.14159 * step / steps)))
    )


PROGRAMS = (
    Program("H18-lora", "adapters whose second half begins at 0", on_digits(adapted, trainable(3e-3)), fast=True),
    Program("H20-frozen", "a frozen network with a new head", on_digits(tuned, trainable(1e-2)), fast=True),
    Program(
        "H25-interpolates",
        "long after every sample is right",
        on_digits(partial(mlp, 2, nn.ReLU, he), adam(3e-3), steps=1500),
        fast=True,
    ),
    Program(
        "H26-cosine",
        "warm-up, then down to nothing",
        on_digits(partial(mlp, 3, nn.ReLU, he), adam(5e-3), steps=600, schedule=cosine(600)),
    ),
    Program(
        "H38-scale-invariant",
        "SGD at 0.1 with momentum and decay, BatchNorm",
        on_images(
            lambda: net("1x12x12 | c16k3 bn2 relu pool c32k3 bn2 relu flat 10", he),
            lambda model: torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4),
        ),
    ),
    Program(
        "H40-batch-4", "batches of 4", on_digits(partial(mlp, 3, nn.ReLU, he), sgd(0.01), size=4, steps=600), fast=True
    ),
    Program(
        "H41-selu",
        "10 SELU layers",
        on_digits(
            lambda: net(
                "64 | 10 x (64 selu) 10", lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear")
            ),
            sgd(0.02),
        ),
    ),
    Program("H41-wide", "a wide layer", on_digits(lambda: net("64 | 1024 relu 10", he), sgd(0.05))),
    Program(
        "H41-default-3",
        "3 ReLU layers as torch initialises them",
        on_digits(partial(mlp, 3, nn.ReLU, None), sgd(0.1, 0.9)),
    ),
    Program("H41-linear", "a linear model", on_digits(lambda: nn.Linear(64, 10), sgd(0.1))),
    Program(
        "H41-rmsprop",
        "RMSprop",
        on_digits(partial(mlp, 3, nn.ReLU, he), lambda model: torch.optim.RMSprop(model.parameters(), 1e-3)),
    ),
    Program(
        "H41-adagrad",
        "Adagrad",
        on_digits(partial(mlp, 3, nn.ReLU, he), lambda model: torch.optim.Adagrad(model.parameters(), 1e-2)),
    ),
    Program(
        "H41-adamw",
        "AdamW with decay",
        on_digits(
            partial(mlp, 3, nn.ReLU, he), lambda model: torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.1)
        ),
    ),
    Program(
        "H41-nesterov",
        "SGD, Nesterov's momentum",
        on_digits(
            partial(mlp, 3, nn.ReLU, he), lambda model: torch.optim.SGD(model.parameters(), 0.02, 0.9, nesterov=True)
        ),
    ),
)
