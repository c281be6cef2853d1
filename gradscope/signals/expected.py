"""What theory expects of a model at its start: how wide layers of random weights pass signal and gradient on.

Weights that are independent of each other and of what they are fed, of mean zero and of the size that was recorded,
multiply the mean square of a signal by fan_in · E[w²], and the squared norm of a gradient on its way back by the same
(Glorot and Bengio 2010; He et al. 2015). What an activation does follows from pre-activations that are normally
distributed (Poole et al. 2016; Schoenholz et al. 2017), what BatchNorm does to a gradient from Yang et al. 2019.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Link
from gradscope.signals.budget import budget, operation_kind, operation_mechanism
from gradscope.signals.gaussian import let_through, moments, shared
from gradscope.signals.series import Signals
from gradscope.signals.trunk import Stretch, pieces, trunk

_ENOUGH = 16  # numbers that a normalisation is taken over, from which it is as over infinitely many
_RESHAPING = ("Flatten", "Unflatten", "Identity")
_RESHAPING_NODES = ("View", "UnsafeView", "Reshape", "Transpose", "Permute", "T", "Squeeze", "Unsqueeze", "Clone")
_AFFINE = ("Linear", "Conv1d", "Conv2d", "Conv3d")
_DIGITS = 5  # to which variances are rounded, so that layers alike share one quadrature


@dataclass(frozen=True)
class Expected:
    """What theory expects of each site, in decades; NaN where there is no closed form, or none up to there.

    Attributes:
        backward: log10 of the backward gain, pooling not counted, shape `[sites]`.
        forward: log10 of the forward gain, likewise.
        missing: why there is nothing, or not everything; "" where all layers have their number.
    """

    backward: NDArray[np.float64]
    forward: NDArray[np.float64]
    missing: str = ""


class _Signal(NamedTuple):
    """A layer's numbers: their mean square, their mean, and the mean product of two samples' numbers of one unit."""

    square: float = math.nan
    mean: float = math.nan
    shared: float = math.nan


_UNKNOWN = _Signal()


@dataclass(frozen=True)
class _Piece:
    """What theory says of one stretch: what it gives, and what it does to the squared gradient, in decades."""

    name: str
    site: int | None
    given: _Signal
    squared: float
    branch: tuple[_Piece, ...] = field(default=())


def expected(signals: Signals) -> Expected:
    """What theory expects of a run's model, from the sizes that its weights have at step 0.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> found = expected(Signals(run({"a": 0.7, "r": 0.7, "b": 1.0}, kinds={"r": "ReLU"})))
        >>> found.missing
        'no closed form is known for a'
    """
    nothing = np.full(len(signals.sites), np.nan)
    if not len(signals.steps) or signals.steps[0] != 0:
        return Expected(nothing, nothing, "the first step was not recorded, so that the fresh weights are not known")
    found = trunk(signals)
    if found.first is None or found.head is None:
        return Expected(nothing, nothing, "no gradient at the model's output was recorded")
    return _Theory(signals).of(found.first, found.stretches)


class _Theory:
    """Follows a signal through a model, and the gradient back, with numbers of step 0 only."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.weights = signals.rms("weight")[:, 0]
        self.with_shared = any("BatchNorm" in site.kind for site in signals.sites)

    def of(self, first: int, stretches: Iterable[Stretch]) -> Expected:
        signals = self.signals
        forward, backward = (np.full(len(signals.sites), np.nan) for _ in range(2))
        start, base = self._first(first)
        chain = list(self._chain(start, stretches))
        for each in _all(chain):
            if each.site is not None:
                forward[each.site] = _log(each.given.square / base**2)
        forward[first] = _log(start.square / base**2)
        backward[first] = _back(chain, 0.0, backward)
        return Expected(backward, forward, _gap(signals.sites[first].title, start, chain))

    def _first(self, first: int) -> tuple[_Signal, float]:
        """What the first layer gives, and the rms that forward gains are relative to."""
        signals = self.signals
        rms = signals.rms("activation")[:, 0]
        site = signals.sites[first]
        before = [signals.sites[i] for i in signals.layers if signals.sites[i].order < site.order]
        fed = math.nan if signals.fed is None else float(rms[signals.fed])
        if "Embedding" in site.kind:
            weight = self._parameter(first, "weight")
            given = _Signal(self.weights[weight] ** 2, 0.0) if weight is not None else _UNKNOWN
        elif all(each.kind in _RESHAPING for each in before):
            given = self._layer(first, _Signal(fed**2)).given
        else:
            given = _UNKNOWN
        base = float(rms[signals.layers[0]]) if math.isnan(fed) else fed
        return given._replace(shared=self._shared_by_data(first, given.square)), base if base > 0 else math.nan

    def _shared_by_data(self, first: int, square: float) -> float:
        """How alike the first layer's samples are: a fact of the data, so it is taken from what was recorded."""
        if not self.with_shared or len(self.signals.sites[first].shape) != 2:
            return math.nan
        spread = float(self.signals.rms("sample_spread")[first, 0])
        return square * max(0.0, 1 - spread**2)

    def _chain(self, given: _Signal, stretches: Iterable[Stretch]) -> Iterator[_Piece]:
        for each in stretches:
            site = each.part.site
            if site is None:
                piece = self._code(each.part.name, given, each.operations)
            elif each.is_block:
                piece = self._block(site, given)
            else:
                piece = self._layer(site, given)
            given = piece.given
            yield piece

    def _code(self, name: str, given: _Signal, operations: tuple[str, ...], site: int | None = None) -> _Piece:
        """Code between modules: an activation, or one that only reshapes."""
        if operations and all(each.partition("Backward")[0] in _RESHAPING_NODES for each in operations):
            return _Piece(name, site, given, 0.0)
        if operation_mechanism(operations) == "activation":
            return self._activation(name, given, operation_kind(operations), "", site)
        return _Piece(name, site, _UNKNOWN, math.nan)

    def _layer(self, index: int, given: _Signal) -> _Piece:
        site = self.signals.sites[index]
        idle = site.kind.startswith(("Dropout", "AlphaDropout")) and not site.training
        if site.kind in _RESHAPING or idle:
            return _Piece(site.title, index, given, 0.0)
        if site.kind in _AFFINE:
            return self._affine(index, given)
        if site.mechanism == "activation":
            return self._activation(site.title, given, site.kind, site.label, index)
        if site.mechanism == "normalisation":
            return self._normalisation(index, given)
        if site.kind.startswith("Dropout"):
            kept = 1 - float(_option(site.label, "p", 0.5))
            times = 1 / kept if kept > 0 else math.nan
            return _Piece(site.title, index, given._replace(square=given.square * times), _log10(times))
        if site.mechanism == "pooling":
            return _Piece(site.title, index, _UNKNOWN, 0.0 if _takes_only(site.kind, site.label) else math.nan)
        links = self.signals.links_in(index)
        if site.mechanism == "container" and len(links) == 1 and not self.signals.parameters_of(index):
            return self._code(site.title, given, links[0].operations, index)
        return _Piece(site.title, index, _UNKNOWN, math.nan)

    def _affine(self, index: int, given: _Signal) -> _Piece:
        """A layer of weights: fan_in · E[w²], less what it takes from beyond the edges of an image, which is 0."""
        site = self.signals.sites[index]
        weight, bias = self._parameter(index, "weight"), self._parameter(index, "bias")
        if weight is None or len(self.signals.sites[weight].shape) < 2:
            return _Piece(site.title, index, _UNKNOWN, math.nan)
        shape = self.signals.sites[weight].shape
        times = math.prod(shape[1:]) * float(self.weights[weight]) ** 2 * _inside(site.label, shape[2:], site.shape[2:])
        added = 0.0 if bias is None else float(self.weights[bias]) ** 2
        out = _Signal(given.square * times + added, 0.0, given.shared * times + added)
        return _Piece(site.title, index, out, _log10(times))

    def _activation(self, name: str, given: _Signal, kind: str, label: str, site: int | None) -> _Piece:
        """φ of normally distributed numbers; it is no longer known how they are distributed where their mean is not 0."""
        variance = float(f"{given.square:.{_DIGITS}g}") if given.mean == 0 else math.nan
        mean, square = moments(kind, label, variance)
        both = math.nan
        if self.with_shared and not math.isnan(given.shared):
            both = shared(kind, label, variance, float(f"{given.shared:.{_DIGITS}g}"))
        through = let_through(kind, label, variance) if given.mean == 0 else math.nan
        return _Piece(name, site, _Signal(square, mean, both), _log10(through))

    def _normalisation(self, index: int, given: _Signal) -> _Piece:
        site = self.signals.sites[index]
        weight, bias = self._parameter(index, "weight"), self._parameter(index, "bias")
        scale = 1.0 if weight is None else float(self.weights[weight]) ** 2
        added = 0.0 if bias is None else float(self.weights[bias]) ** 2
        shape = site.shape or (0,)
        if site.kind.startswith(("BatchNorm", "SyncBatchNorm")) and site.training:
            over, lost = math.prod((shape[0], *shape[2:])), 2
            variance, both = given.square - given.shared, added
        elif site.kind == "LayerNorm":
            over, lost = (self.signals.sites[weight].shape or (0,))[-1] if weight is not None else shape[-1], 2
            variance = given.square - given.mean**2
            both = scale * given.shared / variance + added if variance > 0 else math.nan
        elif site.kind == "RMSNorm":
            over, lost = shape[-1], 1
            variance = given.square
            both = scale * given.shared / variance if variance > 0 else math.nan
        else:
            return _Piece(site.title, index, _UNKNOWN, math.nan)
        if over < _ENOUGH:
            return _Piece(site.title, index, _UNKNOWN, math.nan)
        squared = _log10(scale / variance * (1 - lost / over)) if variance > 0 else math.nan
        return _Piece(site.title, index, _Signal(scale + added, 0.0, both), squared)

    def _block(self, index: int, given: _Signal) -> _Piece:
        """What x + F(x) gives: what both give adds up, and so do the squared gradients that come back through both."""
        branch = _branch(self.signals, index)
        title = self.signals.sites[index].title
        inside = tuple(self._chain(given, branch))
        last = inside[-1].given if inside else _UNKNOWN
        if last.mean != 0:  # only what random weights gave is independent of x
            return _Piece(title, index, _UNKNOWN, math.nan, inside)
        total = _Signal(given.square + last.square, given.mean, given.shared + last.shared)
        squared = _log10(1 + 10 ** sum(each.squared for each in inside))
        return _Piece(title, index, total, squared, inside)

    def _parameter(self, module: int, name: str) -> int | None:
        path = f"{self.signals.sites[module].path}.{name}".removeprefix(".")
        sites = self.signals.sites
        return next((i for i in self.signals.parameters_of(module) if path in (sites[i].path, *sites[i].aliases)), None)


