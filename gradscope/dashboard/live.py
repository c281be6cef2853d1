"""Keeps a page as it should be: its areas are drawn anew when what they show changed, and only then.

clock ──► version ─┐
address ───────────┼──► refresh ──► the areas whose source changed
theme ─────────────┘
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.parts.notice import no_step, problem
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.wording import duration
from gradscope.errors import GradScopeError, RunNotFound

Outputs = dict[str, Any]
_HIDDEN = {"display": "none"}


class Area(NamedTuple):
    """A part of a page. Later areas of a page override what earlier ones say of the same output."""

    source: object  # what it is drawn from, plain values: it is drawn anew when their `repr` changes
    draw: Callable[[], Outputs]  # values by the names of the page's outputs


@dataclass(frozen=True)
class View:
    """What a page is drawn from."""

    runs: Runs
    address: Address
    snapshots: tuple[Snapshot, ...]
    versions: tuple[str, ...]  # of the snapshots: part of the source of what is drawn from them
    scheme: str  # "light" or "dark"
    shown: dict[str, Any]  # for each area the digest of what it was drawn from

    @property
    def snapshot(self) -> Snapshot:
        """The run of a page that shows one."""
        return self.snapshots[0]

    def shows(self, area: str, source: object) -> bool:
        """Whether an area on the screen was drawn from this."""
        return bool(self.shown.get(area) == digest(source))


def digest(source: object) -> str:
    """What tells two sources of an area apart, short."""
    return hashlib.sha1(repr(source).encode(), usedforsecurity=False).hexdigest()[:16]


def _run_of(runs: Runs, address: Address) -> tuple[str, ...]:
    return (address.run,) if address.run is not None else ()


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Attributes:
        name: as in `Address.page`; its components' ids begin with it.
        title: in the navigation and the browser's tab.
        outputs: what `areas` draw: name -> component and property.
        layout: the frame, drawn once; quick, so without what must be computed.
        areas: the parts that change.
        reads: the names of the runs that it shows.
        register: further callbacks.
        shows_empty_runs: it has its own words for a run without steps.
        reads_whole: whether `View.snapshots` holds those runs; a list of many runs does without.
    """

    name: str
    title: str
    outputs: dict[str, Output]
    layout: Callable[[Runs, Address], Component | list[Component]]
    areas: Callable[[View], dict[str, Area]]
    reads: Callable[[Runs, Address], tuple[str, ...]] = _run_of
    register: Callable[[Dash, Runs], None] | None = None
    shows_empty_runs: bool = False
    reads_whole: bool = True


def frame(page: Page, runs: Runs, address: Address) -> Component:
    """The page before its first data."""
    return html.Main(
        [
            dcc.Store(id=ids.of(page.name, "shown")),
            html.Div(id=ids.of(page.name, "problem")),
            html.Div(page.layout(runs, address), id=ids.of(page.name, "content")),
        ],
        id=ids.MAIN,
        className=f"page page-{page.name}",
        tabIndex=-1,
        key=page.name,
    )


def register_page(app: Dash, runs: Runs, page: Page) -> None:
    """Wires a page to an app."""
    shared = {
        "problem": Output(ids.of(page.name, "problem"), "children"),
        "content": Output(ids.of(page.name, "content"), "style"),
        "shown": Output(ids.of(page.name, "shown"), "data"),
    }
    outputs = {**page.outputs, **shared}

    @app.callback(
        output=outputs,
        inputs={
            "version": Input(ids.VERSION, "data"),
            "pathname": Input(ids.URL, "pathname"),
            "search": Input(ids.URL, "search"),
            "scheme": Input(ids.SCHEME, "data"),
            "shown": State(ids.of(page.name, "shown"), "data"),
            "paused": State(ids.PAUSED, "data"),
        },
        running=[(Output(ids.CLOCK, "disabled"), True, False)],  # else a slow answer is overtaken for ever
    )
    def _refresh(version: Any, pathname: Any, search: Any, scheme: Any, shown: Any, paused: Any) -> Outputs:
        if pathname is None or scheme is None:
            raise PreventUpdate  # the browser has not said yet
        resumed = not paused or ctx.triggered_id == ids.VERSION
        drawn = refresh(page, runs, parse(pathname, search), scheme, shown, held=not resumed)
        return {**dict.fromkeys(outputs, no_update), **drawn}

    if page.register is not None:
        page.register(app, runs)


def refresh(
    page: Page, runs: Runs, address: Address, scheme: str, shown: dict[str, Any] | None, held: bool = False
) -> Outputs:
    """Everything of a page that is not as it should be, by the names of its outputs.

    Args:
        page: the page.
        runs: where the runs are.
        address: what the browser asks for.
        scheme: "light" or "dark".
        shown: what is on the screen: for each area what it was drawn from.
        held: the page is paused: what only grew is left as it is.
    """
    if address.page != page.name:
        raise PreventUpdate  # another page is on its way
    started, drawn_from = time.perf_counter(), shown or {}
    outputs: Outputs = {"problem": [], "content": {}}
    sources: dict[str, Any] = {}
    try:
        names = page.reads(runs, address)
        if address.run is not None and not names:
            raise RunNotFound(f"no run named {address.run!r} in {runs.location}.")
        stamps = runs.stamps(names)
        versions = tuple(f"{name} {stamp.version}" for name, stamp in zip(names, stamps, strict=True))
        if held and [version.partition(" ")[0] for version in drawn_from.get("versions", [])] == list(names):
            versions = tuple(drawn_from["versions"])
        snapshots = tuple(runs.get(name) for name in names) if page.reads_whole else ()
        sources["versions"] = list(versions)
        empty = next((snapshot for snapshot in snapshots if snapshot.is_empty), None)
        if empty is not None and not page.shows_empty_runs:
            age = time.time() - max(stamp.written for stamp in stamps)
            outputs |= {"problem": no_step(empty.name, duration(age)), "content": _HIDDEN}
        else:
            view = View(runs, address, snapshots, versions, scheme, drawn_from)
            for name, area in page.areas(view).items():
                sources[name] = digest(area.source)
                if not view.shows(name, area.source):
                    outputs |= area.draw()
    except GradScopeError as error:
        sources, outputs = {}, {"problem": problem("This run cannot be read", str(error)), "content": _HIDDEN}
    except Exception as error:  # a reader of the page must never meet a traceback
        text = f"{type(error).__name__}: {error}. This is a fault of GradScope, not of your training; please report it."
        sources, outputs = {}, {"problem": problem("GradScope could not show this page", text), "content": _HIDDEN}
    sources["seconds"] = round(time.perf_counter() - started, 3)
    return outputs | {"shown": sources}
