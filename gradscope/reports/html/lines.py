"""Lines as SVG in a box of any size: the loss of a run, the curves of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import limit
from gradscope.reports.html.text import percent, shown
from gradscope.reports.loss_line import Scale
from gradscope.reports.trial_curves import NO_CHANGE, Curve, TrialCurves

Numbers = NDArray[np.float64]
_WIDE, _HIGH = 1000, 250  # of the drawing, which is stretched into its box


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, at most so many: steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> nice_ticks(0, 159, 6)
        [0.0, 50.0, 100.0, 150.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
    return [round(place * apart, 12) + 0.0 for place in range(first, last + 1)]


def value_ticks(scale: Scale) -> list[tuple[float, str]]:
    """The ticks of a value axis: where, as a share of its height from the top, and what they say."""
    places = nice_ticks(scale.low, scale.high, 4)
    if scale.logarithmic:
        places = [place for place in places if place == round(place)] or [round((scale.low + scale.high) / 2)]
    said = [limit(10.0**place if scale.logarithmic else place).replace("-", "−") for place in places]
    return [(1 - _share(scale, place), text) for place, text in zip(places, said, strict=True)]


def _share(scale: Scale, place: float) -> float:
    return (place - scale.low) / (scale.high - scale.low)


def side(ticks: Iterable[tuple[float, str]], title: str) -> str:
    """The words beside a plot."""
    spans = "".join(f'<span style="top: {percent(place)}">{shown(text)}</span>' for place, text in ticks)
    return f'<div class="side"><span class="title">{title}</span>{spans}</div>'


def grid(ticks: Iterable[tuple[float, str]]) -> str:
    """Lines across a plot."""
    return "".join(
        f'<line class="grid" x1="0" x2="{_WIDE}" y1="{place * _HIGH:.5g}" y2="{place * _HIGH:.5g}"/>'
        for place, _ in ticks
    )


def line(steps: Numbers, values: Numbers, first: float, last: float, scale: Scale, kind: str) -> str:
    """A line through the points, with a gap where there is no number.

    Args:
        steps, values: shape `[points]`.
        first, last: the steps at the left and the right end of the box.
        scale: of the values.
        kind: its class.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        heights = np.log10(values) if scale.logarithmic else values
    x = (steps - first) / max(last - first, 1e-9) * _WIDE
    y = (1 - (heights - scale.low) / (scale.high - scale.low)) * _HIGH
    known = np.isfinite(y)
    drawn: list[str] = []
    for place in np.flatnonzero(known):
        joined = place > 0 and known[place - 1]
        drawn.append(f"{'L' if joined else 'M'}{x[place]:.1f} {y[place]:.1f}")
        if not joined and not (place + 1 < len(known) and known[place + 1]):
            drawn.append("h0")  # a point of its own: a dot
    ends = " dot" if known.sum() == 1 else ""
    return f'<path class="line {kind}{ends}" d="{"".join(drawn)}"/>' if drawn else ""


def drawing(content: str, words: str) -> str:
    """A stretched drawing, with words for those who do not see it."""
    return (
        f'<svg role="img" aria-label="{shown(words)}" viewBox="0 0 {_WIDE} {_HIGH}" preserveAspectRatio="none">'
        f"{content}</svg>"
    )


def step_ticks(first: float, last: float, most: int = 8) -> str:
    """The steps under a plot whose ends are these."""
    width = max(last - first, 1e-9)
    spans = []
    for place in nice_ticks(first, last, most):
        share = (place - first) / width
        if place == round(place):
            end = ' class="first"' if share < 0.02 else ' class="last"' if share > 0.98 else ""
            spans.append(f'<span{end} style="left: {percent(share)}">{place:,.0f}</span>')
    return f'<div class="steps">{"".join(spans)}</div>'


def trial_picture(data: TrialCurves) -> str:
    """The losses of a trial's three arms, told apart by dash as well as by colour."""
    every = np.concatenate([curve.values for curve in data.curves])
    known = every[np.isfinite(every)]
    low, high = (float(np.log10(end) if data.logarithmic else end) for end in (known.min(), known.max()))
    margin = 0.05 * (high - low) or 0.5
    scale = Scale(data.logarithmic, low - margin, high + margin)
    ticks = value_ticks(scale)
    lines = [line(each.steps, each.values, 0, data.last, scale, _kind(each)) for each in reversed(data.curves)]
    words = f"Loss over {data.last:,} steps: " + ", ".join(_end(each) for each in data.curves)
    legend = "".join(f"<span>{_sample(each)}{shown(each.name)}{_diverged(each)}</span>" for each in data.curves)
    return (
        '<figure class="trial"><div class="chart" style="--names: 9ch">'
        f'{side(ticks, "loss")}<div class="plot">{drawing(grid(ticks) + "".join(lines), words)}</div>'
        f"<div></div>{step_ticks(0, data.last, 6)}</div>"
        f'<figcaption class="legend">{legend}<span class="dimmed">the median over the seeds, by step</span>'
        "</figcaption></figure>"
    )


def _kind(curve: Curve) -> str:
    return {"cure": "line-1", NO_CHANGE: "line-2"}.get(curve.arm, "line-3")


def _end(curve: Curve) -> str:
    known = curve.values[np.isfinite(curve.values)]
    return f"{curve.name.lower()} ends at {limit(float(known[-1]))}"


def _sample(curve: Curve) -> str:
    return (
        '<svg class="sample" aria-hidden="true" viewBox="0 0 28 8">'
        f'<path class="line {_kind(curve)}" d="M0 4h28"/></svg>'
    )


def _diverged(curve: Curve) -> str:
    return f", diverged in {curve.diverged:,}" if curve.diverged else ""
