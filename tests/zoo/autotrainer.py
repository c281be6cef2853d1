"""Networks of AutoTrainer's study that do not train (Zhang et al. 2021), and some of it that do.

`autotrainer.txt` has one a line: data, name, published symptom, initialization (that of the last layer after a slash),
layers. Networks that are alike but for their name begin with other random numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.trainings import adam, sgd
from tests.zoo import blames
from tests.zoo.data import Task, blobs, circles, pictures
from tests.zoo.loops import training
from tests.zoo.nets import glorot, he, he_uniform, keras_binary, keras_crossentropy, net, uniform
from tests.zoo.program import Blame, Program, Training, blame

INITS: dict[str, Callable[[Tensor], object]] = {"he-uniform": he_uniform, "he-normal": he, "uniform": uniform}
TWINS = {
    "circle": "C-circle-simplednn",
    "blob": "C-blob-simplednn_blob",
    "mnist": "C-mnist-lenet_seed",
    "cifar": "C-cifar-lenet5",
}
FAST = ("C-circle-5ab0aeda", "C-circle-8de47bdc", "C-circle-169a3fa1", "C-circle-46edb7df", TWINS["circle"])


def task(data: str) -> tuple[Task, str]:
    """The data set of a name, smaller than the published one where that is large, and the shape of one input."""
    if data == "mnist":
        return pictures(28), "1x28x28"
    if data == "cifar":
        return pictures(32, 3), "3x32x32"
    return (circles() if data == "circle" else blobs()), "2"


def network(shape: str, init: str, layers: str) -> nn.Sequential:
    """The network as it is written, its last layer initialised on its own."""
    body, _, head = init.partition("/")
    model = net(f"{shape} | {layers}", INITS[body])
    if head:
        INITS[head]([module for module in model if isinstance(module, nn.Linear)][-1].weight)
    return model


def published(data: str, name: str, init: str, layers: str) -> Callable[[int], Training]:
    """The published training, Adam; on points in the plane thrice its rate of 1e-3 and a third of its steps."""
    large = data in ("mnist", "cifar")

    def build(seed: int) -> Training:
        torch.manual_seed(zlib.crc32(name.encode()) + seed)
        samples, shape = task(data)
        loss = keras_binary if data == "circle" else keras_crossentropy
        if not layers.endswith(("sigmoid", "softmax")):
            loss = nn.functional.cross_entropy
        size, steps = (16, 80) if data == "cifar" else (32, 120) if data == "mnist" else (128, 1000)
        return training(
            samples, network(shape, init, layers), adam(1e-3 if large else 3e-3), loss, seed, size=size, steps=steps
        )

    return build


def _blame(symptom: str, init: str) -> Blame | None:
    if symptom == "vanish":
        return blames.SMALL_INIT if init.startswith("uniform") else blames.CONTRACTS
    return {"explode": blames.EXPONENTIAL, "dying_relu": blames.DEAD, "none": None}[symptom]


def _published() -> Iterator[Program]:
    text = (Path(__file__).parent / "autotrainer.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        data, name, symptom, init, layers = line.split(maxsplit=4)
        right = _blame(symptom, init)
        identity = f"C-{data}-{name}"
        yield Program(
            identity,
            f"{layers} ({symptom})",
            published(data, name, init, layers),
            right,
            TWINS[data] if right else "",
            fast=identity in FAST,
        )


def on_blobs(
    layers: str, init: Any, optimizer: Any, loss: Any = keras_crossentropy, **more: Any
) -> Callable[[int], Training]:
    """A network on the three clouds."""
    return lambda seed: training(blobs(), net(f"2 | {layers}", init), optimizer, loss, seed, **more)


def on_mnist(layers: str, init: Any, optimizer: Any, **more: Any) -> Callable[[int], Training]:
    """A flat network on the enlarged digits."""

    def build(seed: int) -> Training:
        flat = pictures(28).but(lambda x: x.flatten(1))
        return training(flat, net(f"784 | {layers}", init), optimizer, keras_crossentropy, seed, **more)

    return build


def rms(rate: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """RMSprop with Keras's rho of 0.675."""
    return lambda model: torch.optim.RMSprop(model.parameters(), lr=rate, alpha=0.675)


def lenet(seed: int, rate: float) -> Training:
    """A convolutional network with 13 more hidden layers, RMSprop."""
    layers = "c6k5 relu pool c16k5 relu pool flat 120 relu 13 x (84 relu) 10 softmax"
    return training(
        pictures(28), net(f"1x28x28 | {layers}", he), rms(rate), keras_crossentropy, seed, size=64, steps=150
    )


PROGRAMS = (
    *_published(),
    Program(
        "C-oscillates",
        "SGD at 0.01 with momentum 0.9 on batches of one",
        on_blobs("50 relu 3 softmax", he, sgd(0.01, 0.9), size=1, steps=1500),
        blames.RATE_HIGH | blame("gradient-spike learning-rate-too-high", "learning-rate-too-high", "larger-batch"),
        "C-batch-256",
    ),
    Program(
        "C-batch-256",
        "Adam at 0.01 on batches of 256",
        on_blobs("50 relu 3 softmax", he, adam(1e-2), size=256),
        fast=True,
    ),
    Program(
        "C-relu-output",
        "ReLU where a softmax belongs",
        on_blobs("4 x (50 relu) 3 relu", he, adam(1e-4), size=256, steps=600),
        blames.OUTPUT,
        "C-softmax-output",
    ),
    Program("C-softmax-output", "a softmax", on_blobs("4 x (50 relu) 3 softmax", he, adam(1e-4), size=256, steps=600)),
    Program(
        "C-sigmoid-8",
        "8 sigmoid layers of 5",
        lambda seed: training(
            circles(), net("2 | 8 x (5 sigmoid) 1 sigmoid"), adam(3e-3), keras_binary, seed, size=128, steps=1000
        ),
        blames.CONTRACTS,
        TWINS["circle"],
    ),
    Program(
        "C-relu-34",
        "34 ReLU layers, glorot_uniform",
        on_mnist("34 x (128 relu) 10 softmax", glorot, adam(1e-3), size=32, steps=100),
        blames.SMALL_INIT | blames.DEAD,
        "C-relu-34-he",
    ),
    Program(
        "C-relu-34-he", "34 ReLU layers, He", on_mnist("34 x (128 relu) 10 softmax", he, adam(3e-4), size=32, steps=250)
    ),
    Program(
        "C-lenet-rmsprop",
        "RMSprop at 0.01: stuck at ln 10, published as healthy",
        lambda seed: lenet(seed, 0.01),
        blames.RATE_HIGH | blames.DEAD,
        "C-mnist-ma_al_16",
    ),
)
