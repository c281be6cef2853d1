"""A run that is followed in a terminal: how it is now and, where there is no terminal, what is new since the last look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gradscope import numerals
from gradscope.records import Run
from gradscope.reports import words
from gradscope.reports.envelope import Document
from gradscope.reports.look import Look
from gradscope.reports.strips import ASCII_BLOCKS, BLOCKS
from gradscope.reports.terminal import render_brief
from gradscope.store import liveness


def render(document: Document, losses: Sequence[float], age: float, look: Look) -> str:
    """The picture of one moment.

    Args:
        document: the report's.
        losses: of all closed steps that have one, oldest first.
        age: seconds since the run was last written to.
        look: how the stream wants it.
    """
    lines = [render_brief(document, look).rstrip("\n"), ""]
    if len(losses):
        blocks = BLOCKS if look.unicode else ASCII_BLOCKS
        lines.append(f"Loss  {curve(losses, look.width - 32, blocks)}  {_ends(losses)}")
    lines.append(status(document, age))
    text = "\n".join(lines) + "\n"
    return text if look.unicode else words.ascii_only(text)


def conclusion(document: Document, age: float, look: Look) -> str:
    """How the run is when it is followed no longer."""
    text = f"{render_brief(document, look)}{status(document, age)}"
    return text if look.unicode else words.ascii_only(text)


def losses_of(run: Run) -> list[float]:
    """The losses of a run's steps."""
    return [float(loss) for loss in run.steps["loss"][run.steps["has_loss"]]]


def curve(values: Sequence[float], width: int, blocks: str) -> str:
    """The values as blocks between their lowest and highest, one for each stretch; "!" where one is not finite.

    Example:
        >>> curve([4.0, 2.0, 1.0, float("nan")], 4, "_-^")
        '^-_!'
    """
    series = np.asarray(values, float)
    stretches = np.array_split(series, min(max(width, 1), len(series))) if len(series) else []
    finite = series[np.isfinite(series)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(
        blocks[math.floor((stretch.mean() - low) * scale + 0.5)] if np.isfinite(stretch).all() else "!"
        for stretch in stretches
    )


def _ends(values: Sequence[float]) -> str:
    return " → ".join(numerals.number(value) for value in (values[0], values[-1]))


def status(document: Document, age: float) -> str:
    """Whether the training goes on, as far as its files tell."""
    run = document["run"]
    last = "no step yet" if run["last_step"] is None else words.step(run["last_step"])
    if run["state"] != "recording":
        return f"{run['state']} · {last}"
    if age > liveness.SILENCE:
        return f"no sign for {age:,.0f} s · {last} · the training waits, or was killed"
    return f"live · {last} · Ctrl-C ends this, not the training"


def news(document: Document, known: set[tuple[str, str]], look: Look) -> Iterator[str]:
    """A line for each finding that was not said yet, in one of its severities; adds it to the known ones."""
    for finding in document["findings"]:
        if (key := (finding["rule"], finding["severity"])) in known:
            continue
        known.add(key)
        shape = words.SHAPES[finding["severity"]][0 if look.unicode else 1]
        said = words.harmless(
            f"{shape} {finding['severity']} {words.step(finding['first_step'])} {finding['rule']}: {finding['message']}"
        )
        yield said if look.unicode else words.ascii_only(said)
