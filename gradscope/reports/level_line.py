"""Numbers as one line of text: how high each is, between two ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscope.reports.strips import ASCII_BLOCKS, BLOCKS


def level_line(values: Sequence[float | None], low: float, high: float, blocks: str = BLOCKS) -> str:
    """A character for each number: the lowest block at `low`, the highest at `high`; what is no number is marked.

    Example:
        >>> level_line([0.0, 0.5, 1.0, None], 0.0, 1.0)
        '▁▅█·'
    """
    return "".join(_cell(value, low, high, blocks) for value in values)


def _cell(value: float | None, low: float, high: float, blocks: str) -> str:
    if value is None or not math.isfinite(value):
        return " " if blocks == ASCII_BLOCKS else "·"
    share = (value - low) / (high - low) if high > low else 0.5
    return blocks[max(0, min(len(blocks) - 1, int(share * len(blocks))))]


def resampled(
    at: Sequence[float], values: Sequence[float | None], first: float, last: float, width: int
) -> list[float | None]:
    """The numbers at `width` places from `first` to `last`: the latest at each; none before the first and after the last.

    Example:
        >>> resampled([0, 1, 2], [1.0, 2.0, 3.0], 0, 4, 5)
        [1.0, 2.0, 3.0, None, None]
    """
    found: list[float | None] = []
    place = 0
    apart = (last - first) / max(width - 1, 1)
    for column in range(width):
        here = first + column * apart
        while place < len(at) and at[place] <= here + 1e-9 * max(1.0, abs(here)):
            place += 1
        over = not at or here > at[-1] + 0.5 * apart
        found.append(None if not place or over else values[place - 1])
    return found
