"""What the buttons of a finding do: mute and unmute it, measure a suggestion, cancel that."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from dash import ALL, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids, measuring, mutes
from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.measuring import Measurement
from gradscope.dashboard.parts.finding_actions import actions
from gradscope.dashboard.parts.finding_drawer import ACTIONS, SAID, TICK
from gradscope.dashboard.parts.finding_view import FindingView, finding_view
from gradscope.dashboard.parts.measure_panel import how_far, measure_panel, names_of, outcome, what_runs
from gradscope.dashboard.runs import Runs
from gradscope.errors import GradScopeError
from gradscope.reports.words import sentence

MOST_SEEDS = measuring.SEEDS


class Answer(NamedTuple):
    """What becomes of the panels when a button was pressed or a second has passed.

    Attributes:
        panels: by remedy; one that is left out stays as it is.
        moved: the trial whose progress is all that is new: its panel stays, and so does the focus in it.
        still: whether nothing goes on any more, so that nobody needs to look again.
        said: what is announced.
        fresh: whether the run has something new to read.
    """

    panels: dict[str, Any]
    still: bool
    said: str | None = None
    fresh: bool = False
    moved: Measurement | None = None


def press(view: FindingView, kind: str, remedy: str, seeds: int = measuring.SEEDS) -> Answer:
    """Starts or cancels the measurement of a suggestion of the finding that is shown."""
    chosen = next((each for each in view.finding.suggestions if each.remedy == remedy), None)
    said = ""
    if chosen is None or seeds not in range(1, MOST_SEEDS + 1):
        said = "This finding has no such suggestion any more."
    elif kind == "cancel":
        said = "Cancelling." if measuring.cancel(view.folder) else "Nothing goes on that could be cancelled here."
    else:
        try:
            measuring.start(view.folder, view.snapshot.run.info, names_of(chosen), seeds=seeds)
            said = f"Started measuring: {chosen.title}."
        except (GradScopeError, OSError) as error:
            said = sentence(str(error))
    found = measuring.measurement(view.folder)
    return Answer(_panels(view, found), found is None or not found.goes_on, said)


def look(view: FindingView) -> Answer:
    """How the measurement goes on; at its end, that the run has something new."""
    found = measuring.measurement(view.folder)
    if found is not None and found.goes_on:
        return Answer({}, False, moved=found)
    said = outcome(found) if found is not None else "The measurement has ended."
    return Answer(_panels(view, found), True, said, fresh=True)


def _panels(view: FindingView, found: Measurement | None) -> dict[str, Any]:
    return {each.remedy: measure_panel(view, each, found) for each in view.finding.suggestions}


def _view(runs: Runs, pathname: str | None, search: str | None, scheme: str | None) -> FindingView:
    address: Address = parse(pathname, search)
    if address.run is None or address.finding is None:
        raise PreventUpdate
    try:
        snapshot = runs.peek(address.run) or runs.get(address.run)
        found = finding_view(runs, snapshot, address, scheme or "light", 2 if address.page == "finding" else 3)
    except GradScopeError as error:
        raise PreventUpdate from error
    if found is None:
        raise PreventUpdate
    return found


def register_measuring(app: Dash, runs: Runs) -> None:
    """Wires the panels of the suggestions."""

    @app.callback(
        Output({"type": "finding-panel", "remedy": ALL}, "children"),
        Output(TICK, "disabled"),
        Output(SAID, "children"),
        Output(ids.CLOCK, "n_intervals"),
        Output({"type": "finding-bar", "remedy": ALL}, "value"),
        Output({"type": "finding-bar", "remedy": ALL}, "max"),
        Output({"type": "finding-far", "remedy": ALL}, "children"),
        Output({"type": "finding-now", "remedy": ALL}, "children"),
        Input({"type": "finding-start", "remedy": ALL, "seeds": ALL}, "n_clicks"),
        Input({"type": "finding-cancel", "remedy": ALL}, "n_clicks"),
        Input(TICK, "n_intervals"),
        State({"type": "finding-panel", "remedy": ALL}, "id"),
        State(ids.URL, "pathname"),
        State(ids.URL, "search"),
        State(ids.SCHEME, "data"),
        prevent_initial_call=True,
    )
    def _measure(_1: Any, _2: Any, _3: Any, panels: Any, pathname: Any, search: Any, scheme: Any) -> Any:
        trigger = ctx.triggered_id
        pressed = isinstance(trigger, dict)
        if pressed and not any(each["value"] for each in ctx.triggered):
            raise PreventUpdate  # a button that was only drawn
        view = _view(runs, pathname, search, scheme)
        if pressed:
            kind = str(trigger["type"]).removeprefix("finding-")
            seeds = trigger.get("seeds", measuring.SEEDS)
            answer = press(view, kind, str(trigger["remedy"]), seeds if isinstance(seeds, int) else 0)
        else:
            answer = look(view)
        return (
            [answer.panels.get(each["remedy"], no_update) for each in panels],
            answer.still,
            no_update if answer.said is None else answer.said,
            int(time.time()) if answer.fresh else no_update,
            *_moved(answer.moved, [len(outputs) for outputs in ctx.outputs_list[4:]]),
        )


def _moved(found: Measurement | None, amounts: list[int]) -> list[list[Any]]:
    """What the parts of a panel that move show, for as many panels as there are."""
    if found is None:
        return [[no_update] * amount for amount in amounts]
    shown = (str(found.done), str(max(found.planned, 1)), how_far(found), what_runs(found))
    return [[each] * amount for each, amount in zip(shown, amounts, strict=True)]


def register_muting(app: Dash, runs: Runs) -> None:
    """Wires the mute."""

    @app.callback(
        Output(ACTIONS, "children"),
        Output(SAID, "children", allow_duplicate=True),
        Output(ids.CLOCK, "n_intervals", allow_duplicate=True),
        Input({"type": "finding-mute", "do": ALL}, "n_clicks"),
        State({"type": "finding-reason", "of": ALL}, "value"),
        State(ids.URL, "pathname"),
        State(ids.URL, "search"),
        State(ids.SCHEME, "data"),
        prevent_initial_call=True,
    )
    def _mute(_1: Any, reasons: Any, pathname: Any, search: Any, scheme: Any) -> Any:
        trigger = ctx.triggered_id
        if not isinstance(trigger, dict) or not any(each["value"] for each in ctx.triggered):
            raise PreventUpdate
        before = _view(runs, pathname, search, scheme)
        said = set_mute(before, str(trigger["do"]), str(next(iter(reasons), "") or ""))
        after = _view(runs, pathname, search, scheme)
        return actions(after), said, int(time.time())


def set_mute(view: FindingView, do: str, reason: str) -> str:
    """Mutes or unmutes a finding; what came of it, in a sentence."""
    try:
        if do == "unmute":
            mutes.unmute(view.folder, view.finding)
            return f"{view.number} is not muted any more."
        mutes.mute(view.folder, view.finding, reason)
        return f"{view.number} is muted."
    except GradScopeError as error:
        return sentence(str(error))
