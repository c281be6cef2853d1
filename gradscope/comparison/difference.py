"""One quantity of two runs on their common layers and aligned steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradscope.signals import Signals

Matrix = NDArray[np.float64]
ALIGNMENTS = {
    "step": "by step",
    "share": "by share of the training",
    "time": "by time since the start",
}
# what a cell that is no difference shows
DIFFERS, NOT_IN_BOTH, ONLY_A_BROKEN, ONLY_B_BROKEN, BOTH_BROKEN, ONLY_A_ZERO, ONLY_B_ZERO = range(7)
_MOST_POSITIONS = 500


class Reading(Protocol):
    """A quantity that can be compared: positive, so that its decades mean something."""

    def rows(self, signals: Signals, /) -> list[int]:
        """The sites that have it."""

    def values(self, signals: Signals, /) -> Matrix:
        """The values, shape `[sites, recorded steps]`."""

    def non_finite(self, signals: Signals, /) -> NDArray[np.bool_]:
        """Where it is NaN or Inf, the same shape."""


@dataclass(frozen=True)
class Difference:
    """`b` minus `a` in decades.

    Attributes:
        layers: in forward order.
        labels: the same for people, with the kind where the name is only a number or the kinds differ.
        at: where each column begins: a step, a share in [0, 1] or seconds; shape `[columns]`, evenly spread.
        decades: log10 of b over a, shape `[layers, columns]`; NaN where the state is not DIFFERS. Where recorded
            steps share a column, the difference farthest from 0.
        states: DIFFERS or why there is no difference, shape `[layers, columns]`.
    """

    layers: tuple[str, ...]
    labels: tuple[str, ...]
    at: Matrix
    decades: NDArray[np.float32]
    states: NDArray[np.uint8]


@dataclass(frozen=True)
class LayerPair:
    """A layer of both runs; gains are medians over the recorded steps, in decades, NaN where there is none."""

    layer: str
    gain_a: float
    gain_b: float
    decades: float  # gain_b - gain_a


def layer_pairs(a: Signals, b: Signals) -> tuple[tuple[LayerPair, ...], tuple[str, ...], tuple[str, ...]]:
    """The layers that both have, those of `a` only, those of `b` only."""
    of_a, of_b = _gains(a), _gains(b)
    pairs = [
        LayerPair(name, of_a[name], of_b[name], of_b[name] - of_a[name]) for name in _common(list(of_a), list(of_b))
    ]
    return (
        tuple(pairs),
        tuple(name for name in of_a if name not in of_b),
        tuple(name for name in of_b if name not in of_a),
    )


def _gains(signals: Signals) -> dict[str, float]:
    gains = signals.unpooled_gain
    return {signals.sites[i].name: _median_decade(gains[i]) for i in signals.layers}


def _median_decade(values: Matrix) -> float:
    known = values[np.isfinite(values) & (values > 0)]
    return float(np.median(np.log10(known))) if len(known) else math.nan


def _common(a: list[str], b: list[str]) -> list[str]:
    """The names in both, in an order that is the same with the runs exchanged."""
    place_a, place_b = {name: i for i, name in enumerate(a)}, {name: i for i, name in enumerate(b)}
    return sorted(place_a.keys() & place_b.keys(), key=lambda name: (place_a[name] + place_b[name], name))


def positions(signals: Signals, by: str, steps: NDArray[np.int64] | None = None) -> Matrix:
    """Where steps lie on the axis that runs are aligned by, see `ALIGNMENTS`; of the recorded ones if not told which."""
    asked = (signals.steps if steps is None else steps).astype(np.float64)
    rows = signals.run.steps
    if by == "step" or not len(rows):
        return asked
    if by == "time":
        return np.asarray(np.interp(asked, rows["step"], rows["time"] - rows["time"][0] + rows["seconds"][0]))
    return np.asarray((asked - rows["step"][0]) / max(1, int(rows["step"][-1] - rows["step"][0])))


def difference(a: Signals, b: Signals, reading: Reading, by: str = "step") -> Difference:
    """The map of `b` minus `a`; exchanging the runs negates it exactly."""
    rows_a = {a.sites[i].name: i for i in reading.rows(a)}
    rows_b = {b.sites[i].name: i for i in reading.rows(b)}
    names = _common(list(rows_a), list(rows_b))
    labels = tuple(_label(name, a.sites[rows_a[name]].kind, b.sites[rows_b[name]].kind) for name in names)
    at_a, at_b = positions(a, by), positions(b, by)
    if not names or not len(at_a) or not len(at_b):
        blank = np.zeros((len(names), 0))
        return Difference(tuple(names), labels, np.zeros(0), blank.astype(np.float32), blank.astype(np.uint8))
    end_a, end_b = _end(a, by), _end(b, by)
    last = min(end_a, end_b) if by == "step" else max(end_a, end_b)
    everywhere = np.union1d(np.union1d(at_a, at_b), [end_a, end_b])
    everywhere = everywhere[everywhere <= max(last, everywhere[0])]
    sites_a, sites_b = [rows_a[name] for name in names], [rows_b[name] for name in names]
    decades_a, broken_a = _read(a, reading, sites_a, at_a, everywhere)
    decades_b, broken_b = _read(b, reading, sites_b, at_b, everywhere)
    cells, states = _subtract(decades_a, broken_a, decades_b, broken_b)
    at, cells, states = _columns(everywhere, cells, states, by)
    return Difference(tuple(names), labels, at, cells.astype(np.float32), states)


def _end(signals: Signals, by: str) -> float:
    """Where a run's last step lies; the last recorded one may be long before it."""
    rows = signals.run.steps
    last = max(int(signals.steps[-1]), int(rows["step"][-1]) if len(rows) else 0)
    return float(positions(signals, by, np.array([last]))[0])


