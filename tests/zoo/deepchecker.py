"""Programs of TheDeepChecker's study (Ben Braiek & Khomh 2023): three networks that train, each with one line changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tests.trainings import adam, sgd
from tests.zoo import blames
from tests.zoo.data import Task, friedman, pictures
from tests.zoo.loops import training
from tests.zoo.nets import constant, he, keras_crossentropy, net, normal
from tests.zoo.program import Blame, Program, Training, blame, first, hidden, of_kind

Build = Callable[[int], Training]

# A network for regression: what a car needs, from nine of its measurements. The measurements are made up, their ranges are
# those of the cars.
LOWEST = torch.tensor([3.0, 68.0, 46.0, 1613.0, 8.0, 70.0, 0.0, 0.0, 0.0])
RANGE = torch.tensor([5.0, 387.0, 184.0, 3527.0, 16.8, 12.0, 1.0, 1.0, 1.0])


def cars() -> Task:
    """Nine features in [0, 1] and a target in about [-1, 1]."""
    return friedman().towards(lambda y: y / 3)


def with_decay(rate: float, decay: float, eps: float = 1e-8) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Adam with an L2 penalty of `decay` times the sum of squared weights, as Keras adds it to the loss."""
    return lambda model: torch.optim.Adam(model.parameters(), lr=rate, weight_decay=2 * decay, eps=eps)


def regression(
    *,
    text: str = "9 | 64 relu 64 relu 1",
    init: Any = he,
    optimizer: Any = None,
    loss: Any = mse_loss,
    data: Callable[[Task], Task] = lambda task: task,
    steps: int = 400,
) -> Build:
    """The network for regression, with something changed."""

    def build(seed: int) -> Training:
        chosen = optimizer or with_decay(1e-3, 1e-5)
        return training(data(cars()), net(text, init), chosen, loss, seed, size=32, steps=steps)

    return build


def shuffled(task: Task) -> Task:
    """Targets that belong to other inputs."""
    return task.but(lambda x: x[torch.randperm(len(x), generator=torch.Generator().manual_seed(2))])


def uphill(model: nn.Module) -> torch.optim.Optimizer:
    """Adam that adds the gradient instead of taking it away."""
    return torch.optim.Adam(model.parameters(), lr=1e-3, maximize=True)


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    """The sum of squared errors, where the mean belongs."""
    return (outputs - targets).square().sum()


