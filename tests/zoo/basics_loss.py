"""The basics: squared error, cross-entropies, focal, triplet and similarity losses, each sick and well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainings import adam, he, mlp, sgd
from tests.zoo import blames
from tests.zoo.data import Task, cancer, digits, friedman, wrong_side
from tests.zoo.loops import training
from tests.zoo.nets import he as he_init
from tests.zoo.nets import keras_binary, logits_binary, net, times
from tests.zoo.program import Program, Training, blame, hidden, last

Build = Callable[[int], Training]


def regression(text: str, optimizer: Any, loss: Any = F.mse_loss, *, scale: float = 1.0, **more: Any) -> Build:
    """A network on Friedman's function, its targets scaled."""

    def build(seed: int) -> Training:
        task = friedman().towards(lambda y: y * scale)
        return training(task, net(text, he_init), optimizer, loss, seed, **more)

    return build


def two_classes(text: str, loss: Any, optimizer: Any, *, init: Any = he_init, **more: Any) -> Build:
    """A network on the tumours, one output."""

    def build(seed: int) -> Training:
        task = _tumours()
        if text.endswith(("sigmoid", "1 relu")):  # probabilities
            task = task.towards(lambda y: y, wrong_side)
        return training(task, net(text, init), optimizer, loss, seed, **more)

    return build


def ten_classes(model: Callable[[], nn.Module], loss: Any, optimizer: Any, **more: Any) -> Build:
    """A classifier of the digits with a loss of its own."""
    return lambda seed: training(digits(), model(), optimizer, loss, seed, **more)


def _tumours() -> Task:
    mean, deviation = cancer().x.mean(0), cancer().x.std(0)
    return cancer().but(lambda x: (x - mean) / deviation)


