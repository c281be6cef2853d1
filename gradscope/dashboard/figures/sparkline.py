"""A line the size of a word, as an SVG image: how a finding's worst layer fared over the run."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Finding
from gradscope.reports.loss_line import downsample
from gradscope.reports.metrics import METRICS
from gradscope.signals import Signals

_WIDTH, _HEIGHT, _POINTS = 96, 24, 96
_COLOUR = "#6B7785"  # readable on both themes' cards: an image cannot follow the page's colours


@dataclass(frozen=True)
class SparklineData:
    """Points to join; NaN is a gap.

    Attributes:
        what: what the line shows, for people who do not see it.
        steps, values: shape `[points]`.
        mark: the step to put a dot at.
    """

    what: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    mark: int
    flat: float = 1.0  # a range up to this is drawn as a flat line: less than a decade is no event


def sparkline_data(signals: Signals, finding: Finding) -> SparklineData:
    """The worst layer's backward gain (a parameter's gradient norm), or the loss where no layer is named."""
    path = finding.layers[0] if finding.layers else None
    for metric in (METRICS["backward-gain"], METRICS["gradient-norm"]):
        for site in metric.rows(signals):
            if path is not None and signals.sites[site].name == path:
                values = metric.values(signals)[site]
                with np.errstate(invalid="ignore", divide="ignore"):
                    steps, points = downsample(signals.steps, np.log10(values), _POINTS)
                return SparklineData(f"{metric.title} of {path}", steps, points, finding.first_step)
    rows = signals.run.steps
    steps, points = downsample(rows["step"], rows["loss"], _POINTS)
    return SparklineData("Loss", steps, points, finding.first_step, flat=1e-12)


def draw_sparkline(data: SparklineData) -> str | None:
    """The line as a `data:` address of an SVG image; None when there is no line to draw."""
    known = np.isfinite(data.values)
    if known.sum() < 2 or data.steps[-1] == data.steps[0]:
        return None
    low, high = data.values[known].min(), data.values[known].max()
    x = 3 + (data.steps - data.steps[0]) / (data.steps[-1] - data.steps[0]) * (_WIDTH - 6)
    y = _HEIGHT - 4 - (data.values - low) / max(high - low, data.flat) * (_HEIGHT - 8)
    path, pen = [], "M"
    for here, height, drawn in zip(x, y, known, strict=True):
        if drawn:
            path.append(f"{pen}{here:.1f} {height:.1f}")
        pen = "L" if drawn else "M"
    at = int(np.abs(np.where(known, data.steps - data.mark, np.inf)).argmin())
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<path d="{"".join(path)}" fill="none" stroke="{_COLOUR}" stroke-width="1.5"/>'
        f'<circle cx="{x[at]:.1f}" cy="{y[at]:.1f}" r="2.5" fill="{_COLOUR}"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
