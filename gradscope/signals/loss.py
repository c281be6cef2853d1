"""What kind of loss it is, read from its value and its gradient at the head."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.signals.series import Signals


class SquaredError(NamedTuple):
    """A mean squared error, per recorded step, shape `[steps]` each; NaN where the numbers show none."""

    root: NDArray[np.float64]  # rms distance between outputs and targets
    size: NDArray[np.float64]  # rms of the outputs, or of the features that the head makes them from if larger
    ratio: NDArray[np.float64]  # root / size


def squared_error(signals: Signals) -> SquaredError | None:
    """Recognises a mean squared error on the head's output: then ‖∂L/∂h_out‖² = 4 L / N exactly, N outputs.

    Returns:
        None when no recorded step shows one (another loss, several heads, no loss observed).
    """
    heads = signals.run.info.heads
    if len(heads) != 1 or not len(signals.steps):
        return None
    steps = signals.run.steps
    position = np.searchsorted(steps["step"], signals.steps).clip(max=max(len(steps) - 1, 0))
    if not len(steps):
        return None
    loss = np.where(steps["has_loss"][position], steps["loss"][position], np.nan)
    count = signals.values("activation_gradient", "count")[heads[0]]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        identity = signals.head_norm**2 * count / (4 * loss)
        root = np.where(np.abs(identity - 1) < 0.01, np.sqrt(loss), np.nan)
    if np.isnan(root).all():
        return None
    activation = signals.rms("activation")
    order = signals.sites[heads[0]].order
    feeding = [i for i in signals.layers if signals.sites[i].order < order]
    size = np.fmax(activation[heads[0]], activation[feeding[-1]] if feeding else 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return SquaredError(root, size, root / np.where(size > 0, size, np.nan))


def double_softmax_floor(classes: int) -> float:
    """The lowest cross-entropy that probabilities taken for logits can reach: ln(e + K - 1) - 1 (THEORY T16).

    Example:
        >>> round(double_softmax_floor(10), 5)
        1.46115
    """
    return math.log(math.e + classes - 1) - 1


def bounded_logits_floor(classes: int, lowest: float, highest: float) -> float:
    """The lowest cross-entropy of logits that stay in a range: ln(1 + (K - 1) exp(lowest - highest)).

    Example:
        >>> round(bounded_logits_floor(10, 0.0, 1.0), 5)  # as with a softmax before the softmax
        1.46115
    """
    return math.log1p((classes - 1) * math.exp(lowest - highest))


def uniform_loss(classes: int) -> float:
    """The cross-entropy of a network that knows nothing yet: ln K (THEORY T15).

    Example:
        >>> round(uniform_loss(10), 6)
        2.302585
    """
    return math.log(classes)


def uniform_gradient(classes: int) -> float:
    """The norm of one sample's gradient at logits that are all alike: √((1 - 1/K)² + (K - 1)/K²) (THEORY T15).

    Example:
        >>> round(uniform_gradient(10), 6)
        0.948683
    """
    return math.sqrt((1 - 1 / classes) ** 2 + (classes - 1) / classes**2)


def largest_probability(classes: int, size: float) -> float:
    """The most that a softmax of K logits of this rms can give to one of them: one above, the others level below.

    Example:
        >>> round(largest_probability(10, 0.0), 6), round(largest_probability(10, 5.0), 6)
        (0.1, 0.999999)
    """
    others = classes - 1
    return 1 / (1 + others * math.exp(-size * classes / math.sqrt(others)))
