"""Groups of trial runs, a dot each, with their medians."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from gradscope.dashboard.figures.lesson_svg import WIDTH, Drawing
from gradscope.reports.theme import Theme


class Dots(NamedTuple):
    """What the dots show: groups of values, and the word for the values."""

    groups: tuple[tuple[str, tuple[float, ...]], ...]
    title: str


def draw_dots(data: Dots, theme: Theme) -> str:
    """The picture as SVG: a row a group, its median as a bar."""
    values = [value for _, group in data.groups for value in group]
    low, high = min(0.0, *values), max(values)
    left, right = 150, WIDTH - 24
    drawing = Drawing(theme, 36 * len(data.groups) + 40)

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left - 8)

    for row, (name, group) in enumerate(data.groups):
        y, colour = 24 + 36 * row, drawing.colours[row % 3]
        drawing.text(left - 12, y + 5, name, "end", size=13)
        drawing.line([(left, y), (right, y)], theme.line)
        for value in group:
            drawing.dot(at(value), y, colour, 5, hollow=bool(row % 2))
        middle = at(statistics.median(group))
        drawing.line([(middle, y - 12), (middle, y + 12)], colour, 2.5)
    drawing.text(right, drawing.height - 10, f"{data.title} →", "end", theme.dimmed, 12.5)
    return drawing.svg()
