"""The depth profile: how much of the gradient each layer gets at one step, beside what theory expects at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.reports.layer_map import short
from gradscope.reports.metrics import METRICS
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.reports.theme import Theme
from gradscope.signals import Signals
from gradscope.signals.expected import expected

_WIDEST = (-40.0, 40.0)  # decades; a sigmoid net of depth 30 reaches -26


@dataclass(frozen=True)
class DepthData:
    """One value a layer at one step.

    Attributes:
        step: the recorded step; None when nothing was recorded.
        layers: names, first layer first.
        backward: backward gain, NaN where it is not a positive number.
        forward: forward gain, likewise.
        non_finite: whether the layer's gradient holds NaN or Inf.
        zero: whether the layer's gradient is exactly 0.
        decades: the axis' range, log10, the same at every step of the run.
        expected_backward: the backward gain that theory expects at step 0, NaN where no closed form is known.
        expected_forward: the forward gain, likewise.
        missing: why an expectation is missing; "" where none is.
    """

    step: int | None
    layers: tuple[str, ...]
    backward: NDArray[np.float64]
    forward: NDArray[np.float64]
    non_finite: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    decades: tuple[float, float]
    expected_backward: NDArray[np.float64]
    expected_forward: NDArray[np.float64]
    missing: str = ""


def depth_data(signals: Signals, step: int | None) -> DepthData:
    """The profile at a recorded step (the nearest one at or before `step`; None: see `latest`)."""
    layers = signals.layers
    column = latest(signals) if step is None else nearest(signals.steps, step)
    names = tuple(signals.sites[i].name for i in layers)
    if column is None:
        nothing = np.full(len(layers), np.nan)
        no = np.zeros(len(layers), np.bool_)
        return DepthData(None, names, nothing, nothing, no, no, (-2.0, 2.0), nothing, nothing)
    metric, forward_metric = METRICS["backward-gain"], METRICS["forward-gain"]
    backward, forward = metric.values(signals)[layers], forward_metric.values(signals)[layers]
    theory = expected(signals)
    # 1e300 is far off the axis too, and is a number
    theory_backward, theory_forward = (
        10.0 ** each[layers].clip(-300, 300) for each in (theory.backward, theory.forward)
    )
    return DepthData(
        int(signals.steps[column]),
        names,
        _positive(backward[:, column]),
        _positive(forward[:, column]),
        metric.non_finite(signals)[layers, column],
        backward[:, column] == 0,
        _range(np.concatenate([backward.ravel(), forward.ravel(), theory_backward, theory_forward])),
        theory_backward,
        theory_forward,
        theory.missing,
    )


def latest(signals: Signals) -> int | None:
    """The column to show when none is chosen: the last one where most layers' gains are numbers, else the last."""
    if not len(signals.steps):
        return None
    values = METRICS["backward-gain"].values(signals)[signals.layers]
    known = np.isfinite(values).sum(axis=0) * 2 > len(values)
    return int(np.flatnonzero(known)[-1]) if known.any() else len(signals.steps) - 1


def nearest(steps: NDArray[np.int64], step: int) -> int | None:
    """The column of the last recorded step at or before `step`; None when nothing was recorded."""
    return max(0, int(np.searchsorted(steps, step, side="right")) - 1) if len(steps) else None


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    known = np.log10(values[np.isfinite(values) & (values > 0)])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    widest_low, widest_high = _WIDEST
    return max(widest_low, min(-2.0, np.floor(low) - 0.3)), min(widest_high, max(2.0, np.ceil(high) + 0.3))


HOW_TO_READ = (
    "Gradient: each layer's backward gain, how much of the loss gradient reaches it, relative to the model's output. "
    "Activation: its forward gain, the rms of what it puts out, relative to what the model was fed. In healthy networks "
    "both stay near the shaded band at every depth; a line that leaves it step by step vanishes or explodes."
)
EXPECTED = (
    "Dotted: what theory expects of this architecture at step 0, for wide layers of independent random weights of the size "
    "that these had (Glorot and Bengio 2010, He et al. 2015), activations fed with normally distributed numbers (Schoenholz "
    "et al. 2017), and BatchNorm (Yang et al. 2019). Where the measured line follows it at step 0, initialization and "
    "activation explain the gain; where it leaves it later, training did. It has gaps where no closed form is known: "
    "attention, recurrence, and ways that join other than x + F(x)."
)


def depth_help(data: DepthData) -> tuple[str, ...]:
    """How to read the profile, a paragraph each: the lines, the expectation, and why it is missing where it is."""
    gap = (f"Here it is not complete: {data.missing}.",) if data.missing else ()
    return (HOW_TO_READ, EXPECTED, *gap)


