"""The map of B minus A on a comparison's page: a picture of the layers that both have, by the axis that they share."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.reports.html.lines import step_ticks
from gradscope.reports.html.text import percent, shown
from gradscope.reports.layer_map import named_rows, short
from gradscope.reports.palette_png import MOST, NON_FINITE, NOT_RECORDED, palette, png
from gradscope.reports.theme import DARK, LIGHT, Theme

MOST_ROWS = 300  # a page has no room for more
_NAME = 24  # characters of a layer's name beside the map


@dataclass(frozen=True)
class DifferenceMap:
    """What is drawn.

    Attributes:
        title: of the quantity.
        span: decades to each end of the scale, fixed, so that two pairs look alike.
        labels: of the layers, in forward order.
        at: where each column begins, shape `[columns]`.
        decades: log10 of B over A, shape `[layers, columns]`; NaN where one of both is not known, ±Inf where one is 0.
        broken: where either is NaN or Inf, the same shape.
    """

    title: str
    span: float
    labels: tuple[str, ...]
    at: NDArray[np.float64]
    decades: NDArray[np.float64]
    broken: NDArray[np.bool_]


def chart(data: DifferenceMap, ends: tuple[float, float], axis: str, unit: float = 1.0) -> str:
    """The figure; words where there is nothing to draw.

    Args:
        data: what is drawn.
        ends: the axis' ends, in its unit.
        axis: what it is.
        unit: how many of its units one of `at` is.
    """
    data = largest(data)
    if not data.decades.size:
        return '<p class="dimmed">No layer of both was recorded at a common place.</p>'
    names = "".join(
        f'<span style="top: {percent((row + 0.5) / len(data.labels))}">{shown(short(data.labels[row], _NAME))}</span>'
        for row in named_rows(data.labels, {})
    )
    begin, end = (
        unit * float(data.at[0]),
        unit * float(data.at[-1] + (data.at[1] - data.at[0] if len(data.at) > 1 else 1.0)),
    )
    width = max(ends[1] - ends[0], 1e-9)
    left, wide = max(0.0, (begin - ends[0]) / width), min(1.0, (end - begin) / width)
    said = (
        f"{data.title}, B minus A, by layer and {axis}: {len(data.labels):,} layers from {data.labels[0]} to "
        f"{data.labels[-1]}. The table below says in words how far their medians lie apart."
    )
    height = max(80, min(360, 16 * len(data.labels)))
    return (
        f'<div class="side names">{names}</div><div class="plot map" style="height: {height}px">'
        f'<picture style="display: block; height: 100%; margin-left: {percent(left)}; width: {percent(wide)}">'
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{_picture(data, DARK)}">'
        f'<img src="{_picture(data, LIGHT)}" alt="{shown(said)}"></picture></div><div></div>{step_ticks(*ends)}'
    )


def legend(data: DifferenceMap) -> str:
    """The scale with its words, and what is left out."""
    ends = (f"−{data.span:g} B smaller", "0 alike", f"{data.span:g} B larger")
    ticks = "".join(f"<span>{text}</span>" for text in ends)
    swatches = []
    if (np.isnan(data.decades) & ~data.broken).any():
        swatches.append('<span><span class="swatch not-recorded"></span>not known of both</span>')
    if data.broken.any():
        swatches.append('<span><span class="swatch non-finite"></span>NaN or Inf in one or both</span>')
    left = len(data.labels) - MOST_ROWS
    cut = f"<p>The {MOST_ROWS} layers that differ most; {left:,} more differ less.</p>" if left > 0 else ""
    return (
        f'<div class="scale"><div class="bar"></div><div class="ticks">{ticks}</div></div>'
        f'<div class="legend">{"".join(swatches)}</div>{cut}'
    )


def largest(data: DifferenceMap) -> DifferenceMap:
    """As many layers as there is room for: those that differ most, in forward order."""
    if len(data.labels) <= MOST_ROWS:
        return data
    far = np.where(data.broken, np.inf, np.nan_to_num(np.abs(data.decades), nan=-1.0)).max(axis=1, initial=-1.0)
    rows = np.sort(np.argsort(-far, kind="stable")[:MOST_ROWS])
    labels = tuple(data.labels[row] for row in rows)
    return DifferenceMap(data.title, data.span, labels, data.at, data.decades[rows], data.broken[rows])


def codes(data: DifferenceMap) -> NDArray[np.uint8]:
    """The palette index of each cell; what is exactly 0 in one run lies at an end of the scale."""
    share = (np.nan_to_num(data.decades, nan=0.0, posinf=data.span, neginf=-data.span) + data.span) / (2 * data.span)
    indices: NDArray[np.uint8] = np.rint(share.clip(0, 1) * MOST).astype(np.uint8)
    indices[np.isnan(data.decades)] = NOT_RECORDED
    indices[data.broken] = NON_FINITE
    return indices


def _picture(data: DifferenceMap, theme: Theme) -> str:
    return "data:image/png;base64," + base64.b64encode(png(codes(data), palette(theme))).decode()
