"""The overview: the verdict, five numbers, the findings, the map and the depth profile of one run."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.figures.metrics import DEFAULT_METRIC, METRICS
from gradscope.dashboard.figures.plotly import blank, graph_config
from gradscope.dashboard.parts import verdict
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.theme import LIGHT
from gradscope.records import Diagnosis


def layout(diagnosis: Diagnosis | None) -> Component:
    """The page before its first data: the verdict stands before plotly has loaded.

    Args:
        diagnosis: of the run that will be shown; None when it cannot be told yet.
    """
    stores = (ids.VERSION, ids.WISH, ids.STEP, ids.OPENED, ids.TITLE, ids.CELL)
    said = verdict.sentence(diagnosis) if diagnosis else None
    waiting = [html.P("Reading the run …", className="verdict-word"), html.H1("\u00a0", id=ids.HEADLINE)]
    return html.Main(
        [
            *(dcc.Store(id=store) for store in stores),
            dcc.Store(id=ids.SHOWN, data={"sentence": said}),
            html.Section(
                [
                    html.Div(
                        verdict.headline(diagnosis) if diagnosis else waiting,
                        id=ids.STATUS,
                        role="status",
                        **aria(live="polite", atomic="true"),
                    ),
                    html.P([], id=ids.NEXT, className="next"),
                ],
                id=ids.VERDICT,
                className=verdict.verdict_tone(diagnosis) if diagnosis else "verdict tone-note",
                **aria(label="Verdict"),
            ),
            html.Div(id=ids.PROBLEM),
            html.Div(
                [
                    html.Dl([], id=ids.NUMBERS, className="numbers"),
                    html.Div([_findings(), html.Div([_map(), _depth()], className="figures")], className="columns"),
                ],
                id=ids.CONTENT,
            ),
            _drawer(),
        ],
        className="page",
    )


def _findings() -> Component:
    return html.Section(
        [
            html.H2("Findings, most likely root cause first"),
            html.Ol([], id=ids.FINDINGS, className="plain finding-list"),
            html.Div([], id=ids.CHECKS, className="checks"),
        ],
        className="findings",
        **aria(label="Findings"),
    )


def _map() -> Component:
    choices = [{"value": metric.id, "label": metric.title} for metric in METRICS.values()]
    return html.Section(
        [
            html.Div(
                [
                    html.H2("", id=ids.MAP_TITLE),
                    dmc.Select(
                        id=ids.METRIC,
                        data=choices,
                        value=DEFAULT_METRIC,
                        allowDeselect=False,
                        size="xs",
                        w=230,
                        **aria(label="What the map shows"),
                    ),
                ],
                className="figure-head",
            ),
            _graph(ids.MAP, 480),
            html.Div([], id=ids.MAP_LEGEND, className="legend"),
            html.P("", id=ids.MAP_HELP, className="dimmed help"),
        ],
        className="card figure",
        **aria(label="Map of layers and steps"),
    )


def _depth() -> Component:
    return html.Section(
        [
            html.Div(
                [
                    html.H2("", id=ids.DEPTH_TITLE),
                    html.Div(
                        [
                            html.Button(
                                "◂", id=ids.EARLIER, className="button", n_clicks=0, **aria(label="Earlier step")
                            ),
                            dmc.Slider(
                                id=ids.SLIDER,
                                value=0,
                                min=0,
                                max=1,
                                label=None,
                                updatemode="drag",
                                size="sm",
                                className="slider",
                                thumbLabel="Recorded step",
                            ),
                            html.Button("▸", id=ids.LATER, className="button", n_clicks=0, **aria(label="Later step")),
                            html.Button("Latest", id=ids.LATEST, className="button", n_clicks=0),
                        ],
                        className="stepper",
                    ),
                ],
                className="figure-head",
            ),
            _graph(ids.DEPTH, 260),
        ],
        className="card figure",
        **aria(label="Depth profile"),
    )


def _graph(name: str, height: int) -> Component:
    return dcc.Graph(
        id=name, figure=blank(LIGHT), config=graph_config(), style={"height": height}, responsive=True, animate=False
    )


def _drawer() -> Component:
    drawer: Component = dmc.Drawer(
        html.Div([], id=ids.DRAWER_BODY),
        id=ids.DRAWER,
        opened=False,
        position="right",
        size=560,
        title="",
        transitionProps={"duration": 0},
        overlayProps={"backgroundOpacity": 0.35},
        closeButtonProps={"aria-label": "Close"},
    )
    return drawer
