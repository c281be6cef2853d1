"""The callbacks of what surrounds the pages: which page is shown, the clock, the chip, the tab, search and help."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, no_update
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.live import Page, frame
from gradscope.dashboard.parts import verdict
from gradscope.dashboard.parts.chip import chip_text, origin_text
from gradscope.dashboard.parts.search import results, search
from gradscope.dashboard.runs import Runs
from gradscope.dashboard.shell import choices, navigation, run_select_style

_QUIET = {"title": "gradscope", "tone": "", "shape": ""}


def register_shell(app: Dash, runs: Runs, pages: Mapping[str, Page]) -> None:
    """Wires the shell to an app."""
    _register_route(app, runs, pages)
    _register_clock(app, runs, pages)
    _register_search(app, runs)
    for function, outputs, inputs in (
        ("go_run", [], [(ids.RUN, "value")]),
        ("state", [], [(ids.STATE, "data")]),
        ("scheme", [Output(ids.SCHEME, "data")], [(ids.URL, "refresh")]),
        (
            "pause",
            [Output(ids.PAUSED, "data"), Output(ids.PAUSE, "children"), Output(ids.PAUSE, "aria-pressed")],
            [(ids.PAUSE, "n_clicks")],
        ),
        ("open_dialog", [Output(ids.HELP, "opened")], [(ids.HELP_OPEN, "n_clicks")]),
        ("open_dialog", [Output(ids.SEARCH, "opened")], [(ids.SEARCH_OPEN, "n_clicks"), (ids.URL, "href")]),
        *(("pace", [], [(ids.of(page, "shown"), "data")]) for page in pages),
    ):
        wiring = [*outputs, *(Input(*component) for component in inputs)]
        app.clientside_callback(ClientsideFunction("gradscope", function), *wiring)  # type: ignore[no-untyped-call]


def _register_route(app: Dash, runs: Runs, pages: Mapping[str, Page]) -> None:
    @app.callback(
        Output(ids.PAGE, "children"),
        Output(ids.SHOWN_PAGE, "data"),
        Output(ids.NAVIGATION, "children"),
        Output(ids.RUN, "data"),
        Output(ids.RUN, "value"),
        Output(ids.of(ids.RUN, "frame"), "style"),
        Input(ids.URL, "pathname"),
        State(ids.URL, "search"),
        State(ids.SHOWN_PAGE, "data"),
        State(ids.RUN, "value"),
    )
    def _route(pathname: str | None, search_text: str | None, shown: str, last_run: str | None) -> Any:
        if pathname is None:
            raise PreventUpdate
        address, names = parse(pathname, search_text), runs.names()
        page = pages[address.page]
        same = shown == page.name
        return (
            no_update if same else frame(page, runs, address),
            no_update if same else page.name,
            navigation(address, names, last_run),
            choices(address, names),
            address.run if address.run in choices(address, names) else last_run,
            run_select_style(address, names),
        )


def _register_clock(app: Dash, runs: Runs, pages: Mapping[str, Page]) -> None:
    @app.callback(
        Output(ids.VERSION, "data"),
        Output(ids.HELD, "data"),
        Output(ids.CHIP, "children"),
        Output(ids.CHIP, "className"),
        Output(ids.CLOCK, "max_intervals"),
        Output(ids.STATE, "data"),
        Output(ids.BADGE, "children"),
        Output(ids.BADGE, "className"),
        Output(ids.BADGE, "href"),
        Input(ids.CLOCK, "n_intervals"),
        Input(ids.URL, "pathname"),
        Input(ids.URL, "search"),
        Input(ids.PAUSED, "data"),
        State(ids.VERSION, "data"),
        State(ids.HELD, "data"),
    )
    def _tick(_: int, pathname: str | None, search_text: str | None, paused: bool, known: Any, held: Any) -> Any:
        if pathname is None:
            raise PreventUpdate
        address = parse(pathname, search_text)
        return tick(runs, pages[address.page], address, known, held or {} if paused else None)


def tick(
    runs: Runs, page: Page, address: Address, known: dict[str, Any] | None, held: dict[str, Any] | None = None
) -> tuple[Any, ...]:
    """What the clock says: see the outputs of `_tick`.

    Args:
        runs: where the runs are.
        page: the page shown.
        address: its address.
        known: the version that was handed on last.
        held: where the page stands still, empty when it does so from now on; None when it follows.
    """
    nothing = ("", "badge", "/")
    try:
        stamps = runs.stamps(page.reads(runs, address))
        drawn = runs.peek(address.run) or runs.get(address.run) if address.run is not None else None
        latest = runs.get(drawn.name) if drawn and held else drawn  # behind by how much?
    except Exception as error:  # the page meets it again and says it
        return {"of": address.path, "version": str(error)}, None, "", "chip", -1, _QUIET, *nothing
    version = {"of": address.path, "version": [stamp.version for stamp in stamps]}
    fresh = known != version
    handed_on: Any = version if fresh and held is None else no_update
    if latest is None:  # several runs, or none
        return handed_on, held, "", "chip", -1 if stamps else 0, _QUIET, *nothing
    if held is not None and held.get("of") != address.path:
        held = {"of": address.path, "step": drawn.newest_step if drawn else None}
    shown = latest.newest_step if held is None else held["step"]
    age, newer = time.time() - stamps[0].written, (latest.newest_step or 0) - (shown or 0)
    text, state = chip_text(latest.run.info, shown, len(latest.run.steps), age, held is not None, newer)
    tab = {"title": verdict.tab_title(latest.diagnosis), **verdict.mark(latest.diagnosis)}
    return (
        handed_on,
        held,
        f"{origin_text(latest.name)}{text}",
        f"chip chip-{state}",
        -1 if latest.run.info.state == "recording" or fresh else 0,
        tab,
        verdict.badge(latest.diagnosis),
        f"badge tone-{tab['tone']} badge-on-{address.page}",
        Address("overview", address.run).href,
    )


def _register_search(app: Dash, runs: Runs) -> None:
    @app.callback(
        Output(ids.SEARCH_RESULTS, "children"),
        Input(ids.SEARCH_TEXT, "value"),
        Input(ids.SEARCH, "opened"),
        State(ids.URL, "pathname"),
        State(ids.RUN, "value"),
        prevent_initial_call=True,
    )
    def _search(text: str, opened: bool, pathname: str, last_run: str | None) -> Any:
        run = parse(pathname).run or last_run or next(iter(runs.names()), None)
        if not opened or run is None:
            raise PreventUpdate
        try:
            hits = search(runs.get(run), text or "")
        except Exception:  # the page says what is the matter with the run
            hits = ()
        return results(hits, text or "")
