"""Draws the gain budget: a row for each step, its words above its bar, so that names fit on a narrow page too."""

from __future__ import annotations

import math

from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain
from gradscope.dashboard.figures.waterfall import Bar, WaterfallData, changes_nothing, levels
from gradscope.dashboard.wording import decades
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.reports.theme import MONO, Theme

_ROW, _ABOVE, _BELOW = 37, 36, 44  # pixels
_LONGEST = 36  # characters of a label; what is left out is in the table and under the mouse
_BAR, _LABEL_AT, _BAR_AT = 0.38, -0.26, 0.24  # of a row
_PATTERNS = {"block": "/", "not-counted": ".", "closed": "x", "untold": "-"}


def waterfall_height(data: WaterfallData) -> int:
    """How tall the figure is, in pixels."""
    return _ABOVE + _ROW * len(data.bars) + _BELOW


def draw_waterfall(data: WaterfallData, theme: Theme) -> Figure:
    """Bars to the left in blue eat, bars to the right in orange add; behind the total lies the healthy band."""
    layout = frame(theme)
    band = tuple(math.log10(gain) for gain in HEALTHY_GAIN)
    low, high = levels(data)
    low, high = min(low, band[0]), max(high, band[1])
    edge = 0.03 * (high - low)
    rows = len(data.bars)
    layout |= {
        "margin": {"l": 4, "r": 4, "t": _ABOVE, "b": _BELOW},
        "xaxis": axis(
            theme,
            range=[low - edge, high + edge],
            title={"text": "decades of gain; 0 is the model's output", "standoff": 6},
            fixedrange=True,
            nticks=7,
            showgrid=False,
            ticks="outside",
            tickformat="~g",
        ),
        "yaxis": {"range": [rows - 0.5, -0.5], "visible": False, "fixedrange": True},
        "bargap": 0,
    }
    layout["shapes"] = [_band(band, rows - 1, theme), _zero(theme), *_steps(data.bars, theme)]
    layout["annotations"] = [each for row, bar in enumerate(data.bars) for each in _words(row, bar, theme)]
    return {"data": [_bars(data.bars, low, theme)], "layout": layout}


def bar_colour(bar: Bar, theme: Theme) -> str:
    """Blue for what eats, orange for what adds, as on the map; grey for the total."""
    if bar.decades == -math.inf:
        return theme.non_finite
    if bar.state == "total" or changes_nothing(bar):
        return theme.dimmed
    return theme.diverging[1 if bar.decades < 0 else 5]


def _bars(bars: tuple[Bar, ...], low: float, theme: Theme) -> Figure:
    """The bars; those of a closed branch lead to the left edge, for they have no end."""
    high = max((bar.end for bar in bars), default=0.0)
    least = 0.004 * max(high - low, 2.0)  # a bar of no length could not be seen, nor hit by a mouse
    lengths = [(low if bar.decades == -math.inf else bar.end) - bar.start for bar in bars]
    colours = [bar_colour(bar, theme) for bar in bars]
    return {
        "type": "bar",
        "orientation": "h",
        "y": [row + _BAR_AT for row in range(len(bars))],
        "base": [bar.start for bar in bars],
        "x": [length if abs(length) >= least else math.copysign(least, length) for length in lengths],
        "width": _BAR,
        "marker": {
            "color": colours,
            "line": {"width": 1, "color": colours},
            "pattern": {
                "shape": [_PATTERNS.get("closed" if bar.decades == -math.inf else bar.state, "") for bar in bars],
                "bgcolor": theme.card,
                "fgcolor": colours,
                "fillmode": "replace",
                "size": 7,
                "solidity": 0.45,
            },
        },
        "text": [_hover(bar) for bar in bars],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(bar: Bar) -> str:
    lines = [plain(each) for each in (_cut(bar.label, 70), _cut(bar.effect, 70))]
    lines.append(amount(bar))
    if bar.state in ("part", "block", "untold"):
        lines.append(f"from {decades(bar.start) if bar.start else '0'} to {decades(bar.end)} decades")
    return "<br>".join(lines)


def amount(bar: Bar) -> str:
    """What a bar says of its length: "−12.60", "−0.90, not counted", "closed: exactly 0"."""
    if bar.decades == -math.inf:
        return "closed: exactly 0" if bar.state == "closed" else "exactly 0"
    if changes_nothing(bar):
        return "0.00"
    return f"{decades(bar.decades)}, not counted" if bar.state == "not-counted" else decades(bar.decades)


def _words(row: int, bar: Bar, theme: Theme) -> tuple[Figure, Figure]:
    """The label at the left edge and the number at the right one, above the bar."""
    value = amount(bar)
    bold = bar.state == "total"
    shared = {
        "xref": "paper",
        "y": row + _LABEL_AT,
        "yanchor": "middle",
        "showarrow": False,
        "bgcolor": theme.card,
        "borderpad": 1,
    }
    label = plain(_cut(bar.label, _LONGEST - max(0, len(value) - 7)))
    texts = [f"<b>{text}</b>" if bold else text for text in (label, value)]
    return (
        {**shared, "x": 0, "xanchor": "left", "text": texts[0], "font": {"size": 12, "color": theme.text}},
        {
            **shared,
            "x": 1,
            "xanchor": "right",
            "text": texts[1],
            "font": {"size": 12, "color": theme.text, "family": MONO},
        },
    )


def _cut(text: str, length: int) -> str:
    """A long text without its middle: a name's end and what it is multiplied with stay."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-(length - 1 - half) :]}"


def _steps(bars: tuple[Bar, ...], theme: Theme) -> list[Figure]:
    """Lines from the end of each bar down to where the next begins."""
    level, lines = 0.0, []
    for row, bar in enumerate(bars[:-1]):
        level = bar.end if bar.state in ("part", "block", "untold") else level
        if row + 2 < len(bars) or math.isfinite(bars[-1].decades):
            lines.append(
                {
                    "type": "line",
                    "x0": level,
                    "x1": level,
                    "y0": row + _BAR_AT - _BAR / 2,
                    "y1": row + 1 + _BAR_AT + _BAR / 2,
                    "line": {"width": 1, "color": theme.dimmed, "dash": "dot"},
                    "layer": "below",
                }
            )
    return lines


def _band(band: tuple[float, ...], row: int, theme: Theme) -> Figure:
    """Where a healthy total ends."""
    return {
        "type": "rect",
        "x0": band[0],
        "x1": band[1],
        "y0": row,
        "y1": row + 0.5,
        "fillcolor": theme.band,
        "line": {"width": 0},
        "layer": "below",
    }


def _zero(theme: Theme) -> Figure:
    line = {"width": 1, "color": theme.dimmed}
    return {"type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "line": line, "layer": "below"}
