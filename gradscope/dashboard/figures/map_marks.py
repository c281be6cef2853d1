"""What the address adds to the map: its order of rows, the part that is shown, the rows in question, the open cell."""

from __future__ import annotations

import dataclasses

import numpy as np
from dash import Patch

from gradscope.dashboard.figures.map import MapData
from gradscope.dashboard.figures.plotly import Figure, redrawn
from gradscope.records import SEVERITIES, Finding
from gradscope.reports.theme import Theme

_AROUND = 0.1  # of the run's steps, to each side of where a finding begins

_BETWEEN = 4  # rows: layers that are named and no farther apart are one stretch


def reorder(data: MapData, order: str, findings: tuple[Finding, ...]) -> MapData:
    """The same rows by "depth", by "severity" of what is found there, or by "onset" of the earliest finding there."""
    if order == "depth":
        return data

    def rank(row: str) -> float:
        about = [finding for finding in findings if _names(row, finding.layers)]
        if order == "onset":
            return min((finding.first_step for finding in about), default=np.inf)
        return -max((SEVERITIES.index(finding.severity) for finding in about), default=-1)

    order_of_rows = sorted(range(len(data.rows)), key=lambda i: rank(data.rows[i]))
    return dataclasses.replace(
        data,
        rows=tuple(data.rows[i] for i in order_of_rows),
        labels=tuple(data.labels[i] for i in order_of_rows),
        decades=data.decades[order_of_rows],
        states=data.states[order_of_rows],
    )


def window(data: MapData, finding: Finding | None, first: int | None, last: int | None) -> tuple[float, float] | None:
    """The steps to show: around a finding's onset, else those that were asked for; None: all."""
    if not len(data.steps):
        return None
    if finding is not None:
        around = max(2.0, _AROUND * float(data.steps[-1] - data.steps[0]))
        return max(float(data.steps[0]), finding.first_step - around) - 0.5, finding.first_step + around + 0.5
    if first is not None and last is not None and first <= last:
        return first - 0.5, last + 0.5
    return None


def mark(
    figure: Figure,
    data: MapData,
    shown: tuple[float, float] | None,
    layers: tuple[str, ...],
    cell: tuple[str, int] | None,
    theme: Theme,
) -> Figure:
    """Adds to a map what the address chose.

    Args:
        figure: the map, changed in place and handed back.
        data: its cells.
        shown: the range of the step axis, see `window`.
        layers: those that stay bright; all when there are none.
        cell: the layer and the step that are open.
        theme: the colours.
    """
    layout = figure["layout"]
    if shown is not None:
        layout["xaxis"] |= {"range": list(shown), "autorange": False}
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
    axis = figure["layout"]["xaxis"]
    patch["layout"]["xaxis"]["autorange"] = "range" not in axis
    if "range" in axis:
        patch["layout"]["xaxis"]["range"] = axis["range"]
    return patch


def _names(row: str, layers: tuple[str, ...]) -> bool:
    """Whether a row (a layer, or a parameter of one) is among the layers."""
    return any(row == layer or row.startswith(f"{layer}.") or layer.startswith(f"{row}.") for layer in layers if layer)


def _dimmed(data: MapData, layers: tuple[str, ...], theme: Theme) -> list[Figure]:
    named = np.flatnonzero([_names(row, layers) for row in data.rows])
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
    if cell is None or cell[0] not in data.rows or not len(data.steps):
        return []
    row = data.rows.index(cell[0])
    column = float(data.steps[max(0, int(np.searchsorted(data.steps, cell[1], side="right")) - 1)])
    half = data.per_column / 2
    line = {"color": theme.text, "width": 2}
    return [_rectangle(theme, (column - half, column + half), (row - 0.5, row + 0.5), line=line)]


def _rectangle(theme: Theme, x: tuple[float, float], y: tuple[float, float], **more: object) -> Figure:
    shape: Figure = {"type": "rect", "xref": "x", "yref": "y2", "line": {"width": 0, "color": theme.card}, **more}
    return shape | {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1]}
