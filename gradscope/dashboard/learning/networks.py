"""Small random networks, computed by hand: how a signal fares on its way up and a gradient on its way back.

tests/dashboard/test_learn.py compares both with torch's autograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WIDTH, BATCH = 64, 32
EPS = 1e-5  # of LayerNorm, as torch has it


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z))."""
    return np.asarray(0.5 * (1 + np.tanh(z / 2)), np.float64)


@dataclass(frozen=True)
class Network:
    """Layers h ← act(norm(h Wᵀ)), or h ← h + act(norm(h Wᵀ)) with a skip connection.

    Attributes:
        weights: shape `[64, 64]` each.
        signal: what goes in, shape `[32, 64]`.
        gradient: of the loss for what comes out, the same shape.
    """

    activation: str  # "sigmoid", "tanh", "relu"
    weights: tuple[Array, ...]
    signal: Array
    gradient: Array
    skip: bool = False
    normalised: bool = False


def network(
    activation: str, depth: int, gain: float, skip: bool = False, normalised: bool = False, seed: int = 0
) -> Network:
    """A network whose weights are N(0, gain² / 64)."""
    draw = np.random.default_rng(seed)
    weights = tuple(draw.normal(0, gain / WIDTH**0.5, (WIDTH, WIDTH)) for _ in range(depth))
    signal, gradient = draw.normal(size=(BATCH, WIDTH)), draw.normal(size=(BATCH, WIDTH))
    return Network(activation, weights, signal, gradient, skip, normalised)


def activate(name: str, z: Array) -> tuple[Array, Array]:
    """An activation and its derivative."""
    if name == "sigmoid":
        s = sigmoid(z)
        return s, s * (1 - s)
    if name == "tanh":
        return np.tanh(z), 1 - np.tanh(z) ** 2
    return np.maximum(z, 0), (z > 0).astype(np.float64)


def flow(net: Network) -> tuple[Array, Array]:
    """Both ways through a network, each of shape `[depth + 1]`, the input first.

    Returns:
        The root mean square of the signal over that of the input, and the norm of the gradient over that at the output.
    """
    h, kept, signals = net.signal, [], [net.signal]
    for weight in net.weights:
        z = h @ weight.T
        normal, spread = _normalise(z) if net.normalised else (z, np.ones((len(z), 1)))
        out, slope = activate(net.activation, normal)
        kept.append((normal, spread, slope))
        h = h + out if net.skip else out
        signals.append(h)
    g, gradients = net.gradient, [net.gradient]
    for weight, (normal, spread, slope) in zip(reversed(net.weights), reversed(kept), strict=True):
        inner = g * slope
        if net.normalised:
            inner = _normalise_back(inner, normal, spread)
        g = inner @ weight + (g if net.skip else 0)
        gradients.append(g)
    norms = np.array([float(np.linalg.norm(each)) for each in reversed(gradients)])
    sizes = np.array([float(np.sqrt(np.mean(each**2))) for each in signals])
    return sizes / sizes[0], norms / norms[-1]


def _normalise(z: Array) -> tuple[Array, Array]:
    """LayerNorm without weights, and the deviation it divided by, shape `[batch, 1]`."""
    spread = np.sqrt(z.var(axis=1, keepdims=True) + EPS)
    return (z - z.mean(axis=1, keepdims=True)) / spread, spread


def _normalise_back(g: Array, normal: Array, spread: Array) -> Array:
    """The gradient for what LayerNorm was given."""
    along = (g * normal).mean(axis=1, keepdims=True)
    return np.asarray((g - g.mean(axis=1, keepdims=True) - normal * along) / spread, np.float64)
