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
        shared: for each row the names that share it; empty where each row is one.
        span: the first and the last step of the run, also where the map shows only some of its steps.
        block: which part of the model the rows are; None: all of it.
    """

    metric: str
    rows: tuple[str, ...]
    labels: tuple[str, ...]
    steps: NDArray[np.int64]
    per_column: int
    every_step: bool
    decades: NDArray[np.float32]
    states: NDArray[np.uint8]
    shared: tuple[tuple[str, ...], ...] = ()
    span: tuple[int, int] | None = None
    block: str | None = None

    @property
    def per_row(self) -> int:
        """How many layers share a row, at most."""
        return max(map(len, self.names), default=1)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """For each row the layers or parameters that it shows."""
        return self.shared or tuple((row,) for row in self.rows)

    @property
    def places(self) -> NDArray[np.float64]:
        """The middle of each column on the step axis."""
        return self.steps.astype(np.float64) + (self.per_column - 1) / 2

    def row_of(self, name: str) -> int | None:
        """The row that shows a layer or parameter; None where the map does not have it."""
        return next((row for row, names in enumerate(self.names) if name in names), None)


def layer_map(
    metric: Metric,
    sites: Sequence[Site],
    recorded: NDArray[np.int64],
    cells: Cells,
    last: int,
    window: tuple[int, int] | None = None,
) -> MapData:
    """The map of one metric.

    Args:
        metric: what the cells show.
        sites: of the rows, first layer first.
        recorded: the steps of the columns.
        cells: a row for each site, a column for each recorded step.
        last: the last step of the run, which may come after the last recorded one; -1 when there is none.
        window: the first and the last step to show, in as many columns as all of them would get; None: all.
    """
    span = (int(recorded[0]), max(int(recorded[-1]), last)) if len(recorded) else None
    data = _of_size(metric, sites, recorded, cells, span, window, MOST_CELLS)
    size = _size(data)
    if size <= MOST_CELLS:
        return data
    return _of_size(metric, sites, recorded, cells, span, window, MOST_CELLS * MOST_CELLS // size)


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
    metric: Metric,
    sites: Sequence[Site],
    recorded: NDArray[np.int64],
    cells: Cells,
    span: tuple[int, int] | None,
    window: tuple[int, int] | None,
    most: int,
) -> MapData:
    """The map in at most so many cells, more where there are more rows."""
    per_row = -(-len(sites) // MOST_ROWS) or 1
    names = [site.name for site in sites]
    rows, labels = _shared(names, per_row), _shared([layer_label(site) for site in sites], per_row)
    shared = tuple(tuple(names[i : i + per_row]) for i in range(0, len(names), per_row)) if per_row > 1 else ()
    if span is None:
        return MapData(metric.id, rows, labels, recorded, 1, True, *cells, shared)
    steps, per_column = _columns(span, window, max(1, min(MOST_COLUMNS, most // max(1, len(rows)))))
    shown = _shown(recorded, steps, per_column)
    every_step = bool((recorded[shown.clip(0)] >= steps).all() and (shown >= 0).all())
    # of the recorded steps those that these columns can show: their own, and the last one before them
    begin = max(0, int(np.searchsorted(recorded, steps[0], side="right")) - 1)
    near = slice(begin, int(np.searchsorted(recorded, steps[-1] + per_column - 1, side="right")))
    cells = Cells(cells.decades[:, near], cells.states[:, near])
    cells = turned(fold(turned(cells), np.arange(len(sites)) // per_row, metric.centre))
    group = np.unique((recorded[near] - steps[0]) // per_column, return_inverse=True)[1]
    cells = fold(cells, group, metric.centre)
    picked = np.where(shown < 0, -1, group[shown.clip(begin) - begin])
    decades = np.where(picked < 0, np.float32(np.nan), cells.decades[:, picked])
    states = np.where(picked < 0, NOT_RECORDED, cells.states[:, picked]).astype(np.uint8)
    return MapData(metric.id, rows, labels, steps, per_column, every_step, decades, states, shared, span)


def _shared(names: list[str], per_row: int) -> tuple[str, ...]:
    """The names of rows that `per_row` neighbours share."""
    if per_row == 1:
        return tuple(names)
    return tuple(f"{names[i]} … {names[min(i + per_row, len(names)) - 1]}" for i in range(0, len(names), per_row))


def _columns(span: tuple[int, int], window: tuple[int, int] | None, most: int) -> tuple[NDArray[np.int64], int]:
    """The first step of each column, and how many steps share one; all steps where the window has none of the run's."""
    first, last = span
    if window is not None and max(first, window[0]) <= min(last, window[1]):
        first, last = max(first, window[0]), min(last, window[1])
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


def marked_rows(data: MapData, findings: tuple[Finding, ...]) -> dict[str, str]:
    """For each finding the row where it is worst: row -> "F1", or "F1 F3" where two share it."""
    marks: dict[str, str] = {}
    for number, finding in enumerate(findings, 1):
        worst = next(iter(finding.layers), None)
        if worst is None:
            continue
        of_it = (
            row for row, names in enumerate(data.names) if any(f"{name}.".startswith(f"{worst}.") for name in names)
        )
        if (place := next(of_it, None)) is not None:
            row = data.rows[place]
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
