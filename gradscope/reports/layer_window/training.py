"""What the training as a whole did around a step: loss, gradient norm, learning rate, and what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import limit, non_finite_word
from gradscope.records import Diagnosis, Event, Run
from gradscope.reports.envelope import Document
from gradscope.reports.loss_line import downsample
from gradscope.reports.strips import NON_FINITE, NOT_RECORDED
from gradscope.signals import Signals
from gradscope.signals.changes import suspects

MOST_EVENTS = 40
MOST_POINTS = 200  # of the loss between the recorded steps

Values = NDArray[np.float64]


def training(run: Run, near: Signals, steps: NDArray[np.int64], span: tuple[int, int]) -> Document:
    """The numbers of the training at some recorded steps, and the loss at all steps of the span.

    Args:
        run: what was recorded.
        near: signals of the recorded steps.
        steps: these, shape `[steps]`.
        span: the first and the last step that belong to them.
    """
    rows = run.steps
    places = np.searchsorted(rows["step"], steps).clip(max=max(len(rows) - 1, 0))
    there = rows["step"][places] == steps if len(rows) else np.zeros(len(steps), bool)
    broken = np.asarray(near.non_finite("gradient").any(axis=0))

    def read(name: str) -> Values:
        return np.where(there, rows[name][places], np.nan) if len(rows) else np.full(len(steps), np.nan)

    has_loss = there & (read("has_loss") == 1)
    loss = [
        NOT_RECORDED if not seen else "" if math.isfinite(value) else non_finite_word(value)
        for value, seen in zip(read("loss"), has_loss, strict=True)
    ]
    content = {
        "loss": _column(read("loss"), loss),
        "gradient_norm": _column(read("gradient_norm"), _why(read("gradient_norm"), broken)),
        "clipped_gradient_norm": _column(read("clipped_gradient_norm"), _why(read("clipped_gradient_norm"), broken)),
        "loss_scale": _column(read("scale"), _why(read("scale"))),
        "learning_rates": [
            _column(rates, _why(rates))
            for group in range(run.learning_rates.shape[1])
            if np.isfinite(rates := np.where(there, run.learning_rates[places, group], np.nan)).any()
        ]
        if len(rows)
        else [],
    }
    inside = rows[(rows["step"] >= span[0]) & (rows["step"] <= span[1])]
    seen = inside[inside["has_loss"]]
    at, values = downsample(seen["step"], seen["loss"], MOST_POINTS)
    return {
        **content,
        "not_recorded_between": int((~np.isin(inside["step"], steps)).sum()),
        "loss_line": {
            "steps": at.tolist(),
            **_column(values, ["" if math.isfinite(v) else NON_FINITE for v in values]),
        },
    }


def _why(values: Values, broken: NDArray[np.bool_] | None = None) -> list[str]:
    bad = np.zeros(len(values), bool) if broken is None else broken
    return [
        "" if math.isfinite(value) else NON_FINITE if lost or math.isinf(value) else NOT_RECORDED
        for value, lost in zip(values, bad, strict=True)
    ]


def _column(values: Values, words: list[str]) -> Document:
    said = {str(place): word for place, word in enumerate(words) if word}
    known = [None if word else float(value) for value, word in zip(values, words, strict=True)]
    return {"values": known, **({"values_words": said} if said else {})}


def events_in(signals: Signals, diagnosis: Diagnosis, span: tuple[int, int]) -> list[Document]:
    """What happened from the first to the last step of a span, in order."""
    run = signals.run
    sources = (_findings(signals, diagnosis), _suspects(signals, span), _steps(run, span), _events(run))
    found = [event for source in sources for event in source if span[0] <= event["step"] <= span[1]]
    found.sort(key=lambda event: int(event["step"]))
    more = len(found) - MOST_EVENTS
    if more > 0:
        left = {"step": found[MOST_EVENTS]["step"], "kind": "more", "text": f"and {more:,} more events"}
        return [*found[:MOST_EVENTS], left]
    return found


def _findings(signals: Signals, diagnosis: Diagnosis) -> Iterator[Document]:
    newest = int(signals.steps[-1]) if len(signals.steps) else -1
    for number, finding in enumerate(diagnosis.findings, 1):
        text = f"F{number} {finding.rule} begins: {finding.message}"
        yield {"step": int(finding.first_step), "kind": "finding", "text": text}
        if finding.first_step < finding.last_step < newest:
            yield {"step": int(finding.last_step), "kind": "finding", "text": f"F{number} {finding.rule} was seen last"}


def _suspects(signals: Signals, span: tuple[int, int]) -> Iterator[Document]:
    for each in suspects(signals, span, MOST_EVENTS):
        yield {"step": int(each.step), "kind": each.kind, "text": each.sentence}


def _steps(run: Run, span: tuple[int, int]) -> Iterator[Document]:
    """Steps that a gradient scaler skipped, and where the loss was lost or found again."""
    rows = run.steps
    inside = (rows["step"] >= span[0]) & (rows["step"] <= span[1])
    for step in rows["step"][inside & rows["skipped"]].tolist():
        yield {"step": step, "kind": "skipped", "text": "the step was skipped, because gradients were not finite"}
    seen = rows[rows["has_loss"]]
    finite = np.isfinite(seen["loss"])
    turns = np.flatnonzero(np.diff(finite.astype(np.int8), prepend=1))
    for place in turns.tolist():
        word = "is finite again" if finite[place] else f"is {non_finite_word(float(seen['loss'][place]))}"
        yield {"step": int(seen["step"][place]), "kind": "loss", "text": f"the loss {word}"}


def _events(run: Run) -> Iterator[Document]:
    last = int(run.steps["step"][-1]) if len(run.steps) else 0
    for event in run.events:
        text = _said(event)
        if text:  # what comes after the last step belongs to it
            yield {"step": min(int(event.step), last), "kind": event.kind, "text": text}


def _said(event: Event) -> str:
    data = event.data
    if event.kind == "warning":
        return str(data.get("text", ""))
    if event.kind == "value":
        value = data.get("value")
        number = limit(value) if isinstance(value, int | float) and math.isfinite(value) else str(value)
        return f"{data.get('name')} is {number}"
    if event.kind == "ended":
        return f"the recording ended: {data['reason']}" if data.get("reason", "closed") != "closed" else ""
    return {"resumed": "the training was resumed"}.get(event.kind, "")
