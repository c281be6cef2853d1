"""What single units let through: dead and saturated units, alike samples, and which layer makes them."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, QUANTITIES
from gradscope.signals.budget import operation_kind
from gradscope.signals.mechanisms import WORKING_DECADES
from gradscope.signals.progress import progress
from gradscope.signals.series import Series, Signals

LEVEL = ("Tanh", "Hardtanh", "Softsign", "Sigmoid", "Hardsigmoid")  # activations that level off on both sides
# Activations with a closed side, where a unit can be silent for every input. LeakyReLU has none.
HALF_OPEN = ("ReLU", "ReLU6", "Threshold", "GELU", "SiLU", "Mish", "Hardswish", "Softplus", "ELU", "CELU", "SELU")
_SILENT = -12  # log2 of a derivative that is as good as 0, of activations that come near it and never reach it
_SMOOTH = ("GELU", "SiLU", "Mish", "Softplus", "ELU", "CELU", "SELU")


@dataclass(frozen=True)
class Activation:
    """A hidden activation whose derivative was recorded, a module's or a function's."""

    site: int  # that the derivative was recorded at
    kind: str  # "ReLU", "Sigmoid" …; "" unknown
    layer: int  # the module with weights that feeds it; the site itself where there is none
    gate: bool  # whether its output multiplies something


def hidden_activations(signals: Signals) -> list[Activation]:
    """The hidden activations in execution order; what comes after the head is on the loss side."""
    counts = signals.values("slope", "count")
    last = max((signals.sites[head].order for head in signals.run.info.heads), default=np.inf)
    sites = [i for i in signals.modules if np.isfinite(counts[i]).any() and signals.sites[i].same_as is None]
    heads = set(signals.run.info.heads)
    return [
        Activation(site, _kind(signals, site), feeding_layer(signals, site), is_gate(signals, site))
        for site in sites
        if signals.sites[site].order < last and site not in heads
    ]


def _kind(signals: Signals, site: int) -> str:
    """What the activation is: the module's class, or the function that its output goes through next."""
    kind = signals.sites[site].kind
    if kind in LEVEL or kind in HALF_OPEN or signals.sites[site].mechanism == "activation":
        return kind
    kinds = [operation_kind(link.operations) for link in signals.links_from(site)]
    return next((kind for kind in kinds if kind in LEVEL or kind in HALF_OPEN), "")


def feeding_layer(signals: Signals, site: int) -> int:
    """The last module with weights of its own that ran up to a site; the site itself when none did."""
    weighted = signals.weighted_layers
    before = bisect_right(weighted, signals.sites[site].order, key=lambda layer: signals.sites[layer].order)
    return weighted[before - 1] if before else site


def is_gate(signals: Signals, site: int, depth: int = 4) -> bool:
    """Whether what a module gives is multiplied with something else: then it may be shut on purpose."""
    path = signals.sites[site].path
    for link in signals.links_from(site):
        if any(operation.startswith("Mul") for operation in link.operations):
            return True
        leaves = link.target is None and link.container != site and depth
        if leaves and path and is_gate(signals, link.container, depth - 1):
            return True
    return False


def batch_size(signals: Signals, site: int) -> int:
    """How many samples its output holds, as far as its first dimension says."""
    shape = signals.sites[site].shape
    return shape[0] if shape else 1


def silent_share(signals: Signals, quantity: str = "slope") -> Series:
    """The share of units whose derivative is 0, or as good as 0 where the activation never reaches it, in [0, 1].

    Of "slope": for all samples of one batch. Of "lasting_slope": for all samples of the last looks, dead units.
    """
    share = signals.share(quantity, "zeros").copy()
    smooth = [i for i in signals.modules if _kind(signals, i) in _SMOOTH]
    share[smooth] = small_share(signals, quantity, _SILENT)[smooth]
    return share


