"""The numbers of one layer over some recorded steps: sizes, shares and ratios, as the layer's page shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.reports.strips import NON_FINITE, NOT_RECORDED, UNDEFINED
from gradscope.signals import Signals
from gradscope.signals.units import LEVEL, hidden_activations, silent_share, small_share

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Quantity(NamedTuple):
    """One number of a layer at each of some steps; where `values` has None, `words` says why at the same place."""

    id: str
    title: str
    meaning: str
    share: bool  # in [0, 1]
    values: tuple[float | None, ...]
    words: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        """Whether there is anything to show."""
        return any(
            value is not None or word != NOT_RECORDED for value, word in zip(self.values, self.words, strict=True)
        )


def _quantity(
    name: str, title: str, meaning: str, values: Values, broken: Mask, why: str = NOT_RECORDED, share: bool = False
) -> Quantity:
    words = [
        NON_FINITE if bad else "" if math.isfinite(value) else why for value, bad in zip(values, broken, strict=True)
    ]
    known = tuple(None if word else float(value) for value, word in zip(values, words, strict=True))
    return Quantity(name, title, meaning, share, known, tuple(words))


def output_quantities(signals: Signals, module: int) -> Iterator[Quantity]:
    """What was measured of a layer's output and of the gradient there, also where it was not recorded."""
    broken, bad = signals.non_finite("activation")[module], signals.non_finite("activation_gradient")[module]
    none = np.zeros(len(signals.steps), bool)
    yield _quantity(
        "activation_norm", "output norm", "L2 norm of the output", signals.norm("activation")[module], broken
    )
    yield _quantity(
        "activation_rms", "output rms", "rms of the output's entries", signals.rms("activation")[module], broken
    )
    zeros = signals.share("activation", "zeros")[module]
    yield _quantity("activation_zeros", "zeros", "share of the output that is exactly 0", zeros, none, share=True)
    lost = _lost(signals, module, "activation")
    yield _quantity(
        "activation_non_finite", "NaN, Inf", "share of the output that is NaN or Inf", lost, none, share=True
    )
    yield from _shut(signals, module)
    norm = signals.norm("activation_gradient")[module]
    yield _quantity("gradient_norm", "gradient norm", "L2 norm of the loss gradient at the output", norm, bad)
    yield _gain(signals, module, bad)
    own, inputs = signals.own_gain(module), list(signals.sites[module].inputs)
    lossy = bad | signals.non_finite("activation_gradient")[inputs].any(axis=0)
    closed = np.isneginf(own) & ~lossy
    said = _quantity("own_gain", "own gain", "log10 of the gradient handed back over the one it got", own, lossy)
    words = tuple("exactly 0 is handed back" if shut else word for shut, word in zip(closed, said.words, strict=True))
    yield said._replace(words=words)
    lost = _lost(signals, module, "activation_gradient")
    meaning = "share of that gradient that is NaN or Inf"
    yield _quantity("gradient_non_finite", "gradient NaN, Inf", meaning, lost, none, share=True)


def _lost(signals: Signals, site: int, quantity: str) -> Values:
    """The share of entries that are NaN or Inf; where a sample missed them, one entry."""
    found = sum(signals.share(quantity, field)[site] for field in ("nans", "positive_infs", "negative_infs"))
    least = 1 / signals.values(quantity, "count")[site]
    return np.asarray(np.where(signals.non_finite(quantity)[site], np.maximum(found, least), found))


def _gain(signals: Signals, module: int, bad: Mask) -> Quantity:
    """The backward gain, and where it is undefined."""
    broken = signals.non_finite("activation_gradient")
    head = broken[list(signals.run.info.heads)].any(axis=0)
    said = _quantity(
        "backward_gain",
        "backward gain",
        "that norm over the one at the model's output, what pooling took left out",
        signals.unpooled_gain[module],
        bad | head,
    )
    nothing = signals.head_norm == 0
    words = (
        UNDEFINED if word == NOT_RECORDED and zero else word for word, zero in zip(said.words, nothing, strict=True)
    )
    return said._replace(words=tuple(words))


def _shut(signals: Signals, module: int) -> Iterator[Quantity]:
    """What an activation lets through: shares of its units."""
    none = np.zeros(len(signals.steps), bool)
    kind = next((each.kind for each in hidden_activations(signals) if each.site == module), "")
    if kind in LEVEL:
        shut = small_share(signals, "slope", -8 if "igmoid" in kind else -6)[module]
        meaning = "share of its units that pass on hardly anything"
        yield _quantity("saturated_share", "saturated", meaning, shut, none, share=True)
    silent, dead = silent_share(signals, "slope")[module], silent_share(signals, "lasting_slope")[module]
    meaning = "share of its units that let nothing through in this batch"
    yield _quantity("silent_share", "silent", meaning, silent, none, share=True)
    meaning = "share of its units that let nothing through in all last looks"
    yield _quantity("dead_share", "dead", meaning, dead, none, share=True)


def parameter_quantities(signals: Signals, parameters: tuple[int, ...]) -> Iterator[Quantity]:
    """What was measured of parameters, taken together: of one alone when it is one."""
    sites = list(parameters)
    count = signals.values("weight", "count")
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = count * signals.values("update", "sum_squares") / signals.values("update", "count")
    squares = {
        "weight": signals.values("weight", "sum_squares")[sites],
        "gradient": signals.values("gradient", "sum_squares")[sites],
        "update": moved[sites],
    }
    broken = {name: np.asarray(signals.non_finite(name)[sites].any(axis=0)) for name in squares}
    sums = {name: _sum_of_known(values) for name, values in squares.items()}
    none = np.zeros(len(signals.steps), bool)
    yield _quantity("weight_norm", "weight norm", "L2 norm", np.sqrt(sums["weight"]), broken["weight"])
    meaning = "L2 norm of the gradient before clipping"
    yield _quantity("weight_gradient_norm", "weights' gradient", meaning, np.sqrt(sums["gradient"]), broken["gradient"])
    meaning = "L2 norm of what the optimizer's step changed, from a fixed sample"
    yield _quantity("update_norm", "update norm", meaning, np.sqrt(sums["update"]), broken["update"])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(sums["update"] / np.where(sums["weight"] > 0, sums["weight"], np.nan))
    lost = broken["update"] | broken["weight"]
    yield _quantity("update_ratio", "update / weight", "rms of the change over the rms of the weights", ratio, lost)
    for name, what in (("weight", "weights"), ("gradient", "weights' gradient")):
        entries = np.array([_lost(signals, site, name) * count[site] for site in sites])
        known = np.where(np.isnan(entries), np.nan, count[sites])
        with np.errstate(invalid="ignore", divide="ignore"):
            found = _sum_of_known(entries) / _sum_of_known(known)
        title = "NaN, Inf" if name == "weight" else "gradient NaN, Inf"
        meaning = f"share of the {what} that is NaN or Inf"
        yield _quantity(
            f"{'' if name == 'weight' else 'weight_'}{name}_non_finite", title, meaning, found, none, share=True
        )


def _sum_of_known(rows: Values) -> Values:
    """The sum of each column over what was recorded; NaN where nothing was."""
    return np.asarray(np.where(np.isnan(rows).all(axis=0), np.nan, np.nansum(rows, axis=0)))
