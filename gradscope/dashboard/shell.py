"""What surrounds every page: the header with its navigation, the colour scheme, the address, the clock."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.learning.examples import EXAMPLE
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.keys import help_dialog
from gradscope.dashboard.parts.search import search_dialog
from gradscope.reports.theme import FONT, MONO

_OF_A_RUN = {
    "overview": "Overview",
    "layers": "Layers",
    "timeline": "Timeline",
    "checks": "Checks",
    "about": "Run info",
}


def shell(page: Component, address: Address, runs: list[str], expert: bool = False) -> Component:
    """A page in its surroundings.

    Args:
        page: the main part.
        address: what it was drawn for.
        runs: the names of all runs, newest first.
        expert: leaves out what explains terms and charts.
    """
    provider: Component = dmc.MantineProvider(
        html.Div(
            [
                dcc.Location(id=ids.URL, refresh=False),
                dcc.Interval(id=ids.CLOCK, interval=1000),
                dcc.Store(id=ids.PAUSED, data=False),
                *(dcc.Store(id=store) for store in (ids.SCHEME, ids.VERSION, ids.HELD, ids.STATE)),
                dcc.Store(id=ids.SHOWN_PAGE, data=address.page),
                html.A("Skip to the content", href=f"#{ids.MAIN}", className="skip"),
                _header(address, runs),
                html.Div(page, id=ids.PAGE),
                search_dialog(),
                help_dialog(),
            ],
            className="expert" if expert else "",
        ),
        theme={"fontFamily": FONT, "fontFamilyMonospace": MONO, "primaryColor": "dark", "respectReducedMotion": True},
        defaultColorScheme="auto",
    )
    return provider


def _header(address: Address, runs: list[str]) -> Component:
    return html.Header(
        [
            html.A("gradscope", href="/", className="brand"),
            html.Div(
                dmc.Select(
                    id=ids.RUN,
                    data=choices(address, runs),
                    value=address.run,
                    allowDeselect=False,
                    searchable=len(runs) > 8,
                    size="sm",
                    w=200,
                    **aria(label="Run"),
                ),
                id=ids.of(ids.RUN, "frame"),
                style=run_select_style(address, runs),
            ),
            html.Nav(navigation(address, runs), id=ids.NAVIGATION, className="navigation", **aria(label="Pages")),
            html.A([], id=ids.BADGE, href="/", className="badge"),
            html.Span("", id=ids.CHIP, className="chip"),
            html.Button("Pause", id=ids.PAUSE, className="button", n_clicks=0, title="Stand still (p)"),
            html.Span(
                "Connection lost: is `gradscope dashboard` still running? Retrying …", className="lost", role="alert"
            ),
            html.Div(
                [
                    _icon("⌕", ids.SEARCH_OPEN, "Search layers, findings, steps (/)"),
                    _icon("?", ids.HELP_OPEN, "Keys and help (?)"),
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
                className="tools",
            ),
        ],
        className="header",
    )


def _icon(glyph: str, name: str, label: str) -> Component:
    return html.Button(
        html.Span(glyph, **aria(hidden="true")),
        id=name,
        className="button icon",
        n_clicks=0,
        title=label,
        **aria(label=label),
    )


def choices(address: Address, runs: list[str]) -> list[str]:
    """The runs to choose from; a packaged example is one as long as it is shown."""
    return [*runs, address.run] if address.run is not None and address.run.startswith(EXAMPLE) else runs


def run_select_style(address: Address, runs: list[str]) -> dict[str, str]:
    """The run select is there when there is a choice, on the pages of a run."""
    return {} if len(choices(address, runs)) > 1 and address.run is not None else {"display": "none"}


def navigation(address: Address, runs: list[str], last_run: str | None = None) -> list[Component]:
    """The links to the pages; those of a run lead to the one shown, else to the one shown last, else to the newest."""
    run = address.run or last_run or next(iter(runs), None)
    links = [("Runs", Address(), address.page == "runs")] if len(runs) != 1 else []
    if run is not None:
        links += [(title, Address(page, run), address.page == page) for page, title in _OF_A_RUN.items()]
    if len(runs) > 1:
        links.append(("Compare", Address("compare", a=run), address.page == "compare"))
    links.append(("Learn", Address("learn"), address.page == "learn"))
    return [
        html.A(title, href=target.href, className="page-link", **(aria(current="page") if here else {}))
        for title, target, here in links
    ]
