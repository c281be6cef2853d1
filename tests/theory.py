"""What theory says of wide random networks, and how GradScope's numbers are put beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import gradscope
from gradscope.signals import Signals

WIDTH, INPUTS, DRAWS = 500, 64, 10
WITHIN = 0.02  # of a ratio: a wide-net law holds up to 1/√(width x inputs x draws)

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def gauss(function: Function, variance: float = 1.0) -> float:
    """E[f(z)] for z ~ N(0, variance), by quadrature on a grid fine enough for kinks."""
    z = np.linspace(-12, 12, 8_000)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(function(z * math.sqrt(variance)) * density, z))


def slope(activation: nn.Module) -> Function:
    """The derivative of an activation, from autograd."""

    def derivative(z: NDArray[np.float64]) -> NDArray[np.float64]:
        at = torch.from_numpy(z).requires_grad_()
        (slopes,) = torch.autograd.grad(activation(at).sum(), at)
        return slopes.numpy()

    return derivative


def value(activation: nn.Module) -> Function:
    """An activation as a function of numpy arrays."""
    return lambda z: activation(torch.from_numpy(z)).numpy()


def variance_after(activation: nn.Module, weight_variance: float, bias_variance: float, q: float) -> float:
    """Mean field: from the variance q of one layer's pre-activations that of the next."""
    phi = value(activation)
    return weight_variance * gauss(lambda z: phi(z) ** 2, q) + bias_variance


def contraction(activation: nn.Module, weight_variance: float, q: float) -> float:
    """χ1 = σw² E[φ'²]: what a layer does to the squared gradient, and to the distance between two inputs."""
    return weight_variance * gauss(lambda z: slope(activation)(z) ** 2, q)


def fixed_point(activation: nn.Module, weight_variance: float, bias_variance: float) -> tuple[float, float]:
    """Mean field: the variance q* of pre-activations that a deep network settles at, and χ1 there."""
    q, before = 1.0, 0.0
    while abs(q - before) > 1e-9:
        q, before = variance_after(activation, weight_variance, bias_variance, q), q
    return q, contraction(activation, weight_variance, q)


def draw(model: nn.Module, weight_variance: float, bias_variance: float = 0.0) -> None:
    """W ~ N(0, σw²/n_in), b ~ N(0, σb²), for every Linear of a model."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=math.sqrt(weight_variance / module.in_features))
            if module.bias is not None:
                nn.init.normal_(module.bias, std=math.sqrt(bias_variance))


def feed() -> torch.Tensor:
    """A batch of independent inputs of variance 1."""
    return torch.randn(INPUTS, WIDTH)


def measure(
    folder: Path,
    model: nn.Module,
    redraw: Callable[[nn.Module], object] = lambda model: None,
    *,
    draws: int = DRAWS,
    inputs: Callable[[], torch.Tensor] = feed,
    exact: bool = False,
) -> Signals:
    """One recorded step for each of several draws of the weights, with a random gradient at the output."""
    torch.manual_seed(0)
    with gradscope.watch(model, run_dir=folder, every=1, exact=exact) as scope:
        for _ in range(draws):
            redraw(model)
            output = model(inputs())
            output.backward(torch.randn_like(output))
            scope.step()
            model.zero_grad()
    return Signals(gradscope.read_run(folder))


def chain(depth: int, activation: Callable[[], nn.Module], width: int = WIDTH) -> nn.Sequential:
    """`depth` square layers, each followed by its activation, and an output layer."""
    blocks = (nn.Sequential(nn.Linear(width, width), activation()) for _ in range(depth))
    return nn.Sequential(*blocks, nn.Linear(width, width))


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


def at(signals: Signals, series: NDArray[np.float64], *paths: str) -> NDArray[np.float64]:
    """The rows of these modules, shape `[paths, recorded steps]`."""
    rows: NDArray[np.float64] = series[[signals.site(path) for path in paths]]
    return rows


def per_layer(signals: Signals, series: NDArray[np.float64], first: int, last: int, path: str = "{}.0") -> float:
    """The factor from one block to the next, as a geometric mean over draws and blocks `first` to `last`."""
    ends = at(signals, series, path.format(first), path.format(last))
    return float(np.exp(np.log(ends[1] / ends[0]).mean() / (last - first)))


def backward_ratio(signals: Signals, first: int, last: int) -> float:
    """ρ_b = ‖∂L/∂h_l‖ / ‖∂L/∂h_{l+1}‖."""
    return 1 / per_layer(signals, signals.backward_gain, first, last)
