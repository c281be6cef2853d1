"""What Adam does with its moments: how large its steps can be, where eps rules, and when its second moment is stale."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, QUANTITIES
from gradscope.signals.curvature import ADAM_LIKE
from gradscope.signals.series import Series, Signals


def largest_update(beta1: float, beta2: float) -> float:
    """The supremum of Adam's update over its learning rate, whatever the gradients: not (1-β1)/√(1-β2), a lone spike's.

    Example:
        >>> round(largest_update(0.9, 0.999), 4), round(lone_spike(0.9, 0.999), 4)
        (7.2703, 3.1623)
    """
    if not beta1**2 < beta2 < 1:
        return math.inf
    return lone_spike(beta1, beta2) / math.sqrt(1 - beta1**2 / beta2)


def lone_spike(beta1: float, beta2: float) -> float:
    """Adam's update over its learning rate for one gradient after many that were 0."""
    return (1 - beta1) / math.sqrt(1 - beta2)


def noise_update(beta1: float) -> float:
    """The rms of Adam's update over its learning rate under gradients without a mean: √((1-β1)/(1+β1)).

    Example:
        >>> round(noise_update(0.9), 5)
        0.22942
    """
    return math.sqrt((1 - beta1) / (1 + beta1))


def options(signals: Signals) -> dict[str, float] | None:
    """The options of the run's one optimizer if that is of Adam's kind; else None."""
    optimizers = signals.run.info.optimizers
    if len(optimizers) != 1 or optimizers[0].kind not in ADAM_LIKE:
        return None
    return {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **optimizers[0].options}


def below_eps(signals: Signals) -> NDArray[np.float64]:
    """The share of the optimized entries whose √v lies below eps, with v unbiased; shape `[recorded steps]`.

    There Adam no longer rescales: the update is the learning rate times the gradient over eps. NaN: not measured. Entries
    that never had a gradient do not count.
    """
    share = np.full(len(signals.steps), np.nan)
    known = options(signals)
    if known is None or known["eps"] <= 0:
        return share
    rows = signals.run.summaries
    rows = rows[rows["quantity"] == QUANTITIES.index("second_moment")]
    for column, step in enumerate(signals.steps):
        histogram = rows["histogram"][rows["step"] == step]
        if not len(histogram) or step <= 0:
            continue
        total = histogram.sum(axis=0)
        limit = 2 * math.log2(known["eps"]) + math.log2(1 - known["beta2"] ** float(step))  # of v as it is kept
        share[column] = _share_below(total, limit)
    return share


def _share_below(histogram: NDArray[np.float64], limit: float) -> float:
    """The share of magnitudes below 2^limit, evenly spread inside of a bin."""
    everything = float(histogram.sum())
    if everything <= 0:
        return math.nan
    edges = np.concatenate([[EXPONENT_EDGES[0] - 2.0], EXPONENT_EDGES, [EXPONENT_EDGES[-1] + 2.0]])
    inside = np.clip((limit - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    return float((histogram * inside).sum()) / everything


def normalised_rms(signals: Signals) -> Series:
    """RMS_t = √mean(g²/v) per parameter with v of before the step: near 1 when v knows the gradients that come."""
    return signals.rms("normalised_gradient")
