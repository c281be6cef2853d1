"""What an activation makes of normally distributed numbers, by quadrature."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_WIDEST = 8.0  # standard deviations; beyond them lies 1e-15 of a normal distribution
_BEND = 10.0  # the points crowd around 0, where activations bend, also when the numbers are large
_LARGEST = 700.0  # whose exponential is a float


def _logistic(z: _Array) -> _Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -_LARGEST, _LARGEST))))


def _softplus(z: _Array) -> _Array:
    return np.asarray(np.logaddexp(0.0, z))


def _erf(z: _Array) -> _Array:
    return np.array([math.erf(each) for each in z.ravel()]).reshape(z.shape)


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017

# With the options that torch gives them; LeakyReLU and ELU read theirs from the label.
_FUNCTIONS: dict[str, Callable[[_Array, float], _Array]] = {
    "ReLU": lambda z, _: np.maximum(z, 0),
    "ReLU6": lambda z, _: np.clip(z, 0, 6),
    "LeakyReLU": lambda z, slope: np.where(z > 0, z, slope * z),
    "ELU": lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
    "CELU": lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0) / alpha)),
    "SELU": lambda z, _: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0))),
    "GELU": lambda z, _: z * 0.5 * (1 + _erf(z / math.sqrt(2))),
    "SiLU": lambda z, _: z * _logistic(z),
    "Mish": lambda z, _: z * np.tanh(_softplus(z)),
    "Softplus": lambda z, _: _softplus(z),
    "Softsign": lambda z, _: z / (1 + np.abs(z)),
    "Tanh": lambda z, _: np.tanh(z),
    "Hardtanh": lambda z, _: np.clip(z, -1, 1),
    "Hardswish": lambda z, _: z * np.clip(z + 3, 0, 6) / 6,
    "Sigmoid": lambda z, _: _logistic(z),
    "Hardsigmoid": lambda z, _: np.clip(z + 3, 0, 6) / 6,
    "LogSigmoid": lambda z, _: -_softplus(-z),
}
_OPTIONS = {"LeakyReLU": ("negative_slope", 0.01), "ELU": ("alpha", 1.0), "CELU": ("alpha", 1.0)}
_ANY_SIZE = ("ReLU", "LeakyReLU")  # what they let through does not depend on how large the numbers are


@lru_cache(maxsize=4096)
def let_through(kind: str, label: str, variance: float) -> float:
    """E[φ'(z)²] for z ~ N(0, variance): the share of a squared gradient that an activation lets through; NaN: unknown.

    Example:
        >>> round(let_through("ReLU", "", 3.0), 3), round(let_through("Sigmoid", "", 1.0), 4)
        (0.5, 0.0448)
    """
    if kind in _ANY_SIZE:
        variance = 1.0
    if kind not in _FUNCTIONS or not 0 < variance < math.inf:
        return math.nan
    z, weight = _points(variance)
    step = 1e-4 * np.maximum(1.0, np.abs(z))
    slope = (_apply(kind, label, z + step) - _apply(kind, label, z - step)) / (2 * step)
    return float((slope**2 * weight).sum())


@lru_cache(maxsize=4096)
def moments(kind: str, label: str, variance: float) -> tuple[float, float]:
    """E[φ(z)] and E[φ(z)²] for z ~ N(0, variance); NaN: unknown."""
    if kind not in _FUNCTIONS or not 0 < variance < math.inf:
        return math.nan, math.nan
    z, weight = _points(variance)
    value = _apply(kind, label, z)
    return float((value * weight).sum()), float((value**2 * weight).sum())


@lru_cache(maxsize=4096)
def shared(kind: str, label: str, variance: float, covariance: float) -> float:
    """E[φ(z)φ(z')] for two normal numbers of this variance and covariance; NaN: unknown."""
    if kind not in _FUNCTIONS or not 0 < variance < math.inf or math.isnan(covariance):
        return math.nan
    same = min(max(covariance / variance, 0.0), 1.0)
    unit, weight = _points(1.0, 257)
    own = math.sqrt(variance * (1 - same)) * unit[:, None]
    common = math.sqrt(variance * same) * unit[None, :]
    given = (_apply(kind, label, common + own) * weight[:, None]).sum(axis=0)  # E[φ | what both share]
    return float((given**2 * weight).sum())


def _apply(kind: str, label: str, z: _Array) -> _Array:
    name, usual = _OPTIONS.get(kind, ("", 0.0))
    told = re.search(rf"\b{name}=([-+.\de]+)", label) if name else None
    return _FUNCTIONS[kind](z, float(told[1]) if told else usual)


@lru_cache(maxsize=8)
def _grid(points: int) -> tuple[_Array, _Array]:
    even = np.linspace(-1, 1, points)
    unit = _WIDEST * np.sinh(_BEND * even) / math.sinh(_BEND)
    weight = np.gradient(unit) * np.exp(-(unit**2) / 2)
    return unit, weight / weight.sum()


def _points(variance: float, points: int = 4001) -> tuple[_Array, _Array]:
    unit, weight = _grid(points)
    return unit * math.sqrt(variance), weight
