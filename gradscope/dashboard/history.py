"""What the map shows of every recorded step of a run that is too large to be read whole.

`gradscope.store.excerpt` looks at each recorded step once; what is kept of it here are 5 bytes a cell of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Run
from gradscope.reports.cells import NOT_RECORDED, Cells, cells_of
from gradscope.reports.metrics import METRICS, Metric
from gradscope.signals import Signals


class Look(NamedTuple):
    """A stretch of recorded steps, looked at once."""

    steps: NDArray[np.int64]
    sites: dict[str, list[int]]  # of each metric: the sites of its rows
    cells: dict[str, Cells]  # of each metric


def look(run: Run) -> Look:
    """Every metric of the map over the steps of a run."""
    signals = Signals(run)
    sites = {name: metric.rows(signals) for name, metric in METRICS.items()}
    return Look(signals.steps, sites, {name: cells_of(signals, METRICS[name], rows) for name, rows in sites.items()})


class ExcerptSignals(Signals):
    """Signals of some recorded steps of a run, beside the map's cells of all of them.

    Args:
        run: the recorded steps that were read whole.
        looks: at all of them, in order.
    """

    def __init__(self, run: Run, looks: Sequence[Look]) -> None:
        super().__init__(run)
        self._looks = looks
        steps = np.concatenate([self.steps[:0], *(each.steps for each in looks)])
        # a step that was recorded again, by a training that was resumed, counts as it was the last time
        self.all_steps, last = np.unique(steps[::-1], return_index=True)
        self._order = len(steps) - 1 - last

    def cells(self, metric: Metric, sites: list[int]) -> Cells:
        """The cells of some sites at `all_steps`."""
        parts = [_rows_of(each, metric.id, sites) for each in self._looks]
        if not parts:
            return cells_of(self, metric, sites)
        decades, states = (np.concatenate(columns, axis=1)[:, self._order] for columns in zip(*parts, strict=True))
        return Cells(decades, states)


def _rows_of(each: Look, metric: str, sites: list[int]) -> Cells:
    """The rows of these sites, of which some may not have been known then."""
    known = each.sites[metric]
    if known == sites:
        return each.cells[metric]
    place = {site: row for row, site in enumerate(known)}
    rows = np.array([place.get(site, -1) for site in sites], np.intp)
    decades = np.full((len(sites), len(each.steps)), np.nan, np.float32)
    states = np.full(decades.shape, NOT_RECORDED, np.uint8)
    there = rows >= 0
    decades[there], states[there] = (cells[rows[there]] for cells in each.cells[metric])
    return Cells(decades, states)


def recorded_steps(signals: Signals) -> NDArray[np.int64]:
    """All recorded steps that are known, also those that were not read whole."""
    return signals.all_steps if isinstance(signals, ExcerptSignals) else signals.steps


def all_cells(signals: Signals, metric: Metric, sites: list[int]) -> Cells:
    """The cells of some sites at `recorded_steps`."""
    return signals.cells(metric, sites) if isinstance(signals, ExcerptSignals) else cells_of(signals, metric, sites)
