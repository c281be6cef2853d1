"""The basics: gradients through time, and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.trainings import adam, sgd
from tests.zoo import blames, loops
from tests.zoo.data import Task, digits, source, split, wrong_class
from tests.zoo.loops import training
from tests.zoo.program import Program, Training, blame, hidden

Build = Callable[[int], Training]


def remember(length: int, samples: int = 800) -> Task:
    """Which of four symbols came first, after `length` steps of noise: `[N, length, 4]`."""
    dice = torch.Generator().manual_seed(11)
    x = 0.05 * torch.randn(samples, length, 4, generator=dice)
    y = torch.randint(0, 4, (samples,), generator=dice)
    x[:, 0] += 4 * torch.eye(4)[y]
    return split(x, y, wrong_class)


class Reader(nn.Module):
    """A recurrent layer that reads a sequence, and a head that looks at its end."""

    def __init__(self, layer: nn.Module, outputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def recurrent(radius: float, fed: int, nonlinearity: str = "tanh") -> nn.Module:
    """A plain recurrent layer whose recurrent matrix is a rotation times `radius`."""
    layer = nn.RNN(fed, 32, batch_first=True, nonlinearity=nonlinearity)
    nn.init.orthogonal_(layer.weight_hh_l0, radius)
    nn.init.zeros_(layer.bias_hh_l0)
    nn.init.zeros_(layer.bias_ih_l0)
    return layer


def gated(fed: int, forget: float) -> nn.Module:
    """An LSTM whose forget gates begin with this bias."""
    layer = nn.LSTM(fed, 32, batch_first=True)
    nn.init.zeros_(layer.bias_hh_l0)
    layer.bias_ih_l0.data[32:64] = forget
    return layer


def remembers(layer: Callable[[], nn.Module], length: int, optimizer: Any, **more: Any) -> Build:
    """A recurrent layer that is to remember the first symbol."""
    return lambda seed: training(
        remember(length), Reader(layer(), 4), optimizer, cross_entropy, seed, **{"steps": 200, "size": 32, **more}
    )


def rows(layer: Callable[[], nn.Module], optimizer: Any, **more: Any) -> Build:
    """A recurrent layer that reads the digits row by row."""
    return lambda seed: training(
        digits().but(lambda x: x.view(-1, 8, 8)), Reader(layer(), 10), optimizer, cross_entropy, seed, **more
    )


class CharModel(nn.Module):
    """A pre-norm transformer that reads characters; `sharp` multiplies what its attention compares."""

    def __init__(self, depth: int = 2, width: int = 32, sharp: float = 1.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(96, width)
        self.position = nn.Parameter(0.02 * torch.randn(32, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        for module in self.blocks.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.in_proj_weight.data[: 2 * width] *= sharp
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 96)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        return self.head(self.norm(self.blocks(self.embed(x) + self.position, mask=mask, is_causal=False)))


def letters(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next character."""
    return cross_entropy(outputs.flatten(0, 1), labels.flatten())


def text(model: Callable[[], nn.Module], optimizer: Any, **more: Any) -> Build:
    """A model of Python's own source."""
    return lambda seed: training(source(), model(), optimizer, letters, seed, **{"steps": 200, "size": 16, **more})


ATTENTION = blame(
    "representation-collapse exploding-gradient saturated-activation vanishing-gradient poor-initialization",
    "attention-logit-growth init-too-large activation-saturates",
    "initialization lower-learning-rate layer-norm",
    hidden,
)
PROGRAMS = (
    Program(
        "S-lstm-60",
        "an LSTM with forget bias 4, 60 steps",
        remembers(lambda: gated(4, 4.0), 60, adam(3e-3), steps=300),
        fast=True,
    ),
    Program(
        "S-lstm-100",
        "an LSTM with forget bias 5, 100 steps",
        remembers(lambda: gated(4, 5.0), 100, adam(3e-3), steps=250),
    ),
    Program("S-lstm-rows", "an LSTM with forget bias 1, 8 steps", rows(lambda: gated(8, 1.0), adam(3e-3))),
    Program("S-rnn-rows", "a plain recurrent layer, 8 steps", rows(lambda: recurrent(1.0, 8), adam(1e-3))),
    Program(
        "S-rnn-100-0.7",
        "a plain recurrent layer, 100 steps, radius 0.7",
        remembers(lambda: recurrent(0.5, 4), 100, adam(3e-3), steps=250),
        blames.TIME_VANISHES,
        "S-lstm-100",
        fast=True,
    ),
    Program(
        "S-rnn-100-1.0",
        "a plain recurrent layer, 100 steps, radius 1",
        remembers(lambda: recurrent(1.0, 4), 100, adam(1e-3), steps=250),
    ),
    Program(
        "S-lstm-100-closed",
        "an LSTM with forget bias 0, 100 steps",
        remembers(lambda: gated(4, 0.0), 100, adam(3e-3), steps=250),
        blames.TIME_VANISHES,
        "S-lstm-100",
    ),
    Program(
        "S-rnn-60-1.5",
        "a plain ReLU recurrent layer, 60 steps, radius 1.5",
        remembers(lambda: recurrent(1.6, 4, "relu"), 60, adam(3e-3), steps=300),
        blames.TIME_EXPLODES,
        "S-lstm-60",
        fast=True,
    ),
    Program(
        "S-rnn-60-2-tanh",
        "a plain tanh recurrent layer, 60 steps, radius 3: chaos",
        remembers(lambda: recurrent(3.0, 4), 60, adam(3e-3), steps=300),
        blames.TIME_EXPLODES | blames.SATURATED,
        "S-lstm-60",
    ),
    Program(
        "S-rnn-clipped",
        "radius 1.2, its gradient's norm clipped at 1",
        rows(lambda: recurrent(1.2, 8), sgd(0.1), loop=loops.clipped(1.0)),
    ),
    Program("S-text", "a transformer on text", text(CharModel, adam(3e-3))),
    Program(
        "S-attention-sharp",
        "attention that compares x100 too large: one key takes all",
        text(lambda: CharModel(sharp=100.0), adam(3e-3)),
        ATTENTION,
        "S-text",
    ),
)
