"""What every card with a map has: its selects, its legend, and the sentences on what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.map import map_data, map_rows
from gradscope.dashboard.figures.map_blocks import blocks
from gradscope.dashboard.figures.plotly import blank, graph_config
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.term import term
from gradscope.reports.layer_map import MOST_ROWS, MapData, cell_colours
from gradscope.reports.metrics import METRICS, Metric
from gradscope.reports.theme import LIGHT, Theme
from gradscope.signals import Signals

WHOLE = "."  # what the select of blocks holds for the whole model: no module can be called so


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


def graph(name: str, height: int, classes: str = "") -> Component:
    """A map before its first data; a double-click leads to all of it, also where a link led to a part."""
    return dcc.Graph(
        id=name,
        figure=blank(LIGHT),
        config=graph_config(doubleClick="autosize"),
        style={"height": height},
        className=f"map-graph {classes}".strip(),
        responsive=True,
        animate=False,
    )


def block_choice(name: str, address: Address) -> Component:
    """The select of the part of the model that the map shows, see `block_choices`."""
    chosen = address.block or WHOLE
    select: Component = dmc.Select(
        id=name,
        data=[{"value": chosen, "label": address.block or "all layers"}],
        value=chosen,
        allowDeselect=False,
        searchable=True,
        nothingFoundMessage="No such block",
        size="xs",
        w=210,
        display=None if address.block else "none",
        **aria(label="Part of the model that the map shows"),
    )
    return select


class BlockChoices(NamedTuple):
    """What the select of blocks has."""

    data: list[dict[str, str]]
    value: str
    display: str | None  # "none": every layer has a row of its own, so there is nothing to choose


def block_choices(signals: Signals, address: Address) -> BlockChoices:
    """The parts of the model that the map can show alone, where a row of the whole map holds several layers."""
    metric = METRICS[address.metric]
    rows, chosen = map_rows(signals, metric), map_data(signals, metric, None, address.block).block
    what = _what(metric)
    if len(rows) <= MOST_ROWS and chosen is None:
        return BlockChoices([{"value": WHOLE, "label": f"all {what}"}], WHOLE, "none")
    offered = blocks(rows)
    data = [{"value": WHOLE, "label": f"all {len(rows):,} {what}"}]
    data += [
        {"value": block.name, "label": f"{block.name} · {block.rows:,} {_of(block.rows, what)}"} for block in offered
    ]
    if chosen is not None and all(block.name != chosen for block in offered):
        data.insert(1, {"value": chosen, "label": chosen})
    return BlockChoices(data, chosen or WHOLE, None)


def folded(data: MapData, address: Address) -> list[Component | str]:
    """Which part of the model and which steps are shown, and the way back; what shares a row or a column, and how to see
    it singly.
    """
    what = _what(METRICS[data.metric])
    said: list[Component | str] = []
    if data.block is not None:
        here = sum(map(len, data.names))
        said += ["Only ", html.Strong(data.block, className="mono"), f" is shown, {here:,} {_of(here, what)}: "]
        said += [html.A(f"back to all {what}", href=address.at(block=None, rows=None).href), ". "]
    if address.first is not None and address.last is not None and address.first <= address.last:
        said.append(f"Steps {address.first:,} to {address.last:,} are shown: ")
        said += [html.A("back to all steps", href=address.at(first=None, last=None, rows=None).href), ". "]
    elif address.rows is not None:
        said += ["Some rows are shown: ", html.A("back to all rows", href=address.at(rows=None).href), ". "]
    row = f"row shows {data.per_row:,} neighbouring {what}" if data.per_row > 1 else ""
    column = f"column {'shows ' if not row else ''}{data.per_column:,} steps" if data.per_column > 1 else ""
    if row or column:
        each = " and each ".join(each for each in (row, column) if each)
        said.append(f"Each {each}: of these the one farthest from healthy. ")
    if row:
        said.append(f"Choose a block to see its {what} singly. ")
    if column:
        said.append("Drag over a part to see its steps more finely. ")
    return said


def _what(metric: Metric) -> str:
    return "parameters" if metric.rows == METRICS["update-ratio"].rows else "layers"


def _of(count: int, what: str) -> str:
    return what if count != 1 else what[:-1]


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
