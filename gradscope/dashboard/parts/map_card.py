"""What every card with a map has: its selects, its legend, and the sentence on what is shown."""

from __future__ import annotations

from collections.abc import Mapping

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.term import term
from gradscope.reports.layer_map import MapData, cell_colours
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import Theme


def choice(name: str, choices: Mapping[str, str], value: str, label: str, width: int) -> Component:
    """A small select with the id `name`.

    Args:
        name: the component's id.
        choices: what it holds -> what it says.
        value: what is chosen.
        label: for people who do not see where it stands.
        width: pixels.
    """
    select: Component = dmc.Select(
        id=name,
        data=[{"value": held, "label": title} for held, title in choices.items()],
        value=value,
        allowDeselect=False,
        size="xs",
        w=width,
        **aria(label=label),
    )
    return select


def legend(data: MapData, colours: Theme) -> list[Component]:
    """What the colours of cells without a number mean, of those that the map has."""
    present = set(data.states.ravel().tolist())
    return [
        html.Span([html.Span(className="swatch", style={"background": colour}), words])
        for state, (colour, words) in cell_colours(METRICS[data.metric], colours).items()
        if state in present
    ]


def explained(data: MapData) -> list[Component | str]:
    """What the map shows, with its word of the glossary."""
    metric = METRICS[data.metric]
    return [term(metric.id.replace("-", " "), metric.title), ": ", metric.help]
