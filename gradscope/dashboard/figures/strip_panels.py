"""Draws the histograms over the steps: a row for each tensor, its values on the left, its gradient on the right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.dashboard.figures.strips import EDGES, Strip, StripsData, shown_range
from gradscope.reports.theme import Theme

ROW_HEIGHT, TOP, BOTTOM = 132, 4, 40  # pixels
_FULL = 0.5  # share of entries in one bin from which the colour is the strongest
_GAP = 0.08  # of the width, between values and gradients
_LANE = 0.1  # of a strip's height, for the zeros below and the non-finite above


def height(data: StripsData) -> int:
    """The figure's height in pixels."""
    return TOP + BOTTOM + ROW_HEIGHT * max(1, len(data.strips))


def draw_strips(data: StripsData, theme: Theme) -> Figure:
    """One step axis for all; magnitudes on the layer's input and output share a scale, so that they compare."""
    layout = frame(theme)
    layout |= {"margin": {"l": 8, "r": 8, "t": TOP, "b": BOTTOM}, "hovermode": "closest"}
    traces: list[Figure] = []
    tensors = [pair for pair in data.strips if pair[0].of in ("input", "output")]
    number = 0
    for row, pair in enumerate(data.strips):
        for column, strip in enumerate(pair):
            number += 1
            alike = [tensor[column] for tensor in tensors] if pair in tensors else [strip]
            place = _Place(number, row, column, len(data.strips), shown_range(alike), strip)
            _axes(layout, place, data, theme)
            _title(layout, place, strip, theme)
            traces += _cells(strip, place, theme) + _lanes(strip, place, theme)
    return {"data": traces, "layout": layout}


class _Place:
    """Where a strip stands: its axes' numbers, its part of the figure, its decades and its lanes."""

    def __init__(
        self, number: int, row: int, column: int, rows: int, decades: tuple[float, float], strip: Strip
    ) -> None:
        self.suffix = "" if number == 1 else str(number)
        self.number, self.column, self.is_lowest = number, column, row == rows - 1
        width = (1 - _GAP) / 2
        self.across = [column * (width + _GAP), column * (width + _GAP) + width]
        self.down = [1 - (row + 1) / rows, 1 - (row + 0.25) / rows]
        self.low, self.high = decades
        self.lane = _LANE * (self.high - self.low)
        self.has_zeros, self.has_broken = bool((strip.zeros > 0).any()), bool((strip.non_finite > 0).any())

    @property
    def axes(self) -> dict[str, str]:
        """The axes that a trace is drawn on."""
        return {"xaxis": f"x{self.suffix}", "yaxis": f"y{self.suffix}"}


def _axes(layout: Figure, place: _Place, data: StripsData, theme: Theme) -> None:
    steps = [strip.steps for pair in data.strips for strip in pair if not strip.missing]
    span = [min(s[0] for s in steps), max(s[-1] for s in steps)] if steps else [0, 1]
    layout[f"xaxis{place.suffix}"] = axis(
        theme,
        domain=place.across,
        anchor=f"y{place.suffix}",
        matches="x" if place.number > 1 else None,
        showticklabels=place.is_lowest,
        showgrid=False,
        tickformat=",~f",
        hoverformat=",d",
        nticks=6,
        autorangeoptions={"minallowed": span[0], "maxallowed": span[1]},
        title={"text": "optimizer step", "standoff": 4} if place.is_lowest else None,
    )
    values, texts = _decade_ticks(place)
    layout[f"yaxis{place.suffix}"] = axis(
        theme,
        domain=place.down,
        anchor=f"x{place.suffix}",
        range=[place.low - place.lane * place.has_zeros, place.high + place.lane * place.has_broken],
        fixedrange=True,
        tickmode="array",
        tickvals=values,
        ticktext=texts,
        tickfont={"size": 11},
    )
    if data.step is not None:
        layout["shapes"].append(
            {
                "type": "line",
                "xref": f"x{place.suffix}",
                "yref": f"y{place.suffix} domain",
                "x0": data.step,
                "x1": data.step,
                "y0": 0,
                "y1": 1,
                "line": {"color": theme.text, "width": 1, "dash": "dot"},
            }
        )


def _decade_ticks(place: _Place) -> tuple[list[float], list[str]]:
    """About four powers of ten, and the lanes that are there."""
    every = max(1, round((place.high - place.low) / 4))
    first = int(np.ceil(place.low / every) * every)
    free = place.low + place.lane * place.has_zeros, place.high - place.lane * place.has_broken
    powers = [power for power in range(first, int(np.floor(place.high)) + 1, every) if free[0] <= power <= free[1]]
    ticks = [(float(power), f"10<sup>{power}</sup>".replace("-", "−")) for power in powers]
    ticks += [(place.low - place.lane / 2, "0")] if place.has_zeros else []
    ticks += [(place.high + place.lane / 2, "NaN")] if place.has_broken else []
    return [value for value, _ in ticks], [text for _, text in ticks]


