"""Numbers -> summaries, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, HISTOGRAM_BINS, Rows, empty_summaries

_ROWS_AT_ONCE = 64  # of samples that are sorted into bins together, so that they stay in cache
_BLOCK = 1024  # entries whose squares are added up in float32, one after the other: good for 2e-6 of the sum
# frexp exponents of float64 lie in [-1073, 1024]; this maps each, shifted by 1100, to its histogram bin
_BIN_OF_EXPONENT = np.searchsorted(EXPONENT_EDGES, np.arange(-1100, 1100), side="right").astype(np.int32)
# The bins that normal float32 numbers, of exponents -126 to 127, fall into, and where each begins among those exponents.
_NORMAL_BINS = slice(3, HISTOGRAM_BINS - 1)
_NORMAL_STARTS = EXPONENT_EDGES[2:-1] + 126


def sum_of_squares(numbers: torch.Tensor) -> float:
    """The sum of squares of all entries of a flat tensor on a CPU, shape `[N]`; rounded to 2e-6 of itself."""
    count = len(numbers)
    whole = count - count % _BLOCK
    blocks = numbers if whole == count else numbers[:whole]
    norms = torch.linalg.vector_norm(blocks.view(-1, _BLOCK), dim=1)
    squares = float(torch.dot(norms, norms) if whole <= _BLOCK**2 else norms.double().square().sum())
    if whole < count:
        rest = numbers[whole:]
        squares += float(torch.dot(rest, rest))
    return squares


def describe(values: NDArray[Any], squares: bool = True) -> Rows:
    """Summaries of numbers, each row as if it were a whole tensor: float32 or float64, shape `[N, numbers]`.

    Without `squares` their sum is left out, because it is known from all entries.
    """
    rows = empty_summaries(len(values))
    rows["count"] = rows["sample_size"] = values.shape[1]
    if values.size:
        for start in range(0, len(values), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            _describe_part(values[part], rows[part], squares)
    return rows


def _describe_part(values: NDArray[Any], rows: Rows, squares: bool) -> None:
    """Fills in the summaries of a few rows of numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows["sum"] = values.sum(axis=1, dtype=np.float64)
        if squares:
            wide = values.astype(np.float64)
            rows["sum_squares"] = np.einsum("ij,ij->i", wide, wide)
    clean = values
    if (np.isfinite(rows["sum"]).all() and values.dtype == np.float32) or np.isfinite(values).all():
        rows["minimum"], rows["maximum"] = values.min(axis=1), values.max(axis=1)
    else:
        finite = np.isfinite(values)
        clean = np.where(finite, values, 0)
        for name, test in (("nans", np.isnan), ("positive_infs", np.isposinf), ("negative_infs", np.isneginf)):
            rows[name] = test(values).sum(axis=1)
        rows["non_finite"] = ~finite.all(axis=1)
        rows["sum"] = clean.sum(axis=1, dtype=np.float64)
        rows["minimum"] = np.where(finite, values, np.inf).min(axis=1)
        rows["maximum"] = np.where(finite, values, -np.inf).max(axis=1)
    rows["zeros"] = values.shape[1] - np.count_nonzero(values, axis=1)
    masked = values.shape[1] - np.count_nonzero(clean, axis=1)  # zeros, and what was not finite
    rows["histogram"] = _magnitudes(clean, masked)


def _magnitudes(values: NDArray[Any], zeros: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many entries of each row lie in each bin, shape `[N, bins]`, given how many are 0."""
    if values.dtype == np.float32:  # its exponent is eight bits of it, which is five times faster to read
        fields = (values.view(np.int32) >> 23) & 255
        counted = _count(fields, 256)
        if np.array_equal(counted[:, 0], zeros):  # else there are denormals, whose exponent is further down
            binned = np.zeros((len(values), HISTOGRAM_BINS), np.int64)
            binned[:, _NORMAL_BINS] = np.add.reduceat(counted[:, 1:255], _NORMAL_STARTS, axis=1)
            return binned
    counted = _count(_BIN_OF_EXPONENT[np.frexp(values)[1] + 1099], HISTOGRAM_BINS)  # frexp: floor(log2|x|) + 1
    counted[:, _BIN_OF_EXPONENT[1099]] -= zeros  # frexp gives zeros exponent 0
    return counted


def _count(numbers: NDArray[np.int32], kinds: int) -> NDArray[np.int64]:
    """How often each number below `kinds` comes up in each row, shape `[N, kinds]`."""
    numbers = numbers + np.arange(len(numbers), dtype=np.int32)[:, None] * np.int32(kinds)
    return np.bincount(numbers.ravel(), minlength=len(numbers) * kinds).reshape(len(numbers), kinds)


_SAMPLED = ("sum", "zeros", "nans", "positive_infs", "negative_infs")


def scale_up(rows: Rows, counts: NDArray[np.float64]) -> None:
    """Turns counts in a sample of `sample_size` into estimated counts among all `counts` entries, in place."""
    share = counts / np.maximum(rows["sample_size"], 1.0)
    for name in _SAMPLED:
        rows[name] *= share
    rows["histogram"] *= share[:, None]
    rows["sum_squares"] *= share
    rows["count"] = counts
