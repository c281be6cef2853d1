"""What a trial measured of a suggestion: the sentence, the curves, the numbers of all three arms, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from gradscope.dashboard.figures.plotly import graph_config
from gradscope.dashboard.figures.trial_curves import (
    NO_CHANGE,
    RANDOM_CHANGE,
    TrialCurves,
    draw_trial_curves,
    trial_curves_data,
)
from gradscope.dashboard.parts.copying import command_line
from gradscope.dashboard.parts.term import term
from gradscope.dashboard.wording import ABSENT, number
from gradscope.numerals import limit
from gradscope.reports.theme import theme
from gradscope.reports.words import basis, cost_of_a_step, count, sentence

Trial = Mapping[str, Any]
_ARMS = {
    "With it": "trial",
    "No change": "control",
    "A random change": "random change",
}  # with their words of the glossary
_WORDS = {"p that it is no lower": "p value"}


def trial_panel(trial: Trial, scheme: str) -> Component:
    """The panel, for a suggestion that was tried."""
    shape, said, _ = basis({"basis": "measured", "effect": trial.get("effect", "")})
    tone = {"helped": "ok", "partly": "warning", "failed": "error"}.get(str(trial.get("effect")), "note")
    parts: list[Component] = [
        html.P(
            [html.Strong(f"{shape} {said.capitalize()}. ".lstrip(), className=f"tone-{tone}"), sentence(_text(trial))],
            className="trial-outcome",
        )
    ]
    curves = trial_curves_data(trial)
    if curves is not None:
        parts += _figure(curves, scheme)
    rows = trial_rows(trial)
    if rows:
        parts.append(_table(rows))
    parts += [html.P(each, className="dimmed") for each in _further(trial)]
    if command := trial.get("command"):
        parts += [html.P("Measure it again:", className="dimmed"), command_line(str(command))]
    return html.Div(parts, className="trial")


def _text(trial: Trial) -> str:
    return str(trial.get("outcome") or "nothing more was stored")


def _figure(data: TrialCurves, scheme: str) -> list[Component]:
    bands = any(len(curve.low) for curve in data.curves)
    said = "Median loss over the seeds" + (", the band from the lowest to the highest" if bands else "")
    if any(len(curve.ends) for curve in data.curves):
        said += "; a mark at the end for each seed"
    lost = [
        f"{curve.name.lower()} diverged in {count(curve.diverged, 'seed')}" for curve in data.curves if curve.diverged
    ]
    graph = dcc.Graph(
        figure=draw_trial_curves(data, theme(scheme)),
        config=graph_config(),
        style={"height": 250},
        responsive=True,
        animate=False,
    )
    return [
        html.Figure([graph, html.Figcaption("; ".join([said, *lost]) + ".", className="dimmed")], className="curves")
    ]


def trial_rows(trial: Trial) -> list[tuple[str, tuple[str, ...]]]:
    """What was measured, a row a quantity, for each of the three arms; the digits of the stored record."""
    if trial.get("gone") is None or trial.get("seeds") == 0:
        return []
    of = f" of {trial['seeds']}" if trial.get("seeds") else ""
    gone = [trial.get(name) for name in ("gone", "gone_no_change", "gone_random")]
    rows = [
        ("Sickness gone", tuple(ABSENT if each is None else f"{each}{of}" for each in gone)),
        (
            f"Loss after {count(trial['steps'], 'step')}, median" if trial.get("steps") else "Loss, median",
            tuple(_loss(trial, name) for name in ("loss", "no_change", "random")),
        ),
        ("p that it is no lower", (ABSENT, *(_p(trial.get(name)) for name in ("p_no_change", "p_random")))),
        (
            "Loss with it over theirs, 95 %",
            (ABSENT, *(_ratio(trial.get(n)) for n in ("against_no_change", "against_random"))),
        ),
    ]
    return [row for row in rows if any(each != ABSENT for each in row[1])]


def _loss(trial: Trial, name: str) -> str:
    value = trial.get(name)
    if isinstance(value, int | float):
        return number(float(value))
    arm = {"no_change": NO_CHANGE, "random": RANDOM_CHANGE}.get(name)
    spread = trial.get("spread") or {}
    own = [spread.get(arm)] if arm else [held for key, held in spread.items() if key not in (NO_CHANGE, RANDOM_CHANGE)]
    lost = any("diverged" in (held or {}).get("losses", ()) for held in own)
    return "diverged" if lost or (not arm and trial.get("state") == "diverged") else ABSENT


def _p(value: object) -> str:
    return limit(float(value)) if isinstance(value, int | float) else ABSENT


def _ratio(comparison: object) -> str:
    if not isinstance(comparison, Mapping) or not isinstance(comparison.get("effect"), int | float):
        return ABSENT
    ends = [comparison.get(end) for end in ("low", "high")]
    span = f" ({' … '.join(number(end) for end in ends)})" if all(isinstance(end, int | float) for end in ends) else ""
    times = " times" if comparison.get("ratio") else ""
    return f"{number(float(comparison['effect']))}{times}{span}"


def _table(rows: list[tuple[str, tuple[str, ...]]]) -> Component:
    head = html.Thead(html.Tr([html.Td(""), *(html.Th(term(word, arm), scope="col") for arm, word in _ARMS.items())]))
    body = [
        html.Tr(
            [
                html.Th(term(_WORDS[label], label) if label in _WORDS else label, scope="row"),
                *(html.Td(each, className="value") for each in values),
            ]
        )
        for label, values in rows
    ]
    return html.Div(
        html.Table([head, html.Tbody(body)], className="table trial-table"), className="table-frame", tabIndex=0
    )


def _further(trial: Trial) -> list[str]:
    """What it costs, what was changed, what went wrong."""
    said = []
    if all(isinstance(trial.get(name), int | float) for name in ("step_time", "step_time_low", "step_time_high")):
        said.append(cost_of_a_step(trial))
    for name, words in (("changes", "Changed"), ("problems", "Problems")):
        if listed := trial.get(name):
            said.append(f"{words}: {'; '.join(str(each) for each in listed)}.")
    return said
