"""The basics: Adam's u and v, parameters that nobody trains, half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.trainings import adam, he, mlp, sgd
from tests.zoo import blames
from tests.zoo.basics_deep import warm_up
from tests.zoo.basics_time import letters
from tests.zoo.data import digits, source
from tests.zoo.loops import plain, training
from tests.zoo.nets import he as he_init
from tests.zoo.nets import net
from tests.zoo.program import Program, Training, among, blame, hidden
from tests.zoo.train import Session

Build = Callable[[int], Training]


def digits_mlp(optimizer: Any, loss: Any = cross_entropy, depth: int = 3, **more: Any) -> Build:
    """A ReLU network with He's initialization on the digits."""
    return lambda seed: training(digits(), mlp(depth, nn.ReLU, he), optimizer, loss, seed, **more)


def with_betas(rate: float, beta: float, eps: float = 1e-8) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Adam with another beta2 or eps."""
    return lambda model: torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, beta), eps=eps)


def tiny_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in units so large that its gradients are 1e-13 and Adam's eps is all that it divides by."""
    return 1e-12 * cross_entropy(outputs, labels)


def jump(training: Training, session: Session) -> None:
    """The plain loop; in its middle comes data that is 30 times as large, while Adam remembers small gradients."""
    ordinary = training.batch

    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = ordinary(step)
        return (x * 30, (y + 1) % 10) if step % 150 >= 147 else (x, y)

    training.batch = batch
    plain(training, session)


class Branches(nn.Module):
    """Two layers and a head; what is wrong is said by name."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if self.wrong == "detached":
            x = x.detach()
        if self.wrong == "numpy":
            x = torch.tensor(x.detach().numpy())
        x = self.second(x).relu()
        if self.wrong == "made anew":
            x = nn.Linear(64, 64)(x).relu()
        return self.head(x)


def branches(wrong: str, optimizer: Any) -> Build:
    """Trains `Branches`."""
    return lambda seed: training(digits(), Branches(wrong), optimizer, cross_entropy, seed)


def only_the_head(model: nn.Module) -> torch.optim.Optimizer:
    """SGD that was handed the last layer alone."""
    return torch.optim.SGD(model.head.parameters(), lr=0.05)  # type: ignore[union-attr]


def stale(model: nn.Module) -> torch.optim.Optimizer:
    """SGD made before two layers were replaced."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.first, model.second = nn.Linear(64, 64), nn.Linear(64, 64)
    return optimizer


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    """SGD for a model whose first layers somebody froze before they had learned anything."""
    for parameter in (*model.first.parameters(), *model.second.parameters()):  # type: ignore[union-attr]
        parameter.requires_grad_(False)
    return torch.optim.SGD(model.head.parameters(), lr=0.1)  # type: ignore[union-attr]


def half(dtype: torch.dtype, scale: float, optimizer: Any, **more: Any) -> Build:
    """A network whose weights and gradients are held in half precision; the loss is divided by `scale`."""

    def build(seed: int) -> Training:
        model = net("64 | 64 relu 64 relu 10", he_init).to(dtype)
        task = digits().but(lambda x: x.to(dtype))

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(outputs.float(), labels) * scale

        return training(task, model, optimizer, loss, seed, **more)

    return build


class Bag(nn.Module):
    """Rare words: an embedding whose rows mostly get no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2000, 32, sparse=False)
        self.body = net("32 | 64 relu", he_init)
        self.head = nn.Linear(64, 96)

    def forward(self, x: Tensor) -> Tensor:
        pairs = (x[:, 1:] * 20 + x[:, :-1] // 5) % 2000
        return self.head(self.body(self.embed(pairs)))


def next_letters(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy where the first letter has no pair."""
    return letters(outputs, labels[:, 1:])


UNTRAINED = blame(
    "untrained-parameter", "detached frozen not-in-optimizer", "reattach add-to-optimizer", among("first", "second")
)
PRECISION = blame(
    "precision-loss untrained-parameter vanishing-gradient loss-stalled non-finite learning-rate-too-low",
    "precision",
    "loss-scaling",
    hidden,
)
SPIKE = blame(
    "gradient-spike learning-rate-too-high exploding-gradient unscaled-data",
    "learning-rate-too-high no-clipping unscaled-input",
    "gradient-clipping lower-learning-rate warmup optimizer-swap standardize-inputs",
)
PROGRAMS = (
    # Adam
    Program("S-adam", "Adam as it comes", digits_mlp(adam()), fast=True),
    Program("S-adam-warm-up", "Adam with warm-up", digits_mlp(adam(3e-3), schedule=warm_up(100))),
    Program(
        "S-adam-eps",
        "gradients of 1e-13: Adam divides by its eps",
        digits_mlp(adam(), tiny_loss),
        blames.RATE_LOW
        | blame(
            "vanishing-gradient precision-loss untrained-parameter",
            "precision loss-reduction",
            "loss-scaling change-loss",
        ),
        "S-adam",
        fast=True,
    ),
    Program(
        "S-adam-jump",
        "Adam, and now and then data 30 times as large",
        digits_mlp(adam(3e-3), loop=jump),
        SPIKE,
        "S-adam",
    ),
    Program(
        "S-adam-beta2",
        "Adam with beta2 of 0.99999 and a large loss at the start",
        digits_mlp(with_betas(1e-3, 0.99999)),
        blames.RATE_LOW,
        "S-adam",
    ),
    Program(
        "S-sparse",
        "an embedding of rare words",
        lambda seed: training(
            source().towards(lambda y: y, lambda outputs, y: source().error(outputs, y[:, 1:])),
            Bag(),
            adam(3e-3),
            next_letters,
            seed,
            size=16,
        ),
    ),
    # parameters that nobody trains
    Program("S-branches", "two layers and a head", branches("", sgd(0.1)), fast=True),
    Program("S-detached", "detached in forward", branches("detached", sgd(0.1)), UNTRAINED, "S-branches", True, True),
    Program("S-numpy", "through numpy in forward", branches("numpy", sgd(0.1)), UNTRAINED, "S-branches", True),
    Program(
        "S-only-head", "the optimizer has the head alone", branches("", only_the_head), UNTRAINED, "S-branches", True
    ),
    Program(
        "S-stale", "the optimizer has layers that were replaced", branches("", stale), UNTRAINED, "S-branches", True
    ),
    Program(
        "S-made-anew",
        "a layer is made in every forward",
        branches("made anew", sgd(0.1)),
        blame("untrained-parameter loss-stalled", "not-in-optimizer detached", "add-to-optimizer reattach"),
        "S-branches",
        certain=True,
    ),
    # half precision
    Program("S-bfloat16", "bfloat16 weights", half(torch.bfloat16, 1.0, sgd(0.1))),
    Program(
        "S-float16-underflow",
        "float16 gradients that underflow: the loss is scaled down by 1e4",
        half(torch.float16, 1e-4, sgd(1e3)),
        PRECISION,
        "S-bfloat16",
    ),
    Program(
        "S-bfloat16-swallowed",
        "bfloat16 weights that are too coarse for the updates",
        half(torch.bfloat16, 1.0, sgd(3e-4)),
        PRECISION | blames.RATE_LOW,
        "S-bfloat16",
    ),
)
