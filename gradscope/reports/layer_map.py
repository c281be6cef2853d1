"""The cells of the map as they are shown: one number by layer and step, folded where a screen has no room for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Finding, Site
from gradscope.reports.cells import NON_FINITE, NOT_RECORDED, ZERO, Cells, fold, turned
from gradscope.reports.metrics import Metric
from gradscope.reports.page_words import layer_label
from gradscope.reports.theme import Theme

MOST_CELLS = 60_000  # exact float32 values up to here, those of the traces for states included: 0.4 MB as base64
# The map is some 330 pixels high and 500 to 800 wide. Where a row or a column is less than a pixel, plotly leaves it out,
# and the event in it; so they are folded here, where the worst is kept.
MOST_COLUMNS = 500
MOST_ROWS = 300


@dataclass(frozen=True)
class MapData:
    """The cells of the map.

    Attributes:
        metric: its id.
        rows: the name that each row shows, first layer first; "first … last" where neighbours share a row.
        labels: the same for people, with the layer's kind where the name is only a number.
        steps: the first step of each column; columns are equally wide.
        per_column: steps that share a column.
        every_step: whether each column shows a step that was recorded, so that none shows an earlier one.
        decades: log10 of the metric, shape `[rows, columns]`; NaN where the state is not MEASURED. Where cells are
            shared, the one farthest from healthy, so that no event is averaged away.
        states: MEASURED, NOT_RECORDED, ZERO or NON_FINITE, shape `[rows, columns]`.
    """

    metric: str
    rows: tuple[str, ...]
    labels: tuple[str, ...]
    steps: NDArray[np.int64]
    per_column: int
    every_step: bool
    decades: NDArray[np.float32]
    states: NDArray[np.uint8]


def layer_map(metric: Metric, sites: Sequence[Site], recorded: NDArray[np.int64], cells: Cells, last: int) -> MapData:
    """The map of one metric.

    Args:
        metric: what the cells show.
        sites: of the rows, first layer first.
        recorded: the steps of the columns.
        cells: a row for each site, a column for each recorded step.
        last: the last step of the run, which may come after the last recorded one; -1 when there is none.
    """
    data = _of_size(metric, sites, recorded, cells, last, MOST_CELLS)
    size = _size(data)
    if size <= MOST_CELLS:
        return data
    return _of_size(metric, sites, recorded, cells, last, MOST_CELLS * MOST_CELLS // size)


def _size(data: MapData) -> int:
    """Cells that are sent: the values, and for each other state the part of the map where it is."""
    size = int(data.states.size)
    for state in (NOT_RECORDED, ZERO, NON_FINITE):
        rows, columns = box(data.states == state)
        size += (rows.stop - rows.start) * (columns.stop - columns.start)
    return size


def box(here: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest part of the map that holds all these cells: its rows and columns, two of them where there are two,
    for plotly takes a column's width from its neighbour's place.
    """
    rows, columns = (np.flatnonzero(here.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    first, last = int(columns[0]), int(columns[-1])
    first = max(0, first - (first == last))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(first, max(last + 1, min(first + 2, here.shape[1])))


def _of_size(
    metric: Metric, sites: Sequence[Site], recorded: NDArray[np.int64], cells: Cells, last: int, most: int
) -> MapData:
    """The map in at most so many cells, more where there are more rows."""
    per_row = -(-len(sites) // MOST_ROWS) or 1
    cells = turned(fold(turned(cells), np.arange(len(sites)) // per_row, metric.centre))
    rows = _shared([site.name for site in sites], per_row)
    labels = _shared([layer_label(site) for site in sites], per_row)
    steps, per_column = _columns(recorded, last, max(1, min(MOST_COLUMNS, most // max(1, len(rows)))))
    if not len(steps):
        return MapData(metric.id, rows, labels, steps, 1, True, *cells)
    cells = fold(cells, (recorded - steps[0]) // per_column, metric.centre)
    shown = _shown(recorded, steps, per_column)
    every_step = bool((recorded[shown.clip(0)] >= steps).all() and (shown >= 0).all())
    group = np.unique((recorded - steps[0]) // per_column, return_inverse=True)[1]
    picked = np.where(shown < 0, -1, group[shown])
    decades = np.where(picked < 0, np.float32(np.nan), cells.decades[:, picked])
    states = np.where(picked < 0, NOT_RECORDED, cells.states[:, picked]).astype(np.uint8)
    return MapData(metric.id, rows, labels, steps, per_column, every_step, decades, states)


def _shared(names: list[str], per_row: int) -> tuple[str, ...]:
    """The names of rows that `per_row` neighbours share."""
    if per_row == 1:
        return tuple(names)
    return tuple(f"{names[i]} … {names[min(i + per_row, len(names)) - 1]}" for i in range(0, len(names), per_row))


def _columns(recorded: NDArray[np.int64], last: int, most: int) -> tuple[NDArray[np.int64], int]:
    """The first step of each column, and how many steps share one."""
    if not len(recorded):
        return recorded, 1
    first, last = int(recorded[0]), max(int(recorded[-1]), last)
    per_column = -(-(last - first + 1) // most)
    return np.arange(first, last + 1, per_column), per_column


def _shown(recorded: NDArray[np.int64], columns: NDArray[np.int64], per_column: int) -> NDArray[np.int64]:
    """For each column the recorded step that it shows, as an index; -1 for none.

    A recorded step is shown until the next one, never before it was taken, and no longer than twice the distance that
    is usual in this run or was usual just before: a map of every tenth step has no stripes, a real gap stays visible.
    """
    last = np.searchsorted(recorded, columns + per_column - 1, side="right") - 1
    distance = columns - recorded[last]
    gaps = np.diff(recorded, prepend=recorded[0] - 1)
    usual = np.median(gaps[1:]) if len(gaps) > 1 else 1
    hold = 2 * np.maximum(gaps, usual)
    return np.where((last >= 0) & (distance < hold[last]), last, -1)


def cell_colours(metric: Metric, theme: Theme) -> dict[int, tuple[str, str]]:
    """For each state that is not a number: its colour and what it says."""
    return {
        NON_FINITE: (theme.non_finite, "non-finite: NaN or Inf"),
        ZERO: (theme.diverging[0], metric.zero),
        NOT_RECORDED: (theme.not_recorded, "not recorded or undefined here"),
    }


def marked_rows(rows: tuple[str, ...], findings: tuple[Finding, ...]) -> dict[str, str]:
    """For each finding the row where it is worst: row -> "F1", or "F1 F3" where two share it."""
    marks: dict[str, str] = {}
    for number, finding in enumerate(findings, 1):
        worst = next(iter(finding.layers), None)
        row = next((row for row in rows if worst is not None and (row == worst or row.startswith(f"{worst}."))), None)
        if row is not None:
            marks[row] = f"{marks[row]} F{number}" if row in marks else f"F{number}"
    return marks


def named_rows(rows: Sequence[str], marks: dict[str, str], most: int = 24) -> list[int]:
    """Which rows to name beside the map: evenly spread ones, and every marked one."""
    every = -(-len(rows) // most) or 1
    marked = [i for i, row in enumerate(rows) if row in marks]
    even = [i for i in range(0, len(rows), every) if all(abs(i - taken) >= every for taken in marked)]
    return sorted([*marked, *even])


def short(name: str, length: int) -> str:
    """A layer's name cut at the front, where names are alike: "…s.9.mlp.fc1"."""
    return name if len(name) <= length else "…" + name[1 - length :]
