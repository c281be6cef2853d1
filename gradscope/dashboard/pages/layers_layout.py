"""The frame of the layers page: where each of its parts stands."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.plotly import blank, graph_config
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.runs import Runs
from gradscope.reports.theme import LIGHT

_PARTS = (
    *("summary", "views", "steps", "find", "kind", "unhealthy", "list", "links", "columns"),
    *("detail", "head", "numbers", "charts", "strips", "legend", "lines", "parameters", "detail-links"),
)
ID = {part: ids.of("layers", part) for part in _PARTS}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The page before its first data."""
    return [
        html.H1("Layers"),
        html.P("\u00a0", id=ID["summary"], className="dimmed", role="status"),
        _toolbar(address),
        html.Div(
            [
                html.Section(
                    [html.Div([], id=ID["list"]), html.Div([], id=ID["links"])],
                    className="card layer-list",
                    **aria(label="All layers"),
                ),
                _detail(),
            ],
            id=ID["columns"],
            className="layer-columns",
        ),
    ]


def _toolbar(address: Address) -> Component:
    return html.Div(
        [
            dmc.TextInput(
                id=ID["find"],
                value=address.find or "",
                placeholder="Find a layer",
                debounce=250,
                size="xs",
                w=220,
                **aria(label="Find a layer by its name or kind"),
            ),
            dmc.Select(
                id=ID["kind"],
                data=[address.kind] if address.kind else [],
                value=address.kind,
                placeholder="Every kind",
                clearable=True,
                searchable=True,
                size="xs",
                w=200,
                clearButtonProps={"aria-label": "Show every kind"},
                **aria(label="Kind of layer"),
            ),
            dmc.Checkbox(id=ID["unhealthy"], label="Only unhealthy", checked=address.unhealthy, size="sm"),
            html.Span([], id=ID["views"], className="switch", role="group", **aria(label="Table or tree")),
            html.Span([], id=ID["steps"], className="switch", role="group", **aria(label="Recorded step")),
        ],
        className="layer-tools",
    )


def _detail() -> Component:
    """One layer; hidden until one is open."""
    return html.Section(
        [
            html.Div([], id=ID["head"]),
            html.Div([], id=ID["numbers"]),
            html.Div(
                [
                    html.H3("Histograms over the steps"),
                    html.P(
                        "Left the values, right their gradients. Up is larger. Each band is a range of magnitudes: the "
                        "stronger its colour, the more of the entries lie in it. The dotted line is the step shown.",
                        className="dimmed help",
                    ),
                    html.Div([], id=ID["legend"], className="legend"),
                    _graph("strips", 400),
                    html.H3("Over the steps"),
                    _graph("lines", 300),
                ],
                id=ID["charts"],
            ),
            html.Div([], id=ID["parameters"]),
            html.Div([], id=ID["detail-links"]),
        ],
        id=ID["detail"],
        className="card layer-detail",
        style={"display": "none"},
        **aria(label="One layer"),
    )


def _graph(part: str, height: int) -> Component:
    figure = blank(LIGHT)
    return dcc.Graph(
        id=ID[part], figure=figure, config=graph_config(), style={"height": height}, responsive=True, animate=False
    )
