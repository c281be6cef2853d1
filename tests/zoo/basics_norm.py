"""The basics: normalisation layers and dropout, each sick and well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tests.trainings import adam, sgd
from tests.zoo import blames, loops
from tests.zoo.data import Task, digits, friedman, pictures
from tests.zoo.loops import training
from tests.zoo.nets import he, net
from tests.zoo.program import Program, Training, among, blame, of_kind
from tests.zoo.train import Session

Build = Callable[[int], Training]


def flat(text: str, optimizer: Any, *, change: Callable[[nn.Module], None] | None = None, **more: Any) -> Build:
    """A network on the flat digits; `change` does what is wrong to it."""

    def build(seed: int) -> Training:
        model = net(f"64 | {text}", he)
        if change is not None:
            change(model)
        return training(digits(), model, optimizer, cross_entropy, seed, **more)

    return build


def images(text: str, optimizer: Any, **more: Any) -> Build:
    """A small convolutional network on images of 12x12 points."""
    return lambda seed: training(
        pictures(12), net(f"1x12x12 | {text}", he), optimizer, cross_entropy, seed, **{"steps": 200, **more}
    )


def shifted() -> Task:
    """The digits, far from zero as they come from a sensor: mean 3."""
    return digits().but(lambda x: x + 3)


def slow_memory(model: nn.Module) -> None:
    """Running statistics that hardly follow: momentum 1e-4."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1e-4


def tested_in_training(training: Training, session: Session) -> None:
    """The plain loop, whose tests forget `model.eval()`."""
    held = training.task.held_x[:64]
    every = max(training.steps // 20, 1)
    training.validates = False

    def forgetful(step: int) -> float:
        if step % every == 0:
            with torch.no_grad():
                training.model(held)
        return 1.0

    training.schedule = forgetful
    loops.plain(training, session)


class Groups(nn.Module):
    """Convolutions down to 1x1 points, a normalisation there, a head."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.body = net("1x12x12 | c16k3 relu pool c32k3 relu pool c32k1 relu", he)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.GroupNorm(groups, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.pool(self.body(x))).flatten(1))


class Scalar(nn.Module):
    """A network that squeezes everything through a few features, normalises them, and goes on."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = net("9 | 64 relu 64 relu", he)
        self.squeeze = nn.Linear(64, features)
        self.norm = nn.LayerNorm(features)
        self.head = net(f"{features} | 32 tanh 1")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.squeeze(self.body(x))))


EVAL = blame(
    "normalization-fault dropout-fault",
    "norm-at-init dead-path output-activation frozen",
    "batch-norm layer-norm lower-dropout",
    of_kind("Norm", "Dropout"),
)
TINY = blame("normalization-fault", "norm-at-init dead-path", "larger-batch layer-norm batch-norm", of_kind("Norm"))
SINGLE = blame(
    "normalization-fault representation-collapse untrained-parameter vanishing-gradient dead-units",
    "norm-at-init dead-path",
    "layer-norm batch-norm",
    among("norm", "squeeze", "body", "pool"),
)
STRONG = blame("dropout-fault", "dead-path init-too-small norm-at-init", "lower-dropout", of_kind("Dropout"))
BN = "64 bn relu 64 bn relu 10"
CONV = "c16k3 {0} relu pool c32k3 {0} relu flat 10"
PROGRAMS = (
    # BatchNorm
    Program("S-bn", "BatchNorm, batches of 32", flat(BN, sgd(0.05), size=32), fast=True),
    Program("S-bn-images", "BatchNorm, images", images(CONV.format("bn2"), sgd(0.05))),
    Program(
        "S-bn-batch-2",
        "BatchNorm, batches of 2",
        flat(BN, sgd(0.05), size=2, steps=600),
        TINY | blames.RATE_HIGH,
        "S-bn",
        fast=True,
    ),
    Program(
        "S-bn-images-batch-1",
        "BatchNorm, batches of 1 image",
        images(CONV.format("bn2"), sgd(0.05), size=1, steps=400),
        TINY | blames.RATE_HIGH,
        "S-bn-images",
    ),
    Program(
        "S-bn-running",
        "BatchNorm whose running statistics hardly follow",
        flat(BN, sgd(0.05), size=32, change=slow_memory),
        blames.NORM | blames.FROZEN_STATISTICS,
        "S-bn",
        fast=True,
    ),
    Program(
        "S-bn-eval",
        "in eval mode all the time",
        lambda seed: training(
            shifted(), net(f"64 | {BN}", he), sgd(0.5), cross_entropy, seed, size=32, loop=loops.always_eval
        ),
        EVAL | blames.RATE_HIGH,
        "S-bn",
        certain=True,
    ),
    # LayerNorm, GroupNorm
    Program("S-ln", "LayerNorm", flat("64 ln relu 64 ln relu 10", adam()), fast=True),
    Program("S-gn-images", "GroupNorm, images", images(CONV.format("gn4"), adam())),
    Program(
        "S-in-images",
        "a group for each channel, images",
        images("c16k3 gn16 relu pool c32k3 gn32 relu flat 10", adam()),
    ),
    Program(
        "S-ln-single",
        "LayerNorm over a single feature",
        lambda seed: training(friedman(), Scalar(1), adam(3e-3), mse_loss, seed),
        SINGLE,
        "S-ln-16",
        fast=True,
    ),
    Program(
        "S-ln-16",
        "LayerNorm over 16 features",
        lambda seed: training(friedman(), Scalar(16), adam(3e-3), mse_loss, seed),
    ),
    Program(
        "S-gn-single",
        "GroupNorm of one channel a group on 1x1 points",
        lambda seed: training(pictures(12), Groups(32), adam(3e-3), cross_entropy, seed, steps=250),
        SINGLE,
        "S-gn-8",
    ),
    Program(
        "S-gn-8",
        "GroupNorm of 8 channels a group on 1x1 points",
        lambda seed: training(pictures(12), Groups(4), adam(3e-3), cross_entropy, seed, steps=250),
    ),
    # dropout
    Program("S-dropout-0.1", "dropout of 0.1", flat("64 relu do0.1 64 relu do0.1 10", adam()), fast=True),
    Program("S-dropout-0.5", "dropout of 0.5", flat("128 relu do0.5 128 relu do0.5 10", adam(2e-3))),
    Program(
        "S-dropout-0.95",
        "dropout of 0.95 in every layer",
        flat("64 relu do0.95 64 relu do0.95 64 relu do0.95 10", adam()),
        STRONG,
        "S-dropout-0.1",
        fast=True,
    ),
    Program(
        "S-dropout-tested",
        "dropout left on where it is tested",
        flat("64 relu do0.5 64 relu do0.5 10", adam(), loop=tested_in_training),
        blames.DROPOUT | EVAL,
        "S-dropout-0.1",
        certain=True,
    ),
    Program(
        "S-dropout-off",
        "in eval mode all the time: no dropout in training",
        flat("64 relu do0.5 64 relu do0.5 10", adam(), loop=loops.always_eval),
        blames.DROPOUT | EVAL,
        "S-dropout-0.1",
        certain=True,
    ),
)
