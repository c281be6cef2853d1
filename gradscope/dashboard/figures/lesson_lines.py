"""Curves of a lesson: a few lines over one axis, each named at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.lesson_svg import WIDTH, Drawing
from gradscope.reports.theme import Theme

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 138, 26, 40
_HEIGHT = 250
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


class Line(NamedTuple):
    """One curve; `marks` draws its points as dots instead."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    marks: bool = False


@dataclass(frozen=True)
class Curves:
    """What a picture of lines draws.

    Attributes:
        x_title, y_title: of the axes.
        log: the y axis is in decades.
        log_x: the x axis is.
        x_ticks, y_ticks: values with a label; in decades where the axis is.
        band: a healthy range of y, shaded, with its word.
    """

    lines: tuple[Line, ...]
    x_title: str
    y_title: str
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    log: bool = False
    log_x: bool = False
    band: tuple[float, float, str] | None = None


class _Axis(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0), 1) * (self.end - self.start)


def draw_curves(data: Curves, theme: Theme) -> str:
    """The picture as SVG. Values outside of the ticks are drawn at the edge."""
    drawing = Drawing(theme, _HEIGHT)
    x = _Axis(data.x_ticks[0], data.x_ticks[-1], _LEFT, WIDTH - _RIGHT)
    y = _Axis(data.y_ticks[0], data.y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    _draw_axes(drawing, data, x, y)
    ends = _spread([y.at(_values(line.y, data.log)[-1]) for line in data.lines])
    for index, (line, end) in enumerate(zip(data.lines, ends, strict=True)):
        colour = theme.dimmed if line.marks else drawing.colours[index]
        across, up = _values(line.x, data.log_x), _values(line.y, data.log)
        points = [(x.at(a), y.at(b)) for a, b in zip(across, up, strict=True) if math.isfinite(b)]
        if line.marks:
            for point in (*points, (WIDTH - _RIGHT + 18, end - 4)):
                drawing.dot(*point, colour, 1.6)
        else:
            drawing.line(points, colour, 2.4, _DASHES[index])
        place = WIDTH - _RIGHT + 8
        if not line.marks:
            drawing.line([(place, end - 4), (place + 20, end - 4)], colour, 2.4, _DASHES[index])
        for row, words in enumerate(line.name.split("\n")):
            drawing.text(place + 24, end + 14 * row, words, colour=colour, size=12.5, bold=not row)
    return drawing.svg()


def _values(values: NDArray[np.float64], log: bool) -> list[float]:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: list[float] = (np.log10(values) if log else values).tolist()
    return found


def _draw_axes(drawing: Drawing, data: Curves, x: _Axis, y: _Axis) -> None:
    theme = drawing.theme
    if data.band is not None:
        low, high, word = data.band
        drawing.box(x.start, y.at(high), x.end - x.start, y.at(low) - y.at(high), theme.band)
        drawing.text(x.start + 0.55 * (x.end - x.start), y.at(high) + 13, word, "middle", theme.third_line, 12)
    for tick in data.y_ticks:
        drawing.line([(x.start, y.at(tick)), (x.end, y.at(tick))], theme.line)
        drawing.text(x.start - 7, y.at(tick) + 4, label(tick, data.log), "end", theme.dimmed, 12)
    for tick in data.x_ticks:
        drawing.line([(x.at(tick), y.start), (x.at(tick), y.start + 4)], theme.dimmed)
        drawing.text(x.at(tick), y.start + 17, label(tick, data.log_x), "middle", theme.dimmed, 12)
    drawing.text((x.start + x.end) / 2, _HEIGHT - 5, data.x_title, "middle", theme.dimmed, 12.5)
    drawing.text(4, 13, data.y_title, colour=theme.dimmed, size=12.5)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def label(value: float, log: bool) -> str:
    """A tick in words; `log`: it is in decades."""
    if log and value not in (-1, 0, 1):
        return f"10{str(int(value)).translate(_RAISED)}"
    return f"{10**value if log else value:g}".replace("-", "−")


def _spread(places: list[float], apart: float = 32) -> list[float]:
    """Moves labels so that none covers another, in the order they stand in, and none lies under the axis."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, index in pairwise(order):
        moved[index] = max(moved[index], moved[before] + apart)
    floor: float = _HEIGHT - _BOTTOM
    for index in reversed(order):
        moved[index] = floor = min(moved[index], floor)
        floor -= apart
    return moved
