"""The loss and the global gradient norm over steps, few points with all extremes, and where findings begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.records import SEVERITIES, Finding, Run, Severity

MOST_POINTS = 1000
_DECADES_FROM = 10.0  # largest over smallest loss

Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps, values


@dataclass(frozen=True)
class LossData:
    """Two lines of at most about 1,000 points each, and since when the loss is not a number."""

    loss: Line
    gradient_norm: Line
    non_finite_since: int | None  # the first step of the non-finite end of the loss
    last_step: int | None


@dataclass(frozen=True)
class Onset:
    """Where findings begin: one mark for all that begin at one step."""

    step: int
    label: str  # "F1" or "F1 F3"
    severity: Severity  # of the worst


def loss_data(run: Run, window: tuple[int, int] | None = None) -> LossData:
    """The lines of a run; extremes are kept when there are more steps than points.

    Args:
        run: the run.
        window: the first and the last step of a part that gets as many points as all steps do; what is outside stays.
    """
    steps = run.steps
    seen = steps[steps["has_loss"]]
    known = steps[~np.isnan(steps["gradient_norm"])]
    finite = np.flatnonzero(np.isfinite(seen["loss"]))
    ends_broken = len(seen) and not np.isfinite(seen["loss"][-1])
    since = int(seen["step"][finite[-1] + 1 if len(finite) else 0]) if ends_broken else None
    return LossData(
        _line(seen["step"], seen["loss"], window),
        _line(known["step"], known["gradient_norm"], window),
        since,
        int(steps["step"][-1]) if len(steps) else None,
    )


def _line(steps: NDArray[Any], values: NDArray[Any], window: tuple[int, int] | None) -> Line:
    whole = downsample(steps, values)
    if window is None or len(values) <= MOST_POINTS:
        return whole
    begin, end = int(np.searchsorted(steps, window[0])), int(np.searchsorted(steps, window[1], side="right"))
    inside = downsample(steps[begin:end], values[begin:end])
    before, after = whole[0] < window[0], whole[0] > window[1]
    joined = (np.concatenate([old[before], new, old[after]]) for old, new in zip(whole, inside, strict=True))
    return next(joined), next(joined)


def downsample(steps: NDArray[Any], values: NDArray[Any], most: int = MOST_POINTS) -> Line:
    """The smallest and the largest value of each stretch, so that no spike is lost; NaN where all is not finite."""
    steps, values = steps.astype(np.float64), values.astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(values) <= most:
        return steps, values
    size = -(-len(values) * 2 // most)
    padding = -len(values) % size
    padded = np.pad(values, (0, padding), constant_values=np.nan).reshape(-1, size)
    start = np.arange(len(padded)) * size
    low = start + np.nan_to_num(padded, nan=np.inf).argmin(axis=1)
    high = start + np.nan_to_num(padded, nan=-np.inf).argmax(axis=1)
    picked = np.unique(np.concatenate([low, high]))
    return steps[picked], values[picked]


class Scale(NamedTuple):
    """An axis."""

    logarithmic: bool
    low: float  # log10 where it is logarithmic
    high: float


def scale_of(values: NDArray[np.float64]) -> Scale | None:
    """The loss axis: wide enough that a wobble of a few percent reads as the flat line that it is.

    A loss that falls by more than a decade and is never 0 is drawn in decades, else its end would be a line at 0.
    None where nothing is finite.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    if low > 0 and high / low > _DECADES_FROM:
        bottom, top = float(np.log10(low)), float(np.log10(high))
        return Scale(True, bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
    missing = max(0.0, 0.2 * max(abs(low), abs(high)) - (high - low)) or (0.0 if high > low else 1.0)
    margin = missing / 2 + 0.05 * (high - low)
    return Scale(False, low - margin, high + margin)


def onsets(findings: tuple[Finding, ...]) -> tuple[Onset, ...]:
    """The marks of findings, in the order of their steps."""
    starting: dict[int, list[int]] = {}
    for index, finding in enumerate(findings):
        starting.setdefault(finding.first_step, []).append(index)
    marks = []
    for step, indices in sorted(starting.items()):
        worst = max((findings[i].severity for i in indices), key=SEVERITIES.index)
        marks.append(Onset(step, " ".join(f"F{i + 1}" for i in indices), worst))
    return tuple(marks)