def _title(layout: Figure, place: _Place, strip: Strip, theme: Theme) -> None:
    said = f'  <span style="color:{theme.dimmed}">{plain(strip.said)}</span>' if strip.said else ""
    layout["annotations"].append(
        {
            "text": f"<b>{plain(strip.of)}</b> {strip.what}{said}",
            "xref": "paper",
            "yref": "paper",
            "x": place.across[0],
            "y": place.down[1],
            "xanchor": "left",
            "yanchor": "bottom",
            "showarrow": False,
            "align": "left",
        }
    )
    if strip.missing:
        layout["annotations"].append(
            {
                "text": _broken(plain(strip.missing)),
                "xref": f"x{place.suffix} domain",
                "yref": f"y{place.suffix} domain",
                "x": 0.5,
                "y": 0.5,
                "showarrow": False,
                "font": {"color": theme.dimmed, "size": 12},
            }
        )


def _broken(text: str, width: int = 46) -> str:
    """A sentence on lines that fit into a strip; plotly breaks none itself."""
    lines = [""]
    for word in text.split():
        lines = [*lines, word] if len(lines[-1]) + len(word) > width else [*lines[:-1], f"{lines[-1]} {word}".strip()]
    return "\n".join(lines).replace("\n", "<br>")


def _cells(strip: Strip, place: _Place, theme: Theme) -> list[Figure]:
    if strip.missing:  # plotly misplaces axes that no trace is drawn on
        nothing = [place.low, place.high]
        return [{"type": "scatter", **place.axes, "x": [None, None], "y": nothing, "hoverinfo": "skip"}]
    shown = (EDGES[:-1] < place.high) & (EDGES[1:] > place.low)
    bins = np.flatnonzero(shown)
    edges = np.clip(EDGES[bins[0] : bins[-1] + 2], place.low, place.high)
    return [
        _heatmap(strip, place, edges, strip.share[bins], theme)
        | {
            "colorscale": _scale(theme.diverging[len(theme.diverging) // 2], theme.first_line),
            "zmax": _FULL,
            "hovertemplate": "step %{customdata:,d}<br>"
            f"|{strip.what}| about 10^%{{y:.1f}}<br>%{{z:.2%}} of entries<extra></extra>",
        }
    ]


def _lanes(strip: Strip, place: _Place, theme: Theme) -> list[Figure]:
    """The exact zeros in the lane below, what is not finite in the lane above."""
    lanes = (
        ("exactly 0", strip.zeros, (place.low - place.lane, place.low), theme.dimmed),
        ("NaN or Inf", strip.non_finite, (place.high, place.high + place.lane), theme.non_finite),
    )
    return [
        _heatmap(strip, place, np.array(ends), np.where(shares > 0, shares, np.nan)[None].astype(np.float32), theme)
        | {
            "colorscale": [[0, colour], [1, colour]] if name == "NaN or Inf" else _scale(theme.line, colour),
            "zmax": 1,
            "hovertemplate": f"step %{{customdata:,d}}<br>{name}: %{{z:.2%}} of entries<extra></extra>",
        }
        for name, shares, ends, colour in lanes
        if not strip.missing and (shares > 0).any()
    ]


def _heatmap(
    strip: Strip, place: _Place, edges: NDArray[np.float64], shares: NDArray[np.float32], theme: Theme
) -> dict[str, Any]:
    return {
        "type": "heatmap",
        **place.axes,
        "x": typed(strip.steps),
        "y": typed(edges),
        "z": typed(shares),
        "customdata": typed(np.broadcast_to(np.ceil(strip.steps[:-1]).astype(np.int32), shares.shape)),
        "zmin": 0,
        "showscale": False,
        "hoverongaps": False,
    }


def _scale(empty: str, full: str) -> list[list[float | str]]:
    """A colour scale along the root of the share, so that a tail of one in a thousand is still seen."""
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (empty, full)]
    scale: list[list[float | str]] = []
    for stop in np.linspace(0, 1, 9):
        mixed = [round(a + (b - a) * (0.15 + 0.85 * stop)) for a, b in zip(*ends, strict=True)]
        scale.append([float(stop**2), "#{:02X}{:02X}{:02X}".format(*mixed)])
    return scale
