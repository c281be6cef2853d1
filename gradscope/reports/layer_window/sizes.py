"""How large the entries of a layer's tensors are at one step: shares of them by decade."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, QUANTITIES
from gradscope.signals import Signals

_DECADES = np.log10(2.0) * EXPONENT_EDGES
_FEWEST = 1e-5  # share of the entries: less than that widens no axis
_EDGES: NDArray[np.float64] = np.concatenate([[_DECADES[0] - 1], _DECADES, [_DECADES[-1] + 1]])


class Sizes(NamedTuple):
    """The finite entries of one tensor that are not 0, by size."""

    of: str  # "output", "its gradient", "weights", "their gradient"
    first: int  # the decade that `shares` begins with: entries from 10^first on
    shares: tuple[float, ...]  # of all its finite entries that are not 0, one a decade


def sizes(signals: Signals, module: int | None, parameters: tuple[int, ...], step: int) -> list[Sizes]:
    """The tensors of a layer of which a histogram was recorded at the step, on one axis."""
    outputs = [] if module is None else [module]
    wanted = [("output", outputs, "activation"), ("its gradient", outputs, "activation_gradient")]
    wanted += [("weights", list(parameters), "weight"), ("their gradient", list(parameters), "gradient")]
    found = {name: _by_decade(_histogram(signals, sites, quantity, step)) for name, sites, quantity in wanted}
    found = {name: shares for name, shares in found.items() if shares}
    every = [decade for shares in found.values() for decade in shares]
    if not every:
        return []
    first, last = min(every), max(every)
    return [
        Sizes(name, first, tuple(shares.get(decade, 0.0) for decade in range(first, last + 1)))
        for name, shares in found.items()
    ]


def _histogram(signals: Signals, sites: list[int], quantity: str, step: int) -> NDArray[np.float64]:
    owners = {same if (same := signals.sites[site].same_as) is not None else site for site in sites}
    rows = signals.run.summaries
    here = (
        (rows["step"] == step)
        & (rows["quantity"] == QUANTITIES.index(quantity))
        & np.isin(rows["site"], sorted(owners))
    )
    return np.asarray(rows["histogram"][here].sum(axis=0), np.float64)


def _by_decade(histogram: NDArray[np.float64]) -> dict[int, float]:
    """Shares by decade; a bin's entries are spread evenly over the decades that it covers."""
    total = float(histogram.sum())
    if not total:
        return {}
    first, last = int(np.floor(_EDGES[0])), int(np.ceil(_EDGES[-1]))
    at = np.arange(first, last + 1)
    below = np.interp(at, _EDGES, np.concatenate([[0.0], np.cumsum(histogram)])) / total
    shares = np.diff(below)
    filled = np.flatnonzero(shares > _FEWEST)
    return {int(at[place]): float(shares[place]) for place in range(filled[0], filled[-1] + 1)}
