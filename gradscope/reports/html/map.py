"""The map of a report's page: the loss above, a picture of the cells below, one step axis for both."""

from __future__ import annotations

import numpy as np

from gradscope.records import Severity
from gradscope.reports.cells import NON_FINITE, NOT_RECORDED, ZERO
from gradscope.reports.html.data import PageData
from gradscope.reports.html.lines import drawing, grid, line, side, step_ticks, value_ticks
from gradscope.reports.html.text import percent, shown
from gradscope.reports.layer_map import MapData, cell_colours, named_rows, short
from gradscope.reports.loss_line import LossData, Onset, scale_of
from gradscope.reports.metrics import METRICS, Metric
from gradscope.reports.palette_png import picture
from gradscope.reports.theme import DARK, LIGHT

_NAME = 24  # characters of a layer's name beside the map
_CLOSE = 0.04  # of the width: labels nearer than this would overlap
_SWATCHES = {NON_FINITE: "non-finite", ZERO: "zero", NOT_RECORDED: "not-recorded"}


def chart(data: PageData) -> str:
    """The figure; words where nothing was recorded."""
    metric = METRICS[data.map.metric]
    ends = _ends(data)
    rows = [f"<div></div>{_labels(data.onsets, ends)}"] if data.onsets else []
    rows += _loss(data.loss, data.onsets, ends)
    rows += _map(data, metric, ends) if data.map.decades.size else []
    if len(rows) == bool(data.onsets):
        return f'<p class="dimmed">No loss and no {metric.title.lower()} is recorded yet.</p>'
    rows.append(f'<div></div>{step_ticks(*ends)}<div></div><div class="axis-title">optimizer step</div>')
    longest = max((len(_label(data, row)) for row in named_rows(data.map.rows, data.marks)), default=0)
    under = _legend(data.map, metric) if data.map.decades.size else f"<p>No {metric.title.lower()} is recorded yet.</p>"
    return (
        f'<figure class="card"><div class="chart" style="--names: {max(9, longest)}ch">'
        f"{''.join(rows)}</div><figcaption>{under}</figcaption></figure>"
    )


def _ends(data: PageData) -> tuple[float, float]:
    """The steps at the left and the right end: half a column more on either side."""
    if len(data.map.steps):
        half = data.map.per_column / 2
        return float(data.map.steps[0]) - half, float(data.map.steps[-1]) + half
    return -0.5, float(data.loss.last_step or 0) + 0.5


def _loss(loss: LossData, onsets: tuple[Onset, ...], ends: tuple[float, float]) -> list[str]:
    steps, values = loss.loss
    scale = scale_of(values)
    since, last = loss.non_finite_since, loss.last_step
    broken = since is not None and last is not None
    if scale is None and not broken:
        return []
    ticks = value_ticks(scale) if scale is not None else []
    curve = line(steps, values, *ends, scale, "line-1") if scale is not None else ""
    shade = word = ""
    said = "The loss by step" + (f", not a number since step {since:,}" if since is not None else "")
    if since is not None and last is not None:
        left, right = (max(0.0, min(1.0, _share(step, ends))) for step in (since - 0.5, last + 0.5))
        shade = f'<rect class="nan" x="{left * 1000:.5g}" y="0" width="{(right - left) * 1000:.5g}" height="250"/>'
        word = f'<span class="nan-word" style="left: {percent((left + right) / 2)}">NaN</span>'
    return [
        f'{side(ticks, "loss")}<div class="plot loss">'
        f"{drawing(grid(ticks) + shade + curve, said)}{_lines(onsets, ends)}{word}</div>"
    ]


def _map(data: PageData, metric: Metric, ends: tuple[float, float]) -> list[str]:
    cells = data.map
    names = []
    for row in named_rows(cells.rows, data.marks):
        marked = ' class="marked"' if cells.rows[row] in data.marks else ""
        top = percent((row + 0.5) / len(cells.rows))
        names.append(
            f'<span{marked} style="top: {top}" title="{shown(cells.labels[row])}">{shown(_label(data, row))}</span>'
        )
    said = (
        f"{metric.title} by layer and step: {len(cells.rows):,} rows from {cells.labels[0]} to {cells.labels[-1]}, "
        f"steps {int(cells.steps[0]):,} to {int(np.floor(ends[1])):,}. The findings below say in words what it shows."
    )
    height = max(120, min(360, 16 * len(cells.rows)))
    return [
        f'<div class="side names">{"".join(names)}</div><div class="plot map" style="height: {height}px"><picture>'
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{picture(cells, DARK)}">'
        f'<img src="{picture(cells, LIGHT)}" alt="{shown(said)}"></picture>{_lines(data.onsets, ends)}</div>'
    ]


def _label(data: PageData, row: int) -> str:
    first, shared, _ = data.map.labels[row].partition(" … ")
    name = short(first, _NAME) + (" …" if shared else "")
    mark = data.marks.get(data.map.rows[row])
    return f"{mark} ▸ {name}" if mark else name


def _share(step: float, ends: tuple[float, float]) -> float:
    return (step - ends[0]) / (ends[1] - ends[0])


def _lines(onsets: tuple[Onset, ...], ends: tuple[float, float]) -> str:
    """Dotted lines where findings begin."""
    drawn = []
    for onset in onsets:
        x = percent(_share(onset.step, ends))
        drawn.append(f'<line class="onset-line tone-{onset.severity}" x1="{x}" x2="{x}" y1="0" y2="100%"/>')
    return f'<svg class="marks" aria-hidden="true">{"".join(drawn)}</svg>' if drawn else ""


def _labels(onsets: tuple[Onset, ...], ends: tuple[float, float]) -> str:
    """The findings where they begin; those that would overlap share a place."""
    places: list[tuple[float, list[tuple[str, Severity]]]] = []
    for onset in onsets:
        share = _share(onset.step, ends)
        if not places or share - places[-1][0] > _CLOSE:
            places.append((share, []))
        places[-1][1].append((onset.label, onset.severity))
    spans = "".join(
        f'<span style="left: {percent(share)}">'
        + " ".join(f'<span class="tone-{severity}">{label}</span>' for label, severity in marks)
        + "</span>"
        for share, marks in places
    )
    return f'<div class="labels">{spans}</div>'


def _legend(cells: MapData, metric: Metric) -> str:
    """The scale with its words, what the other colours mean, and how to read the map."""
    low, high = metric.centre - metric.span, metric.centre + metric.span
    ends = [f"{value:g} {word}" for value, word in zip((low, metric.centre, high), metric.words, strict=True)]
    ticks = "".join(f"<span>{text}</span>" for text in ends).replace("-", "−")
    states = set(cells.states.ravel().tolist())
    swatches = "".join(
        f'<span><span class="swatch {_SWATCHES[state]}"></span>{words}</span>'
        for state, (_, words) in cell_colours(metric, LIGHT).items()
        if state in states
    )
    folded = []
    if cells.per_column > 1:
        folded.append(f"Each column is {cells.per_column:,} steps and shows the one farthest from healthy.")
    elif not cells.every_step:
        folded.append("Between recorded steps the last recorded one is shown.")
    if any(" … " in row for row in cells.rows):
        folded.append("Neighbouring layers share a row, which shows the one farthest from healthy.")
    return (
        f'<div class="scale"><div class="bar"></div><div class="ticks">{ticks}</div></div>'
        f'<div class="legend">{swatches}</div><p class="dimmed">{" ".join([metric.help, *folded])}</p>'
    )
