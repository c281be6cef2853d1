"""The loss with a cure beside the loss under both controls, as a trial keeps them: plain numbers to be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_CHANGE, RANDOM_CHANGE = "no change", "random change"
_NAMES = {NO_CHANGE: "No change", RANDOM_CHANGE: "A random change"}
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The losses of one arm, the median over its seeds.

    Attributes:
        name: as the legend says it.
        arm: "cure", `NO_CHANGE` or `RANDOM_CHANGE`.
        steps, values: shape `[points]`; a NaN is a gap.
        low, high: the lowest and the highest loss of all seeds there; empty where that was not kept.
        ends: by seed, the loss that is compared: NaN where the training diverged or said nothing.
        diverged: in how many seeds.
    """

    name: str
    arm: str
    steps: Numbers
    values: Numbers
    low: Numbers
    high: Numbers
    ends: Numbers
    diverged: int = 0


@dataclass(frozen=True)
class TrialCurves:
    """All arms, the cure's first."""

    curves: tuple[Curve, ...]
    last: int  # step
    logarithmic: bool  # every loss is positive


def trial_curves_data(trial: Mapping[str, Any]) -> TrialCurves | None:
    """The curves that a trial keeps; None when it keeps none that could be drawn."""
    kept = trial.get("curves")
    if not isinstance(kept, Mapping):
        return None
    curves = [_curve(str(name), kept[name], trial) for name in sorted(kept, key=_place)]
    curves = [curve for curve in curves if np.isfinite(curve.values).sum() > 1]
    if not curves:
        return None
    every = np.concatenate([np.concatenate([each.values, each.low, each.high, each.ends]) for each in curves])
    positive = bool((every[np.isfinite(every)] > 0).all())
    return TrialCurves(tuple(curves), int(max(each.steps[-1] for each in curves)), positive)


def _place(name: str) -> int:
    return [NO_CHANGE, RANDOM_CHANGE].index(name) + 1 if name in _NAMES else 0


def _curve(name: str, values: Any, trial: Mapping[str, Any]) -> Curve:
    spread = (trial.get("spread") or {}).get(name) or {}
    median = _numbers(values)
    low, high = _numbers(spread.get("low", ())), _numbers(spread.get("high", ()))
    last = spread.get("last")
    if last is None:  # of an older trial: up to 60 points are one a step
        last = len(median) - 1 if len(median) < 60 else int(trial.get("steps") or len(median)) - 1
    steps = np.linspace(0, max(int(last), 0), len(median)).astype(int).astype(np.float64)
    ends = list(spread.get("losses", ()))
    known = {name: _NAMES[name]} if name in _NAMES else {}
    same = len(low) == len(high) == len(median)
    return Curve(
        known.get(name, "With it"),
        name if name in _NAMES else "cure",
        steps,
        median,
        low if same else np.empty(0),
        high if same else np.empty(0),
        _numbers(ends),
        sum(each == "diverged" for each in ends),
    )


def _numbers(values: Any) -> Numbers:
    """Numbers of a record; what is none (null, "diverged") is NaN."""
    return np.array([each if isinstance(each, int | float) else np.nan for each in values], np.float64)
