"""A ruler in decades, with the healthy range shaded and some values marked."""

from __future__ import annotations

import math
from typing import NamedTuple

from gradscope.dashboard.figures.lesson_lines import label
from gradscope.dashboard.figures.lesson_svg import WIDTH, Drawing
from gradscope.reports.theme import Theme


class Ruler(NamedTuple):
    """What a ruler shows: the range in decades, the healthy values if any, and values with their words."""

    low: int
    high: int
    healthy: tuple[float, float] | None
    marks: tuple[tuple[float, str], ...]
    title: str
    every: int = 1  # decades between ticks
    word: str = "healthy"  # for the shaded range


def draw_ruler(data: Ruler, theme: Theme) -> str:
    """The picture as SVG. Marks take turns in two rows so that their words do not meet."""
    drawing = Drawing(theme, 132)
    left, right, y = 30, WIDTH - 30, 92

    def at(decade: float) -> float:
        return left + (decade - data.low) / (data.high - data.low) * (right - left)

    if data.healthy is not None:
        low, high = (at(math.log10(value)) for value in data.healthy)
        drawing.box(low, y - 14, high - low, 28, theme.band)
        drawing.text(WIDTH - 4, 14, f"shaded: {data.word}", "end", theme.third_line, 12.5, bold=True)
    drawing.line([(left, y), (right, y)], theme.dimmed, 1.4)
    for decade in range(data.low, data.high + 1, data.every):
        drawing.line([(at(decade), y - 5), (at(decade), y + 5)], theme.dimmed, 1.4)
        drawing.text(at(decade), y + 30, label(decade, True), "middle", theme.dimmed, 12)
    for index, (value, words) in enumerate(data.marks):
        x, top = at(math.log10(value)), 40 if index % 2 else 62
        drawing.line([(x, top + 4), (x, y - 4)], theme.second_line, 1.4, "3 2")
        drawing.dot(x, y, theme.second_line)
        anchor = "start" if x < 120 else "end" if x > WIDTH - 120 else "middle"
        drawing.text(x - 4 if anchor == "start" else x + 4 if anchor == "end" else x, top, words, anchor, size=12.5)
    drawing.text(4, 14, data.title, colour=theme.dimmed, size=12.5)
    return drawing.svg()
