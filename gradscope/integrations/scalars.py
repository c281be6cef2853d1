"""A run as named numbers, the same names in every tracker.

    gradscope/loss                       one number a step: loss, gradient_norm, clipped_gradient_norm, seconds,
                                         recorder_seconds, loss_scale, learning_rate_0 …, non_finite_tensors
    gradscope_backward_gain/<layer>      one a recorded step and layer: backward_gain, own_gain, forward_gain,
                                         silent_fraction, dead_fraction
    gradscope_update_ratio/<parameter>   likewise of parameters: update_ratio, parameter_gradient_norm, weight_norm
    gradscope_value/<name>               what the training logged with `scope.log`

A tracker groups its charts by what is before the first slash. Nothing that was not measured is there; NaN and Inf are
what was measured. Layers of any name are there; a character that a tracker cannot hold is written as its number, see
`fitting`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from gradscope.records import QUANTITIES, Rows, Run
from gradscope.reports.tables.layer_signals import readings
from gradscope.reports.tables.rows import number_of, steps_known

_LIKE_OURS = re.compile(r"_(?=x[0-9A-F]+_)")
_DERIVED = QUANTITIES.index("gradient_change")  # this and what follows are no tensors of the training


class Moment(NamedTuple):
    """Some numbers of one step; a step may have several."""

    step: int
    time: float  # seconds since 1970
    values: dict[str, float]  # by name


def moments(runs: Iterable[Run]) -> Iterator[Moment]:
    """All numbers of a run that comes in stretches, each once.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> steps = list(moments([run({"a": 1e-9, "b": 1.0}, loss=0.5, steps=1)]))
        >>> steps[0].values["gradscope/loss"], round(steps[1].values["gradscope_backward_gain/a"], 12)
        (0.5, 1e-09)
    """
    last, told = -1, set[tuple[int, float, str]]()
    for run in runs:
        new = run.steps["step"] > last
        yield from _of_steps(run, np.flatnonzero(new))
        last = max([last, *run.steps["step"][-1:].tolist()])
        yield from _of_layers(run)
        for event in run.events:
            key = event.step, event.time, str(event.data.get("name", ""))
            if event.kind == "value" and key not in told:
                told.add(key)
                value = number_of(event.data.get("value"))
                yield Moment(event.step, event.time, {f"gradscope_value/{key[2]}": value})


def _of_steps(run: Run, places: Iterable[int]) -> Iterator[Moment]:
    known = steps_known(run)
    columns = {
        **{f"gradscope/{name}": (run.steps[name], known[name]) for name in
           ("loss", "gradient_norm", "clipped_gradient_norm", "seconds", "recorder_seconds")},
        "gradscope/loss_scale": (run.steps["scale"], run.steps["scale"] != 1),
        **{f"gradscope/learning_rate_{group}": (rates, ~np.isnan(rates)) for group, rates in
           enumerate(run.learning_rates.T)},
    }  # fmt: skip
    for place in places:
        values = {name: float(column[place]) for name, (column, there) in columns.items() if there[place]}
        yield Moment(int(run.steps["step"][place]), float(run.steps["time"][place]), values)


def _of_layers(run: Run) -> Iterator[Moment]:
    """What was recorded of layers and parameters in this stretch."""
    found: dict[int, dict[str, float]] = {
        step: {"gradscope/non_finite_tensors": float(count)} for step, count in _non_finite(run.summaries)
    }
    names = [site.name for site in run.info.sites]
    for reading in readings(run):
        start = f"gradscope_{reading.signal.name}/"
        for site, step, value in zip(*(each.tolist() for each in reading[1:]), strict=True):
            found[step][start + names[site]] = value
    for step, values in sorted(found.items()):
        yield Moment(step, time_of(run, step), values)


def _non_finite(rows: Rows) -> Iterator[tuple[int, int]]:
    """How many tensors held NaN or Inf at each recorded step."""
    steps, at = np.unique(rows["step"], return_inverse=True)
    broken = rows["non_finite"] & (rows["quantity"] < _DERIVED)
    yield from zip(steps.tolist(), np.bincount(at, broken, len(steps)).astype(int).tolist(), strict=True)


def time_of(run: Run, step: int) -> float:
    """When a step closed, as far as is known: when the next one did, the last one, or when the run began."""
    if not len(run.steps):
        return run.info.created
    at = int(np.searchsorted(run.steps["step"], step))
    return float(run.steps["time"][min(at, len(run.steps) - 1)])


def fitting(name: str, forbidden: re.Pattern[str] | None = None, longest: int = 10**6) -> str:
    r"""A name that a tracker can hold: a forbidden character becomes its number, what is too long ends in a checksum.

    Example:
        >>> fitting("gradscope_forward_gain/a\nb", re.compile(r"[^\w/]"))
        'gradscope_forward_gain/a_x0A_b'
        >>> fitting("x" * 40, longest=20)
        'xxxxxxxxxxx_bd913ff6'
    """
    if forbidden is not None:
        name = _LIKE_OURS.sub("_x5F_", name)  # so that different names stay different
        name = forbidden.sub(lambda found: f"_x{ord(found[0]):02X}_", name)
    if len(name) > longest:
        name = f"{name[: longest - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name
