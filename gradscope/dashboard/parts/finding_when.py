"""Since when: first and last step, how often that was looked at, and what changed just before."""

from __future__ import annotations

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.history import recorded_steps
from gradscope.dashboard.occurrences import Occurrences, Stretch, occurrences
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
    return [view.heading("When"), *said, *_occurrences(view)]


def _occurrences(view: FindingView) -> list[Component]:
    """When it was there, off, and there again; nothing where that could not be judged often enough."""
    signals = view.snapshot.signals
    found = occurrences(signals, view.finding)
    if found is None:
        return []
    recorded = len(recorded_steps(signals))
    every = "each" if found.moments == recorded else f"{found.moments:,}"
    asked = f"Judged at {every} of {count(recorded, 'recorded step')}, as if the run had ended there, it is found:"
    lines = [html.Li(each) for each in occurrence_words(found, view.finding.first_step)]
    return [view.heading("All occurrences", below=1), html.P(asked), html.Ul(lines, className="suspects")]


def occurrence_words(found: Occurrences, first: int) -> list[str]:
    """A clause for each stretch, and for each gap between two. `first`: the step from which on the finding tells of it."""
    if not found.stretches:
        return ["at none of them: it is seen in hindsight only"]
    lines, before = [], None
    for each in found.stretches:
        if before is not None:
            lines.append(f"not between steps {step(before.last)} and {step(each.first)}")
        elif each.first > first:
            lines.append(f"not before step {step(each.first)}; in hindsight it began at step {step(first)}")
        lines.append(_stretch(each, again=before is not None, newest=found.newest))
        before = each
    return lines if found.holds else [*lines, f"not after step {step(found.stretches[-1].last)}"]


def _stretch(stretch: Stretch, *, again: bool, newest: int) -> str:
    there = "again " if again else ""
    if stretch.first == stretch.last:
        span = f"at step {step(stretch.first)}"
    else:
        span = f"from step {step(stretch.first)} to {step(stretch.last)}"
    return f"{there}{span}{', the newest' if stretch.last == newest else ''}"


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
