"""A layer over the steps in lines: the gradient that reaches it, how far it moves, what the optimizer remembers of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.plotly import Figure, axis, frame, plain, typed
from gradscope.records import QUANTITIES
from gradscope.reports.loss_line import Line, downsample
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.reports.theme import Theme
from gradscope.signals import Signals

MOST_LINES = 4  # parameters in one panel
_POINTS = 300
_PANEL, _TOP, _BOTTOM = 132, 4, 44  # pixels


@dataclass(frozen=True)
class Panel:
    """Lines that share an axis.

    Attributes:
        title: what they show.
        lines: name -> steps and log10 of the values; NaN where the value is not a positive number.
        band: what is healthy, log10; None where nothing says.
        missing: why there is no line; empty when there is one.
    """

    title: str
    lines: dict[str, Line]
    band: tuple[float, float] | None
    missing: str


@dataclass(frozen=True)
class LayerLinesData:
    """The panels of one layer, from top to bottom, and the recorded step that is marked."""

    panels: tuple[Panel, ...]
    step: int | None


def layer_lines_data(
    signals: Signals, site: int | None, parameters: tuple[int, ...], step: int | None
) -> LayerLinesData:
    """The lines of a layer and of its first parameters; the optimizer's only where it was recorded."""
    low, high = HEALTHY_GAIN
    gain = np.full(len(signals.steps), np.nan) if site is None else signals.unpooled_gain[site]
    gains = _panel(signals, "backward gain", {"gain": gain}, (np.log10(low), np.log10(high)))
    if not parameters:
        return LayerLinesData((gains,), step)
    shown = parameters[:MOST_LINES]
    names = {i: signals.sites[i].path.rpartition(".")[2] for i in shown}
    rows = signals.run.summaries
    rows = rows[np.isin(rows["site"], shown)]
    series = {i: _Rows(signals, rows[rows["site"] == i]) for i in shown}
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = {names[i]: series[i].rms("update") / series[i].rms("weight") for i in shown}
        first = {f"{names[i]}: rms m": series[i].rms("first_moment") for i in shown[:2]}
        second = {f"{names[i]}: √mean v": np.sqrt(series[i].mean("second_moment")) for i in shown[:2]}
    panels = [gains, _panel(signals, "update / weight (rms Δw / rms w)", ratio, None)]
    moments = _panel(signals, "optimizer state", first | second, None)
    return LayerLinesData((*panels, moments) if not moments.missing else tuple(panels), step)


class _Rows:
    """The rows of one site as series over the recorded steps."""

    def __init__(self, signals: Signals, rows: NDArray[np.void]) -> None:
        self._steps, self._rows = signals.steps, rows

    def _read(self, quantity: str, field: str) -> NDArray[np.float64]:
        rows = self._rows[self._rows["quantity"] == QUANTITIES.index(quantity)]
        values = np.full(len(self._steps), np.nan)
        values[np.searchsorted(self._steps, rows["step"])] = rows[field]
        return values

    def rms(self, quantity: str) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(self._read(quantity, "sum_squares") / self._read(quantity, "count")))

    def mean(self, quantity: str) -> NDArray[np.float64]:
        return np.asarray(self._read(quantity, "sum") / self._read(quantity, "count"))


def _panel(
    signals: Signals, title: str, series: dict[str, NDArray[np.float64]], band: tuple[float, float] | None
) -> Panel:
    lines = {}
    for name, values in series.items():
        if np.isfinite(values).any():
            with np.errstate(invalid="ignore", divide="ignore"):
                lines[name] = downsample(signals.steps, np.log10(np.where(values > 0, values, np.nan)), _POINTS)
    zero = any((values == 0).any() for values in series.values())
    if any(np.isfinite(values).any() for _, values in lines.values()):
        return Panel(title, lines, band, "")
    return Panel(title, {}, band, "exactly 0 at every recorded step" if zero and lines else "not recorded")


def lines_height(data: LayerLinesData) -> int:
    """The figure's height in pixels."""
    return _TOP + _BOTTOM + _PANEL * len(data.panels)


