"""What a summary becomes when its tensor is multiplied by a number."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, HISTOGRAM_BINS, Rows


def scale(rows: Rows, factor: float) -> Rows:
    """Summaries of the same tensors times a positive factor; only the histogram is spread between its bins."""
    scaled = rows.copy()
    scaled["sum_squares"] *= factor**2
    for name in ("sum", "minimum", "maximum"):
        scaled[name] *= factor
    scaled["histogram"] = rows["histogram"] @ _shift(float(np.log2(factor)))
    return scaled


@lru_cache(maxsize=8)
def _shift(exponents: float) -> NDArray[np.float64]:
    """Where a histogram's bins go when all magnitudes change by these powers of two, shape `[bins, bins]`.

    Magnitudes are taken to be even in each bin; what leaves the range stays in the outermost bin.
    """
    edges = np.concatenate([[EXPONENT_EDGES[0] - 2.0], EXPONENT_EDGES, [EXPONENT_EDGES[-1] + 2.0]])
    moved = np.clip(edges + exponents, edges[0], edges[-1])
    matrix = np.zeros((HISTOGRAM_BINS, HISTOGRAM_BINS))
    for old in range(HISTOGRAM_BINS):
        low, high = moved[old], moved[old + 1]
        if high <= low:  # all of it left the range
            matrix[old, 0 if exponents < 0 else -1] = 1.0
            continue
        matrix[old] = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0.0, None) / (high - low)
    return matrix
