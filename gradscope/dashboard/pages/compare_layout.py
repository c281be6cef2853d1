"""The frame of the comparison, and which two runs it is about."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.comparison import ALIGNMENTS
from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.plotly import blank, graph_config
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.runs import Runs
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import LIGHT

_PARTS = (
    *("title", "a", "b", "swap", "missing", "body", "verdicts", "settings", "findings"),
    *("metric", "by", "map", "map-title", "map-legend", "layers"),
)
ID = {part: ids.of("compare", part) for part in _PARTS}


def chosen(runs: Runs, address: Address) -> tuple[str, str]:
    """The names of A and B: those asked for, else the run before the newest and the newest; "" where there is none."""
    names = runs.names()
    b = address.b or next((name for name in names if name != address.a), "")
    a = address.a or next((name for name in names if name != b), "")
    return a, b


def layout(runs: Runs, address: Address) -> list[Component]:
    """The comparison before its first data."""
    return [
        html.H1("Compare two runs", id=ID["title"]),
        _choice(),
        html.Div([], id=ID["missing"]),
        html.Div(
            [
                html.Div([], id=ID["verdicts"], className="compare-sides"),
                html.Section([], id=ID["settings"], className="card", **aria(label="What was set differently")),
                html.Section([], id=ID["findings"], className="compare-findings", **aria(label="Findings")),
                _figure(address),
                html.Div([], id=ID["layers"]),
            ],
            id=ID["body"],
            className="compare-body",
        ),
    ]


def _choice() -> Component:
    return html.Div(
        [
            _select("a", {}, None, "Run A", 260, "A"),
            html.A("⇄ Swap A and B", id=ID["swap"], href="/compare", className="button compare-swap"),
            _select("b", {}, None, "Run B", 260, "B"),
        ],
        className="compare-choice",
    )


def _figure(address: Address) -> Component:
    by = address.by if address.by in ALIGNMENTS else "step"
    controls = [
        _select("metric", {name: metric.title for name, metric in METRICS.items()}, address.metric, "Metric", 230),
        _select("by", ALIGNMENTS, by, "How the steps are aligned", 230),
    ]
    graph = dcc.Graph(
        id=ID["map"],
        figure=blank(LIGHT),
        config=graph_config(),
        style={"height": 480},
        responsive=True,
        animate=False,
    )
    how = (
        "Loss: A solid, B dashed. Map: one row for each layer that both runs have, by name; neutral where they are "
        "alike, blue where B is smaller, orange where B is larger. One decade is a factor of 10."
    )
    head = [html.H2("", id=ID["map-title"]), html.Div(controls, className="controls")]
    return html.Section(
        [
            html.Div(head, className="figure-head"),
            graph,
            html.Div([], id=ID["map-legend"], className="legend"),
            html.P(how, className="dimmed help"),
        ],
        className="card figure",
        **aria(label="Losses and difference map"),
    )


def _select(
    part: str, choices: dict[str, str], value: str | None, label: str, width: int, letter: str = ""
) -> Component:
    select: Component = dmc.Select(
        id=ID[part],
        data=[{"value": name, "label": title} for name, title in choices.items()],
        value=value,
        allowDeselect=False,
        searchable=bool(letter),
        size="sm" if letter else "xs",
        w=width,
        leftSection=html.Strong(letter) if letter else None,
        placeholder="choose a run" if letter else "",
        **aria(label=label),
    )
    return select