def _branch(signals: Signals, container: int) -> list[Stretch]:
    """The pieces of F in a container that computes x + F(x) and no more; none where it computes something else."""
    links = signals.links_in(container)
    around = [link for link in links if link.source is None and link.target is None]
    inside = [link for link in links if link not in around]
    if len(around) != 1 or not _adds(around[0]) or not inside:
        return []
    follows = {link.source: link for link in inside}
    here: int | None = None
    found: list[Stretch] = []
    while here in follows:
        link = follows.pop(here)
        operations = tuple(
            each for each in link.operations if link.target is not None or not each.startswith("AddBack")
        )
        if operations:
            return []
        if link.target is None:
            return found if not follows and _adds(link) else []
        tree = budget(signals, link.target)
        found += pieces(signals, tree) if tree is not None else []
        here = link.target
    return []


def _gap(first: str, start: _Signal, chain: list[_Piece]) -> str:
    """Where theory ends: the first piece of which it does not know what it gives, else what it passes back."""
    unknown = [first] if math.isnan(start.square) else []
    unknown += [each.name for each in chain if math.isnan(each.given.square)]
    unknown += [each.name for each in chain if math.isnan(each.squared)]
    if not unknown:
        return ""
    name = f"what lies {unknown[0]}" if unknown[0].startswith("between ") else unknown[0]
    return f"no closed form is known for {name}"


