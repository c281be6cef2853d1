"""The runs: which trainings there are, how each is, and two of them to compare."""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.brief import Brief
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.notice import no_run, notice
from gradscope.dashboard.parts.run_rows import Row, draw_table, row
from gradscope.dashboard.runs import Runs
from gradscope.errors import GradScopeError
from gradscope.reports.words import count

PER_PAGE = 100  # rows
BUDGET = 0.4  # seconds of reading for one answer: hundreds of runs come in several
SOON, LATER = 500, 5000  # milliseconds until the next answer, while runs are being read, and while one goes on
ID = {part: ids.of("runs", part) for part in ("list", "count", "find", "compare", "pager", "more")}


@dataclass
class Known:
    """What is known of a folder's runs."""

    briefs: dict[str, tuple[str, Brief | str]] = field(default_factory=dict)  # name -> version, the run or what failed
    read: dict[str, float] = field(default_factory=dict)  # name -> when


_KNOWN: WeakKeyDictionary[Runs, Known] = WeakKeyDictionary()


@dataclass(frozen=True)
class Listing:
    """The list at one moment: the rows of a page of it, all that match, all there are, and how many are still to read."""

    rows: tuple[Row, ...]
    first: int  # of the rows, from 0
    matching: int
    runs: int
    unread: int
    live: bool  # whether a run that is shown goes on


