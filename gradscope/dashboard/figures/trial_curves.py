"""The loss with a cure beside the loss under both controls: what a trial measured, at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.dashboard.theme import Theme

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


def draw_trial_curves(data: TrialCurves, theme: Theme) -> Figure:
    """The medians as lines, the seeds' spread as bands, each seed's loss at the end as a mark."""
    pens = {
        "cure": (theme.first_line, "solid", "circle", 2.5),
        NO_CHANGE: (theme.second_line, "dash", "square-open", 1.75),
        RANDOM_CHANGE: (theme.third_line, "dot", "diamond-open", 1.75),
    }
    traces: list[Figure] = []
    for place, curve in reversed(list(enumerate(data.curves))):  # the cure's on top
        colour, dash, symbol, width = pens[curve.arm]
        traces += _band(curve, colour)
        traces.append(_line(curve, colour, dash, width, place))
        traces += _ends(curve, data, colour, symbol, place)
    kind = "log" if data.logarithmic else "linear"
    layout = {
        **frame(theme),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": axis(theme, title={"text": "Step", "standoff": 6}, range=[-0.02 * data.last, 1.08 * data.last]),
        "yaxis": axis(theme, title={"text": "Loss", "standoff": 6}, type=kind, tickformat="~g", nticks=5),
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x",
    }
    return {"data": traces, "layout": layout}


def _line(curve: Curve, colour: str, dash: str, width: float, place: int) -> Figure:
    said = [f"{plain(curve.name)}: {value:.3g}" for value in curve.values]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(curve.name),
        "x": typed(curve.steps),
        "y": typed(curve.values),
        "line": {"color": colour, "dash": dash, "width": width},
        "text": said,
        "hoverinfo": "x+text",
        "legendrank": 1000 + place,
    }


def _band(curve: Curve, colour: str) -> list[Figure]:
    """From the lowest to the highest of the seeds."""
    if not len(curve.low) or np.array_equal(curve.low, curve.high, equal_nan=True):
        return []
    known = np.isfinite(curve.low) & np.isfinite(curve.high)
    steps, low, high = curve.steps[known], curve.low[known], curve.high[known]
    return [
        {
            "type": "scatter",
            "x": typed(np.concatenate([steps, steps[::-1]])),
            "y": typed(np.concatenate([high, low[::-1]])),
            "fill": "toself",
            "fillcolor": colour,
            "opacity": 0.14,
            "line": {"width": 0},
            "mode": "lines",
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _ends(curve: Curve, data: TrialCurves, colour: str, symbol: str, place: int) -> list[Figure]:
    """Each seed's loss that is compared, beside the end of the lines."""
    if not np.isfinite(curve.ends).any():
        return []
    x = np.full(len(curve.ends), data.last * (1.02 + 0.02 * place))
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": typed(x),
            "y": typed(curve.ends),
            "marker": {"color": colour, "symbol": symbol, "size": 7, "line": {"color": colour, "width": 1.5}},
            "text": [f"{plain(curve.name)}, seed {seed}: {value:.3g}" for seed, value in enumerate(curve.ends)],
            "hoverinfo": "text",
            "showlegend": False,
        }
    ]
