"""What pairs of losses of one seed can say: an exact sign-flip test, and an interval for their ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SEEDS = 20  # all 2^20 flips take 8 MB; the table below ends there
# Student's t that 97.5 % lie below, for 1, 2, … 19 degrees of freedom
_T_975 = (12.706, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
          2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930)  # fmt: skip

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A candidate's losses against a control's, seed by seed."""

    pairs: int  # seeds that both ran in
    effect: float  # the candidate's loss over the control's, or minus it: the geometric or arithmetic mean over seeds
    low: float  # ends of its 95 % interval; NaN for fewer than two pairs, or when one of them diverged
    high: float
    p: float  # one-sided, against "the candidate's loss is no lower"; NaN without pairs
    ratio: bool = True  # False: some loss was not positive, so that differences are taken
    median: float = np.nan  # of the pairs' differences (logarithms for a ratio); below 0 is better; may be infinite

    @property
    def lower(self) -> bool:
        """Whether the loss is lower beyond chance, as far as so few pairs can say: p <= 0.05, or all of them."""
        return self.pairs > 0 and self.median < 0 and self.p <= max(0.05, least_p(self.pairs))


def compare(candidate: Numbers, control: Numbers) -> Comparison:
    """Compares losses of the same seeds, shape `[seeds]` each.

    Inf stands for a training that did not get there, worse than any other; NaN for one that says nothing: its pair is
    left out.

    Example:
        >>> found = compare(np.array([0.4, 0.5, 0.6]), np.array([0.8, 1.0, 1.2]))
        >>> round(found.effect, 3), found.p
        (0.5, 0.125)
    """
    known = ~(np.isnan(candidate) | np.isnan(control))
    mine, other = candidate[known], control[known]
    finite = np.concatenate([mine[np.isfinite(mine)], other[np.isfinite(other)]])
    ratio = bool((finite > 0).all())
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.log(mine) - np.log(other) if ratio else mine - other
    apart[np.isnan(apart)] = 0.0  # neither got there
    middle, low, high = interval(apart)
    if ratio:
        middle, low, high = np.exp([middle, low, high])
    median = _median(apart)
    return Comparison(len(apart), float(middle), float(low), float(high), sign_flip_p(apart), ratio, median)


def least_p(pairs: int) -> float:
    """The smallest p that so many pairs can give.

    Example:
        >>> least_p(3), least_p(5)
        (0.125, 0.03125)
    """
    return 0.5**pairs


def sign_flip_p(apart: Numbers) -> float:
    """The share of all sign patterns of the differences whose sum is as low as this one; NaN without differences.

    If the candidate made no difference, each pair could as well have come out the other way round. Infinite
    differences count as larger than all the finite ones together.

    Example:
        >>> sign_flip_p(np.array([-1.0, -2.0]))
        0.25
    """
    if not len(apart):
        return float("nan")
    size = np.abs(apart)
    beyond = 1.0 + float(size[np.isfinite(size)].sum())
    size[~np.isfinite(size)] = beyond
    observed = float((np.sign(apart) * size).sum())
    sums = np.zeros(1)
    for each in size:
        sums = np.concatenate([sums - each, sums + each])
    return float((sums <= observed + 1e-12 * float(size.sum())).mean())  # ties that rounding has parted are ties


def interval(values: Numbers) -> tuple[float, float, float]:
    """The mean and the ends of its 95 % interval by Student's t; NaN where that cannot be said.

    Example:
        >>> [round(each, 2) for each in interval(np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.48, 4.48]
    """
    nan = float("nan")
    if not len(values):
        return nan, nan, nan
    if not np.isfinite(values).all():
        return _median(values), nan, nan
    middle = float(values.mean())
    if not 2 <= len(values) <= len(_T_975) + 1:
        return middle, nan, nan
    half = _T_975[len(values) - 2] * float(values.std(ddof=1)) / len(values) ** 0.5
    return middle, middle - half, middle + half


def _median(values: Numbers) -> float:
    """The median, also of infinite values; of an even number the upper middle one, so that nothing is flattered."""
    return float(np.sort(values)[len(values) // 2]) if len(values) else float("nan")
