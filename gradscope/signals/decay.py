"""How strongly weight decay, or a penalty on the weights in the loss, pulls beside what the data ask of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import number
from gradscope.signals.loss import uniform_gradient
from gradscope.signals.output import asked
from gradscope.signals.series import Series, Signals
from gradscope.signals.step_size import StepSize

# torch's optimizers that add the decay to the gradient, where they are not told otherwise, and that take it off the weights.
_ADDED = frozenset({"SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD"})
_APART = frozenset({"AdamW", "Muon", "Adafactor"})
# Below this cosine of weights and gradient, the gradient is the decay's counterpart and no more: where descent on all
# data comes to rest, that is so for every decay.
_AT_REST = -0.9


@dataclass(frozen=True)
class Decay:
    """A pull of all weights towards 0.

    Attributes:
        by: the optimizer's `weight_decay`, or a term of the loss.
        strength: the factor on the weights in the gradient; of a term in the loss as it was measured.
        share: the pull over the pull and what the data do, median over weights and over looks twice as far apart each
            time, in [0, 1].
        left: the weights' norm now over that at the first recorded step, geometric mean over weights.
        penalty: half the strength times the sum of squared weights at the start, in units of the loss; Inf where the
            decay is no part of the gradient, so that it has no such unit.
    """

    by: Literal["optimizer", "loss"]
    strength: float
    share: float
    left: float
    penalty: float

    @property
    def in_words(self) -> str:
        """What it does to the weights."""
        by = (
            f"weight_decay={number(self.strength)}"
            if self.by == "optimizer"
            else "a penalty on the weights in the loss"
        )
        return (
            f"{by} pulls the weights towards 0 with {number(100 * self.share)} % of what moves them: they have shrunk to "
            f"{number(self.left)} of their size, too small for the outputs that the targets ask for"
        )


def decay(signals: Signals) -> Decay | None:
    """Measures what pulls the weights towards 0; None where nothing is known to."""
    weights, optimizers = StepSize(signals).weights, signals.run.info.optimizers
    size = signals.norm("weight")[weights]
    size = np.where((size > 0) & np.isfinite(size), size, np.nan)
    seen = np.isfinite(size).sum(axis=1) > 1
    if len(optimizers) != 1 or not seen.any():
        return None
    weights, size = [i for i, known in zip(weights, seen, strict=True) if known], size[seen]
    kind, options = optimizers[0].kind, optimizers[0].options
    strength, apart = options.get("weight_decay", 0.0), kind in _APART or options.get("decoupled_weight_decay", 0.0) > 0
    by: Literal["optimizer", "loss"] = "optimizer"
    with np.errstate(all="ignore"):  # of a training that blew up: what is not finite is left out
        if strength <= 0:
            by, apart, strength = "loss", False, _in_the_gradient(signals, weights, size)
            share = _share_along(signals, weights, size)
        elif apart:
            share = _share_of_step(signals, weights, strength)
        elif kind in _ADDED:
            pull, push = strength * size, signals.norm("gradient")[weights]
            cosine = signals.values("gradient", "weight_dot")[weights] / (size * push)
            share = np.where(cosine < _AT_REST, np.nan, pull / (pull + push))
        else:
            return None
        ends = np.array([row[np.isfinite(row)][[0, -1]] for row in size])
        left = float(np.exp(np.log(ends[:, 1] / ends[:, 0]).mean()))
        penalty = math.inf if apart else float(strength / 2 * (ends[:, 0] ** 2).sum())
    typical = _median(_over_weights(share)[_doubling(signals.steps)])
    if math.isnan(typical) or not strength > 0:
        return None
    return Decay(by, strength, typical, left, penalty)


def unexplained(signals: Signals) -> float:
    """The share of the squared error of a constant guess that is left, from the gradient at the head alone.

    So it is what the data have left, whatever else the loss holds: of a mean squared error ‖∂L/∂h_out‖² is 4 L / N, of a
    mean cross-entropy it is the mean of |p - y|² over the samples. NaN: another loss.
    """
    path, heads = signals.run.info.loss_path, signals.run.info.heads
    if path is None or len(heads) != 1 or path.reduction != "mean":
        return math.nan
    norm, count = signals.head_norm, signals.values("activation_gradient", "count")[heads[0]]
    target = asked(signals)
    share: NDArray[np.float64]
    if path.kind == "squared-error" and target is not None and target.deviation > 0:
        with np.errstate(over="ignore", invalid="ignore"):
            share = norm**2 * count / 4 / target.deviation**2
    elif path.kind == "cross-entropy" and path.classes > 1:
        with np.errstate(over="ignore", invalid="ignore"):
            share = norm**2 * count / path.classes / uniform_gradient(path.classes) ** 2
    else:
        return math.nan
    known = share[np.isfinite(share)]
    return float(np.median(known[-3:])) if len(known) else math.nan


def _in_the_gradient(signals: Signals, weights: list[int], size: Series) -> float:
    """The factor on the weights that the gradient itself holds: ⟨w, g⟩ / ‖w‖²."""
    return _median(_over_weights(signals.values("gradient", "weight_dot")[weights] / size**2))


def _share_along(signals: Signals, weights: list[int], size: Series) -> Series:
    """How much of the gradient points along the weights, away from 0, beside what points elsewhere."""
    pull = np.maximum(signals.values("gradient", "weight_dot")[weights] / size, 0.0)
    across = np.sqrt(np.maximum(signals.values("gradient", "sum_squares")[weights] - pull**2, 0.0))
    share: Series = pull / (pull + across)
    return share


def _share_of_step(signals: Signals, weights: list[int], strength: float) -> Series:
    """The share of a step that is decay, where that is the learning rate times the weights."""
    steps, rates = signals.run.steps["step"], StepSize(signals).rates
    if not len(steps) or not len(rates):
        return np.full((len(weights), len(signals.steps)), np.nan)
    pull = strength * rates[np.searchsorted(steps, signals.steps).clip(max=len(steps) - 1)]
    rest = np.sqrt(np.maximum(signals.update_ratio[weights] ** 2 - pull**2, 0.0))
    share: Series = pull / (pull + rest)
    return share


def _doubling(steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """The looks nearest behind steps 0, 1, 2, 4, 8 …: so that a long rest does not outweigh how it came to that."""
    wanted = [0, *(2**power for power in range(int(steps[-1]).bit_length()))]
    return np.unique(np.searchsorted(steps, wanted).clip(max=len(steps) - 1))


def _over_weights(series: Series) -> NDArray[np.float64]:
    """The median over weights, shape `[recorded steps]`; NaN where none is known."""
    known = np.isfinite(series)
    return np.array([_median(series[known[:, step], step]) for step in range(series.shape[1])])


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
