"""The loss with a cure beside the loss under both controls: what a trial measured, at a glance."""

from __future__ import annotations

import numpy as np

from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.reports.theme import Theme
from gradscope.reports.trial_curves import NO_CHANGE as NO_CHANGE
from gradscope.reports.trial_curves import RANDOM_CHANGE as RANDOM_CHANGE
from gradscope.reports.trial_curves import Curve
from gradscope.reports.trial_curves import TrialCurves as TrialCurves
from gradscope.reports.trial_curves import trial_curves_data as trial_curves_data


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
