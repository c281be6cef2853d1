"""Healthy networks that look sick: gradients that are zero on purpose, dead units that should be dead, deep stacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainings import ResidualBlock, ResNet, adam, sgd
from tests.zoo.basics_deep import Blocks, Transformer, on_digits, warm_up
from tests.zoo.basics_time import CharModel, letters, text
from tests.zoo.data import digits, pictures, source
from tests.zoo.loops import training
from tests.zoo.nets import he, initialise, net
from tests.zoo.program import Program, Training

Build = Callable[[int], Training]


def on_images(model: Callable[[], nn.Module], optimizer: Any, size: int = 12, **more: Any) -> Build:
    """A classifier of small images."""
    return lambda seed: training(
        pictures(size), model(), optimizer, F.cross_entropy, seed, **{"size": 32, "steps": 150, **more}
    )


class DeepResNet(nn.Module):
    """A ResNet of many blocks on 8x8 images; the last BatchNorm of each block may begin at 0."""

    def __init__(self, blocks: int, *, zero: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*(ResidualBlock(16, 16) for _ in range(blocks)))
        self.head = nn.Linear(16, 10)
        for block in self.blocks if zero else ():
            nn.init.zeros_(block.bn2.weight)  # type: ignore[arg-type, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x.view(-1, 1, 8, 8))).relu()
        return self.head(self.blocks(x).mean((2, 3)))


class Fixup(nn.Module):
    """Residual blocks without norms whose last layer, and the head, begin at 0."""

    def __init__(self, blocks: int = 10) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.blocks = nn.ModuleList(net("64 | 64 relu 64", he) for _ in range(blocks))
        self.scales = nn.Parameter(torch.ones(blocks))
        self.head = nn.Linear(64, 10)
        for block in self.blocks:
            block[0].weight.data.mul_(blocks**-0.5)  # type: ignore[index, union-attr]
            nn.init.zeros_(block[2].weight)  # type: ignore[index]
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for number, block in enumerate(self.blocks):
            x = x + self.scales[number] * block(x)
        return self.head(x.relu())


class Experts(nn.Module):
    """Eight experts of which each sample goes to one; some get no sample in a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 32)
        self.gate = nn.Linear(32, 8)
        self.experts = nn.ModuleList(net("32 | 32 relu 32", he) for _ in range(8))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        share, chosen = self.gate(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            if mine.any():
                out = out.index_put((mine.nonzero()[:, 0],), expert(x[mine]))
        return self.head(x + share[:, None] * out)


class SquaredReLU(nn.Module):
    """ReLU², zero for most on purpose."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


class TopK(nn.Module):
    """Keeps the few largest features of each sample."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        values, places = x.topk(self.count, dim=-1)
        return torch.zeros_like(x).scatter(-1, places, values.relu())


class Excited(nn.Module):
    """Convolutions whose channels are gated, and a gated linear unit; the gates may close for good."""

    def __init__(self) -> None:
        super().__init__()
        self.body = net("1x12x12 | c16k3 relu pool", he)
        self.squeeze = net("16 | 8 relu 16 sigmoid")
        self.gated = nn.Linear(400, 128)
        self.head = nn.Linear(64, 10)
        self.squeeze[2].bias.data.fill_(4.0)  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = x * self.squeeze(x.mean((2, 3)))[:, :, None, None]
        return self.head(F.glu(self.gated(x.flatten(1)), -1))


class Tied(nn.Module):
    """A character model whose head is its embedding, and whose one layer is used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(96, 32)
        nn.init.normal_(self.embed.weight, std=32**-0.5)
        self.layer = net("32 | 32 gelu 32")
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 96, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for _ in range(3):
            x = x + self.layer(self.norm(x))
        return self.head(self.norm(x))


class Stochastic(nn.Module):
    """Residual blocks that are skipped in half of the steps."""

    def __init__(self, depth: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.blocks = nn.ModuleList(net("64 | 64 relu 64", he) for _ in range(depth))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            if not self.training:
                x = x + 0.15 * block(x)
            elif torch.rand(()) < 0.5:
                x = x + 0.3 * block(x)
        return self.head(x)


class Gated(nn.Module):
    """An LSTM whose forget gates stand wide open and hardly move."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(8, 32, batch_first=True)
        self.layer.bias_ih_l0.data[32:64] = 8.0
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.view(-1, 8, 8))[0].mean(1))


