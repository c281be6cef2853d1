"""The place of "Measure it now": what it will do, how far it is, how it is stopped; or what is missing instead."""

from __future__ import annotations

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard import measuring
from gradscope.dashboard.measuring import Measurement
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.copying import command_line
from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.wording import duration
from gradscope.records import Rows, Suggestion
from gradscope.reports.words import count, sentence

_QUICK = 2  # seeds of the quick look


def button_id(kind: str, remedy: str) -> dict[str, str]:
    """The id of a button of a suggestion's panel, or ("panel") of the panel."""
    return {"type": f"finding-{kind}", "remedy": remedy}


def names_of(suggestion: Suggestion) -> tuple[str, ...]:
    """The remedies of a suggestion: several where a trial tried them together."""
    return tuple(suggestion.remedy.split(" + "))


def measure_panel(view: FindingView, suggestion: Suggestion, found: Measurement | None) -> list[Component]:
    """The content of a suggestion's panel.

    Args:
        view: the finding.
        suggestion: one of its.
        found: the trial of this run that goes on, or the last one that says something.
    """
    if suggestion.needs_edit:
        return [html.P(f"It cannot be measured from here: {suggestion.needs_edit}.", className="dimmed")]
    first = view.finding.suggestions[0] is suggestion
    mine = found is not None and (found.remedies == names_of(suggestion) or (not found.remedies and first))
    if found is not None and found.goes_on:
        return progress(found, suggestion) if mine else [_busy(found)]
    last = [_last(found)] if found is not None and mine else []
    return [*last, *_offer(view, suggestion)]


def _offer(view: FindingView, suggestion: Suggestion) -> list[Component]:
    info, names = view.snapshot.run.info, names_of(suggestion)
    typed = measuring.command(view.folder, names, info)
    missing = measuring.why_not(view.folder, info)
    again = "Measure it again" if suggestion.trial else "Measure it now"
    if missing:
        return [
            html.Details(
                [
                    html.Summary(f"{again}: not from this page"),
                    html.P([missing, " What measures it, where the program and the run are:"]),
                    command_line(typed),
                ]
            )
        ]
    usual, quick = measuring.trainings(measuring.SEEDS), measuring.trainings(_QUICK)
    return [
        html.Details(
            [
                html.Summary(again, className="button"),
                html.P(
                    [
                        "It runs your program again: ",
                        html.Code(" ".join(["python", *info.command]), className="mono"),
                        " in ",
                        html.Code(info.directory, className="mono"),
                        f", {usual} times, each stopped after {measuring.STEPS} steps: with this change, with none and with "
                        f"a random one, over {measuring.SEEDS} seeds. What it writes to disk, each of these runs writes. "
                        f"{_time(view.snapshot.run.steps, usual)}",
                    ]
                ),
                html.P(
                    [
                        _start(suggestion, measuring.SEEDS, f"Start: {usual} runs"),
                        " ",
                        _start(suggestion, _QUICK, f"Quick look: {quick} runs"),
                        html.Span(f" {_QUICK} seeds cannot give a p below 0.25.", className="dimmed"),
                    ]
                ),
                html.P("The same in a terminal:", className="dimmed"),
                command_line(typed),
            ],
            className="measure",
        )
    ]


def _start(suggestion: Suggestion, seeds: int, label: str) -> Component:
    return html.Button(
        label,
        id={**button_id("start", suggestion.remedy), "seeds": seeds},
        type="button",
        n_clicks=0,
        className="button",
        **aria(label=f"{label} of {suggestion.title}"),
    )


def _time(steps: Rows, runs: int) -> str:
    """About how long it takes, by the steps of the run itself."""
    own = steps["seconds"] - steps["recorder_seconds"]
    own = own[np.isfinite(own) & (own > 0)]
    if not len(own):
        return ""
    seconds = float(np.median(own)) * min(measuring.STEPS, len(steps)) * runs
    return f"The steps alone take about {duration(seconds)} in all; loading and starting come on top, for each run."


def progress(found: Measurement, suggestion: Suggestion) -> list[Component]:
    """How far the trial is, and the button that cancels it. What moves has ids of its own: the button keeps its focus."""
    remedy = suggestion.remedy
    bar = html.Progress(
        id=button_id("bar", remedy),
        value=str(found.done),
        max=str(max(found.planned, 1)),
        **aria(label=f"Measuring: {suggestion.title}"),
    )
    said = html.Span(how_far(found), id=button_id("far", remedy))
    now = html.P(what_runs(found), id=button_id("now", remedy), className="dimmed")
    return [html.Div([bar, said, _cancel(found, suggestion)], className="measuring"), now]


def how_far(found: Measurement) -> str:
    """How many trainings of a trial are done, and how long the others will take."""
    if found.state == "stopping":
        return "Cancelling …"
    if not found.planned:
        return "Starting …"
    left = f" · about {duration(found.seconds_left)} left" if found.done and found.seconds_left is not None else ""
    return f"{found.done} of {count(found.planned, 'run')} done{left}"


def what_runs(found: Measurement) -> str:
    """Which trainings of a trial run now."""
    return f"Now: {'; '.join(found.running)}" if found.running else ""


def _cancel(found: Measurement, suggestion: Suggestion) -> Component:
    if not found.can_cancel:
        why = "" if found.state == "stopping" else "Started elsewhere: Ctrl-C there ends it."
        return html.Span(why, className="dimmed")
    return html.Button(
        "Cancel",
        id=button_id("cancel", suggestion.remedy),
        type="button",
        n_clicks=0,
        className="button",
        **aria(label=f"Cancel measuring: {suggestion.title}"),
    )


def _busy(found: Measurement) -> Component:
    of = f" ({' + '.join(found.remedies)})" if found.remedies else ""
    return html.P(
        f"Another trial of this run goes on{of}; this one can be measured when it has ended.", className="dimmed"
    )


def outcome(found: Measurement) -> str:
    """What became of a trial, in a sentence."""
    done = f" After {found.done} of {count(found.planned, 'run')}" if found.done else ""
    return {
        "ended": "Measured just now: the outcome is stored with the run.",
        "interrupted": "The last measurement was cancelled."
        + (f"{done}; what could be compared is stored." if done else ""),
        "failed": sentence(f"the last measurement failed: {found.said}"),
        "lost": "The last measurement ended without a word: its process is gone." + (f"{done}." if done else ""),
    }.get(found.state, "")


def _last(found: Measurement) -> Component:
    tone = "error" if found.state in ("failed", "lost") else "note"
    shape = "▲" if tone == "error" else "●"
    return html.P(
        [html.Span(f"{shape} ", className=f"tone-{tone}", **aria(hidden="true")), outcome(found)], className="said"
    )
