"""Where: the layers with the user's own lines, and a small map of the model with the origin boxed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.parts.source_lines import source_line
from gradscope.dashboard.wording import layer_label
from gradscope.records import Finding, Site
from gradscope.reports.words import count
from gradscope.signals import Signals
from gradscope.signals.non_finite import QUANTITIES

_MOST_LAYERS = 8  # named at once; the rest are folded
_MOST_CELLS = 60  # of the small map; layers beyond share cells


@dataclass(frozen=True)
class Cell:
    """A layer of the small map, or several that lie side by side.

    Attributes:
        name: of the layer, or of the first and last.
        state: "origin" began it, "hit" has it, "clean" has not, "unknown" was not looked at.
        place: where in the order of propagation, from 1; 0 where no order is known.
    """

    name: str
    state: str
    place: int = 0


def where_section(view: FindingView) -> list[Component]:
    """The section of a finding's page."""
    finding, signals = view.finding, view.snapshot.signals
    if not finding.layers:
        return [view.heading("Where"), html.P("The whole model.")]
    shown = [_layer(layer, view) for layer in finding.layers[:_MOST_LAYERS]]
    rest = [_layer(layer, view) for layer in finding.layers[_MOST_LAYERS:]]
    order = "Worst first:" if finding.rule != "non-finite" else "Where it began first:"
    parts: list[Component] = [html.P(order, className="dimmed")] if len(finding.layers) > 1 else []
    parts.append(html.Ol(shown, className="plain finding-layers"))
    if rest:
        folded = [html.Summary(f"and {len(rest):,} more"), html.Ol(rest, className="plain finding-layers")]
        parts.append(html.Details(folded))
    return [view.heading("Where"), *parts, *draw_mini_map(mini_map(finding, signals))]


def _layer(name: str, view: FindingView) -> Component:
    signals = view.snapshot.signals
    site = _sites_by_name(signals.sites).get(name)
    label = layer_label(site) if site is not None else name or "(model)"
    line = source_line(site, view.snapshot.run.info, signals.sites) if site is not None else ""
    target = view.address.of_run("layers", layer=name)
    return html.Li(
        [
            html.A(label, href=target.href, className="mono"),
            html.Span(f" {line}", className="dimmed mono") if line else None,
        ]
    )


def _sites_by_name(sites: tuple[Site, ...]) -> dict[str, Site]:
    """Layers and parameters by the name that a finding calls them; a layer's output comes before its input."""
    found: dict[str, Site] = {}
    for site in sites:
        if site.role in ("output", "parameter"):
            found.setdefault(site.name, site)
            found.setdefault(site.path, site)
    return found


def mini_map(finding: Finding, signals: Signals) -> list[Cell]:
    """The model's layers in forward order and how the finding touches each; at most 60 cells."""
    layers = [signals.sites[site] for site in signals.layers]
    order = _order(finding, signals)
    hit = {_layer_of(name, signals) for name in finding.layers} | {*order}
    origin = _layer_of(finding.layers[0], signals) if finding.layers and finding.rule == "non-finite" else None
    cells = []
    for place in np.array_split(np.arange(len(layers)), min(len(layers), _MOST_CELLS)) if layers else []:
        names = [layers[int(each)].path for each in place]
        state = "origin" if origin in names else "hit" if hit & {*names} else "clean"
        reached = [order[name] for name in names if name in order]
        label = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        cells.append(Cell(label, state, min(reached, default=0)))
    return cells


def _layer_of(name: str, signals: Signals) -> str:
    """The layer that a finding's name is of: a parameter belongs to its module."""
    site = _sites_by_name(signals.sites).get(name)
    if site is None or site.role != "parameter":
        return "" if name == "(model)" else name
    return site.module


def _order(finding: Finding, signals: Signals) -> dict[str, int]:
    """For NaN and Inf: in which order it reached the layers in the first recorded step that has it, from 1."""
    columns = np.flatnonzero(signals.steps >= finding.first_step)
    if finding.rule != "non-finite" or not len(columns):
        return {}
    order: dict[str, int] = {}
    first = _layer_of(finding.layers[0], signals) if finding.layers else None
    if first is not None and any(signals.sites[site].path == first for site in signals.layers):
        order[first] = 1
    for quantity in QUANTITIES:
        broken = signals.non_finite(quantity)[:, columns[0]]
        forward = [i for i in signals.layers if i < len(broken) and broken[i]]
        back = quantity in ("activation_gradient", "gradient")  # comes from the loss
        for site in reversed(forward) if back else forward:
            order.setdefault(signals.sites[site].path, len(order) + 1)
    return order


def draw_mini_map(cells: list[Cell]) -> list[Component]:
    """The cells from the model's input to its output, and the same in a sentence."""
    touched = sum(cell.state != "clean" for cell in cells)
    if len(cells) < 2 or not touched:
        return []
    words = {"origin": "began here", "hit": "has it", "clean": "has not"}
    boxes = [
        html.Li(
            html.Span(str(cell.place) if cell.place and len(cells) <= 30 else "", **aria(hidden="true")),
            className=f"cell cell-{cell.state}",
            title=f"{cell.name}: {words[cell.state]}{f', place {cell.place}' if cell.place > 1 else ''}",
        )
        for cell in cells
    ]
    ordered = any(cell.place > 1 for cell in cells)
    legend = [html.Span([html.Span(className="cell cell-hit"), "has it"])]
    if any(cell.state == "origin" for cell in cells):
        legend.insert(0, html.Span([html.Span(className="cell cell-origin"), "began here"]))
    legend.append(html.Span([html.Span(className="cell cell-clean"), "has not"]))
    numbers = " The numbers say in which order it spread." if ordered and len(cells) <= 30 else ""
    said = f"{_touched(cells, touched)}, from the model's input to its output.{numbers}"
    return [
        html.Div(
            [
                html.Span("in", className="dimmed"),
                html.Ol(boxes, className="plain cells"),
                html.Span("out", className="dimmed"),
            ],
            className="mini-map",
            role="img",
            **aria(label=_described(cells)),
        ),
        html.P([*legend, html.Span(said, className="dimmed")], className="legend"),
    ]


def _touched(cells: list[Cell], touched: int) -> str:
    what = "layer" if len(cells) < _MOST_CELLS else "part"
    return f"{touched:,} of {count(len(cells), what)}"


def _described(cells: list[Cell]) -> str:
    """The map for people who do not see it."""
    began = [cell.name or "(model)" for cell in cells if cell.state == "origin"]
    hit = [cell.name or "(model)" for cell in cells if cell.state != "clean"]
    ends = f"from {hit[0]} to {hit[-1]}" if len(hit) > 1 else hit[0]
    return f"Map of the model: {len(hit)} of {len(cells)} layers have it, {ends}" + (
        f"; it began in {began[0]}" if began else ""
    )
