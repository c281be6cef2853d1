"""The overview's callbacks: each joins a run's snapshot with a figure or a part. `register` wires them to an app.

address ──► wish ─┬─► run, metric       clock ──► version ──► refresh (everything that is drawn)
                  ├─► step, slider                               ▲
                  └─► drawer              step, metric, theme ───┘
"""

from __future__ import annotations

import html as html_text
import time
from typing import Any

from dash import html, no_update
from dash.exceptions import PreventUpdate

from gradscope.dashboard import ids
from gradscope.dashboard.figures.depth import depth_data, draw_depth, latest, nearest
from gradscope.dashboard.figures.loss import loss_data, onsets
from gradscope.dashboard.figures.map import cell_colours, draw_map, map_data, marked_rows
from gradscope.dashboard.figures.metrics import METRICS
from gradscope.dashboard.figures.plotly import redrawn
from gradscope.dashboard.parts import chip, finding_drawer, findings, layer_drawer, numbers, verdict
from gradscope.dashboard.parts.notice import no_step, notice
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.theme import theme
from gradscope.dashboard.view import parse_view
from gradscope.dashboard.wording import duration, step
from gradscope.errors import GradScopeError

Outputs = dict[str, Any]


def open_address(runs: Runs, search: str | None) -> tuple[str | None, str, dict[str, Any]]:
    """The run, the metric and the wish (step and drawer) that an address asks for."""
    names, view = runs.names(), parse_view(search)
    run = view.run if view.run in names else (names[0] if names else None)
    return run, view.metric, {"step": view.step, "finding": view.finding, "layer": view.layer}


def tick(runs: Runs, run: str, paused: bool, known: dict[str, str] | None) -> tuple[Any, str, str, int]:
    """The run's version if it changed, the chip's text and class, and whether the clock goes on (-1) or stops (0)."""
    try:
        stamp = runs.stamp(run)
        snapshot = runs.peek(run) or runs.get(run)
    except Exception as error:  # `refresh` meets it again and says it
        return {"run": run, "version": str(error)}, "", "chip", -1
    version = {"run": run, "version": stamp.version}
    stale = known is None or known != version
    frozen = paused and known is not None and known["run"] == run
    info, steps = snapshot.run.info, len(snapshot.run.steps)
    text, state = chip.chip_text(info, snapshot.newest_step, steps, time.time() - stamp.written, paused)
    goes_on = info.state == "recording" or stale
    return (version if stale and not frozen else no_update), text, f"chip chip-{state}", -1 if goes_on else 0


def move(
    snapshot: Snapshot, trigger: str | None, chosen: dict[str, Any] | None, slider: int | None, wish: int | None, x: int
) -> tuple[int, int, dict[str, Any]]:
    """Where the step slider stands, how far it goes, and the step that is chosen (None: follow the latest).

    Args:
        snapshot: the run.
        trigger: the component that asks.
        chosen: the step chosen until now, and in which run.
        slider: where the slider stands.
        wish: the step that the address asked for.
        x: the step of the map's cell that was clicked last.
    """
    steps, follow = snapshot.signals.steps, latest(snapshot.signals) or 0
    last = len(steps) - 1
    asked = chosen["step"] if chosen and chosen["run"] == snapshot.name else wish if chosen is None else None
    here = follow if asked is None else nearest(steps, asked) or 0
    target = {
        ids.SLIDER: slider or 0,
        ids.EARLIER: here - 1,
        ids.LATER: here + 1,
        ids.LATEST: follow,
        ids.CELL: nearest(steps, x) or 0,
    }.get(trigger or "")
    if target is not None:
        here = max(0, min(target, last))
        asked = None if here == follow else int(steps[here])
    return here, max(last, 1), {"run": snapshot.name, "step": asked}


def refresh(
    runs: Runs,
    version: dict[str, str],
    metric: str,
    at: dict[str, Any] | None,
    scheme: str | None,
    shown: Outputs | None,
) -> Outputs:
    """Everything of the page that is not as it should be, by the names of `overview_wiring.DRAWN`.

    Args:
        runs: where the runs are.
        version: what is on disk.
        metric: what the map shows.
        at: the step of the depth profile.
        scheme: "light" or "dark".
        shown: what is on the screen: for each area what it was drawn from.
    """
    started, outputs = time.perf_counter(), dict[str, Any]()
    chosen = at["step"] if at and at["run"] == version["run"] else None
    wanted = {"page": version, "map": [version, metric, scheme], "depth": [version, chosen, scheme]}
    drawn_from, view = shown or {}, [version["run"], metric]
    stale = {area for area, source in wanted.items() if drawn_from.get(area) != source}
    if not stale:
        raise PreventUpdate
    try:
        snapshot = runs.get(version["run"])
        if "page" in stale:
            outputs |= _page(snapshot, time.time() - runs.stamp(version["run"]).written)
        if snapshot.is_empty:
            wanted = {"page": version}  # nothing to draw yet
        elif "map" in stale:
            outputs |= _map(snapshot, metric, scheme)
            if drawn_from.get("view") == view:
                outputs["map"] = redrawn(outputs["map"])
        if "depth" in stale and not snapshot.is_empty:
            outputs |= _depth(snapshot, chosen, scheme)
    except GradScopeError as error:
        hint = "Nothing was changed on disk. Choose another run above, or record the training again."
        outputs |= _problem("This run cannot be read", f"{error} {hint}")
    except Exception as error:  # a reader of the page must never meet a traceback
        text = f"{type(error).__name__}: {error}. This is a fault of GradScope, not of your training; please report it."
        outputs |= _problem("GradScope could not show this run", text)
    sentence = outputs.pop("sentence", drawn_from.get("sentence"))
    if sentence == drawn_from.get("sentence"):
        outputs.pop("status", None)  # a screen reader announces it once
    seconds = time.perf_counter() - started
    return outputs | {
        "shown": {**wanted, "view": view, "sentence": sentence},
        "interval": max(1000, round(5000 * seconds)),
    }


