"""Wires the overview's callbacks to an app.

address ──► wish ─┬─► run, metric       clock ──► version ──► refresh (everything that is drawn)
├─► step, slider                               ▲
└─► drawer             step, metric, scheme ───┘
"""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.pages import overview_callbacks as page
from gradscope.dashboard.runs import Runs, Snapshot

# what `refresh` draws: name -> component and property
DRAWN = {
    "status": Output(ids.STATUS, "children"),
    "tone": Output(ids.VERDICT, "className"),
    "title": Output(ids.TITLE, "data"),
    "next": Output(ids.NEXT, "children"),
    "problem": Output(ids.PROBLEM, "children"),
    "content": Output(ids.CONTENT, "style"),
    "numbers": Output(ids.NUMBERS, "children"),
    "findings": Output(ids.FINDINGS, "children"),
    "checks": Output(ids.CHECKS, "children"),
    "map": Output(ids.MAP, "figure"),
    "map_title": Output(ids.MAP_TITLE, "children"),
    "map_help": Output(ids.MAP_HELP, "children"),
    "map_legend": Output(ids.MAP_LEGEND, "children"),
    "depth": Output(ids.DEPTH, "figure"),
    "depth_title": Output(ids.DEPTH_TITLE, "children"),
    "interval": Output(ids.CLOCK, "interval"),
    "shown": Output(ids.SHOWN, "data"),
}


def register(app: Dash, runs: Runs) -> None:
    """Wires the callbacks to an app."""
    _register_clock(app, runs)
    _register_drawing(app, runs)
    _register_steps(app, runs)
    _register_drawer(app, runs)
    for function, outputs, inputs in (
        ("address", [], [(ids.RUN, "value"), (ids.METRIC, "value"), (ids.STEP, "data"), (ids.OPENED, "data")]),
        ("cell", [Output(ids.CELL, "data")], [(ids.MAP, "clickData")]),
        ("title", [], [(ids.TITLE, "data")]),
        ("scheme", [Output(ids.SCHEME, "data")], [(ids.URL, "pathname")]),
        ("pause", [Output(ids.PAUSED, "data"), Output(ids.PAUSE, "children")], [(ids.PAUSE, "n_clicks")]),
    ):
        wiring = [*outputs, *(Input(*component) for component in inputs)]
        app.clientside_callback(ClientsideFunction("gradscope", function), *wiring)  # type: ignore[no-untyped-call]


def _register_clock(app: Dash, runs: Runs) -> None:
    @app.callback(
        Output(ids.RUN, "value"), Output(ids.METRIC, "value"), Output(ids.WISH, "data"), Input(ids.URL, "search")
    )
    def _open_address(search: str | None) -> Any:
        if search is None:  # the address is known once the page is mounted
            raise PreventUpdate
        return page.open_address(runs, search)

    @app.callback(
        Output(ids.VERSION, "data"),
        Output(ids.CHIP, "children"),
        Output(ids.CHIP, "className"),
        Output(ids.CLOCK, "max_intervals"),
        Input(ids.CLOCK, "n_intervals"),
        Input(ids.RUN, "value"),
        Input(ids.PAUSED, "data"),
        State(ids.VERSION, "data"),
    )
    def _tick(_: int, run: str | None, paused: bool, known: dict[str, str] | None) -> Any:
        if run is None:
            raise PreventUpdate
        return page.tick(runs, run, bool(paused), known)


def _register_drawing(app: Dash, runs: Runs) -> None:
    @app.callback(
        output=DRAWN,
        inputs={
            "version": Input(ids.VERSION, "data"),
            "metric": Input(ids.METRIC, "value"),
            "at": Input(ids.STEP, "data"),
            "scheme": Input(ids.SCHEME, "data"),
            "shown": State(ids.SHOWN, "data"),
        },
        running=[(Output(ids.CLOCK, "disabled"), True, False)],  # else a slow answer is overtaken for ever
    )
    def _refresh(version: Any, metric: str, at: Any, scheme: str | None, shown: Any) -> Any:
        if version is None or scheme is None:
            raise PreventUpdate
        return {**dict.fromkeys(DRAWN, no_update), **page.refresh(runs, version, metric, at, scheme, shown)}


def _register_steps(app: Dash, runs: Runs) -> None:
    @app.callback(
        Output(ids.SLIDER, "value"),
        Output(ids.SLIDER, "max"),
        Output(ids.STEP, "data"),
        Input(ids.VERSION, "data"),
        Input(ids.SLIDER, "value"),
        Input(ids.EARLIER, "n_clicks"),
        Input(ids.LATER, "n_clicks"),
        Input(ids.LATEST, "n_clicks"),
        Input(ids.CELL, "data"),
        State(ids.WISH, "data"),
        State(ids.STEP, "data"),
        prevent_initial_call=True,
    )
    def _move(version: Any, slider: Any, _1: int, _2: int, _3: int, click: Any, wish: Any, chosen: Any) -> Any:
        snapshot = _snapshot(runs, version["run"] if version else None)
        return page.move(
            snapshot, ctx.triggered_id, chosen, slider, (wish or {}).get("step"), page.clicked_cell(click)[1]
        )


def _register_drawer(app: Dash, runs: Runs) -> None:
    @app.callback(
        Output(ids.OPENED, "data"),
        Output(ids.DRAWER, "opened"),
        Output(ids.DRAWER, "title"),
        Output(ids.DRAWER_BODY, "children"),
        Input(ids.WISH, "data"),
        Input({"type": "open-finding", "finding": ALL, "place": ALL}, "n_clicks"),
        Input(ids.CELL, "data"),
        Input(ids.DRAWER, "opened"),
        State(ids.RUN, "value"),
        State(ids.STEP, "data"),
        prevent_initial_call=True,
    )
    def _open_drawer(wish: Any, _: list[int], click: Any, opened: bool, run: str | None, chosen: Any) -> Any:
        trigger = ctx.triggered_id
        if isinstance(trigger, dict) and not ctx.triggered[0]["value"]:  # a button that was just drawn
            raise PreventUpdate
        if trigger == ids.DRAWER:
            return (no_update,) * 4 if opened else (None, no_update, no_update, no_update)
        cell, x = page.clicked_cell(click)
        wanted = page.open_drawer(trigger, wish, cell)
        if wanted is None:
            raise PreventUpdate
        at = (
            x
            if trigger == ids.CELL
            else (wish or {}).get("step")
            if trigger == ids.WISH
            else (chosen or {}).get("step")
        )
        return wanted, True, *page.drawer_content(_snapshot(runs, run), wanted, at)


def _snapshot(runs: Runs, run: str | None) -> Snapshot:
    if run is None:
        raise PreventUpdate
    try:
        return runs.get(run)
    except Exception:  # `refresh` meets it too and says it
        raise PreventUpdate from None
