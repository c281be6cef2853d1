"""Since when: first and last step, how often that was looked at, and what changed just before."""

from __future__ import annotations

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.wording import step, when
from gradscope.records import Run
from gradscope.reports.words import count, sentence
from gradscope.signals import Signals
from gradscope.signals.before import what_changed

NEAR = 20  # steps before the first one, as `what_changed` looks
_MOST = 6


def when_section(view: FindingView) -> list[Component]:
    """The section of a finding's page."""
    finding, signals = view.finding, view.snapshot.signals
    suspects = suspect_changes(signals, finding.first_step)
    onset = view.address.of_run("timeline", first=max(0, finding.first_step - NEAR), last=finding.first_step + NEAR)
    said: list[Component] = [
        html.P([html.Strong(sentence(when(finding, view.newest_step))), f" {looked_at(signals, view)}"]),
    ]
    if suspects:
        said += [
            html.P("Changed on the steps just before, so suspect:"),
            html.Ul([html.Li(sentence(each)) for each in suspects[:_MOST]], className="suspects"),
        ]
    elif finding.first_step > 0:
        said.append(html.P(f"Nothing else that is on record changed in the {NEAR} steps before.", className="dimmed"))
    said.append(html.P(html.A("Show these steps on the timeline", href=onset.href)))
    return [view.heading("When"), *said]


def looked_at(signals: Signals, view: FindingView) -> str:
    """How many steps from the first to the last were recorded in full."""
    finding = view.finding
    inside = int(((signals.steps >= finding.first_step) & (signals.steps <= finding.last_step)).sum())
    span = finding.last_step - finding.first_step + 1
    if inside >= span:
        return "Every step of them was recorded in full." if span > 1 else "It was recorded in full."
    return f"Of these {count(span, 'step')}, {inside:,} were recorded in full."


def suspect_changes(signals: Signals, first: int) -> list[str]:
    """What changed on the steps before a finding began, a clause each; nothing but what the run knows.

    Args:
        signals: of the run.
        first: the finding's first step.
    """
    run = signals.run
    found = what_changed(signals, first)
    rows = run.steps[(run.steps["step"] >= first - NEAR) & (run.steps["step"] <= first)]
    for column, words in (
        ("training_mode", {True: "the model was put into train mode", False: "the model was put into eval mode"}),
        ("backwards", {}),
    ):
        values = rows[column]
        for place in np.flatnonzero(values[1:] != values[:-1]) + 1:
            at = f"at step {step(int(rows['step'][place]))}"
            passes = count(int(values[place]), "backward")
            changed = words.get(bool(values[place])) or f"a step took {passes} instead of {int(values[place - 1]):,}"
            found.append(f"{changed} {at}")
    skipped = rows["step"][rows["skipped"] & (rows["step"] < first)]
    if len(skipped):
        found.append(
            f"{count(len(skipped), 'step')} skipped by the gradient scaler, the last at step {step(int(skipped[-1]))}"
        )
    return found + _events(run, first)


def _events(run: Run, first: int) -> list[str]:
    """Values that were logged and marks that were set near by: a validation often is."""
    near = [event for event in run.events if first - NEAR <= event.step <= first]
    said = []
    for event in near:
        if event.kind == "value":
            said.append(f"{event.data.get('name', 'a value')} was logged at step {step(event.step)}")
        elif event.kind == "warning":
            text = event.data.get("text") or event.data.get("message") or "a warning"
            said.append(f"{text} (step {step(event.step)})")
        elif event.kind == "resumed":
            said.append(f"the training was resumed at step {step(event.step)}")
    return list(dict.fromkeys(said))
