"""What the address adds to the map: its order of rows, the part that is shown, the rows in question, the open cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from itertools import accumulate

import numpy as np
from dash import Patch

from gradscope.dashboard.figures.plotly import Figure, redrawn
from gradscope.records import SEVERITIES, Finding
from gradscope.reports.layer_map import MapData
from gradscope.reports.theme import Theme

_AROUND = 0.1  # of the run's steps, to each side of where a finding begins

_BETWEEN = 4  # rows: layers that are named and no farther apart are one stretch


def reorder(data: MapData, order: str, findings: tuple[Finding, ...]) -> MapData:
    """The same rows by "depth", by "severity" of what is found there, or by "onset" of the earliest finding there."""
    if order == "depth":
        return data
    tests = [(finding, _names(finding.layers)) for finding in findings]

    def rank(names: tuple[str, ...]) -> float:
        about = [finding for finding, is_about in tests if any(map(is_about, names))]
        if order == "onset":
            return min((finding.first_step for finding in about), default=np.inf)
        return -max((SEVERITIES.index(finding.severity) for finding in about), default=-1)

    names = data.names
    order_of_rows = sorted(range(len(names)), key=lambda i: rank(names[i]))
    return dataclasses.replace(
        data,
        rows=tuple(data.rows[i] for i in order_of_rows),
        labels=tuple(data.labels[i] for i in order_of_rows),
        decades=data.decades[order_of_rows],
        states=data.states[order_of_rows],
        shared=tuple(names[i] for i in order_of_rows),
    )


def window(
    span: tuple[int, int] | None, finding: Finding | None, first: int | None, last: int | None
) -> tuple[int, int] | None:
    """The first and the last step to show: around a finding's onset, else those that were asked for; None: all.

    Args:
        span: the first and the last step of the run; None where nothing was recorded.
        finding: the one that is open.
        first: what was asked for.
        last: likewise.
    """
    if span is None:
        return None
    if finding is not None:
        around = max(2, math.ceil(_AROUND * (span[1] - span[0])))
        return max(span[0], finding.first_step - around), finding.first_step + around
    return (first, last) if first is not None and last is not None and first <= last else None


def mark(
    figure: Figure,
    data: MapData,
    shown: tuple[int, int] | None,
    rows: tuple[int, int] | None,
    layers: tuple[str, ...],
    cell: tuple[str, int] | None,
    theme: Theme,
) -> Figure:
    """Adds to a map what the address chose.

    Args:
        figure: the map, changed in place and handed back.
        data: its cells.
        shown: the first and the last step shown, see `window`; None: all.
        rows: the first and the last row shown, by number; None: all.
        layers: those that stay bright; all when there are none.
        cell: the layer and the step that are open.
        theme: the colours.
    """
    layout = figure["layout"]
    # else plotly takes a range that was zoomed to once, left, and is asked for again for what the user has just left
    layout["xaxis"]["uirevision"], layout["yaxis2"]["uirevision"] = str(shown), str(rows)
    if shown is not None:
        layout["xaxis"] |= {"range": [shown[0] - 0.5, shown[1] + 0.5], "autorange": False}
    if rows is not None and rows[0] < len(data.rows):
        layout["yaxis2"] |= {"range": [rows[1] + 0.5, rows[0] - 0.5], "autorange": False}
    layout["shapes"] += [*_dimmed(data, layers, theme), *_frame(data, cell, theme)]
    return figure


def marks_only(figure: Figure) -> Patch:
    """The changes that give a map on the screen the marks and the range of this one."""
    patch = Patch()
    patch["layout"]["shapes"] = figure["layout"]["shapes"]
    return _show_range(patch, figure)


def in_place(figure: Figure, moved: bool) -> Patch:
    """The changes that make this map of a map on the screen, where the zoom stays; `moved`: but for the steps shown."""
    return _show_range(redrawn(figure), figure) if moved else redrawn(figure)


def _show_range(patch: Patch, figure: Figure) -> Patch:
    for name, all_of_it in (("xaxis", True), ("yaxis2", "reversed")):
        axis = figure["layout"][name]
        patch["layout"][name]["uirevision"] = axis["uirevision"]
        patch["layout"][name]["autorange"] = False if "range" in axis else all_of_it
        if "range" in axis:
            patch["layout"][name]["range"] = axis["range"]
    return patch


def _names(layers: tuple[str, ...]) -> Callable[[str], bool]:
    """Tells whether a name (of a layer, or of a parameter of one) is among the layers."""
    named = set(layers) - {""}
    above = {module for layer in named for module in _modules(layer)}
    return lambda name: name in named or name in above or not named.isdisjoint(_modules(name))


def _modules(name: str) -> Iterable[str]:
    """The modules that something is in: of "a.b.c" "a" and "a.b"."""
    return accumulate(name.split(".")[:-1], lambda path, part: f"{path}.{part}")


def _dimmed(data: MapData, layers: tuple[str, ...], theme: Theme) -> list[Figure]:
    is_named = _names(layers)
    named = np.flatnonzero([any(map(is_named, names)) for names in data.names])
    if not len(named):
        return []
    bright = np.zeros(len(data.rows), np.bool_)
    for row, following in zip(named, [*named[1:], named[-1]], strict=True):  # activations in between stay bright too
        bright[row : following + 1 if following - row <= _BETWEEN else row + 1] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~bright, [False]])))
    return [
        _rectangle(theme, (0, 1), (start - 0.5, end - 0.5), xref="paper", fillcolor=theme.card, opacity=0.62)
        for start, end in edges.reshape(-1, 2).tolist()
    ]


def _frame(data: MapData, cell: tuple[str, int] | None, theme: Theme) -> list[Figure]:
    """The open cell; none where it is in a part of the map that is not shown."""
    row = data.row_of(cell[0]) if cell is not None else None
    if cell is None or row is None or not len(data.steps):
        return []
    column = (cell[1] - int(data.steps[0])) // data.per_column
    if not 0 <= column < len(data.steps):
        return []
    middle, half = float(data.places[column]), data.per_column / 2
    line = {"color": theme.text, "width": 2}
    return [_rectangle(theme, (middle - half, middle + half), (row - 0.5, row + 0.5), line=line, name="cell")]


def _rectangle(theme: Theme, x: tuple[float, float], y: tuple[float, float], **more: object) -> Figure:
    shape: Figure = {"type": "rect", "xref": "x", "yref": "y2", "line": {"width": 0, "color": theme.card}, **more}
    return shape | {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1]}
