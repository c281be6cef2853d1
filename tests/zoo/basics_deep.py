"""The basics: gradients that vanish, explode or are too many, and skip connections, each beside its healthy twin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.trainings import adam, he, mlp, sgd, xavier
from tests.zoo import blames, loops
from tests.zoo.data import digits
from tests.zoo.loops import training
from tests.zoo.program import Program, Training, blame, hidden

Build = Callable[[int], Training]
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


def on_digits(model: Callable[[], nn.Module], optimizer: Optimizer, **more: Any) -> Build:
    """A classifier of the digits."""
    return lambda seed: training(digits(), model(), optimizer, cross_entropy, seed, **more)


def plain(depth: int, activation: Callable[[], nn.Module], init: Any, optimizer: Optimizer, **more: Any) -> Build:
    """A plain deep network on the digits."""
    return on_digits(partial(mlp, depth, activation, init), optimizer, **more)


class Blocks(nn.Module):
    """Blocks of one layer each, added to what they are fed or not; ReZero scales each by a number that begins at 0."""

    def __init__(
        self,
        depth: int,
        activation: Callable[[], nn.Module],
        init: Any,
        *,
        skip: bool,
        norm: bool = False,
        rezero: bool = False,
    ) -> None:
        super().__init__()
        self.skip = skip
        self.first = nn.Linear(64, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 64), *([nn.BatchNorm1d(64)] if norm else []), activation())
            for _ in range(depth)
        )
        self.head = nn.Linear(64, 10)
        self.scales = nn.Parameter(torch.zeros(depth)) if rezero else None
        for module in self.modules() if init is not None else ():
            if isinstance(module, nn.Linear):
                init(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for number, block in enumerate(self.blocks):
            part = block(x)
            if self.scales is not None:
                part = self.scales[number] * part
            x = x + part if self.skip else part
        return self.head(x)


class Transformer(nn.Module):
    """A transformer that reads an image as eight rows, its norms before or after each block's two parts."""

    def __init__(self, depth: int, *, before: bool, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(torch.zeros(8, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=before)
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        for parameter in self.blocks.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.norm = nn.LayerNorm(width) if before else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.view(-1, 8, 8)) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def warm_up(steps: int) -> Callable[[int], float]:
    """A learning rate that rises over the first steps."""
    return lambda step: min((step + 1) / steps, 1.0)


tanh_20 = "S-tanh-20-adam"
relu_20 = "S-relu-20-he-adam"
PROGRAMS = (
    # vanishing
    Program("S-tanh-20-sgd", "20 tanh layers, Xavier, SGD", plain(20, nn.Tanh, xavier, sgd(0.02)), fast=True),
    Program(tanh_20, "20 tanh layers, Xavier, Adam", plain(20, nn.Tanh, xavier, adam())),
    Program(
        "S-sigmoid-20-sgd",
        "20 sigmoid layers, SGD",
        plain(20, nn.Sigmoid, xavier, sgd(0.1)),
        blames.CONTRACTS,
        "S-tanh-20-sgd",
        fast=True,
    ),
    Program(
        "S-sigmoid-20-adam", "20 sigmoid layers, Adam", plain(20, nn.Sigmoid, None, adam()), blames.CONTRACTS, tanh_20
    ),
    Program(
        "S-relu-20-default-sgd",
        "20 ReLU layers as torch initialises them, SGD",
        plain(20, nn.ReLU, None, sgd(0.1)),
        blames.SMALL_INIT,
        relu_20,
        fast=True,
    ),
    Program(
        "S-relu-20-default-adam",
        "20 ReLU layers as torch initialises them, Adam",
        plain(20, nn.ReLU, None, adam()),
        blames.SMALL_INIT,
        relu_20,
    ),
    Program(
        "S-tanh-20-x8-sgd",
        "20 tanh layers saturated by Xavier x8, SGD",
        plain(20, nn.Tanh, lambda weight: xavier(weight, 8), sgd(0.02)),
        blames.SATURATED,
        "S-tanh-20-sgd",
    ),
    Program(
        "S-tanh-20-x8-adam",
        "20 tanh layers saturated by Xavier x8, Adam",
        plain(20, nn.Tanh, lambda weight: xavier(weight, 8), adam()),
        blames.SATURATED,
        tanh_20,
    ),
    Program(
        "S-tanh-6-x40",
        "6 tanh layers saturated by Xavier x40",
        plain(6, nn.Tanh, lambda weight: xavier(weight, 40), adam()),
        blames.SATURATED,
        tanh_20,
    ),
    # exploding
    Program(relu_20, "20 ReLU layers, He, Adam", plain(20, nn.ReLU, he, adam())),
    Program(
        "S-relu-20-x2-sgd",
        "20 ReLU layers, He x2, SGD",
        plain(20, nn.ReLU, lambda weight: he(weight, 2), sgd(0.01)),
        blames.LARGE_INIT,
        relu_20,
        fast=True,
    ),
    Program(
        "S-relu-20-x2-adam",
        "20 ReLU layers, He x2, Adam",
        plain(20, nn.ReLU, lambda weight: he(weight, 2), adam()),
        blames.LARGE_INIT,
        relu_20,
    ),
    Program("S-relu-4-sgd", "4 ReLU layers, He, SGD", plain(4, nn.ReLU, he, sgd(0.05)), fast=True),
    Program("S-relu-4-adam", "4 ReLU layers, He, Adam", plain(4, nn.ReLU, he, adam())),
    Program(
        "S-no-zero-grad",
        "gradients are never zeroed, SGD",
        plain(4, nn.ReLU, he, sgd(0.05), loop=loops.never_zeroed),
        blames.NOT_ZEROED,
        "S-relu-4-sgd",
        fast=True,
    ),
    Program(
        "S-no-zero-grad-adam",
        "gradients are never zeroed, Adam",
        plain(4, nn.ReLU, he, adam(3e-3), loop=loops.never_zeroed),
        blames.NOT_ZEROED,
        "S-relu-4-adam",
    ),
    Program(
        "S-micro-summed",
        "64 micro-batches a step, their gradients summed",
        plain(4, nn.ReLU, he, sgd(0.05), loop=loops.micro_batches(64, averaged=False), size=8, steps=60),
        blames.SUMMED,
        "S-micro-averaged",
    ),
    Program(
        "S-micro-averaged",
        "64 micro-batches a step, their gradients averaged",
        plain(4, nn.ReLU, he, sgd(0.05), loop=loops.micro_batches(64, averaged=True), size=8, steps=60),
    ),
    Program(
        "S-rate-x100",
        "SGD's learning rate times 100",
        plain(4, nn.ReLU, he, sgd(5.0)),
        blames.RATE_HIGH,
        "S-relu-4-sgd",
        fast=True,
    ),
    Program(
        "S-rate-x100-adam",
        "Adam's learning rate times 100",
        plain(4, nn.ReLU, he, adam(0.1)),
        blames.RATE_HIGH,
        "S-relu-4-adam",
    ),
    Program(
        "S-rate-low",
        "SGD's learning rate divided by 1,000",
        plain(4, nn.ReLU, he, sgd(5e-5)),
        blames.RATE_LOW,
        "S-relu-4-sgd",
        fast=True,
    ),
    # skip connections
    Program(
        "S-skip-tanh",
        "30 tanh blocks with skips",
        on_digits(lambda: Blocks(30, nn.Tanh, None, skip=True), sgd(0.01)),
        fast=True,
    ),
    Program(
        "S-no-skip-tanh",
        "30 tanh blocks without skips, SGD",
        on_digits(lambda: Blocks(30, nn.Tanh, None, skip=False), sgd(0.01)),
        blames.SMALL_INIT | blames.CONTRACTS,
        "S-skip-tanh",
    ),
    Program(
        "S-no-skip-sigmoid",
        "30 sigmoid blocks without skips",
        on_digits(lambda: Blocks(30, nn.Sigmoid, None, skip=False), adam()),
        blames.CONTRACTS,
        "S-skip-sigmoid",
    ),
    Program(
        "S-skip-sigmoid",
        "30 sigmoid blocks with skips",
        on_digits(lambda: Blocks(30, nn.Sigmoid, None, skip=True), adam()),
    ),
    Program(
        "S-residual-40-he",
        "40 residual ReLU blocks, He, no norm: the signal doubles in each",
        on_digits(lambda: Blocks(40, nn.ReLU, he, skip=True), sgd(0.01)),
        blames.LARGE_INIT,
        "S-rezero",
    ),
    Program(
        "S-rezero",
        "40 residual ReLU blocks, each scaled by a number that begins at 0",
        on_digits(lambda: Blocks(40, nn.ReLU, he, skip=True, rezero=True), adam()),
    ),
    # normalised stacks
    Program(
        "S-bn-40",
        "40 BatchNorm-ReLU layers without skips: x1.21 a layer",
        on_digits(lambda: Blocks(40, nn.ReLU, he, skip=False, norm=True), sgd(0.05)),
        blames.LARGE_INIT | blames.NORM | blame("exploding-gradient", "norm-at-init", "skip-connection"),
        "S-bn-40-skip",
    ),
    Program(
        "S-bn-40-skip",
        "40 BatchNorm-ReLU blocks with skips",
        on_digits(lambda: Blocks(40, nn.ReLU, he, skip=True, norm=True), sgd(0.05)),
    ),
    Program(
        "S-post-norm-12",
        "12 post-norm transformer layers without warm-up",
        on_digits(lambda: Transformer(12, before=False), adam(3e-3), size=32, steps=150),
        blame(
            "vanishing-gradient exploding-gradient learning-rate-too-high normalization-fault representation-collapse "
            "loss-stalled gradient-spike dead-units",
            "post-norm-without-warmup learning-rate-too-high",
            "warmup lower-learning-rate layer-norm",
            hidden,
        ),
        "S-pre-norm-12",
    ),
    Program(
        "S-pre-norm-12",
        "12 pre-norm transformer layers",
        on_digits(lambda: Transformer(12, before=True), adam(1e-3), size=32, steps=150),
    ),
    Program(
        "S-post-norm-12-warm",
        "12 post-norm transformer layers with warm-up",
        on_digits(lambda: Transformer(12, before=False), adam(5e-4), size=32, steps=200, schedule=warm_up(100)),
    ),
)