def _label(name: str, kind_a: str, kind_b: str) -> str:
    if kind_a != kind_b:
        return f"{name} {kind_a} → {kind_b}"
    return f"{name} {kind_a}" if kind_a and name.rpartition(".")[2].isdigit() else name


def _read(
    signals: Signals, reading: Reading, sites: list[int], at: Matrix, everywhere: Matrix
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Decades and brokenness of some sites at some positions: NaN where nothing was measured, -Inf for exactly 0."""
    values, broken = reading.values(signals)[sites], reading.non_finite(signals)[sites]
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(np.where(np.isfinite(values) & (values >= 0), values, np.nan))
    shown = _held(at, everywhere)
    missing = shown < 0
    decades, broken = decades[:, shown], broken[:, shown]
    decades[:, missing], broken[:, missing] = np.nan, False
    return decades, broken


def _held(at: Matrix, everywhere: Matrix) -> NDArray[np.int64]:
    """For each position the recorded step that still holds there, as an index: at most twice the usual distance."""
    last = np.searchsorted(at, everywhere, side="right") - 1
    usual = float(np.median(np.diff(at))) if len(at) > 1 else 0.0
    before = np.diff(at, prepend=at[0] - usual)
    hold = 2 * np.maximum(before, usual)
    near = (last >= 0) & (everywhere - at[last.clip(0)] <= hold[last.clip(0)])
    return np.where(near, last, -1)


def _subtract(
    a: Matrix, broken_a: NDArray[np.bool_], b: Matrix, broken_b: NDArray[np.bool_]
) -> tuple[Matrix, NDArray[np.uint8]]:
    states = np.full(a.shape, DIFFERS, np.uint8)
    states[np.isnan(a) | np.isnan(b)] = NOT_IN_BOTH
    both_zero = np.isneginf(a) & np.isneginf(b)
    states[np.isneginf(a) & np.isfinite(b)] = ONLY_A_ZERO
    states[np.isneginf(b) & np.isfinite(a)] = ONLY_B_ZERO
    states[broken_a & ~broken_b & ~np.isnan(b)] = ONLY_A_BROKEN
    states[broken_b & ~broken_a & ~np.isnan(a)] = ONLY_B_BROKEN
    states[broken_a & broken_b] = BOTH_BROKEN
    with np.errstate(invalid="ignore"):
        cells = np.where(both_zero, 0.0, b - a)
    return np.where(states == DIFFERS, cells, np.nan), states


def _columns(
    everywhere: Matrix, cells: Matrix, states: NDArray[np.uint8], by: str
) -> tuple[Matrix, Matrix, NDArray[np.uint8]]:
    """Spreads positions evenly over columns: each shows what lies in it, else what its left neighbour shows."""
    span = float(everywhere[-1] - everywhere[0])
    finest = float(np.diff(everywhere).min()) if len(everywhere) > 1 else 1.0
    if by == "step":
        width = max(1.0, math.ceil((span + 1) / _MOST_POSITIONS))
    else:
        width = max(finest, span / (_MOST_POSITIONS - 1), 1e-12)
    group = np.floor((everywhere - everywhere[0]) / width + 1e-9).astype(np.int64)
    columns = int(group[-1]) + 1
    folded, state = np.full((len(cells), columns), np.nan), np.full((len(cells), columns), NOT_IN_BOTH, np.uint8)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(group)], strict=True):
        into = group[start]
        far = np.nan_to_num(np.abs(cells[:, start:end]), nan=-1.0).argmax(axis=1)
        folded[:, into] = cells[np.arange(len(cells)), start + far]
        state[:, into] = _strongest(states[:, start:end])
    folded[state != DIFFERS] = np.nan
    source = np.maximum.accumulate(np.where(np.isin(np.arange(columns), group), np.arange(columns), 0))
    return everywhere[0] + width * np.arange(columns), folded[:, source], state[:, source]


def _strongest(states: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of the states of a column that with the most to say: broken, then exactly 0, then a difference, then nothing."""
    shown = np.full(len(states), NOT_IN_BOTH, np.uint8)
    for state in (DIFFERS, ONLY_A_ZERO, ONLY_B_ZERO, ONLY_A_BROKEN, ONLY_B_BROKEN, BOTH_BROKEN):
        shown[(states == state).any(axis=1)] = state
    both = (states == ONLY_A_BROKEN).any(axis=1) & (states == ONLY_B_BROKEN).any(axis=1)
    shown[both] = BOTH_BROKEN
    zeros = (states == ONLY_A_ZERO).any(axis=1) & (states == ONLY_B_ZERO).any(axis=1) & (shown == ONLY_B_ZERO)
    shown[zeros] = NOT_IN_BOTH
    return shown