class Rare(nn.Module):
    """An embedding of 5,000 words of which a batch sees a few (Zipf)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5000, 16)
        self.body = net("32 | 64 relu 96", he)

    def forward(self, x: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        word = (before * 96 + x) % 4900 + 96
        return self.body(torch.cat([self.embed(word), self.embed(x)], -1))


def reconstruct(model: Callable[[], nn.Module], **more: Any) -> Build:
    """An autoencoder of the digits."""

    def build(seed: int) -> Training:
        base = digits()
        task = type(base)(base.x, base.x, base.held_x, base.held_x, _residual)
        return training(task, model(), adam(2e-3), F.mse_loss, seed, **more)

    return build


def _residual(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs - targets).square().mean() / (targets - targets.mean(0)).square().mean())


def reborn(layers: int) -> nn.Module:
    """BatchNorm-ReLU layers, deep."""
    model = net("64 | " + " ".join(["48 bn relu"] * layers) + " 10", he)
    initialise(model, he)
    return model


PROGRAMS = (
    Program("H16-resnet", "a ResNet, SGD", on_digits(ResNet, sgd(0.05, 0.9), size=32, steps=150), fast=True),
    Program(
        "H16-resnet-20",
        "a ResNet of 10 blocks",
        on_digits(partial(DeepResNet, 10, zero=False), sgd(0.05, 0.9), size=16, steps=100),
    ),
    Program(
        "H17-pre-norm-6",
        "6 pre-norm layers on text",
        text(partial(CharModel, 6), adam(2e-3), schedule=warm_up(30), steps=120),
    ),
    Program(
        "H17-pre-norm-digits", "4 pre-norm layers", on_digits(lambda: Transformer(4, before=True), adam(2e-3), size=32)
    ),
    Program(
        "H18-zero-gamma",
        "the last BatchNorm of each block begins at 0",
        on_digits(partial(DeepResNet, 6, zero=True), sgd(0.05, 0.9), size=16, steps=120),
    ),
    Program("H18-fixup", "residual branches and head begin at 0", on_digits(Fixup, sgd(0.05)), fast=True),
    Program(
        "H19-bias-before-bn",
        "biases before BatchNorm",
        on_images(lambda: net("1x12x12 | c16k3 bn2 relu pool c32k3 bn2 relu flat 10", he), adam()),
    ),
    Program(
        "H21-embedding",
        "an embedding of 5,000 words",
        lambda seed: training(source(), Rare(), adam(5e-3), letters, seed, size=16),
        fast=True,
    ),
    Program("H22-experts", "eight experts, one for each sample", on_digits(Experts, adam(2e-3)), fast=True),
    Program(
        "H31-top-k",
        "a sparse autoencoder: 12 of 256 features",
        reconstruct(lambda: nn.Sequential(nn.Linear(64, 256), TopK(12), nn.Linear(256, 64))),
    ),
    Program(
        "H31-squared-relu",
        "ReLU²",
        on_digits(
            lambda: nn.Sequential(
                nn.Linear(64, 128),
                SquaredReLU(),
                nn.LayerNorm(128),
                nn.Linear(128, 128),
                SquaredReLU(),
                nn.Linear(128, 10),
            ),
            adam(),
        ),
    ),
    Program(
        "H32-autoencoder",
        "64 -> 4 -> 64",
        reconstruct(lambda: net("64 | 64 relu 4 64 relu 64", he), steps=500),
        fast=True,
    ),
    Program("H33-gates", "gates that are open on purpose", on_images(Excited, adam(2e-3)), fast=True),
    Program("H33-lstm", "forget gates that stand open", on_digits(Gated, adam(5e-3))),
    Program(
        "H34-tied",
        "tied weights, one layer used three times",
        lambda seed: training(source(), Tied(), adam(5e-3), letters, seed, size=16),
    ),
    Program(
        "H35-dropout-0.8",
        "dropout of 0.8 in a wide layer",
        on_digits(lambda: net("64 | 512 relu do0.8 10", he), adam(), steps=400),
        fast=True,
    ),
    Program("H35-stochastic-depth", "blocks that are skipped at random", on_digits(Stochastic, adam(2e-3))),
    Program("H37-bn-20", "20 BatchNorm-ReLU layers", on_digits(partial(reborn, 20), sgd(0.02), steps=300)),
    Program(
        "H41-blocks-gelu", "12 GELU blocks with skips", on_digits(lambda: Blocks(12, nn.GELU, None, skip=True), adam())
    ),
)
