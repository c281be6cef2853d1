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
from gradscope.dashboard.parts.chip import chip_text
from gradscope.dashboard.parts.search import results, search
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.shell import navigation, run_select_style

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
        page = pages.get(address.page, pages["overview"])
        same = shown == page.name
        return (
            no_update if same else frame(page, runs, address),
            no_update if same else page.name,
            navigation(address, names, last_run),
            names,
            address.run if address.run in names else last_run,
            run_select_style(address, names),
        )


def _register_clock(app: Dash, runs: Runs, pages: Mapping[str, Page]) -> None:
    @app.callback(
        Output(ids.VERSION, "data"),
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
    )
    def _tick(_: int, pathname: str | None, search_text: str | None, paused: bool, known: Any) -> Any:
        if pathname is None:
            raise PreventUpdate
        address = parse(pathname, search_text)
        return tick(runs, pages.get(address.page, pages["overview"]), address, bool(paused), known)


def tick(runs: Runs, page: Page, address: Address, paused: bool, known: dict[str, Any] | None) -> tuple[Any, ...]:
    """What the clock says: see the outputs of `_tick`.

    Args:
        runs: where the runs are.
        page: the page shown.
        address: its address.
        paused: whether it stands still.
        known: the version that was handed on last.
    """
    nothing = ("", "badge", "/")
    try:
        names = page.reads(runs, address)
        stamps = [runs.stamp(name) for name in names]
        latest = (
            (runs.get(address.run) if paused else runs.peek(address.run) or runs.get(address.run))
            if address.run
            else None
        )
    except Exception as error:  # the page meets it again and says it
        return {"of": address.path, "version": str(error)}, "", "chip", -1, _QUIET, *nothing
    version = {"of": address.path, "version": [stamp.version for stamp in stamps]}
    fresh = known is None or {**known, "step": None} != {**version, "step": None}
    held = paused and known is not None and known["of"] == address.path
    handed_on = {**version, "step": latest.newest_step if latest else None}
    if latest is None:  # several runs, or none
        return handed_on if fresh and not held else no_update, "", "chip", -1 if names else 0, _QUIET, *nothing
    shown = known["step"] if held and known else latest.newest_step
    newer = (latest.newest_step or 0) - (shown or 0)
    age = time.time() - stamps[0].written
    text, state = chip_text(latest.run.info, shown, len(latest.run.steps), age, paused, newer)
    tab = {"title": verdict.tab_title(latest.diagnosis), **verdict.mark(latest.diagnosis)}
    goes_on = latest.run.info.state == "recording" or fresh
    return (
        handed_on if fresh and not held else no_update,
        text,
        f"chip chip-{state}",
        -1 if goes_on else 0,
        tab,
        verdict.badge(latest.diagnosis),
        f"badge tone-{tab['tone']} badge-on-{address.page}",
        Address("overview", address.run).href,
    )


def _latest(runs: Runs, run: str, paused: bool) -> Snapshot:
    """The run as last read; a page that stands still reads it here, to say how far it is behind."""
    return (None if paused else runs.peek(run)) or runs.get(run)


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
