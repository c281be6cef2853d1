"""Closed steps on their way to the store: numbers are read when the device has them, never waited for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gradscope.recorder.agreement import SharedSchedule
from gradscope.recorder.losses import mean
from gradscope.recorder.parameters import Entry
from gradscope.recorder.schedule import Schedule
from gradscope.recorder.trivial_loss import Targets, TrivialLoss
from gradscope.records import QUANTITIES, STEP, SUMMARY, SUMMARY_ROW, Rows, merge
from gradscope.stats import HostNumber, Pending
from gradscope.store import RunWriter


@dataclass
class ClosedStep:
    """Everything of one step that is left to write."""

    facts: dict[str, float]  # columns of its row, dtype STEP, as far as they are known
    learning_rates: list[float]
    losses: list[HostNumber] = field(default_factory=list)  # of its forwards; the step's is their mean
    summaries: Pending | None = None
    entries: list[Entry] = field(default_factory=list)
    gradient_rows: list[int] = field(default_factory=list)  # whose sum is the squared gradient norm
    clipped_rows: list[int] = field(default_factory=list)
    norms: list[tuple[HostNumber, bool]] = field(default_factory=list)  # of each optimizer, and whether it is scaled
    scale: HostNumber | None = None
    scaled_rows: list[int] = field(default_factory=list)  # taken from numbers that have it in them
    scaled_dots: list[int] = field(default_factory=list)  # whose `weight_dot` alone has
    carried: HostNumber | float = math.nan  # norm of the gradients that were there before the first backward pass
    targets: list[Targets] = field(default_factory=list)  # of its losses
    found_inf: HostNumber | None = None  # not 0 when a fused optimizer skipped the step

    def ready(self) -> bool:
        """Whether reading it would not wait."""
        norms = [norm for norm, _ in self.norms]
        parts = [*self.losses, *norms, *self.targets, self.summaries, self.scale, self.found_inf, self.carried]
        return all(part is None or isinstance(part, float) or part.ready() for part in parts)


class Delivery:
    """Writes steps in order as soon as their numbers have arrived.

    Args:
        writer: where to.
        before_summaries: called before rows are written, so that the sites they name are on disk first.
        schedule: told every observed loss and gradient norm.
    """

    def __init__(
        self, writer: RunWriter, before_summaries: Callable[[], None], schedule: Schedule | SharedSchedule
    ) -> None:
        self._writer = writer
        self._before_summaries = before_summaries
        self._schedule = schedule
        self._queue: deque[ClosedStep] = deque()
        self._trivial = TrivialLoss()
        self._last = False, 1.0  # whether the step before was skipped, and its loss scale

    def add(self, step: ClosedStep) -> None:
        """Takes a step over and writes what is ready."""
        self._queue.append(step)
        self.flush(wait=False)

    def flush(self, wait: bool) -> None:
        """Writes what is ready; with `wait` everything."""
        with np.errstate(all="ignore"):  # Inf and NaN are what is looked for
            while self._queue and (wait or self._queue[0].ready()):
                self._write(self._queue.popleft())

    def _write(self, step: ClosedStep) -> None:
        facts = step.facts
        if step.losses:
            loss = facts["loss"] = mean(step.losses)
            facts["has_loss"] = True
            self._schedule.saw_loss(loss)
        for targets in step.targets:
            facts["trivial_loss"] = self._trivial.add(targets)
        if step.found_inf is not None and step.found_inf.value() != 0:
            facts["skipped"] = True
        scale = 1.0 if step.scale is None else step.scale.value()
        scale = facts["scale"] = scale if 0 < scale < math.inf else 1.0
        if step.summaries is not None:
            rows = step.summaries.rows()
            _unscale(rows, step.scaled_rows, scale)
            rows["weight_dot"][step.scaled_dots] /= scale
            before, after = _norm(rows, step.gradient_rows), _norm(rows, step.clipped_rows)
            facts["gradient_norm"], facts["clipped_gradient_norm"] = before, after
            carried = step.carried if isinstance(step.carried, float) else step.carried.value()
            facts["carried"] = carried / (scale * before) if carried and before else carried
            if facts["skipped"] or self._last != (False, scale):  # then two gradients are not to be compared
                step.entries = [entry for entry in step.entries if entry[1] != "gradient_change"]
            self._before_summaries()
            self._writer.write_summaries(_merged(int(facts["step"]), rows, step.entries))
        elif step.norms:
            after = math.hypot(*(number.value() / (scale if scaled else 1.0) for number, scaled in step.norms))
            facts["clipped_gradient_norm"] = after  # what it was before clipping, if there was any, nobody has seen
        if "clipped_gradient_norm" in facts and not facts["skipped"]:
            self._schedule.saw_norm(facts["clipped_gradient_norm"])
        self._last = bool(facts["skipped"]), scale
        self._writer.write_steps(np.array([_row(facts)], STEP), [step.learning_rates])

    def add_light(self, steps: list[tuple[dict[str, float], list[float]]]) -> None:
        """Writes steps of which little more is known than when they were, behind those that are on their way."""
        self.flush(wait=True)
        self._writer.write_steps(np.array([_row(facts) for facts, _ in steps], STEP), [rates for _, rates in steps])


_COLUMNS = STEP.names or ()
_UNKNOWN = ("loss", "gradient_norm", "clipped_gradient_norm", "trivial_loss", "carried")
_ABSENT = {"scale": 1.0, **dict.fromkeys(_UNKNOWN, math.nan)}


def _row(facts: dict[str, float]) -> tuple[float, ...]:
    return tuple([facts.get(name, _ABSENT.get(name, 0)) for name in _COLUMNS])


def _norm(rows: Rows, members: list[int]) -> float:
    return math.sqrt(rows["sum_squares"][members].sum()) if members else math.nan


def _unscale(rows: Rows, members: list[int], scale: float) -> None:
    """Takes the loss scale out of summaries, in place; their histograms stay what the number format held."""
    if scale == 1.0:
        return
    rows["sum_squares"][members] /= scale**2
    for name in ("sum", "minimum", "maximum", "weight_dot"):
        rows[name][members] /= scale


_QUANTITY_NUMBERS = {name: number for number, name in enumerate(QUANTITIES)}


def _merged(step: int, rows: Rows, entries: list[Entry]) -> Rows:
    """One row a site and quantity, dtype `SUMMARY_ROW`: calls and micro-batches merge here."""
    kinds = len(QUANTITIES)
    keys = np.array([site * kinds + _QUANTITY_NUMBERS[quantity] for site, quantity, _ in entries], np.int64)
    summaries = rows[[row for _, _, row in entries]]
    unique = keys
    if len(set(keys.tolist())) < len(keys):
        unique, groups = np.unique(keys, return_inverse=True)
        summaries = merge(summaries, groups, len(unique))
    table = np.empty(len(unique), SUMMARY_ROW)
    table["step"], table["site"], table["quantity"] = step, unique // kinds, unique % kinds
    for name in SUMMARY.names or ():
        table[name] = summaries[name]
    return table