def _adds(link: Link) -> bool:
    return len(link.operations) == 1 and link.operations[0].startswith("AddBackward")


def _all(chain: Iterable[_Piece]) -> Iterator[_Piece]:
    for each in chain:
        yield each
        yield from _all(each.branch)


def _back(chain: Iterable[_Piece], level: float, levels: NDArray[np.float64]) -> float:
    """Writes the gain at each piece's output, given that behind the last, and returns that before the first."""
    for each in list(chain)[::-1]:
        if each.site is not None:
            levels[each.site] = level
        _back(each.branch, level, levels)
        level += each.squared / 2
    return level


def _inside(label: str, kernel: tuple[int, ...], image: tuple[int, ...]) -> float:
    """The share of a convolution's products that lie inside the image, not in the zeros put around it."""
    share = 1.0
    if "padding_mode" in label:
        return share
    for axis, (size, out) in enumerate(zip(kernel, image, strict=False)):
        stride, dilation = (int(_option(label, name, 1, axis)) for name in ("stride", "dilation"))
        reach = dilation * (size - 1)
        padding = reach // 2 if "padding=same" in label else int(_option(label, "padding", 0, axis))
        length = (out - 1) * stride + reach + 1 - 2 * padding
        places = np.arange(out)[:, None] * stride - padding + np.arange(size)[None, :] * dilation
        share *= float(((places >= 0) & (places < length)).mean())
    return share


def _option(label: str, name: str, usual: float, axis: int = 0) -> float:
    """A number from a label such as "Conv2d(3, 8, kernel_size=(3, 3), padding=(1, 1))"."""
    found = re.search(rf"\b{name}=\(?([\d., e-]+)", label)
    numbers = [each for each in found[1].split(",") if each.strip()] if found else []
    try:
        return float(numbers[min(axis, len(numbers) - 1)]) if numbers else usual
    except ValueError:
        return usual


def _takes_only(kind: str, label: str) -> bool:
    """Whether a pooling only takes from a gradient, which is not counted: means do, and maxima of separate windows."""
    if "Avg" in kind:
        return True
    size = _option(label, "kernel_size", math.nan)
    return kind.startswith("MaxPool") and size <= _option(label, "stride", size)


def _log10(value: float) -> float:
    return math.log10(value) if 0 < value < math.inf else math.nan


def _log(square: float) -> float:
    """log10 of a root."""
    return _log10(square) / 2