def draw_depth(data: DepthData, theme: Theme) -> Figure:
    """A line for the gradient, a dashed one for the activations, the healthy band behind them."""
    low, high = HEALTHY_GAIN
    places = np.arange(len(data.layers), dtype=np.float64)  # those of a line without `x`
    layout = frame(theme)
    layout |= {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 40},
        "xaxis": axis(
            theme,
            title={"text": "layer, input → output", "standoff": 6},
            showgrid=False,
            range=[-0.5, max(len(data.layers), 1) - 0.5],
            **_ticks(data.layers),
        ),
        "yaxis": axis(
            theme,
            type="log",
            range=list(data.decades),
            exponentformat="power",
            tickmode="linear",
            dtick=max(1, round((data.decades[1] - data.decades[0]) / 6)),
            title={"text": "gain", "standoff": 6},
        ),
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1.0,
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        },
    }
    layout["margin"]["t"] = 28
    layout["shapes"].append(
        {
            "type": "rect",
            "xref": "paper",
            "yref": "y",
            "x0": 0,
            "x1": 1,
            "y0": low,
            "y1": high,
            "fillcolor": theme.band,
            "line": {"width": 0},
            "layer": "below",
        }
    )
    names = [plain(name) for name in data.layers]
    traces = [_band(theme), *_lines(data, names, theme), *_expected(data, names, theme)]
    traces += _marks(data, places, names, theme)
    return {"data": traces, "layout": layout}


def _band(theme: Theme) -> Figure:
    """The band's entry in the legend: a trace without points."""
    low, high = HEALTHY_GAIN
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"healthy {low:g} … {high:g}",
        "x": [None],
        "y": [None],
        "marker": {"symbol": "square", "size": 12, "color": theme.band},
        "hoverinfo": "skip",
    }


def _ticks(layers: tuple[str, ...]) -> dict[str, Any]:
    every = -(-len(layers) // 9) or 1
    places = list(range(0, len(layers), every))
    return {
        "tickmode": "array",
        "tickvals": places,
        "ticktext": [plain(short(layers[i], 13)) for i in places],
        "tickangle": 0,
        "tickfont": {"size": 11},
    }


def _expected(data: DepthData, names: list[str], theme: Theme) -> list[Figure]:
    """Thin dotted lines, above those that they often run along; one entry in the legend shows and hides both."""
    series = (("activation", data.expected_forward), ("gradient", data.expected_backward))
    shown = [
        each for each in series if (np.isfinite(each[1][1:]) & np.isfinite(each[1][:-1])).any()
    ]  # a line needs two
    line = {"width": 1.4, "dash": "dot", "color": theme.text}
    shared: Figure = {"type": "scatter", "mode": "lines", "legendgroup": "expected", "line": line}
    lines: list[Figure] = [
        {
            **shared,
            "name": f"{name} expected at init",
            "y": typed(np.clip(values, 10.0 ** data.decades[0], 10.0 ** data.decades[1])),
            "text": names,
            "showlegend": False,
            "hovertemplate": f"%{{text}}<br>{name} expected at init %{{y:.3g}}<extra></extra>",
        }
        for name, values in shown
    ]
    entry = {**shared, "name": "expected at init", "x": [None], "y": [None]}
    return [entry, *lines] if lines else []


def _lines(data: DepthData, names: list[str], theme: Theme) -> list[Figure]:
    styles = (
        ("activation", "forward gain", data.forward, theme.second_line, "dash", "diamond-open"),
        ("gradient", "backward gain", data.backward, theme.first_line, "solid", "circle"),
    )
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "y": typed(values),
            "text": names,
            "line": {"color": colour, "width": 1.6, "dash": dash},
            "marker": {"size": 6, "symbol": symbol},
            "hovertemplate": f"%{{text}}<br>{name}, {gain} %{{y:.3g}}<extra></extra>",
        }
        for name, gain, values, colour, dash, symbol in styles
    ]


def _marks(data: DepthData, places: NDArray[np.float64], names: list[str], theme: Theme) -> list[Figure]:
    """Layers that have no place on a log scale: at the top those that are not finite, at the bottom the zeros."""
    marks = (
        ("non-finite", data.non_finite, data.decades[1] - 0.2, "x", theme.non_finite),
        ("exactly 0", data.zero & ~data.non_finite, data.decades[0] + 0.2, "triangle-down", theme.first_line),
    )
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": typed(places[here]),
            "y": typed(np.full(int(here.sum()), 10.0**height)),
            "text": [name_ for name_, shown in zip(names, here, strict=True) if shown],
            "marker": {"size": 9, "symbol": symbol, "color": colour},
            "hovertemplate": f"%{{text}}<br>{name}<extra></extra>",
        }
        for name, here, height, symbol, colour in marks
        if here.any()
    ]
