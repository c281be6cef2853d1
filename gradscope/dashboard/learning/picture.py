"""What a picture is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gradscope.dashboard.figures.lesson_bars import Bars
from gradscope.dashboard.figures.lesson_boxes import Boxes
from gradscope.dashboard.figures.lesson_cells import Cells
from gradscope.dashboard.figures.lesson_dots import Dots
from gradscope.dashboard.figures.lesson_lines import Curves
from gradscope.dashboard.figures.lesson_ruler import Ruler

Data = Curves | Cells | Ruler | Boxes | Bars | Dots


class Picture(NamedTuple):
    """One picture: what it draws, and its text for people who do not see it."""

    data: Callable[[], Data]
    alt: str


def still(data: Data) -> Callable[[], Data]:
    """What is not computed."""
    return lambda: data
