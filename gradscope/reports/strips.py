"""Strips: how the backward gain of the worst layers went over the steps, on one fixed scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradscope.numerals import limit
from gradscope.records import Diagnosis
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.signals import Signals

MOST_LAYERS = 6
MOST_STEPS = 240  # more steps than this are thinned, the worst of each stretch stays

# Never fitted to the data, so that two runs and two moments look alike. The fourth and fifth are the healthy band.
EDGES = (1e-6, 1e-3, HEALTHY_GAIN[0], 1.0, HEALTHY_GAIN[1], 1e3, 1e6)
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
NON_FINITE, UNDEFINED, NOT_RECORDED = "NaN or Inf", "undefined, the output's gradient is 0", "not recorded"


@dataclass(frozen=True)
class Strip:
    """The backward gain of one layer. Where `values` has None, `words` says why at the same place."""

    layer: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    words: tuple[str | None, ...]


def strips(signals: Signals, diagnosis: Diagnosis) -> list[Strip]:
    """The strips of the worst layers in execution order: those that findings name, else the lowest and the highest."""
    seen = signals.values("activation_gradient", "count")
    shown = [layer for layer in _worst_layers(signals, diagnosis) if not np.isnan(seen[layer]).all()]
    return [strip_of(signals, layer) for layer in sorted(shown, key=lambda layer: signals.sites[layer].order)]


def _worst_layers(signals: Signals, diagnosis: Diagnosis) -> list[int]:
    by_name = {signals.sites[i].name: i for i in signals.modules}
    owners = {signals.sites[i].path: signals.owner(i) for i in signals.parameters}
    named = [[by_name.get(name, owners.get(name)) for name in finding.layers] for finding in diagnosis.findings]
    first, rest = [layers[:3] for layers in named], [layers[3:] for layers in named]  # no finding crowds out another
    found = dict.fromkeys(layer for layers in [*first, *rest] for layer in layers if layer is not None)
    return list(found)[:MOST_LAYERS] or _extremes(signals)


def _extremes(signals: Signals) -> list[int]:
    if not len(signals.steps):
        return []
    gain = signals.unpooled_gain[:, -1]
    known = [layer for layer in signals.layers if not math.isnan(gain[layer])]
    if not known:
        return signals.layers[:1]
    return list({min(known, key=lambda layer: gain[layer]), max(known, key=lambda layer: gain[layer])})


def strip_of(signals: Signals, layer: int) -> Strip:
    """The strip of one layer, given its site."""
    gain = signals.unpooled_gain[layer]
    broken = signals.non_finite("activation_gradient")
    head_broken = np.isin(np.arange(len(signals.steps)), np.nonzero(broken[list(signals.run.info.heads)])[1])
    values: list[float | None] = []
    words: list[str | None] = []
    for column in range(len(signals.steps)):
        if broken[layer, column] or head_broken[column] or np.isinf(gain[column]):
            word = NON_FINITE
        elif not np.isnan(gain[column]):
            word = ""
        else:
            word = UNDEFINED if signals.head_norm[column] == 0 else NOT_RECORDED
        values.append(None if word else float(gain[column]))
        words.append(word or None)
    whole = Strip(signals.sites[layer].name, tuple(map(int, signals.steps)), tuple(values), tuple(words))
    return thin(whole, MOST_STEPS)


def thin(strip: Strip, most: int) -> Strip:
    """At most `most` steps of a strip, spread evenly: of each stretch the step that is farthest from healthy."""
    if len(strip.steps) <= most:
        return strip
    stretches = np.array_split(np.arange(len(strip.steps)), most)
    kept = [max(map(int, stretch), key=lambda i: _badness(strip.values[i], strip.words[i])) for stretch in stretches]
    return Strip(
        strip.layer,
        tuple(strip.steps[i] for i in kept),
        tuple(strip.values[i] for i in kept),
        tuple(strip.words[i] for i in kept),
    )


def _badness(value: float | None, word: str | None) -> float:
    """How far from the healthy band, in decades; what was not seen is not bad."""
    if value is None:
        return math.inf if word == NON_FINITE else -1.0
    if value == 0:
        return 1e3
    lowest, highest = HEALTHY_GAIN
    return max(0.0, math.log10(lowest / value), math.log10(value / highest))


def sparkline(strip: Strip, width: int, blocks: str = BLOCKS) -> str:
    """A strip as one line of at most `width` characters; see `legend`.

    Example:
        >>> sparkline(Strip("a", (0, 1, 2, 3), (1e-9, 0.5, 0.0, None), (None, None, None, NON_FINITE)), 10)
        '▁▄0×'
    """
    shown = thin(strip, width)
    cells = [_cell(value, word, blocks) for value, word in zip(shown.values, shown.words, strict=True)]
    return "".join(cells)


def _cell(value: float | None, word: str | None, blocks: str) -> str:
    if value is None:
        unknown = "·" if blocks == BLOCKS else " "
        return ("×" if blocks == BLOCKS else "x") if word == NON_FINITE else unknown
    return "0" if value == 0 else blocks[sum(value > edge for edge in EDGES)]


def legend(shown: Sequence[Strip], blocks: str = BLOCKS) -> str:
    """What the characters of these sparklines mean; signs that none of them uses are left out."""
    lowest, highest = HEALTHY_GAIN
    parts = [
        f"{blocks[3]}{blocks[4]} healthy ({limit(lowest)} to {limit(highest)})",
        f"{blocks[0]} under {limit(EDGES[0])}",
        f"{blocks[-1]} over {limit(EDGES[-1])}",
    ]
    values = [value for strip in shown for value in strip.values]
    words = {word for strip in shown for word in strip.words if word}
    if any(value == 0 for value in values):
        parts.append("0 exactly zero")
    if NON_FINITE in words:
        parts.append(f"{_cell(None, NON_FINITE, blocks)} {NON_FINITE}")
    if words - {NON_FINITE}:
        unknown = _cell(None, None, blocks)
        parts.append(f"{'blank' if unknown == ' ' else unknown} undefined or not recorded")
    return ", ".join(parts)
