"""The cells of the map before they are drawn: a decade or a state for each row and recorded step, and how they fold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.reports.metrics import Mask, Matrix, Metric
from gradscope.signals import Signals

# states of a cell
MEASURED, NOT_RECORDED, ZERO, NON_FINITE = 0, 1, 2, 3


class Cells(NamedTuple):
    """Both of shape `[rows, columns]`."""

    decades: NDArray[np.float32]  # log10 of the metric; NaN where the state is not MEASURED
    states: NDArray[np.uint8]  # MEASURED, NOT_RECORDED, ZERO or NON_FINITE


def cells_of(signals: Signals, metric: Metric, sites: list[int]) -> Cells:
    """The cells of some sites over the steps of these signals."""
    return classify(metric.values(signals)[sites], metric.non_finite(signals)[sites])


def classify(values: Matrix, broken: Mask) -> Cells:
    """Numbers as decades, everything else as a state."""
    states = np.full(values.shape, MEASURED, np.uint8)
    states[~np.isfinite(values)] = NOT_RECORDED
    states[values == 0] = ZERO
    states[broken] = NON_FINITE
    with np.errstate(invalid="ignore", divide="ignore"):
        decades = np.where(states == MEASURED, np.log10(np.where(values > 0, values, np.nan)), np.nan)
    return Cells(decades.astype(np.float32), states)


def fold(cells: Cells, groups: NDArray[np.int64], centre: float) -> Cells:
    """Joins neighbouring columns of one group: non-finite wins, then the value farthest from the centre, then zero.

    Args:
        cells: the cells.
        groups: ascending, shape `[columns]`.
        centre: what is healthy.
    """
    decades, states = cells
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    if len(starts) == len(groups) or not decades.size:
        return cells
    farness = np.nan_to_num(np.abs(decades - centre), nan=-1.0)
    ends = [*starts[1:], len(groups)]
    farthest = np.array([start + farness[:, start:end].argmax(axis=1) for start, end in zip(starts, ends, strict=True)])
    folded = np.take_along_axis(decades, farthest.T, axis=1)
    state = np.full(folded.shape, NOT_RECORDED, np.uint8)
    for stronger in (ZERO, MEASURED, NON_FINITE):
        state[np.logical_or.reduceat(states == stronger, starts, axis=1)] = stronger
    return Cells(np.where(state == MEASURED, folded, np.nan).astype(np.float32), state)


def turned(cells: Cells) -> Cells:
    """Rows as columns."""
    return Cells(cells.decades.T, cells.states.T)
