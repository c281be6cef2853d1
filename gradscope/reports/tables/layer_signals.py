"""What leaves for other tools of each layer and parameter: derived numbers by name, one a recorded step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Run
from gradscope.signals import Signals
from gradscope.signals.units import silent_share

Matrix = NDArray[np.float64]  # shape [sites, recorded steps]
Mask = NDArray[np.bool_]


class LayerSignal(NamedTuple):
    """One derived number of each layer, or of each parameter."""

    name: str
    of: Literal["layer", "parameter"]
    unit: str
    meaning: str
    values: Callable[[Signals], Matrix]
    broken: Callable[[Signals], Mask]  # where NaN and Inf are what was measured; elsewhere NaN means "not measured"


class Reading(NamedTuple):
    """All that one signal says in a stretch of recorded steps; the arrays have one entry a number, ordered by step."""

    signal: LayerSignal
    sites: NDArray[np.intp]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def readings(run: Run) -> Iterator[Reading]:
    """What was measured, by signal; NaN and Inf only where a tensor held them.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> first = next(readings(run({"a": 1e-9, "b": 1.0}, steps=1)))
        >>> first.signal.name, first.sites.tolist(), [float(f"{value:.3g}") for value in first.values]
        ('backward_gain', [1, 3], [1e-09, 1.0])
    """
    signals = Signals(run)
    if not len(signals.steps):
        return
    rows = {"layer": np.array(signals.layers, np.intp), "parameter": np.array(signals.parameters, np.intp)}
    for signal in LAYER_SIGNALS:
        sites = rows[signal.of]
        if not len(sites):
            continue
        values = signal.values(signals)[sites]
        steps, at = np.nonzero((~np.isnan(values) | signal.broken(signals)[sites]).T)
        if len(at):
            yield Reading(signal, sites[at], signals.steps[steps], values[at, steps])


def _broken(*quantities: str) -> Callable[[Signals], Mask]:
    return lambda signals: np.asarray(np.logical_or.reduce([signals.non_finite(each) for each in quantities]))


def _backward_gain(signals: Signals) -> Matrix:
    return np.where(np.isfinite(signals.head_norm), signals.unpooled_gain, np.nan)  # x / Inf would read as 0


def _backward_broken(signals: Signals) -> Mask:
    own = signals.non_finite("activation_gradient")
    seen = ~np.isnan(signals.values("activation_gradient", "count"))
    return np.asarray(own | (seen & own[list(signals.run.info.heads)].any(axis=0)))


def _own_gain(signals: Signals) -> Matrix:
    matrix = np.full((len(signals.sites), len(signals.steps)), np.nan)
    for layer in signals.layers:
        matrix[layer] = signals.own_gain(layer)
    return matrix


def _own_broken(signals: Signals) -> Mask:
    """A layer's own gain is NaN or Inf because of numbers on either side of it."""
    broken, inputs = signals.non_finite("activation_gradient"), np.zeros((len(signals.sites), len(signals.steps)), bool)
    for layer in signals.layers:
        sources = list(signals.sites[layer].inputs)
        if sources:
            inputs[layer] = broken[layer] | broken[sources].any(axis=0)
    return inputs


def _nowhere(signals: Signals) -> Mask:
    return np.zeros((len(signals.sites), len(signals.steps)), bool)


LAYER_SIGNALS = (
    LayerSignal(
        "backward_gain", "layer", "ratio",
        "norm of the loss gradient at the layer's output over that at the model's head, pooling left out of account",
        _backward_gain, _backward_broken,
    ),
    LayerSignal(
        "own_gain", "layer", "decades",
        "log10 of the gradient norm that the layer hands back over the one it was given; -inf: it hands back exactly 0",
        _own_gain, _own_broken,
    ),
    LayerSignal(
        "forward_gain", "layer", "ratio", "rms of the layer's output over the rms of what the model was fed",
        lambda signals: signals.forward_gain, _broken("activation"),
    ),
    LayerSignal(
        "silent_fraction", "layer", "share in [0, 1]", "units of an activation that let nothing through in one batch",
        lambda signals: silent_share(signals, "slope"), _nowhere,
    ),
    LayerSignal(
        "dead_fraction", "layer", "share in [0, 1]", "units of an activation that let nothing through in all last looks",
        lambda signals: silent_share(signals, "lasting_slope"), _nowhere,
    ),
    LayerSignal(
        "parameter_gradient_norm", "parameter", "", "L2 norm of the parameter's gradient before clipping",
        lambda signals: signals.norm("gradient"), _broken("gradient"),
    ),
    LayerSignal(
        "weight_norm", "parameter", "", "L2 norm of the parameter",
        lambda signals: signals.norm("weight"), _broken("weight"),
    ),
    LayerSignal(
        "update_ratio", "parameter", "ratio", "rms of what one optimizer step changed over the rms of the parameter",
        lambda signals: signals.update_ratio, _broken("update", "weight"),
    ),
)  # fmt: skip
