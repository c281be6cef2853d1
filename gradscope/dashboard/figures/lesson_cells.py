"""Which numbers a normalisation takes together: samples by channels by positions, one cell a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.lesson_svg import WIDTH, Drawing
from gradscope.reports.theme import Theme

_CELL = 24


@dataclass(frozen=True)
class Cells:
    """What a picture of cells draws.

    Attributes:
        together: shape `[samples, channels, positions]`: the cells that share a mean and a variance with the first.
        groups: into how many such sets all cells fall.
    """

    together: NDArray[np.bool_]
    groups: int


def draw_cells(data: Cells, theme: Theme) -> str:
    """The picture as SVG: one block a sample, a row a channel, a column a position; those together are filled."""
    samples, channels, positions = data.together.shape
    drawing = Drawing(theme, 58 + channels * _CELL + 28)
    width = positions * _CELL
    gap = (WIDTH - 90 - samples * width) / max(samples - 1, 1)
    for sample in range(samples):
        left = 84 + sample * (width + min(gap, 46))
        drawing.text(left + width / 2, 20, f"sample {sample + 1}", "middle", theme.dimmed, 12.5)
        for channel in range(channels):
            top = 30 + channel * _CELL
            if not sample:
                drawing.text(76, top + 16, f"channel {channel + 1}", "end", theme.dimmed, 12.5)
            for position in range(positions):
                x, chosen = left + position * _CELL, bool(data.together[sample, channel, position])
                drawing.box(
                    x + 1, top + 1, _CELL - 2, _CELL - 2, theme.first_line if chosen else theme.card, theme.dimmed, 3
                )
                if chosen:
                    drawing.dot(x + _CELL / 2, top + _CELL / 2, theme.card, 2.5)
    bottom = 30 + channels * _CELL
    drawing.text(84, bottom + 20, "columns: positions in the image or the sequence", colour=theme.dimmed, size=12.5)
    number = int(data.together.sum())
    words = f"filled: one of {data.groups} sets of {number} numbers with a mean and a variance of their own"
    drawing.text(84, bottom + 40, words, size=12.5)
    return drawing.svg()
