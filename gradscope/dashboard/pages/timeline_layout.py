"""The frame of the timeline: where each of its parts stands."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import ORDERS, Address
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.how_to_read import THE_MAP, how_to_read
from gradscope.dashboard.parts.map_card import block_choice, choice, graph
from gradscope.dashboard.runs import Runs
from gradscope.reports.metrics import METRICS

_PARTS = (
    *("metric", "order", "block", "first", "last", "map", "map-title", "map-help", "map-folded", "map-legend"),
    *("onsets", "cell", "links"),
    *("brush-first", "brush-last", "changes", "suspects", "table"),
)
ID = {part: ids.of("timeline", part) for part in _PARTS}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The timeline before its first data."""
    return [
        html.H1(f"Timeline of {address.run}"),
        _figure(address),
        html.Div(
            [_changes(address), html.Section([], id=ID["suspects"], className="card", **aria(label="Suspect changes"))],
            className="timeline-columns",
        ),
        html.Div([], id=ID["table"]),
    ]


def _figure(address: Address) -> Component:
    metrics = {name: metric.title for name, metric in METRICS.items()}
    controls = [
        choice(ID["metric"], metrics, address.metric, "What the map shows", 230),
        choice(ID["order"], ORDERS, address.order, "Order of the map's rows", 180),
        block_choice(ID["block"], address),
        html.Div(
            [
                html.Span("Steps", className="dimmed"),
                step_field("first", address.first, "First step shown"),
                html.Span("to", className="dimmed"),
                step_field("last", address.last, "Last step shown"),
            ],
            className="timeline-range",
            role="group",
            **aria(label="Steps shown"),
        ),
    ]
    return html.Section(
        [
            html.Div(
                [
                    html.Div(
                        [html.H2("", id=ID["map-title"]), how_to_read("the timeline", *THE_MAP, image="gain-ruler")],
                        className="titled",
                    ),
                    html.Div(controls, className="controls"),
                ],
                className="figure-head",
            ),
            graph(ID["map"], 560, "timeline-graph"),
            html.P([], id=ID["map-folded"], className="help map-folded"),
            html.Div([], id=ID["map-legend"], className="legend"),
            html.P([], id=ID["cell"], className="timeline-cell", **aria(live="polite")),
            html.Div([], id=ID["links"]),
            html.P("", id=ID["map-help"], className="dimmed help"),
            html.P(
                "Drag to zoom, double-click for all steps; hold Shift and drag to ask what changed there. "
                "A bar leads to its finding; [ and ] go to the previous and the next onset.",
                className="dimmed help",
            ),
            html.Span(id=ID["onsets"], hidden=True),
        ],
        className="card figure",
        **aria(label="Timeline of loss, findings and layers"),
    )


def _changes(address: Address) -> Component:
    first, last = address.brush or (None, None)
    fields = html.Div(
        [
            html.Span("Steps", className="dimmed"),
            step_field("brush-first", first, "First step of the window"),
            html.Span("to", className="dimmed"),
            step_field("brush-last", last, "Last step of the window"),
        ],
        className="timeline-range",
        role="group",
        **aria(label="The window that is looked at"),
    )
    head = html.Div([html.H2("What changed most here"), fields], className="figure-head")
    return html.Section([head, html.Div([], id=ID["changes"])], className="card", **aria(label="What changed most"))


def step_field(part: str, value: int | None, label: str) -> Component:
    """A field for a step's number; it counts once the reader has left it or pressed Enter."""
    field: Component = dmc.NumberInput(
        id=ID[part],
        value="" if value is None else value,
        min=0,
        allowDecimal=False,
        hideControls=True,
        debounce=True,
        size="xs",
        w=84,
        placeholder="all" if part in ("first", "last") else "step",
        **aria(label=label),
    )
    return field
