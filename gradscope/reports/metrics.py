"""What the map can show: one number for each layer (or parameter) and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.signals import Signals

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Metric:
    """A quantity with the fixed scale that it is drawn on, so that two runs and two moments look alike."""

    id: str
    title: str
    symbol: str  # on the colour bar
    centre: float  # log10 of what is healthy
    span: float  # decades to each end of the scale
    words: tuple[str, str, str]  # what the low end, the centre and the high end mean
    help: str  # how to read it
    zero: str  # what an exact 0 means
    rows: Callable[[Signals], list[int]]
    values: Callable[[Signals], Matrix]  # rows follow `run.info.sites`
    non_finite: Callable[[Signals], Mask]


def _layers(signals: Signals) -> list[int]:
    return signals.layers


def _parameters(signals: Signals) -> list[int]:
    return [i for i in signals.parameters if signals.sites[i].trainable]


def _backward_gain(signals: Signals) -> Matrix:
    known = np.isfinite(signals.head_norm)  # x / Inf would read as 0
    return np.where(known, signals.unpooled_gain, np.nan)


def _update_broken(signals: Signals) -> Mask:
    return np.asarray(signals.non_finite("update") | signals.non_finite("weight"))


METRICS = {
    metric.id: metric
    for metric in (
        Metric(
            "backward-gain",
            "Backward gain",
            "log₁₀ gain",
            0.0,
            6.0,
            ("vanishing", "healthy", "exploding"),
            "How much of the loss gradient reaches each layer, relative to the model's output: "
            "near 0 decades in healthy networks at every depth.",
            "exactly 0: no gradient arrives",
            _layers,
            _backward_gain,
            lambda signals: signals.non_finite("activation_gradient"),
        ),
        Metric(
            "gradient-norm",
            "Gradient norm of parameters",
            "log₁₀ ‖g‖",
            -2.0,
            6.0,
            ("tiny", "common", "huge"),
            "The L2 norm of each parameter's gradient before clipping. It shrinks as training converges: "
            "compare rows with each other rather than with a number.",
            "exactly 0: no gradient arrives",
            _parameters,
            lambda signals: signals.norm("gradient"),
            lambda signals: signals.non_finite("gradient"),
        ),
        Metric(
            "forward-gain",
            "Activation rms",
            "log₁₀ rms / input",
            0.0,
            6.0,
            ("fading", "healthy", "blowing up"),
            "The rms of each layer's output, relative to what the model was fed. "
            "Near 0 decades the signal keeps its size on its way through the network.",
            "exactly 0: the layer puts out nothing",
            _layers,
            lambda signals: signals.forward_gain,
            lambda signals: signals.non_finite("activation"),
        ),
        Metric(
            "update-ratio",
            "Update ratio of parameters",
            "log₁₀ rms Δw / rms w",
            -3.0,
            3.0,
            ("hardly moves", "healthy", "overwritten"),
            "How far one optimizer step moves each parameter, relative to its size. "
            "About −3 decades is common in healthy training.",
            "exactly 0: the parameter does not move",
            _parameters,
            lambda signals: signals.update_ratio,
            _update_broken,
        ),
    )
}
DEFAULT_METRIC = "backward-gain"