def small_share(signals: Signals, quantity: str, exponent: int) -> Series:
    """The share of a quantity's entries below 2^exponent, zeros included; the exponent is one of the histogram's edges."""
    rows = signals.run.summaries[signals.run.summaries["quantity"] == QUANTITIES.index(quantity)]
    bins = int(np.searchsorted(EXPONENT_EDGES, exponent, side="left")) + 1
    matrix = np.full((len(signals.sites), len(signals.steps)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        small = (rows["zeros"] + rows["histogram"][:, :bins].sum(axis=1)) / rows["count"]
    matrix[rows["site"], np.searchsorted(signals.steps, rows["step"])] = small
    return matrix


def openness(signals: Signals, activation: Activation) -> NDArray[np.float64]:
    """Rms of the derivative over units and samples, over that of inputs of unit size, shape `[recorded steps]`."""
    working = 10.0 ** WORKING_DECADES.get(activation.kind, 0.0)
    return np.asarray(signals.rms("slope")[activation.site] / working)


def spread(signals: Signals) -> Series:
    """How far the samples lie apart in a layer's output, over their length: 0 when all are alike, 1 when unrelated."""
    return signals.rms("sample_spread")


def head_spread(signals: Signals) -> NDArray[np.float64]:
    """The largest spread over the heads, shape `[recorded steps]`; NaN where none was recorded."""
    spreads = spread(signals)[list(signals.run.info.heads)]
    largest = np.max(np.where(np.isnan(spreads), -np.inf, spreads), axis=0, initial=-np.inf)
    return np.asarray(np.where(np.isfinite(largest), largest, np.nan))


def fed_size(signals: Signals) -> NDArray[np.float64]:
    """Rms of what the model is fed, shape `[recorded steps]`; NaN when that are indices."""
    return np.full(len(signals.steps), np.nan) if signals.fed is None else signals.rms("activation")[signals.fed]


def weight_of(signals: Signals, module: int) -> int | None:
    """The parameter site of a module's largest matrix or kernel; None when it has none."""
    found = [i for i in signals.parameters_of(module) if len(signals.sites[i].shape) > 1]
    return max(found, key=lambda i: float(np.prod(signals.sites[i].shape)), default=None)


def weight_gain(signals: Signals, module: int) -> NDArray[np.float64]:
    """rms(W)·√fan_in: how much a layer stretches what it is fed; √2 after He, 1 after Xavier. NaN: none, or a table."""
    weight = weight_of(signals, module)
    if weight is None or "Embedding" in signals.sites[module].kind:
        return np.full(len(signals.steps), np.nan)
    shape = signals.sites[weight].shape
    transposed = "Transpose" in signals.sites[module].kind
    fan_in = float(np.prod(shape[1:] if not transposed else (shape[0], *shape[2:])))
    return np.asarray(signals.rms("weight")[weight] * np.sqrt(fan_in))


def learned_share(signals: Signals) -> tuple[float, int]:
    """How much of the loss is learned by now, 1 for all of it, and over how many steps the loss is known.

    Against the loss of the best constant output where that is known, else against the run's own first losses. NaN: the
    loss is not known, or not positive.
    """
    found = progress(signals)
    if found is None:
        return np.nan, 0
    base = found.trivial if np.isfinite(found.trivial) else found.start
    return (1 - found.now / base if base > 0 and found.now >= 0 else np.nan), found.count


def latest(series: NDArray[np.float64]) -> float:
    """The last number of a series that is known; NaN when there is none."""
    known = series[np.isfinite(series)]
    return float(known[-1]) if len(known) else np.nan


def earliest(series: NDArray[np.float64]) -> float:
    """The first number of a series that is known; NaN when there is none."""
    known = series[np.isfinite(series)]
    return float(known[0]) if len(known) else np.nan


def onset(sick: NDArray[np.bool_], known: NDArray[np.bool_]) -> int | None:
    """The column from which on a series was sick at every look; None when it is not sick now."""
    columns = np.flatnonzero(known)
    start = None
    for column in columns[::-1]:
        if not sick[column]:
            break
        start = int(column)
    return start


def is_constant(signals: Signals, module: int) -> bool:
    """Whether all weights of a layer were one number at the first look."""
    weight = weight_of(signals, module)
    if weight is None:
        return False
    span = signals.values("weight", "maximum")[weight] - signals.values("weight", "minimum")[weight]
    return earliest(np.where(np.isfinite(span), span, np.nan)) == 0


def option(label: str, name: str) -> float:
    """A number among a module's options as its label shows them; NaN when it is not there.

    Example:
        >>> option("BatchNorm1d(64, eps=1e-05, momentum=0.1)", "momentum")
        0.1
    """
    found = re.search(rf"\b{name}=([-+.\de]+)", label)
    return float(found.group(1)) if found else np.nan
