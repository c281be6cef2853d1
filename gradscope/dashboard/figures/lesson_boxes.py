"""A row of boxes with arrows: layers with their signal and gradient, or the steps from a sickness to its cure."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.dashboard.figures.lesson_svg import WIDTH, Drawing
from gradscope.reports.theme import Theme


@dataclass(frozen=True)
class Boxes:
    """What a picture of boxes draws.

    Attributes:
        boxes: the words in each, a line each.
        below: the words under each; empty: none.
        forward: words on the arrows to the right; "" draws none.
        backward: words on the dashed arrows to the left; "" draws none.
        skips: (from, to): arcs that lead past the boxes between.
        marked: boxes that stand out.
    """

    boxes: tuple[str, ...]
    below: tuple[str, ...] = ()
    forward: str = ""
    backward: str = ""
    skips: tuple[tuple[int, int], ...] = ()
    marked: tuple[int, ...] = ()
    legend: str = ""


def draw_boxes(data: Boxes, theme: Theme) -> str:
    """The picture as SVG."""
    top = 60.0 if data.skips else 30.0
    lines = max(text.count("\n") + 1 for text in data.boxes)
    height = 16.0 * lines + 22
    rows = max((text.count("\n") + 1 for text in data.below), default=0)
    drawing = Drawing(theme, top + height + 8 + 17 * rows + (24 if data.legend else 6))
    step = (WIDTH - 8) / len(data.boxes)
    width = step - (34 if data.forward or data.backward else 12)
    lefts = [4 + index * step + (step - width) / 2 for index in range(len(data.boxes))]
    for first, last in data.skips:
        x0, x1, y = lefts[first] + width / 2 + 9, lefts[last] + width / 2 - 9, top - 26
        drawing.line([(x0, top), (x0, y), (x1, y), (x1, top)], theme.third_line, 2.2, arrow=True)
        drawing.text((x0 + x1) / 2, y - 7, "skip: × 1", "middle", theme.third_line, 12.5, bold=True)
    for index, (left, words) in enumerate(zip(lefts, data.boxes, strict=True)):
        edge = theme.second_line if index in data.marked else theme.dimmed
        drawing.box(left, top, width, height, theme.card, edge, 6)
        for row, line in enumerate(words.split("\n")):
            y = top + height / 2 + 5 + 16 * (row - words.count("\n") / 2)
            drawing.text(left + width / 2, y, line, "middle", size=13, bold=not row)
        below = data.below[index].split("\n") if data.below else []
        for row, line in enumerate(below):
            y = top + height + 18 + 17 * row
            drawing.text(left + width / 2, y, line, "middle", theme.dimmed, 12.5)
        if index + 1 < len(lefts):
            x0, x1 = left + width + 3, lefts[index + 1] - 3
            if data.forward:
                drawing.line([(x0, top + height / 3), (x1, top + height / 3)], theme.first_line, 2.2, arrow=True)
            if data.backward:
                drawing.line(
                    [(x1, top + height * 0.72), (x0, top + height * 0.72)], theme.second_line, 2.2, "4 2", arrow=True
                )
    if data.legend:
        drawing.text(WIDTH / 2, drawing.height - 6, data.legend, "middle", theme.dimmed, 12.5)
    return drawing.svg()