def _page(snapshot: Snapshot, age: float) -> Outputs:
    diagnosis, signals = snapshot.diagnosis, snapshot.signals
    recorded = int(signals.steps[-1]) if len(signals.steps) else None
    return {
        "status": verdict.headline(diagnosis),
        "sentence": verdict.sentence(diagnosis),
        "tone": verdict.verdict_tone(diagnosis),
        "title": verdict.tab_title(diagnosis),
        "next": verdict.next_step(diagnosis),
        "problem": no_step(duration(age)) if snapshot.is_empty else None,
        "content": {"display": "none"} if snapshot.is_empty else {},
        "numbers": numbers.draw_cards(numbers.cards(snapshot.numbers, recorded)),
        "findings": findings.finding_cards(diagnosis, signals, recorded),
        "checks": findings.checks(diagnosis),
    }


def _map(snapshot: Snapshot, metric_id: str, scheme: str | None) -> Outputs:
    metric, colours = METRICS[metric_id], theme(scheme)
    data = map_data(snapshot.signals, metric)
    present = set(data.states.ravel().tolist())
    legend = [
        html.Span([html.Span(className="swatch", style={"background": colour}), words])
        for state, (colour, words) in cell_colours(metric, colours).items()
        if state in present
    ]
    return {
        "map": draw_map(
            data,
            loss_data(snapshot.run),
            onsets(snapshot.diagnosis.findings),
            marked_rows(data.rows, snapshot.diagnosis.findings),
            colours,
        ),
        "map_title": [f"{metric.title} by layer and step ", html.Span(f"· {metric.symbol}", className="dimmed")],
        "map_help": metric.help,
        "map_legend": legend,
    }


def _depth(snapshot: Snapshot, at: int | None, scheme: str | None) -> Outputs:
    data = depth_data(snapshot.signals, at)
    title = "Depth profile" if data.step is None else f"Depth profile at step {step(data.step)}"
    return {"depth": draw_depth(data, theme(scheme)), "depth_title": title}


def _problem(title: str, text: str) -> Outputs:
    return {
        "status": [html.P("▲ No verdict", className="verdict-word"), html.H1(title, id=ids.HEADLINE)],
        "sentence": [title, text],
        "tone": "verdict tone-error",
        "title": "▲ No verdict · gradscope",
        "next": [],
        "problem": notice("What happened", text),
        "content": {"display": "none"},
    }


def open_drawer(trigger: Any, wish: dict[str, Any] | None, cell: str | None) -> dict[str, Any] | None:
    """What the drawer should show: `{"finding": …}`, `{"layer": …}`, or None for nothing.

    Args:
        trigger: the id of the component that asks.
        wish: what the address asked for.
        cell: the layer of the map's cell that was clicked last.
    """
    if isinstance(trigger, dict):
        return {"finding": trigger["finding"]}
    if trigger == ids.CELL:
        return {"layer": cell} if cell is not None else None
    if trigger == ids.WISH and wish:
        kind = "finding" if wish["finding"] else "layer"
        return {kind: wish[kind]} if wish[kind] else None
    return None


def drawer_content(snapshot: Snapshot, wanted: dict[str, Any], at: int | None) -> tuple[Any, Any]:
    """The drawer's title and content."""
    if "finding" in wanted:
        finding = finding_drawer.find(snapshot.diagnosis, wanted["finding"])
        if finding is not None:
            recorded = snapshot.signals.steps
            newest = int(recorded[-1]) if len(recorded) else None
            body = finding_drawer.finding_body(finding, snapshot.diagnosis, newest)
            return finding_drawer.finding_title(wanted["finding"], finding), body
        return "Not found", [html.P(f"This run has no finding {wanted['finding']}; it may have healed.")]
    layer = layer_drawer.layer_numbers(snapshot.signals, wanted["layer"], at)
    if layer is None:
        return "Not found", [html.P(f"This run has no layer {wanted['layer']!r}.")]
    return layer_drawer.layer_title(layer), layer_drawer.layer_body(layer, snapshot.diagnosis)


def clicked_cell(click: dict[str, Any] | None) -> tuple[str | None, int]:
    """The layer and step of a click on the map; the layer is None for a click on the loss."""
    point = (click or {}).get("points", [{}])[0]
    row = point.get("y")
    name = html_text.unescape(row).split(" … ")[0] if isinstance(row, str) else None
    return name, round(point.get("x", 0))
