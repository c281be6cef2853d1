"""The five numbers that head every report, the page included: loss, gradient norm, non-finite, healthy, overhead."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.records import QUANTITIES, Run
from gradscope.signals import Signals

# Backward gains of healthy networks at every depth, from the first step to convergence (DESIGN §4, measured).
HEALTHY_GAIN = (0.1, 20.0)


class Latest(NamedTuple):
    """The newest value of a series beside its newest finite one, which stays in sight when the series ends in NaN.

    All four are None when nothing was observed; the last two when nothing finite was.
    """

    value: float | None = None  # may be NaN or Inf: the loss was NaN, not unknown
    step: int | None = None
    last_finite: float | None = None
    last_finite_step: int | None = None


class Count(NamedTuple):
    """How many of how many; `of` is 0 when nothing could be counted."""

    number: int
    of: int


class HeadlineNumbers(NamedTuple):
    """What a run says in five numbers."""

    loss: Latest
    gradient_norm: Latest  # L2 over all parameters, before clipping
    non_finite_tensors: Count  # tensors with any NaN or Inf at the last recorded step, of those recorded then
    healthy_layers: Count  # layers whose backward gain is in HEALTHY_GAIN at the last recorded step
    overhead: float | None  # share by which GradScope slowed the training down; None: not measured


def headline_numbers(run: Run, signals: Signals) -> HeadlineNumbers:
    """The five numbers of a run.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> sick = run({"a": 1e-9, "b": 1.0}, loss=[2.3, float("nan")], steps=2)
        >>> numbers = headline_numbers(sick, Signals(sick))
        >>> numbers.loss
        Latest(value=nan, step=1, last_finite=2.3, last_finite_step=0)
        >>> numbers.healthy_layers
        Count(number=1, of=2)
    """
    steps = run.steps
    return HeadlineNumbers(
        _latest(steps["step"], steps["loss"], steps["has_loss"]),
        _latest(steps["step"], steps["gradient_norm"], _has_norm(run)),
        _non_finite_tensors(run),
        _healthy_layers(signals),
        _overhead(run),
    )


def _latest(steps: NDArray[np.int64], values: NDArray[np.float64], observed: NDArray[np.bool_]) -> Latest:
    seen = np.flatnonzero(observed)
    if not len(seen):
        return Latest()
    last = seen[-1]
    finite = seen[np.isfinite(values[seen])]
    if not len(finite):
        return Latest(float(values[last]), int(steps[last]))
    return Latest(float(values[last]), int(steps[last]), float(values[finite[-1]]), int(steps[finite[-1]]))


def _has_norm(run: Run) -> NDArray[np.bool_]:
    """Which steps have a gradient norm: NaN is "not recorded" unless a gradient of that step was non-finite."""
    rows = run.summaries
    broken = rows["non_finite"] & (rows["quantity"] == QUANTITIES.index("gradient"))
    has: NDArray[np.bool_] = ~np.isnan(run.steps["gradient_norm"]) | np.isin(run.steps["step"], rows["step"][broken])
    return has


def _non_finite_tensors(run: Run) -> Count:
    if not len(run.summaries):
        return Count(0, 0)
    of_tensors = run.summaries["quantity"] < QUANTITIES.index("gradient_change")  # what follows is derived from them
    latest = run.summaries[of_tensors & (run.summaries["step"] == run.summaries["step"].max())]
    return Count(int(latest["non_finite"].sum()), len(latest))


def _healthy_layers(signals: Signals) -> Count:
    """A layer whose gradient is NaN or Inf counts as not healthy; one whose gain is undefined is not counted."""
    if not len(signals.steps) or not signals.layers:
        return Count(0, 0)
    gain = signals.unpooled_gain[signals.layers, -1]
    broken = signals.non_finite("activation_gradient")[signals.layers, -1]
    lowest, highest = HEALTHY_GAIN
    healthy = ~broken & (gain >= lowest) & (gain <= highest)
    return Count(int(healthy.sum()), int((broken | ~np.isnan(gain)).sum()))


def _overhead(run: Run) -> float | None:
    recorder = float(np.nansum(run.steps["recorder_seconds"]))
    training = float(np.nansum(run.steps["seconds"])) - recorder
    return recorder / training if training > 0 else None