def broadcast(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs `[N, 1]` less targets `[N]`: every output against every target."""
    return (outputs - targets[:, 0]).square().mean()


def entropy_of_a_number(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy on a number that is no probability."""
    return -(targets * outputs.clamp(1e-10, 1).log()).mean()


# A convolutional network.
CONV = "c16k5 relu pool c32k3 relu pool flat {width} relu 10"
IMAGES = 16  # points a side


def convolutional(
    *,
    text: str = CONV.format(width=128) + " softmax",
    init: Any = he,
    optimizer: Any = None,
    loss: Any = keras_crossentropy,
    data: Callable[[Task], Task] = lambda task: task,
    steps: int = 250,
) -> Build:
    """The convolutional network, with something changed."""
    shape = f"1x{IMAGES}x{IMAGES}"
    return lambda seed: training(
        data(pictures(IMAGES)), net(f"{shape} | {text}", init), optimizer or sgd(0.1), loss, seed, size=32, steps=steps
    )


def clipped_log(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy on what is taken for probabilities, clipped at 1e-10 and 1."""
    return -outputs.clamp(1e-10, 1).gather(-1, labels[:, None]).log().mean()


def over_the_batch(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy after a softmax over the batch instead of the classes."""
    return -torch.softmax(outputs, 0).clamp(1e-10, 1).gather(-1, labels[:, None]).log().mean()


def summed_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the batch and averaged over the classes."""
    return -nn.functional.one_hot(labels, 10).mul(outputs.clamp(1e-10, 1).log()).sum(0).mean()


def squared(outputs: Tensor, labels: Tensor) -> Tensor:
    """Squared error on probabilities."""
    return mse_loss(outputs, nn.functional.one_hot(labels, 10).to(outputs.dtype))


def unequal(task: Task) -> Task:
    """Nine tenths of what is left are zeros and ones."""

    def fewer(x: Tensor, y: Tensor) -> Tensor:
        rare = torch.cumsum((y > 1).long(), 0) <= 25
        return x[(y <= 1) | rare]

    return Task(fewer(task.x, task.y), fewer(task.y, task.y), task.held_x, task.held_y, task.error)


def penalised(decay: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """SGD at 0.1 with an L2 penalty."""
    return lambda model: torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=2 * decay)


# A deeper convolutional network with BatchNorm.
VGG = "c16k3p {n} relu c16k3p {n} relu pool c32k3p {n} relu c32k3p {n} relu pool flat 64 relu 10"


def vgg(
    *,
    norm: str = "bn2",
    init: Any = he,
    optimizer: Any = None,
    change: Callable[[nn.Module], None] = lambda model: None,
) -> Build:
    """Four convolutions and two layers, with something changed."""

    def build(seed: int) -> Training:
        model = net(f"1x12x12 | {VGG.format(n=norm)}", init)
        change(model)
        return training(pictures(12), model, optimizer or adam(), cross_entropy, seed, size=32, steps=120)

    return build


def never_updated(model: nn.Module) -> None:
    """BatchNorm layers that never write their running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0


DECAY = blame(
    "loss-stalled representation-collapse vanishing-gradient dead-units poor-initialization output-loss-mismatch "
    "learning-rate-too-low learning-rate-too-high untrained-parameter",
    "regularization-too-strong",
    "lower-weight-decay",
)
UNRELATED = Blame(frozenset(["loss-stalled", "learning-rate-too-low", "learning-rate-too-high"]))
UPHILL = blame(
    "exploding-gradient loss-stalled learning-rate-too-high non-finite gradient-spike output-loss-mismatch unscaled-data",
    "loss-mismatch learning-rate-too-high",
    "change-loss lower-learning-rate gradient-clipping",
)
SOFT = blame(
    "vanishing-gradient saturated-activation representation-collapse loss-stalled poor-initialization",
    "activation-contracts activation-saturates output-activation",
    "activation-swap change-output-activation",
    hidden,
)


def _regression() -> tuple[Program, ...]:
    twin = "D-regression"

    def sick(
        number: int, title: str, right: Blame, *, certain: bool = False, fast: bool = False, **change: Any
    ) -> Program:
        return Program(f"D{number}", title, regression(**change), right, twin, certain, fast)

    high, low, rate = blames.RATE_HIGH, blames.RATE_LOW, 1e-3
    saturated = blames.OUTPUT | blames.RATE_LOW
    return (
        Program(twin, "regression as it should be", regression(), fast=True),
        sick(1, "Adam at 0.1", high, optimizer=with_decay(0.1, 1e-5)),
        sick(2, "Adam at 1e-5", low, optimizer=with_decay(1e-5, 1e-5), fast=True),
        sick(3, "Adam's eps 1e-16", high, optimizer=with_decay(rate, 1e-5, 1e-16)),
        sick(
            4, "inputs not scaled", blames.INPUTS, data=lambda task: task.but(lambda x: x * RANGE + LOWEST), fast=True
        ),
        sick(5, "L2 penalty of 0.1", DECAY, optimizer=with_decay(rate, 0.1)),
        sick(6, "a softmax on one output", blames.OUTPUT, text="9 | 64 relu 64 relu 1 softmax", fast=True),
        sick(7, "a sigmoid for targets in [-1, 1]", saturated, text="9 | 64 relu 64 relu 1 sigmoid"),
        sick(8, "all weights 0.01", blames.SYMMETRIC, init=constant(0.01), fast=True),
        sick(9, "weights of N(0, 0.25)", blames.LARGE_INIT, init=normal(0.25)),
        sick(10, "the gradient's sign flipped", UPHILL, optimizer=uphill),
        sick(11, "targets of other inputs", UNRELATED, data=shuffled),
        sick(
            12,
            "summed loss and targets ten times as large",
            blames.SUMMED | blames.TARGETS,
            loss=summed,
            data=lambda task: task.towards(lambda y: 10 * y),
        ),
        sick(13, "(N, 1) - (N,) is broadcast", blames.LOSS, loss=broadcast, fast=True),
        sick(14, "cross-entropy on a number", blames.LOSS | blames.OUTPUT, loss=entropy_of_a_number),
        sick(15, "targets ten times as large", blames.TARGETS, data=lambda task: task.towards(lambda y: 10 * y)),
        sick(
            16,
            "inputs divided by their range twice",
            blames.INPUTS | blames.RATE_LOW,
            data=lambda task: task.but(lambda x: x / RANGE),
        ),
    )


def _convolutional() -> tuple[Program, ...]:
    twin = "D-convolutional"

    def sick(
        number: int, title: str, right: Blame, *, certain: bool = False, fast: bool = False, **change: Any
    ) -> Program:
        return Program(f"D{number}", title, convolutional(**change), right, twin, certain, fast)

    plain = CONV.format(width=128)
    soft = plain.replace("relu", "softmax") + " softmax"
    image = first(2)
    return (
        Program(twin, "a convolutional network as it should be", convolutional()),
        sick(17, "SGD at 0.5", blames.RATE_HIGH, optimizer=sgd(0.5), text=CONV.format(width=256) + " softmax"),
        sick(18, "SGD at 1e-3", blames.RATE_LOW, optimizer=sgd(1e-3)),
        sick(19, "Adam at 0.1, eps 1e-16", blames.RATE_HIGH | blames.DEAD, optimizer=with_decay(0.1, 0, 1e-16)),
        sick(20, "all weights 0.01", blames.SYMMETRIC | blames.SMALL_INIT, init=constant(0.01)),
        sick(21, "weights of N(0, 0.1)", blames.LARGE_INIT | blames.SMALL_INIT, init=normal(0.1)),
        sick(22, "points from 0 to 255", blames.INPUTS.at(image), data=lambda task: task.but(lambda x: 255 * x)),
        sick(
            23,
            "points divided by 255 twice",
            (blames.INPUTS | blames.RATE_LOW).at(image),
            data=lambda task: task.but(lambda x: x / 255),
        ),
        sick(24, "softmax as the hidden activation", SOFT, text=soft),
        sick(25, "softmax, and again in the loss", blames.OUTPUT, loss=cross_entropy, certain=True),
        sick(26, "no softmax: logits clipped to [0, 1]", blames.OUTPUT, text=plain, loss=clipped_log),
        sick(27, "softmax over the batch", blames.OUTPUT | blames.LOSS, text=plain, loss=over_the_batch, certain=True),
        sick(28, "cross-entropy summed over the batch", blames.SUMMED, loss=summed_entropy),
        sick(29, "squared error on a softmax", (blames.LOSS | blames.OUTPUT | blames.RATE_LOW).at(None), loss=squared),
        sick(30, "L2 penalty of 0.1", DECAY, optimizer=penalised(0.1)),
        sick(31, "nine tenths are zeros and ones", UNRELATED, data=unequal),
    )


def _deep() -> tuple[Program, ...]:
    twin = "D-deep"
    norms = of_kind("Norm")
    return (
        Program(twin, "four convolutions with BatchNorm", vgg()),
        Program("D32", "without BatchNorm", vgg(norm=""), blames.SMALL_INIT | blames.DEAD, twin),
        Program(
            "D33",
            "running statistics never written",
            vgg(change=never_updated),
            blames.FROZEN_STATISTICS.at(norms),
            twin,
        ),
        Program("D34", "weights of N(0, 0.25)", vgg(init=normal(0.25)), blames.LARGE_INIT, twin),
        Program("D35", "SGD at 0.1 with momentum", vgg(optimizer=sgd(0.1, 0.9)), blames.RATE_HIGH, twin),
    )


PROGRAMS = (*_regression(), *_convolutional(), *_deep())
