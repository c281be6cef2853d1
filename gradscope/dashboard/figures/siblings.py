"""A layer among those of its kind at other depths: is its number usual for a layer like it?"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.parts.layer_rows import LayerRow
from gradscope.dashboard.wording import number
from gradscope.reports.theme import Theme

MEASURES = {
    "gain": "Backward gain",
    "gradient_norm": "Gradient norm of its parameters",
    "update_ratio": "Update ratio",
    "activation_rms": "Activation rms",
}
_WIDTH, _HEIGHT, _EDGE = 220, 22, 7
_MOST_DOTS = 200


@dataclass(frozen=True)
class Sibling:
    """One number of a layer beside those of its siblings.

    Attributes:
        title: what the number is.
        value: the layer's own.
        words: where it stands.
        others: log10 of the siblings' positive numbers, in order.
        own: log10 of the layer's; NaN where it is not positive.
    """

    title: str
    value: str
    words: str
    others: NDArray[np.float64]
    own: float


def siblings_data(rows: tuple[LayerRow, ...], row: LayerRow) -> tuple[Sibling, ...]:
    """The numbers of a layer that were recorded, each with its place among the layers of the same kind."""
    alike = [other for other in rows if other.kind == row.kind and other.path != row.path]
    found = []
    for measure, title in MEASURES.items():
        value = float(getattr(row.measures, measure))
        others = np.array([getattr(other.measures, measure) for other in alike], np.float64)
        others = np.sort(others[~np.isnan(others)])
        if math.isnan(value):
            continue
        if math.isinf(value):
            found.append(Sibling(title, "NaN or Inf", "", np.zeros(0), math.nan))
            continue
        positive = others[(others > 0) & np.isfinite(others)]
        own = math.log10(value) if 0 < value < math.inf else math.nan
        found.append(Sibling(title, number(value), place(value, others, row.kind), np.log10(positive), own))
    return tuple(found)


def place(value: float, others: NDArray[np.float64], kind: str) -> str:
    """Where a number stands among the others, which are sorted.

    Example:
        >>> place(5.0, np.array([1.0, 2.0, 9.0]), "Linear")
        'larger than 2 of the 3 other Linear layers'
        >>> place(5.0, np.arange(10.0), "Linear")
        '55th percentile of the 10 other Linear layers'
    """
    if not len(others):
        return f"the only {kind} layer" if kind else "the only layer of its kind"
    below = int(np.searchsorted(others, value, side="left"))
    equal = int(np.searchsorted(others, value, side="right")) - below
    those = f"of the {len(others)} other {kind} layers" if len(others) > 1 else f"the one other {kind} layer"
    if equal == len(others):
        return f"the same as in {those.removeprefix('of ')}"
    if len(others) == 1:
        return f"{'larger' if below else 'smaller'} than in {those}"
    if below == 0 and equal == 0:
        return f"the smallest {those.replace('of the', 'beside the')}"
    if below == len(others):
        return f"the largest {those.replace('of the', 'beside the')}"
    if len(others) < 10:
        return f"larger than {below} {those}"
    return f"{ordinal(round(100 * (below + equal / 2) / len(others)))} percentile {those}"


def ordinal(value: int) -> str:
    """A number's place in a row.

    Example:
        >>> ordinal(1), ordinal(12), ordinal(93)
        ('1st', '12th', '93rd')
    """
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"


def draw_siblings(data: Sibling, theme: Theme) -> str | None:
    """The siblings as dots on a log scale, the layer itself a diamond: a `data:` address; None when there are none."""
    if not len(data.others) or math.isnan(data.own):
        return None
    picked = data.others[np.linspace(0, len(data.others) - 1, min(len(data.others), _MOST_DOTS)).astype(int)]
    low, high = min(picked[0], data.own), max(picked[-1], data.own)
    missing = max(0.0, 1.0 - (high - low)) / 2  # less than a decade apart is close together, and looks so
    low, high = low - missing, high + missing

    def across(value: float) -> float:
        return float(_EDGE + (value - low) / (high - low) * (_WIDTH - 2 * _EDGE))

    middle = _HEIGHT / 2
    dots = "".join(
        f'<circle cx="{across(value):.1f}" cy="{middle}" r="3.5" fill="{theme.dimmed}" fill-opacity=".4"/>'
        for value in picked
    )
    x = across(data.own)
    diamond = f"M{x:.1f} {middle - 6.5}L{x + 6.5:.1f} {middle}L{x:.1f} {middle + 6.5}L{x - 6.5:.1f} {middle}Z"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<line x1="0" x2="{_WIDTH}" y1="{middle}" y2="{middle}" stroke="{theme.line}"/>{dots}'
        f'<path d="{diamond}" fill="{theme.first_line}" stroke="{theme.card}" stroke-width="1"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