def focal(gamma: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Focal loss on logits."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        said = F.log_softmax(outputs, -1).gather(-1, labels[:, None])[:, 0]
        return (-((1 - said.exp()) ** gamma) * said).mean()

    return loss


def squared_one_hot(outputs: Tensor, labels: Tensor) -> Tensor:
    """Squared error against 0 and 1."""
    return F.mse_loss(outputs, labels.to(outputs.dtype)[:, None])


def clamped_binary(outputs: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy on what is taken for a probability but may be anything from 0 up."""
    return F.binary_cross_entropy(outputs[:, 0].clamp(0, 1), labels.to(outputs.dtype))


# Losses on embeddings: pairs of the same digit against others.


def triplet(margin: float, *, hardest: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Distances to the same class against distances to others: the hardest pairs of the batch, or all triplets' mean."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        distance = (outputs[:, None] - outputs[None]).square().sum(-1)
        if hardest:
            distance = (distance + 1e-12).sqrt()
        same = labels[:, None] == labels[None]
        far = distance.masked_fill(~same, 0).amax(1)
        near = distance.masked_fill(same, 1e9).amin(1)
        if hardest:
            return F.relu(far - near + margin).mean()
        every = F.relu(distance[:, :, None] - distance[:, None, :] + margin)
        counted = same[:, :, None] & ~same[:, None, :]
        return (every * counted).sum() / counted.sum().clamp(min=1)

    return loss


def contrast(temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """InfoNCE over the batch: similarity of cosines, those of the same class are to be the largest."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        unit = F.normalize(outputs, dim=-1)
        alike = unit @ unit.T / temperature
        alike = alike - torch.eye(len(alike)) * 1e9
        same = (labels[:, None] == labels[None]).float() - torch.eye(len(alike))
        said = F.log_softmax(alike, -1)
        return -((said * same).sum(1) / same.sum(1).clamp(min=1)).mean()

    return loss


def neighbours(outputs: Tensor, labels: Tensor) -> float:
    """The share of embeddings whose nearest neighbour is another digit, over nine tenths."""
    distance = torch.cdist(outputs, outputs) + torch.eye(len(outputs)) * 1e9
    return float((labels[distance.argmin(1)] != labels).float().mean() / 0.9)


def embedding(loss: Any, optimizer: Any, *, init: Any = he, last: float = 1.0, **more: Any) -> Build:
    """Embeddings of the digits in 16 dimensions; the head's weights scaled by `last`."""

    def build(seed: int) -> Training:
        model = mlp(2, nn.ReLU, init, outputs=16)
        model[-1].weight.data.mul_(last)
        task = digits().towards(lambda y: y, neighbours)
        return training(task, model, optimizer, loss, seed, **more)

    return build


def classifier(end: str = "") -> Callable[[], nn.Module]:
    """Two hidden ReLU layers and ten outputs, with something behind them."""
    return lambda: net(f"64 | 64 relu 64 relu 10 {end}", he_init)


SATURATES = blame(
    "output-loss-mismatch saturated-activation vanishing-gradient loss-stalled poor-initialization",
    "loss-mismatch output-activation activation-saturates init-too-large",
    "change-loss change-output-activation initialization",
    last(3),
)
COLD = blame(
    "exploding-gradient learning-rate-too-high output-loss-mismatch loss-stalled gradient-spike representation-collapse "
    "unscaled-data dead-units",
    "loss-mismatch learning-rate-too-high init-too-small output-activation",
    "change-loss lower-learning-rate gradient-clipping initialization layer-norm batch-norm",
    hidden,
)
PROGRAMS = (
    # squared error
    Program("S-mse", "standardised targets", regression("9 | 64 relu 64 relu 1", sgd(0.02)), fast=True),
    Program("S-mse-adam", "standardised targets, Adam", regression("9 | 64 relu 64 relu 1", adam(3e-3))),
    Program("S-mse-adam-short", "the same, short steps", regression("9 | 64 relu 64 relu 1", adam(3e-4))),
    Program("S-huber", "Huber's loss", regression("9 | 64 relu 64 relu 1", sgd(0.05), F.smooth_l1_loss)),
    Program(
        "S-mse-targets-sgd",
        "targets of about 1,000, SGD",
        regression("9 | 64 relu 64 relu 1", sgd(0.02), scale=1e3),
        blames.TARGETS,
        "S-mse",
        fast=True,
    ),
    Program(
        "S-mse-targets-adam",
        "targets of about 1,000, Adam",
        regression("9 | 64 relu 64 relu 1", adam(3e-4), scale=1e3),
        blames.TARGETS,
        "S-mse-adam-short",
    ),
    # binary cross-entropy
    Program("S-bce", "logits", two_classes("30 | 32 relu 32 relu 1", logits_binary, sgd(0.05)), fast=True),
    Program("S-bce-adam", "logits, Adam", two_classes("30 | 32 relu 32 relu 1", logits_binary, adam())),
    Program(
        "S-bce-probability", "a sigmoid and BCE", two_classes("30 | 32 relu 32 relu 1 sigmoid", keras_binary, adam())
    ),
    Program(
        "S-sigmoid-mse",
        "sigmoid and squared error, saturated by large weights",
        two_classes("30 | 32 relu 32 relu 1 sigmoid", squared_one_hot, sgd(0.05), init=times(8, he_init)),
        SATURATES,
        "S-bce",
    ),
    Program(
        "S-bce-relu",
        "binary cross-entropy on a ReLU's output",
        two_classes("30 | 32 relu 32 relu 1 relu", clamped_binary, sgd(0.05)),
        blames.OUTPUT,
        "S-bce",
        certain=True,
    ),
    # categorical cross-entropy
    Program("S-cce", "logits", ten_classes(classifier(), F.cross_entropy, sgd(0.1)), fast=True),
    Program(
        "S-double-softmax",
        "softmax, and again in the loss",
        ten_classes(classifier("softmax"), F.cross_entropy, sgd(0.1)),
        blames.OUTPUT,
        "S-cce",
        certain=True,
        fast=True,
    ),
    Program(
        "S-double-softmax-adam",
        "softmax, and again in the loss, Adam",
        ten_classes(classifier("softmax"), F.cross_entropy, adam()),
        blames.OUTPUT,
        "S-cce",
        certain=True,
    ),
    Program(
        "S-relu-logits",
        "ReLU on the logits",
        ten_classes(classifier("relu"), F.cross_entropy, sgd(0.1)),
        blames.OUTPUT,
        "S-cce",
        certain=True,
    ),
    # focal
    Program(
        "S-focal-100",
        "gamma 100: no gradient from the start",
        ten_classes(classifier(), focal(100), sgd(0.1)),
        blames.LOSS | blames.RATE_LOW,
        "S-cce",
    ),
    # triplet
    Program("S-triplet", "most triplets satisfied", embedding(triplet(1.0, hardest=False), adam(), size=32, steps=400)),
    Program(
        "S-triplet-collapse",
        "the hardest triplets at a high rate: all embeddings become one",
        embedding(triplet(0.5, hardest=True), adam(0.1), steps=200),
        blames.COLLAPSE | blames.RATE_HIGH,
        "S-triplet",
    ),
    # similarity
    Program("S-contrast", "temperature 0.1", embedding(contrast(0.1), adam())),
    Program("S-contrast-cold", "temperature 0.001", embedding(contrast(1e-3), sgd(0.1)), COLD, "S-contrast"),
    Program(
        "S-contrast-tiny",
        "embeddings of norm 1e-8: the gradient of a cosine is 1/norm",
        embedding(contrast(0.1), sgd(0.1), last=1e-8),
        COLD | blames.LARGE_INIT | blames.SMALL_INIT,
        "S-contrast",
    ),
)