def listing(runs: Runs, names: tuple[str, ...], versions: dict[str, str], address: Address) -> Listing:
    """The list, with as much read anew as the budget allows: first what is shown and unknown, then what is oldest."""
    known = _KNOWN.setdefault(runs, Known())
    first = (address.first or 0) // PER_PAGE * PER_PAGE
    wanted = names if address.find else names[first : first + PER_PAGE]
    stale = [name for name in wanted if known.briefs.get(name, ("", ""))[0] != versions[name]]
    until = time.monotonic() + BUDGET
    for name in sorted(stale, key=lambda name: known.read.get(name, 0.0)):
        known.briefs[name] = (versions[name], _brief(runs, name))
        known.read[name] = time.monotonic()
        stale.remove(name)
        if time.monotonic() > until:
            break
    listed = runs.listed()
    everything = [_row(runs, name, known, listed) for name in (wanted if address.find else names)]
    matching = [each for each in everything if each.matches(address.find or "")]
    first = min(first, max(0, len(matching) - 1) // PER_PAGE * PER_PAGE)
    shown = tuple(matching[first : first + PER_PAGE])
    live = any(each.state.startswith(("●", "○")) for each in shown)
    return Listing(shown, first, len(matching), len(names), len(stale), live)


def _brief(runs: Runs, name: str) -> Brief | str:
    try:
        return runs.brief(name)
    except GradScopeError as error:
        return str(error)
    except Exception as error:  # one bad run must not hide the others
        return f"{type(error).__name__}: {error}."


def _row(runs: Runs, name: str, known: Known, listed: AbstractSet[str]) -> Row:
    """A row; of a run that has not been read only its name."""
    _, brief = known.briefs.get(name, ("", None))
    if brief is None:
        return Row(name)
    if isinstance(brief, str):
        return Row(name, problem=brief)
    age = 0.0
    if brief.state == "recording" and not brief.problem:
        try:
            age = time.time() - runs.stamp(name, listed).written
        except GradScopeError as error:
            return Row(name, problem=str(error))
    return row(name, brief, age)


def layout(runs: Runs, address: Address) -> list[Component]:
    """The frame: what to filter by, and where the list goes."""
    find = dcc.Input(
        id=ID["find"],
        value=address.find or "",
        type="search",
        placeholder="name, verdict, words of the headline",
        className="find",
    )
    return [
        html.Div(
            [html.H1("Runs"), html.Span(id=ID["count"], className="dimmed", role="status")], className="runs-head"
        ),
        html.Div(
            [
                html.Label(["Filter ", find], className="runs-filter"),
                html.Div(id=ID["compare"], className="runs-choice"),
            ],
            className="runs-tools",
        ),
        html.Div(id=ID["list"]),
        html.Nav(id=ID["pager"], className="runs-pager", **aria(label="More runs")),
        dcc.Interval(id=ID["more"], interval=SOON, disabled=True),
    ]


def areas(view: View) -> dict[str, Area]:
    """The list and what belongs to it; drawn anew when a row changed."""
    return areas_of(view.runs, _reads(view.runs, view.address), view.versions, view.address)


def areas_of(runs: Runs, names: tuple[str, ...], versions: tuple[str, ...], address: Address) -> dict[str, Area]:
    """See `areas`."""
    of = dict(zip(names, versions, strict=False))
    seen = listing(runs, tuple(of), of, address)
    return {
        "list": Area([seen.rows, address.href, seen.runs], lambda: _list(runs, seen, address)),
        "more": Area([bool(seen.unread), seen.live, bool(seen.runs)], lambda: _more(seen)),
        "count": Area([seen.matching, seen.runs, seen.unread], lambda: {"count": _count(seen)}),
    }


def _list(runs: Runs, seen: Listing, address: Address) -> Outputs:
    if not seen.runs:
        body: Component = no_run(str(runs.location))
    elif not seen.rows:
        body = notice("No run matches", f"None of {count(seen.runs, 'run')} says {address.find!r}. Clear the filter.")
    else:
        body = html.Div(draw_table(seen.rows, address), className="card table-frame")
    return {"list": body, "compare": _compare(address) if seen.runs else [], "pager": _pager(seen, address)}


def _count(seen: Listing) -> str:
    said = count(seen.runs, "run")
    said = f"{seen.matching:,} of {said}" if seen.matching != seen.runs else said
    return f"{said}, newest first" + (f" · reading {seen.unread:,} more …" if seen.unread else "")


def _more(seen: Listing) -> Outputs:
    waits = seen.unread or seen.live or not seen.runs  # for the first run too
    return {"pace": SOON if seen.unread else LATER, "stand": not waits}


def _compare(address: Address) -> list[Component | str]:
    """The way to the comparison, or what is still needed for it."""
    if address.a is None and address.b is None:
        return [html.Span("Choose two runs to compare them.", className="dimmed")]
    if address.a is None or address.b is None:
        chosen = address.a or address.b
        return [html.Span(["A is ", html.Span(chosen, className="mono"), ". Choose a second run."])]
    target = Address("compare", a=address.a, b=address.b).href
    return [
        html.A(["Compare ", html.B("A"), " with ", html.B("B")], href=target, className="button"),
        html.A("Clear", href=address.at(a=None, b=None).href),
    ]


def _pager(seen: Listing, address: Address) -> list[Component | str]:
    last = min(seen.first + PER_PAGE, seen.matching)
    if seen.matching <= PER_PAGE:
        return []
    parts: list[Component | str] = [f"{seen.first + 1:,} to {last:,} of {seen.matching:,} "]
    if seen.first:
        parts.append(html.A("‹ Newer", href=address.at(first=max(0, seen.first - PER_PAGE) or None).href))
    if last < seen.matching:
        parts.append(html.A("Older ›", href=address.at(first=last).href))
    return parts


def _reads(runs: Runs, address: Address) -> tuple[str, ...]:
    return tuple(runs.names())


def register(app: Dash, runs: Runs) -> None:
    """Wires the filter, and goes on reading while there is more to read than one answer holds."""
    filtering = ClientsideFunction("gradscope", "go_runs_find")
    app.clientside_callback(filtering, Input(ID["find"], "value"), prevent_initial_call=True)  # type: ignore[no-untyped-call]

    @app.callback(
        output={name: Output(each.component_id, each.component_property, allow_duplicate=True)
                for name, each in OUTPUTS.items()},
        inputs={"_": Input(ID["more"], "n_intervals"), "pathname": State(ids.URL, "pathname"),
                "search": State(ids.URL, "search"), "paused": State(ids.PAUSED, "data")},
        running=[(Output(ID["more"], "max_intervals"), 0, -1)],
        prevent_initial_call=True,
    )  # fmt: skip
    def _read_on(_: int, pathname: str, search: str, paused: bool) -> Any:
        address = parse(pathname, search)
        if address.page != "runs" or paused:
            raise PreventUpdate
        return read_on(runs, address)


def read_on(runs: Runs, address: Address) -> Outputs:
    """All that is shown, with a little more read."""
    names = _reads(runs, address)
    versions = tuple(f"{name} {stamp.version}" for name, stamp in zip(names, runs.stamps(names), strict=True))
    outputs: Outputs = {}
    for area in areas_of(runs, names, versions, address).values():
        outputs |= area.draw()
    return outputs


OUTPUTS = {
    "list": Output(ID["list"], "children"),
    "compare": Output(ID["compare"], "children"),
    "pager": Output(ID["pager"], "children"),
    "count": Output(ID["count"], "children"),
    "pace": Output(ID["more"], "interval"),
    "stand": Output(ID["more"], "disabled"),
}
PAGE = Page("runs", "Runs", OUTPUTS, layout, areas, _reads, register, reads_whole=False)