def draw_layer_lines(data: LayerLinesData, theme: Theme) -> Figure:
    """The panels above one another on one step axis; lines are told apart by dash as well as by colour."""
    layout = frame(theme)
    layout |= {"margin": {"l": 8, "r": 8, "t": _TOP, "b": _BOTTOM}, "hovermode": "x unified", "showlegend": False}
    traces: list[Figure] = []
    steps = [line[0] for panel in data.panels for line in panel.lines.values()]
    ends = [min(s[0] for s in steps) - 0.5, max(s[-1] for s in steps) + 0.5] if steps else [0.0, 1.0]
    rows = len(data.panels)
    for row, panel in enumerate(data.panels):
        suffix = "" if row == 0 else str(row + 1)
        down = [1 - (row + 1) / rows, 1 - (row + 0.25) / rows]
        layout[f"xaxis{suffix}"] = axis(
            theme,
            anchor=f"y{suffix}",
            matches="x" if row else None,
            showticklabels=row == rows - 1,
            showgrid=False,
            tickformat=",~f",
            hoverformat=",d",
            autorangeoptions={"minallowed": ends[0], "maxallowed": ends[1]},
            title={"text": "optimizer step", "standoff": 4} if row == rows - 1 else None,
        )
        values, texts, span = _ticks(panel)
        layout[f"yaxis{suffix}"] = axis(
            theme,
            anchor=f"x{suffix}",
            domain=down,
            range=list(span),
            fixedrange=True,
            tickmode="array",
            tickvals=values,
            ticktext=texts,
        )
        layout["shapes"] += _shapes(panel, suffix, data.step, theme)
        layout["annotations"] += _texts(panel, suffix, down[1], theme)
        traces += _lines(panel, suffix, theme)
    return {"data": traces, "layout": layout}


def _ticks(panel: Panel) -> tuple[list[int], list[str], tuple[float, float]]:
    known = [values[np.isfinite(values)] for _, values in panel.lines.values()]
    every = np.concatenate([*known, np.array(panel.band or ())])
    low, high = (float(every.min()), float(every.max())) if len(every) else (-1.0, 1.0)
    margin = max(0.15, (2 - (high - low)) / 2)
    low, high = low - margin, high + margin
    step = max(1, round((high - low) / 4))
    powers = list(range(int(np.ceil(low / step) * step), int(np.floor(high)) + 1, step))
    return powers, [f"10<sup>{power}</sup>".replace("-", "−") for power in powers], (low, high)


def _shapes(panel: Panel, suffix: str, step: int | None, theme: Theme) -> list[Figure]:
    place = {"xref": f"x{suffix} domain", "yref": f"y{suffix}", "layer": "below"}
    shapes: list[Figure] = []
    if panel.band is not None:
        low, high = panel.band
        shapes.append(
            {
                "type": "rect",
                **place,
                "x0": 0,
                "x1": 1,
                "y0": low,
                "y1": high,
                "fillcolor": theme.band,
                "line": {"width": 0},
            }
        )
    if step is not None:
        line = {"color": theme.text, "width": 1, "dash": "dot"}
        across = {"xref": f"x{suffix}", "yref": f"y{suffix} domain", "x0": step, "x1": step, "y0": 0, "y1": 1}
        shapes.append({"type": "line", **across, "line": line})
    return shapes


def _texts(panel: Panel, suffix: str, top: float, theme: Theme) -> list[Figure]:
    names = [f"{mark} {plain(name)}" for (mark, _, _), name in zip(_styles(theme), panel.lines, strict=False)]
    legend = "   ".join(names) if len(names) > 1 else ""
    healthy = "band: healthy" if panel.band is not None else ""
    said = f'  <span style="color:{theme.dimmed}">{legend or healthy}</span>'
    title = {"x": 0, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    texts = [{"text": f"<b>{plain(panel.title)}</b>{said}", **title, "showarrow": False}]
    if panel.missing:
        middle = {"xref": f"x{suffix} domain", "yref": f"y{suffix} domain", "x": 0.5, "y": 0.5, "showarrow": False}
        texts.append({"text": panel.missing, **middle, "font": {"color": theme.dimmed, "size": 12}})
    return texts


def _styles(theme: Theme) -> tuple[tuple[str, str, str], ...]:
    """A sign that stands for the dash in a text, the dash, the colour."""
    ok = "#0F7F68" if theme.text != "#E8ECF1" else "#2BD9B5"
    return (
        ("──", "solid", theme.first_line),
        ("- -", "dash", theme.second_line),
        ("···", "dot", ok),
        ("-·-", "dashdot", theme.dimmed),
    )


def _lines(panel: Panel, suffix: str, theme: Theme) -> list[Figure]:
    if panel.missing:  # plotly misplaces axes that no trace is drawn on
        return [
            {
                "type": "scatter",
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                "x": [None],
                "y": [0],
                "hoverinfo": "skip",
            }
        ]
    return [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(steps) <= 60 else "lines",
            "name": plain(name),
            "xaxis": f"x{suffix}",
            "yaxis": f"y{suffix}",
            "x": typed(steps),
            "y": typed(values),
            "customdata": typed(10.0**values),
            "line": {"color": colour, "width": 1.6, "dash": dash},
            "marker": {"size": 4},
            "hovertemplate": f"{plain(name)} %{{customdata:.3g}}<extra></extra>",
        }
        for (_, dash, colour), (name, (steps, values)) in zip(_styles(theme), panel.lines.items(), strict=False)
    ]
