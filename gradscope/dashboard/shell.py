"""What surrounds every page: the header, the colour scheme, the address, the clock."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.theme import FONT, MONO


def shell(page: Component, runs: list[str]) -> Component:
    """A page in its surroundings. `runs` fills the run select, which is only shown when there is a choice."""
    header = html.Header(
        [
            html.Span("gradscope", className="brand"),
            html.Div(
                dmc.Select(
                    id=ids.RUN,
                    data=runs,
                    value=None,
                    allowDeselect=False,
                    searchable=len(runs) > 8,
                    size="sm",
                    w=230,
                    **aria(label="Run"),
                ),
                className="run-select",
                style={} if len(runs) > 1 else {"display": "none"},
            ),
            html.Span("", id=ids.CHIP, className="chip"),
            html.Button("Pause", id=ids.PAUSE, className="button", n_clicks=0, type="button"),
            html.Span(
                "Connection lost: is `gradscope dashboard` still running? Retrying …", className="lost", role="alert"
            ),
            dmc.ColorSchemeToggle(
                id=ids.THEME,
                lightIcon=html.Span("☾", **aria(hidden="true")),
                darkIcon=html.Span("☀", **aria(hidden="true")),
                size="lg",
                variant="default",
                className="theme-toggle",
                **aria(label="Switch between light and dark"),
            ),
        ],
        className="header",
    )
    provider: Component = dmc.MantineProvider(
        [
            dcc.Location(id=ids.URL, refresh=False),
            dcc.Interval(id=ids.CLOCK, interval=1000),
            dcc.Store(id=ids.PAUSED, data=False),
            dcc.Store(id=ids.SCHEME),
            header,
            page,
        ],
        theme={"fontFamily": FONT, "fontFamilyMonospace": MONO, "primaryColor": "dark", "respectReducedMotion": True},
        defaultColorScheme="auto",
    )
    return provider


def waiting(page: Component) -> Component:
    """A page without a run: it asks every other second whether one has appeared, and then loads anew."""
    provider: Component = dmc.MantineProvider(
        [
            dcc.Location(id=ids.RELOAD, refresh=True),
            dcc.Interval(id=ids.WAITING, interval=2000),
            html.Header(html.Span("gradscope", className="brand"), className="header"),
            html.Main(page, className="page"),
        ],
        defaultColorScheme="auto",
    )
    return provider
