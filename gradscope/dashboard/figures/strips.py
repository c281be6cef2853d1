"""Histograms over the steps: how large the entries of a layer's tensors are, and how that moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.strip_sources import Source, sources
from gradscope.dashboard.wording import number, percent
from gradscope.records import EXPONENT_EDGES, QUANTITIES, Rows
from gradscope.signals import Signals

MOST_COLUMNS = 160  # a strip is about 500 pixels wide
LOWEST, HIGHEST = -50.0, 42.0  # log10: below and above lie the first and the last bin, which have no end of their own
_DECADES = np.log10(2.0) * EXPONENT_EDGES
EDGES: NDArray[np.float64] = np.concatenate([[LOWEST], _DECADES, [HIGHEST]])  # of the bins, log10 |x|


@dataclass(frozen=True)
class Strip:
    """The histogram of one tensor at every recorded step.

    Attributes:
        of: "output", "input", or a parameter's name.
        what: "value" or "gradient".
        steps: the first step of each column, and where the last one ends: shape `[columns + 1]`.
        share: of all entries that lie in a bin, shape `[bins, columns]`, see `EDGES`; NaN where there is none.
        zeros: share of entries that are exactly 0, shape `[columns]`.
        non_finite: share of entries that are NaN or Inf, shape `[columns]`; above 0 where any is.
        said: the numbers at the chosen step, in words.
        missing: why nothing is shown; empty when something is.
    """

    of: str
    what: str
    steps: NDArray[np.float64]
    share: NDArray[np.float32]
    zeros: NDArray[np.float32]
    non_finite: NDArray[np.float32]
    said: str
    missing: str


@dataclass(frozen=True)
class StripsData:
    """A layer's strips in pairs, value beside gradient, and what the figure marks.

    Attributes:
        layer: its name.
        strips: shape `[pairs][2]`.
        step: the recorded step that is chosen; None when nothing was recorded.
        scaled: whether gradients are shown with the loss scale that they had in memory.
    """

    layer: str
    strips: tuple[tuple[Strip, Strip], ...]
    step: int | None
    scaled: bool


def strips_data(signals: Signals, site: int | None, parameters: tuple[int, ...], step: int | None) -> StripsData:
    """The strips of a layer's input, its output and its parameters.

    Args:
        signals: of the run.
        site: the layer's output site; None when it never ran.
        parameters: the parameter sites to show.
        step: the recorded step whose numbers are said.
    """
    wanted = sources(signals, site, parameters)
    rows = _rows_of(signals, {i for pair in wanted for source in pair for i in source.sites})
    pairs = tuple((_strip(signals, rows, value, step), _strip(signals, rows, grad, step)) for value, grad in wanted)
    named = signals.sites[site].name if site is not None else ""
    scales = signals.run.steps["scale"]
    return StripsData(named, pairs, step, bool((scales != 1).any()))


def _rows_of(signals: Signals, sites: set[int]) -> Rows:
    rows = signals.run.summaries
    return rows[np.isin(rows["site"], sorted(sites))]


def _strip(signals: Signals, rows: Rows, source: Source, step: int | None) -> Strip:
    here = rows[np.isin(rows["site"], source.sites) & (rows["quantity"] == QUANTITIES.index(source.quantity))]
    counted = (
        here["histogram"].sum(axis=1) + here["zeros"] + here["nans"] + here["positive_infs"] + here["negative_infs"]
    )
    missing = source.missing
    if not missing and not len(here):
        missing = "not recorded"
    elif not missing and not counted.any():
        missing = "the run holds no histogram of it"
    if missing:
        none = np.zeros(0, np.float32)
        share = np.zeros((len(EDGES) - 1, 0), np.float32)
        return Strip(source.of, source.what, np.zeros(1), share, none, none, "", missing)
    starts, group = _columns(signals, here["step"])
    columns = len(starts) - 1

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(group, values, columns), np.float64)

    count = total(here["count"])
    broken = total(here["nans"] + here["positive_infs"] + here["negative_infs"]) / count
    broken = np.maximum(
        broken, np.where(total(here["non_finite"]) > 0, 1 / count, 0.0)
    )  # the sample may have missed it
    bins = np.stack([total(here["histogram"][:, i]) for i in range(len(EDGES) - 1)]) / count
    share = np.where(bins > 0, bins, np.nan).astype(np.float32)
    said = _said(here[here["step"] == step]) if step is not None else ""
    zeros = (total(here["zeros"]) / count).astype(np.float32)
    return Strip(source.of, source.what, starts, share, zeros, broken.astype(np.float32), said, "")


def _columns(signals: Signals, steps: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where the columns begin and the last one ends, and the column of each row: neighbours share one when many."""
    seen, place = np.unique(steps, return_inverse=True)
    per_column = -(-len(seen) // MOST_COLUMNS)
    begins = seen[::per_column].astype(np.float64)
    usual = float(np.median(np.diff(seen))) if len(seen) > 1 else 1.0
    newest = float(signals.run.steps["step"][-1]) if len(signals.run.steps) else float(seen[-1])
    end = max(float(seen[-1]) + 1.0, min(float(seen[-1]) + usual, newest + 1.0))
    return np.append(begins, end) - 0.5, place // per_column


def _said(rows: Rows) -> str:
    """A tensor's numbers at one step: rms, zeros, what is not finite."""
    count = float(rows["count"].sum())
    if not count:
        return "not recorded at this step"
    broken = float((rows["nans"] + rows["positive_infs"] + rows["negative_infs"]).sum())
    if rows["non_finite"].any():
        return f"holds NaN or Inf{f': {percent(broken / count)} of entries' if broken else ''}"
    zeros = float(rows["zeros"].sum()) / count
    rms = float(np.sqrt(rows["sum_squares"].sum() / count))
    return f"rms {number(rms)}" + (f" · zeros {percent(zeros)}" if zeros else "")


def shown_range(strips: Iterable[Strip]) -> tuple[float, float]:
    """The decades that several strips need, at least three; the same for all, so that they can be compared."""
    used = np.zeros(len(EDGES) - 1, np.bool_)
    for strip in strips:
        used |= (strip.share > 0).any(axis=1)
    filled = np.flatnonzero(used)
    if not len(filled):
        return -3.0, 1.0
    low, high = max(EDGES[filled[0]], _DECADES[0] - 1.0), min(EDGES[filled[-1] + 1], _DECADES[-1] + 1.0)
    missing = max(0.0, 3.0 - (high - low)) / 2
    return float(low - missing), float(high + missing)
