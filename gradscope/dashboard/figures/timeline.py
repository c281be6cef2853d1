"""The timeline: loss, gradient norm, state lanes and the map, on one step axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradscope.dashboard.figures.lanes import Lane, lanes_data, lanes_height, with_lanes
from gradscope.dashboard.figures.map import draw_map, map_data
from gradscope.dashboard.figures.map_marks import reorder
from gradscope.dashboard.figures.plotly import Figure
from gradscope.records import Finding, Run
from gradscope.reports.layer_map import MapData, marked_rows
from gradscope.reports.loss_line import LossData, Onset, loss_data, onsets
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import Theme
from gradscope.signals import Signals
from gradscope.signals.changes import Suspect, suspects

_LOSS_HEIGHT, _MARGINS = 150, 58  # pixels
_GAP, _GAP_WITH_WORDS = 12, 36  # under the loss; the wider one holds the suspects
_ROW, _SHORTEST_MAP, _TALLEST_MAP = 15, 300, 620
_WORDS = {"warm-up end": "warm-up ends", "clipping": "clipping sets in"}  # others are said as they are


@dataclass(frozen=True)
class TimelineData:
    """Everything that the timeline shows.

    Attributes:
        cells: the map, in the order asked for.
        marks: rows to name in any case.
        suspects: what was changed on purpose.
    """

    cells: MapData
    marks: dict[str, str]
    loss: LossData
    onsets: tuple[Onset, ...]
    lanes: tuple[Lane, ...]
    suspects: tuple[Suspect, ...]


def timeline_data(
    run: Run,
    signals: Signals,
    findings: tuple[Finding, ...],
    metric: str,
    order: str,
    window: tuple[int, int] | None = None,
    block: str | None = None,
) -> TimelineData:
    """The timeline of a run; `window` and `block` as `map_data` has them."""
    newest = int(signals.steps[-1]) if len(signals.steps) else None
    cells = reorder(map_data(signals, METRICS[metric], window, block), order, findings)
    starts = tuple(finding.first_step for finding in findings)
    loss = loss_data(run, window)
    return TimelineData(
        cells,
        marked_rows(cells, findings),
        loss,
        onsets(findings),
        lanes_data(findings, newest, loss.last_step),
        suspects(signals, starts),
    )


def timeline_height(data: TimelineData) -> int:
    """Pixels of the whole figure: taller for more layers and more findings, never taller than a screen."""
    rows = min(_TALLEST_MAP, max(_SHORTEST_MAP, _ROW * len(data.cells.rows)))
    return _LOSS_HEIGHT + _gap(data) + lanes_height(data.lanes) + rows + _MARGINS


def _gap(data: TimelineData) -> int:
    return _GAP_WITH_WORDS if data.suspects else _GAP


def draw_timeline(data: TimelineData, theme: Theme, href: Callable[[str], str]) -> Figure:
    """The figure; `href` leads to a finding, given its number."""
    figure = draw_map(data.cells, data.loss, data.onsets, data.marks, theme)
    layout, height = figure["layout"], timeline_height(data)
    layout["height"] = height
    inner = height - layout["margin"]["t"] - layout["margin"]["b"]
    loss_low = 1 - _LOSS_HEIGHT / inner
    layout["yaxis"]["domain"] = [loss_low, 1.0]
    low = loss_low - _gap(data) / inner
    layout["yaxis2"]["domain"] = [0.0, low]
    for trace in figure["data"]:
        if "colorbar" in trace:
            trace["colorbar"]["len"] = low
    _draw_suspects(figure, data.suspects, theme, (loss_low - _gap(data) / inner, loss_low))
    return with_lanes(figure, data.lanes, theme, href, height, below=low)


def _draw_suspects(figure: Figure, marks: tuple[Suspect, ...], theme: Theme, domain: tuple[float, float]) -> None:
    """A small diamond under the loss for each change that was made on purpose, with a word where there is room."""
    if not marks:
        return
    steps = [mark.step for mark in marks]
    room = 0.09 * max(1, steps[-1] - steps[0])
    said_at = float("-inf")
    for mark in marks:
        if mark.step - said_at < room:
            continue
        said_at = mark.step
        figure["layout"]["annotations"].append(
            {
                "xref": "x",
                "yref": "y5",
                "x": mark.step,
                "y": 0.5,
                "xanchor": "left",
                "yanchor": "middle",
                "xshift": 7,
                "showarrow": False,
                "text": _WORDS.get(mark.kind, mark.kind),
                "font": {"size": 11, "color": theme.dimmed},
            }
        )
    figure["layout"]["yaxis5"] = {
        "domain": list(domain),
        "range": [0, 1],
        "visible": False,
        "fixedrange": True,
    }
    figure["data"].append(
        {
            "type": "scatter",
            "name": "suspects",
            "mode": "markers",
            "xaxis": "x",
            "yaxis": "y5",
            "x": steps,
            "y": [0.5] * len(steps),
            "text": [f"step {mark.step:,}: {mark.sentence}" for mark in marks],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"symbol": "diamond", "size": 8, "color": theme.dimmed},
            "cliponaxis": False,
        }
    )
