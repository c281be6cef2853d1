"""Data sets that need no internet, each as a task that says how far from right an output is."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import sklearn.datasets as sets
import torch
from torch import Tensor, nn

EXAMINED = 256  # samples that an error is taken on


@dataclass(frozen=True)
class Task:
    """Inputs and targets to learn, others to test on, and the error of an output.

    Attributes:
        error: outputs and targets -> 0 when all is right, 1 when no better than the best constant output.
    """

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    error: Callable[[Tensor, Tensor], float]

    def batches(self, size: int, seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Random batches, the same ones for the same seed; all of the data when there is no more than one batch."""
        order = torch.Generator().manual_seed(seed)

        def batch(step: int) -> tuple[Tensor, Tensor]:
            if size >= len(self.x):
                return self.x, self.y
            chosen = torch.randint(0, len(self.x), (size,), generator=order)
            return self.x[chosen], self.y[chosen]

        return batch

    def examine(self, model: nn.Module, *, held: bool = False) -> float:
        """The model's error on the first samples that it is trained on, or on held-out ones."""
        x, y = (self.held_x, self.held_y) if held else (self.x, self.y)
        with torch.no_grad():
            outputs = model(x[:EXAMINED])
        error = self.error(outputs, y[:EXAMINED])
        return 1.0 if error != error else min(error, 1e6)

    def but(self, change: Callable[[Tensor], Tensor]) -> Task:
        """The same task with other inputs."""
        return replace(self, x=change(self.x), held_x=change(self.held_x))

    def towards(
        self, change: Callable[[Tensor], Tensor], error: Callable[[Tensor, Tensor], float] | None = None
    ) -> Task:
        """The same task with other targets."""
        return replace(self, y=change(self.y), held_y=change(self.held_y), error=error or self.error)


def wrong_class(outputs: Tensor, labels: Tensor) -> float:
    """The share of wrong answers over that of always saying the most frequent class; outputs `[N, K]` or `[N, 1]`."""
    said = outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs[..., 0] > 0).long()
    trivial = 1 - torch.bincount(labels.flatten().long()).max() / labels.numel()
    finite = torch.isfinite(outputs).all()
    return float((said != labels.long().reshape(said.shape)).float().mean() / trivial) if finite else float("nan")


def wrong_side(outputs: Tensor, labels: Tensor) -> float:
    """The same of one probability `[N, 1]`, which says class 1 above one half."""
    return wrong_class(outputs - 0.5, labels)


def residual(outputs: Tensor, targets: Tensor) -> float:
    """The rms distance from the targets over their standard deviation."""
    return float((outputs.reshape(targets.shape) - targets).square().mean().sqrt() / targets.std())


def split(x: Tensor, y: Tensor, error: Callable[[Tensor, Tensor], float], held: float = 0.2) -> Task:
    """A task whose last samples are held out, after one shuffle that is always the same."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(7))
    x, y, first = x[order], y[order], int(len(x) * (1 - held))
    return Task(x[:first], y[:first], x[first:], y[first:], error)


def _numbers(array: object) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32)


def standardised(x: Tensor) -> Tensor:
    """Each feature with mean 0 and standard deviation 1."""
    return (x - x.mean(0)) / x.std(0).clamp(min=1e-6)


def min_max(x: Tensor) -> Tensor:
    """Each feature from 0 to 1."""
    return (x - x.amin(0)) / (x.amax(0) - x.amin(0)).clamp(min=1e-6)


@cache
def digits() -> Task:
    """1,797 images of 8x8 points, flat `[N, 64]`, standardised as a whole, with their digits."""
    x, y = sets.load_digits(return_X_y=True)
    images = _numbers(x)
    return split((images - images.mean()) / images.std(), torch.as_tensor(y), wrong_class)


@cache
def pictures(size: int = 28, channels: int = 1, most: int = 1200) -> Task:
    """The digits enlarged, `[N, channels, size, size]` in [0, 1]; coloured on noise when there are three channels."""
    x, y = sets.load_digits(return_X_y=True)
    x, y = x[:most], y[:most]
    images = _numbers(x).view(-1, 1, 8, 8) / 16
    images = nn.functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    if channels == 3:
        dice = torch.Generator().manual_seed(3)
        colour = 0.4 + 0.6 * torch.rand(len(images), 3, 1, 1, generator=dice)
        ground = 0.4 * torch.rand(len(images), 3, size, size, generator=dice)
        images = images * colour + (1 - images) * ground
    return split(images, torch.as_tensor(y), wrong_class)


@cache
def circles() -> Task:
    """Two rings, one around the other, `[1000, 2]`."""
    x, y = sets.make_circles(1000, noise=0.1, random_state=1)
    return split(_numbers(x), torch.as_tensor(y), wrong_side)


@cache
def blobs() -> Task:
    """Three clouds that overlap, `[1000, 2]`."""
    x, y = sets.make_blobs(1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    return split(_numbers(x), torch.as_tensor(y), wrong_class)


@cache
def iris() -> Task:
    """Flowers: four lengths in centimetres, three kinds."""
    x, y = sets.load_iris(return_X_y=True)
    return split(_numbers(x), torch.as_tensor(y), wrong_class)


@cache
def wine() -> Task:
    """Wines: 13 measurements from 0.1 to 1,680, three growers."""
    x, y = sets.load_wine(return_X_y=True)
    return split(_numbers(x), torch.as_tensor(y), wrong_class)


@cache
def cancer() -> Task:
    """Breast cancer: 30 measurements from 0.001 to 4,254, malignant or not; outputs are logits `[N, 1]`."""
    x, y = sets.load_breast_cancer(return_X_y=True)
    return split(_numbers(x), torch.as_tensor(y), wrong_class)


@cache
def patients() -> Task:
    """Diabetes: ten raw measurements (age, blood pressure, serum …), and how far it went in a year, 25 … 346."""
    x, y = sets.load_diabetes(return_X_y=True, scaled=False)
    return split(_numbers(x), _numbers(y)[:, None], residual)


@cache
def friedman() -> Task:
    """Nine features in [0, 1], a smooth function of five of them with mean 0 and standard deviation 1 `[N, 1]`."""
    x, y = sets.make_friedman1(800, n_features=9, noise=0.3, random_state=4)
    return split(_numbers(x), standardised(_numbers(y)[:, None]), residual)


def counted(values: Tensor, rows: Tensor) -> Tensor:
    """`values` at the places that `rows` says, one row each."""
    return values[rows]


@cache
def source(length: int = 32, most: int = 4000) -> Task:
    """Python's own source: the next character after each of `length`, `[N, length]` both; outputs `[N, length, 96]`."""
    text = inspect.getsource(argparse)
    codes = torch.tensor([min(max(ord(letter) - 31, 0), 95) for letter in text])
    starts = torch.randint(0, len(codes) - length - 1, (most,), generator=torch.Generator().manual_seed(5))
    rows = starts[:, None] + torch.arange(length)
    return split(codes[rows], codes[rows + 1], partial(_wrong_letter))


def _wrong_letter(outputs: Tensor, labels: Tensor) -> float:
    return wrong_class(outputs.flatten(0, -2), labels.flatten())
