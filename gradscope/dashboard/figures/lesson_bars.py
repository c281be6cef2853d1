"""Shares of a whole as steps of a stair, in decades: who took what."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.dashboard.figures.lesson_svg import WIDTH, Drawing
from gradscope.reports.theme import Theme


class Bars(NamedTuple):
    """What a stair shows: (words, decades) from top to bottom, and the word for their sum."""

    parts: tuple[tuple[str, float], ...]
    total: str


def draw_bars(data: Bars, theme: Theme) -> str:
    """The picture as SVG: each part begins where the one before ended."""
    sums = [0.0]
    for _, decades in data.parts:
        sums.append(sums[-1] + decades)
    low, high = min(*sums, 0), max(*sums, 0)
    left, right = 150, WIDTH - 70
    drawing = Drawing(theme, 30 * (len(data.parts) + 1) + 34)

    def at(decades: float) -> float:
        return left + (decades - low) / (high - low or 1) * (right - left)

    def bar(row: int, words: str, start: float, end: float, colour: str) -> None:
        y = 8 + 30 * row
        drawing.text(left - 10, y + 16, words, "end", size=13)
        drawing.box(min(at(start), at(end)), y + 2, max(abs(at(end) - at(start)), 1), 20, colour, radius=3)
        label = f"{end - start:+.1f}".replace("-", "−")
        drawing.text(right + 8, y + 17, label, size=12.5, bold=row == len(data.parts))

    for row, (words, decades) in enumerate(data.parts):
        bar(row, words, sums[row], sums[row] + decades, theme.first_line if decades < 0 else theme.second_line)
    bar(len(data.parts), data.total, 0, sums[-1], theme.dimmed)
    drawing.line([(at(0), 4), (at(0), drawing.height - 24)], theme.dimmed, 1, "3 3")
    drawing.text(at(0), drawing.height - 8, "as the output's", "end" if at(0) > 400 else "middle", theme.dimmed, 12)
    return drawing.svg()
