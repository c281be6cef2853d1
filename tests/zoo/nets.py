"""Networks of the zoo, most of them written as one line of text."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

Init = Callable[[Tensor], object]


class Exponential(nn.Module):
    """The exponential as an activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "exp": Exponential,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "softmax": lambda: nn.Softmax(-1),
    "logsoftmax": lambda: nn.LogSoftmax(-1),
    "pool": lambda: nn.MaxPool2d(2),
    "flat": nn.Flatten,
}


def he_uniform(weight: Tensor) -> None:
    """Keras's he_uniform: U(±√(6/fan_in))."""
    nn.init.kaiming_uniform_(weight, nonlinearity="relu")


def he(weight: Tensor) -> None:
    """He's normal initialization."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def glorot(weight: Tensor) -> None:
    """Glorot's uniform initialization, Keras's default."""
    nn.init.xavier_uniform_(weight)


def uniform(weight: Tensor) -> None:
    """Keras's RandomUniform: U(±0.05)."""
    nn.init.uniform_(weight, -0.05, 0.05)


def normal(deviation: float) -> Init:
    """N(0, deviation²)."""
    return lambda weight: nn.init.normal_(weight, std=deviation)


def constant(value: float) -> Init:
    """All weights alike."""
    return lambda weight: nn.init.constant_(weight, value)


def times(factor: float, init: Init) -> Init:
    """Another initialization, scaled."""

    def scaled(weight: Tensor) -> None:
        init(weight)
        weight.data.mul_(factor)

    return scaled


def net(text: str, init: Init | None = glorot, *, fed: tuple[int, ...] | None = None) -> nn.Sequential:
    """A network from a line of text: `net("2 | 11 x (5 sigmoid) 1 sigmoid")`.

    Before the bar the shape of one input; a number is a Linear, `c32k5` a convolution of 32 channels and 5x5 points, `do0.5`
    a dropout, a word one of `ACTIVATIONS`. Zero biases, and `init` for the weights; None leaves both as torch has them.
    """
    shape_text, _, body = text.partition("|")
    shape = fed or tuple(int(size) for size in shape_text.split("x"))
    body = re.sub(r"(\d+) x \(([^)]*)\)", lambda found: " ".join([found[2]] * int(found[1])), body)
    layers: list[nn.Module] = []
    x = torch.zeros(2, *shape)
    for word in body.split():
        layer = _layer(word, x)
        layers.append(layer)
        with torch.no_grad():
            x = layer.eval()(x)
        layer.train()
    model = nn.Sequential(*layers)
    if init is not None:
        initialise(model, init)
    return model


def _layer(word: str, x: Tensor) -> nn.Module:
    if word.isdigit():
        return nn.Linear(x.shape[-1], int(word))
    if found := re.fullmatch(r"c(\d+)k(\d+)(p?)", word):
        return nn.Conv2d(x.shape[1], int(found[1]), int(found[2]), padding=int(found[2]) // 2 if found[3] else 0)
    if found := re.fullmatch(r"do([\d.]+)", word):
        return nn.Dropout(float(found[1]))
    if found := re.fullmatch(r"gn(\d+)", word):
        return nn.GroupNorm(int(found[1]), x.shape[1])
    if word == "ln":
        return nn.LayerNorm(x.shape[-1])
    if word == "bn":
        return nn.BatchNorm1d(x.shape[1])
    if word == "bn2":
        return nn.BatchNorm2d(x.shape[1])
    return ACTIVATIONS[word]()


def initialise(model: nn.Module, init: Init) -> None:
    """Gives every Linear and convolution these weights, and zero biases."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            init(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# Losses that keras has and torch has not.


def keras_crossentropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Categorical cross-entropy on outputs taken for probabilities: divided by their sum, clipped at 1e-7."""
    shares = outputs / outputs.sum(-1, keepdim=True)
    return -shares.clamp(1e-7, 1 - 1e-7).gather(-1, labels[:, None]).log().mean()


def keras_binary(outputs: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy on a probability `[N, 1]`, clipped at 1e-7."""
    chance = outputs[:, 0].clamp(1e-7, 1 - 1e-7)
    y = labels.to(chance.dtype)
    return -(y * chance.log() + (1 - y) * (1 - chance).log()).mean()


def logits_binary(outputs: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with logits `[N, 1]`."""
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype))
