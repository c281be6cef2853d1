"""What changed most in a window of steps, against the time before it; and what was changed on purpose, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import number
from gradscope.signals.series import Series, Signals

MOST_CHANGES = 20
_BEFORE, _LEAST_BEFORE = 4, 20  # the time before: this many times as long as the window, this many steps at least
_FEWEST = 2  # steps before, from which a median and its spread mean something
_RESOLUTION = 0.02  # decades (5 %): a series that stood still before is not surprised by less
_CLEAR = 3.0  # spreads
_A_CHANGE = 0.08  # decades: 20 %
_MAD_TO_SPREAD = 1.4826  # of a normal distribution

Kind = Literal["changed", "became non-finite", "became 0", "came from 0"]


@dataclass(frozen=True)
class Change:
    """One series that is not as it was.

    Attributes:
        quantity: "gradient", "loss" …
        layer: the site's name; "" for what belongs to the whole training.
        kind: what happened.
        before, inside: medians before the window and in it; NaN where there is none.
        factor: inside over before; NaN for another kind than "changed".
        spreads: how many times the usual spread before the window (1.48 MAD of log10) the median moved; Inf for another
            kind than "changed".
        first_step: of the window's steps that was recorded first, or at which it became non-finite or 0.
    """

    quantity: str
    layer: str
    kind: Kind
    before: float
    inside: float
    factor: float
    spreads: float
    first_step: int

    @property
    def sentence(self) -> str:
        """What happened in a few words: "×340 gradient of blocks.9.fc1"."""
        of = f"{self.quantity} of {self.layer}" if self.layer else self.quantity
        if self.kind != "changed":
            return f"{of} {self.kind.replace('non-finite', 'NaN or Inf')} at step {self.first_step:,}"
        if math.isnan(self.factor):
            return f"{of} went from {number(self.before)} to {number(self.inside)}"
        return f"×{number(self.factor)} {of}" if self.factor >= 1 else f"÷{number(1 / self.factor)} {of}"


@dataclass(frozen=True)
class Suspect:
    """Something that was changed on purpose, by the program or a scaler: the first to ask when something goes wrong."""

    step: int
    kind: Literal["learning rate", "warm-up end", "loss scale", "clipping"]
    sentence: str


def window_before(signals: Signals, first: int, last: int) -> tuple[int, int] | None:
    """The first and the last recorded step of the time that a window is compared with; None when there is too little."""
    inside = int(((signals.steps >= first) & (signals.steps <= last)).sum())
    before = signals.steps[signals.steps < first][-max(_BEFORE * inside, _LEAST_BEFORE) :]
    return (int(before[0]), int(before[-1])) if inside and len(before) >= _FEWEST else None


def what_changed_most(signals: Signals, first: int, last: int, most: int = MOST_CHANGES) -> tuple[Change, ...]:
    """What is not as it was before: what is not finite any more, what was set, then the most surprising.

    Medians of log10 are compared, so that nothing depends on a scale, and one spike is no change.

    Args:
        signals: of the run.
        first, last: the window's steps.
        most: how many changes to give.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> made = run({"a": 1.0, "b": 1.0}, gradient={"a.weight": [1e-3] * 20 + [0.34] * 4}, steps=24)
        >>> [change.sentence for change in what_changed_most(Signals(made), 20, 23)]
        ['×340 gradient of a.weight']
    """
    span = window_before(signals, first, last)
    if span is None:
        return ()
    found = [
        change
        for quantity, layers, steps, values in _series(signals)
        for change in _changes(quantity, layers, steps, values, span, (first, last))
    ]
    return tuple(sorted(found, key=_weight)[:most])


def _weight(change: Change) -> tuple[int, float, float]:
    """Orders changes: by size, where it is beyond doubt (50 spreads), else by size times clarity."""
    if change.kind == "became non-finite":
        return 0, change.first_step, 0.0
    if change.kind != "changed":
        return 1, change.first_step, 0.0
    size = abs(math.log10(change.factor)) if change.factor > 0 else 0.0
    was_set = change.quantity.startswith(("learning rate", "loss scale"))
    return 2 if was_set else 3, -min(change.spreads * _RESOLUTION, 1.0) * max(size, _RESOLUTION), -change.spreads


_Many = tuple[str, list[str], NDArray[np.int64], Series]


def _series(signals: Signals) -> Iterator[_Many]:
    """Everything that is watched: quantity, names, steps, values of shape `[names, steps]`, NaN where not recorded."""
    rows, rates = signals.run.steps, signals.run.learning_rates
    for name, column in (("loss", "loss"), ("gradient norm", "gradient_norm"), ("loss scale", "scale")):
        values = np.where(rows["has_loss"], _marked(rows["loss"]), np.nan) if name == "loss" else rows[column]
        yield name, [""], rows["step"], np.atleast_2d(values.astype(np.float64))
    for group in range(rates.shape[1]):
        which = f" of group {group + 1}" if rates.shape[1] > 1 else ""
        yield f"learning rate{which}", [""], rows["step"], rates[:, group][None, :]
    layers = signals.layers
    weights = [i for i in signals.parameters if signals.sites[i].trainable and signals.sites[i].same_as is None]
    for quantity, sites, values, source in (
        ("backward gain", layers, signals.backward_gain, "activation_gradient"),
        ("activation rms", layers, signals.rms("activation"), "activation"),
        ("gradient", weights, signals.rms("gradient"), "gradient"),
        ("update ratio", weights, signals.update_ratio, "update"),
        ("weight rms", weights, signals.rms("weight"), "weight"),
    ):
        broken = signals.non_finite(source)[sites]
        names = [signals.sites[site].name for site in sites]
        yield quantity, names, signals.steps, np.where(broken, np.inf, _no_inf(values[sites]))


def _marked(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """A loss that is NaN is broken, not missing."""
    return np.where(np.isnan(loss), np.inf, loss)


def _no_inf(values: Series) -> Series:
    """What is Inf by division only is not known."""
    return np.where(np.isinf(values), np.nan, values)


def _changes(
    quantity: str,
    layers: list[str],
    steps: NDArray[np.int64],
    values: Series,
    span: tuple[int, int],
    window: tuple[int, int],
) -> Iterator[Change]:
    before = values[:, (steps >= span[0]) & (steps <= span[1])]
    within = (steps >= window[0]) & (steps <= window[1])
    inside, inside_steps = values[:, within], steps[within]
    for row in np.flatnonzero(_may_have_changed(before, inside)):
        change = _change(quantity, layers[row], before[row], inside[row], inside_steps)
        if change is not None:
            yield change


def _may_have_changed(before: Series, inside: Series) -> NDArray[np.bool_]:
    """Which rows are worth a closer look: cheap, for thousands of layers."""
    if not before.shape[1] or not inside.shape[1]:
        return np.zeros(len(before), bool)
    typical, now = _medians(np.where(np.isinf(before), np.nan, before)), _medians(inside)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.abs(np.log10(now) - np.log10(typical)) < _A_CHANGE / 2  # false for what is 0 or negative
    return np.asarray(np.isinf(inside).any(axis=1) | ~(alike | (now == typical)))


def _medians(values: Series) -> NDArray[np.float64]:
    """The median of each row but for its NaN; NaN for a row of nothing else."""
    ordered, known = np.sort(values, axis=1), (~np.isnan(values)).sum(axis=1)
    rows = np.arange(len(values))
    low, high = ordered[rows, (known - 1) // 2], ordered[rows, (known // 2).clip(max=values.shape[1] - 1)]
    return np.asarray((low + high) / 2)


def _change(quantity: str, layer: str, before: Series, inside: Series, steps: NDArray[np.int64]) -> Change | None:
    known_before, seen = before[np.isfinite(before)], ~np.isnan(inside)
    if len(known_before) < _FEWEST or not seen.any():
        return None
    typical = float(np.median(known_before))
    broken = np.isinf(inside)
    if broken.any():
        if np.isinf(before).any():
            return None  # not new
        return Change(
            quantity, layer, "became non-finite", typical, math.nan, math.nan, math.inf, int(steps[broken][0])
        )
    now, first = float(np.median(inside[seen])), int(steps[seen][0])
    if (now == 0) != (typical == 0):
        kind: Kind = "became 0" if now == 0 else "came from 0"
        at = int(steps[seen & ((inside == 0) == (now == 0))][0])
        return Change(quantity, layer, kind, typical, now, math.nan, math.inf, at)
    if typical <= 0 or now <= 0 or (known_before <= 0).any():
        return _plain_change(quantity, layer, known_before, now, first)
    logs, log_now = np.log10(known_before), float(np.median(np.log10(inside[seen & (inside > 0)])))
    log_before = float(np.median(logs))
    spread = _MAD_TO_SPREAD * float(np.median(np.abs(logs - log_before)))
    moved = log_now - log_before
    spreads = abs(moved) / max(spread, _RESOLUTION)
    if abs(moved) < _A_CHANGE or spreads < _CLEAR:
        return None
    return Change(quantity, layer, "changed", 10**log_before, 10**log_now, 10**moved, spreads, first)


def _plain_change(quantity: str, layer: str, before: Series, now: float, first: int) -> Change | None:
    """Of a quantity that may be negative, such as some losses: no factor."""
    typical = float(np.median(before))
    spread = _MAD_TO_SPREAD * float(np.median(np.abs(before - typical)))
    spreads = abs(now - typical) / max(spread, 0.05 * abs(typical), 1e-300)
    if now == typical or spreads < _CLEAR:
        return None
    return Change(quantity, layer, "changed", typical, now, math.nan, spreads, first)


_LEAP = 1.5  # factor of a learning rate from one step to the next: a schedule that moves a little is none
_RAMP = 3  # steps in a row that a warm-up rises at least
MOST_SUSPECTS = 12


def suspects(signals: Signals, near: tuple[int, ...] = (), most: int = MOST_SUSPECTS) -> tuple[Suspect, ...]:
    """What was changed on purpose, in the order of steps; of too many those nearest to the steps in `near`.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> made = run({"a": 1.0}, columns={"scale": [1024.0] * 6 + [512.0] * 2})
        >>> [suspect.sentence for suspect in suspects(Signals(made))]
        ['the loss scale was cut from 1,020 to 512']
    """
    rows = signals.run.steps
    found = [*_rates(signals), *_scales(rows["step"], rows["scale"]), *_first_clipping(signals)]
    if len(found) > most:
        marks = np.array(near or (0,))
        found = sorted(found, key=lambda suspect: int(np.abs(marks - suspect.step).min()))[:most]
    return tuple(sorted(found, key=lambda suspect: suspect.step))


def _rates(signals: Signals) -> Iterator[Suspect]:
    steps, rates = signals.run.steps["step"], signals.run.learning_rates
    if not rates.shape[1] or len(steps) < 2:
        return
    rate = rates[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(rate[:-1] > 0, rate[1:] / rate[:-1], np.nan)
    rising = factor > 1 + 1e-6
    for place in np.flatnonzero((factor > _LEAP) | (factor < 1 / _LEAP)):
        neighbours = rising[max(0, place - 1) : place + 2]
        if rising[place] and neighbours.sum() > 1:
            continue  # the steep start of a warm-up
        before, after = number(float(rate[place])), number(float(rate[place + 1]))
        yield Suspect(int(steps[place + 1]), "learning rate", f"the learning rate went from {before} to {after}")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rising, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        if end - start >= _RAMP and end < len(rising):
            reached = number(float(rate[end]))
            yield Suspect(int(steps[end]), "warm-up end", f"the warm-up ended at a learning rate of {reached}")


def _scales(steps: NDArray[np.int64], scale: NDArray[np.float64]) -> Iterator[Suspect]:
    for place in np.flatnonzero(scale[1:] != scale[:-1]):
        verb = "cut" if scale[place + 1] < scale[place] else "raised"
        before, after = number(float(scale[place])), number(float(scale[place + 1]))
        yield Suspect(int(steps[place + 1]), "loss scale", f"the loss scale was {verb} from {before} to {after}")


def _first_clipping(signals: Signals) -> Iterator[Suspect]:
    rows = signals.run.steps
    before, after = rows["gradient_norm"], rows["clipped_gradient_norm"]
    clipped = np.isfinite(before) & np.isfinite(after) & ~rows["skipped"] & (after < 0.999 * before)
    if clipped.any() and not clipped[0]:
        step = int(rows["step"][clipped][0])
        yield Suspect(step, "clipping", "gradients were clipped for the first time")
