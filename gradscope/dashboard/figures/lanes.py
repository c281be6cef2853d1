"""State lanes: one bar for each finding, from its first step to its last, under the loss and above the map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradscope.dashboard.figures.plotly import Figure, axis, plain
from gradscope.dashboard.wording import SEVERITY_WORDS, when
from gradscope.records import Finding, Severity
from gradscope.reports.theme import Theme
from gradscope.reports.words import SHAPES

MOST_LANES = 12
LANE_HEIGHT = 20  # pixels
_SYMBOLS: dict[Severity, str] = {"error": "triangle-up", "warning": "square", "note": "circle"}
_LONGEST_MESSAGE = 90  # characters of a tooltip's line


@dataclass(frozen=True)
class Lane:
    """One finding over time."""

    number: str  # "F1"
    severity: Severity
    rule: str
    first: int
    last: int
    words: tuple[str, ...]  # of its tooltip, a line each


def lanes_data(findings: tuple[Finding, ...], newest: int | None, end: int | None = None) -> tuple[Lane, ...]:
    """The lanes, most likely root cause first; at most `MOST_LANES`.

    Args:
        findings: of a diagnosis, in its order.
        newest: the last recorded step.
        end: the last step: what still holds at the last recorded one goes on until here.
    """
    going_on = newest if end is None else end
    return tuple(
        Lane(
            f"F{number}",
            finding.severity,
            finding.rule,
            int(finding.first_step),
            int(finding.last_step) if newest is None or finding.last_step < newest else max(newest, going_on or 0),
            (
                f"{SHAPES[finding.severity][0]} {SEVERITY_WORDS[finding.severity]} F{number} {finding.rule}",
                _cut(finding.message),
                when(finding, newest),
            ),
        )
        for number, finding in enumerate(findings[:MOST_LANES], 1)
    )


def lanes_height(lanes: tuple[Lane, ...]) -> int:
    """Pixels that the lanes need."""
    return LANE_HEIGHT * len(lanes)


def lanes_traces(lanes: tuple[Lane, ...], theme: Theme, href: Callable[[str], str], yaxis: str = "y4") -> list[Figure]:
    """A bar from the first step to the last, with the severity's shape where it begins; both lead to the finding.

    Args:
        lanes: see `lanes_data`.
        theme: the colours.
        href: the address of a finding, given its number; the script in the page visits it after a click.
        yaxis: which axis of the figure is the lanes'.
    """
    shared: dict[str, Any] = {
        "xaxis": "x",
        "yaxis": yaxis,
        "y": [f"{lane.number} {plain(lane.rule)}" for lane in lanes],
        "customdata": [href(lane.number) for lane in lanes],
        "hovertext": ["<br>".join(plain(line) for line in (*lane.words, "click: open the finding")) for lane in lanes],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    colours = [theme.severity[lane.severity] for lane in lanes]
    bars = {
        "type": "bar",
        "name": "lanes",
        "orientation": "h",
        "base": [lane.first - 0.5 for lane in lanes],
        "x": [lane.last - lane.first + 1 for lane in lanes],
        "width": 0.5,
        "marker": {"color": colours, "opacity": 0.75, "line": {"width": 0}},
    }
    starts = {
        "type": "scatter",
        "name": "lane starts",
        "mode": "markers",
        "x": [lane.first for lane in lanes],
        "marker": {
            "symbol": [_SYMBOLS[lane.severity] for lane in lanes],
            "size": 11,
            "color": colours,
            "line": {"color": theme.card, "width": 1},
        },
        "cliponaxis": False,
    }
    return [bars | shared, starts | shared] if lanes else []


def lanes_axis(lanes: tuple[Lane, ...], theme: Theme, domain: tuple[float, float]) -> Figure:
    """The lanes' axis: a shape, a number and a rule beside each."""
    return axis(
        theme,
        domain=list(domain),
        type="category",
        categoryorder="array",
        categoryarray=[f"{lane.number} {plain(lane.rule)}" for lane in lanes],
        range=[len(lanes) - 0.5, -0.5],
        fixedrange=True,
        showgrid=False,
        tickmode="array",
        tickvals=[f"{lane.number} {plain(lane.rule)}" for lane in lanes],
        ticktext=[
            f'<span style="color:{theme.severity[lane.severity]}">{SHAPES[lane.severity][0]}</span> '
            f"{lane.number} {plain(lane.rule)}"
            for lane in lanes
        ],
        tickfont={"size": 11},
    )


def with_lanes(
    figure: Figure,
    lanes: tuple[Lane, ...],
    theme: Theme,
    href: Callable[[str], str],
    height: int,
    below: float | None = None,
) -> Figure:
    """Makes room for the lanes in a map's figure, between the loss and the map, and puts them there.

    Args:
        figure: as `draw_map` gives it, changed in place and handed back.
        lanes: see `lanes_data`.
        theme: the colours.
        href: see `lanes_traces`.
        height: of the whole figure in pixels.
        below: where they begin, as a share of the figure's height; right under the loss unless told.
    """
    if not lanes:
        return figure
    layout = figure["layout"]
    margin = layout["margin"]
    inner = max(1, height - margin["t"] - margin["b"])
    share = min(0.4, lanes_height(lanes) / inner)
    gap = 10 / inner
    top = layout["yaxis"]["domain"][0] - gap if below is None else below
    layout["yaxis4"] = lanes_axis(lanes, theme, (top - share, top))
    map_top = top - share - gap
    layout["yaxis2"]["domain"] = [0.0, map_top]
    for trace in figure["data"]:
        if "colorbar" in trace:
            trace["colorbar"]["len"] = map_top
    figure["data"] += lanes_traces(lanes, theme, href)
    return figure


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…"
