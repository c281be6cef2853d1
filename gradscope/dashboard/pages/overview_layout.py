"""The frame of the overview: where each of its parts stands."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import ORDERS, Address
from gradscope.dashboard.figures.plotly import blank, graph_config
from gradscope.dashboard.parts import verdict
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.how_to_read import THE_MAP, how_to_read
from gradscope.dashboard.parts.map_card import block_choice, choice, graph
from gradscope.dashboard.parts.waterfall import waterfall_frame
from gradscope.dashboard.runs import Runs
from gradscope.records import Diagnosis
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import LIGHT

MAP_HEIGHT = 520  # pixels
_PARTS = (
    *("verdict", "status", "next", "empty", "body", "numbers", "controls", "findings", "checks"),
    *("metric", "order", "block", "map", "map-title", "map-legend", "map-help", "map-folded", "map-links", "onsets"),
    *("depth", "depth-title", "depth-help", "depth-links", "slider", "earlier", "later", "latest", "went"),
    *("drawer", "drawer-body"),
)
ID = {part: ids.of("overview", part) for part in _PARTS}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The page before its first data: the verdict stands before plotly has loaded."""
    try:
        diagnosis: Diagnosis | None = runs.get(address.run).diagnosis if address.run else None
    except Exception:  # `refresh` meets it again and says it
        diagnosis = None
    return [
        _verdict(diagnosis),
        html.Div(id=ID["empty"]),
        html.Div(
            [
                html.Dl([], id=ID["numbers"], className="numbers"),
                html.Div(
                    [_findings(), html.Div([map_card(address), _depth_card(), waterfall_frame()], className="figures")],
                    className="columns",
                ),
            ],
            id=ID["body"],
        ),
        _drawer(),
    ]


def _verdict(diagnosis: Diagnosis | None) -> Component:
    waiting: list[Component] = [html.P("Reading the run …", className="verdict-word"), html.H1("\u00a0")]
    return html.Section(
        [
            html.Div(
                verdict.headline(diagnosis) if diagnosis else waiting,
                id=ID["status"],
                role="status",
                **aria(live="polite", atomic="true"),
            ),
            html.P([], id=ID["next"], className="next"),
        ],
        id=ID["verdict"],
        className=verdict.verdict_tone(diagnosis) if diagnosis else "verdict tone-note",
        **aria(label="Verdict"),
    )


def _findings() -> Component:
    return html.Section(
        [
            html.H2("Findings"),
            html.Div([], id=ID["controls"]),
            html.Ol([], id=ID["findings"], className="plain finding-list"),
            html.Div([], id=ID["checks"], className="checks"),
        ],
        className="findings",
        **aria(label="Findings"),
    )


def map_card(address: Address) -> Component:
    """The map with what chooses its metric and its order."""
    metrics = {name: metric.title for name, metric in METRICS.items()}
    return html.Section(
        [
            html.Div(
                [
                    html.Div(
                        [html.H2("", id=ID["map-title"]), how_to_read("the map", *THE_MAP, image="gain-ruler")],
                        className="titled",
                    ),
                    html.Div(
                        [
                            choice(ID["metric"], metrics, address.metric, "What the map shows", 230),
                            choice(ID["order"], ORDERS, address.order, "Order of the map's rows", 170),
                            block_choice(ID["block"], address),
                        ],
                        className="controls",
                    ),
                ],
                className="figure-head",
            ),
            graph(ID["map"], MAP_HEIGHT),
            html.P([], id=ID["map-folded"], className="help map-folded"),
            html.Div([], id=ID["map-legend"], className="legend"),
            html.P("", id=ID["map-help"], className="dimmed help"),
            html.Div([], id=ID["map-links"]),
            html.Span(id=ID["onsets"], hidden=True),
        ],
        className="card figure",
        **aria(label="Map of layers and steps"),
    )


def _depth_card() -> Component:
    stepper = [
        html.Button("◂", id=ID["earlier"], className="button", n_clicks=0, **aria(label="Earlier step")),
        dmc.Slider(
            id=ID["slider"],
            value=0,
            min=0,
            max=1,
            label=None,
            updatemode="drag",
            size="sm",
            className="slider",
            thumbLabel="Recorded step",
        ),
        html.Button("▸", id=ID["later"], className="button", n_clicks=0, **aria(label="Later step")),
        html.Button("Latest", id=ID["latest"], className="button", n_clicks=0),
        dcc.Store(id=ID["went"]),
    ]
    head = [
        html.Div([html.H2("", id=ID["depth-title"]), html.Div([], id=ID["depth-help"])], className="titled"),
        html.Div(stepper, className="stepper"),
    ]
    return html.Section(
        [html.Div(head, className="figure-head"), _depth_graph(), html.Div([], id=ID["depth-links"])],
        className="card figure",
        **aria(label="Depth profile"),
    )


def _depth_graph() -> Component:
    return dcc.Graph(
        id=ID["depth"],
        figure=blank(LIGHT),
        config=graph_config(),
        style={"height": 270},
        responsive=True,
        animate=False,
    )


def _drawer() -> Component:
    drawer: Component = dmc.Drawer(
        html.Div([], id=ID["drawer-body"]),
        id=ID["drawer"],
        opened=False,
        position="right",
        size=560,
        title="",
        transitionProps={"duration": 0},
        overlayProps={"backgroundOpacity": 0.35},
        closeButtonProps={"aria-label": "Close"},
    )
    return drawer
