"""What kind of loss it is, read from its value and its gradient at the head."""

from __future__ import annotations

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
