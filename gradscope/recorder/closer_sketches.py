"""What a closer look takes of one forward pass: sketches while it runs, and at its end the numbers they come to.

A sketch is a copy, so what happens to a tensor afterwards (an in-place activation, say) does not matter; sketches of
one shape are worked on together, which costs a few operations for a whole network.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from gradscope.recorder.closer_attention import Attention
from gradscope.recorder.closer_slope import Saved
from gradscope.stats import Collector, Cut, Sample, cut, sketch, spaced

MOST_UNITS = 1024  # of a layer, so that its summary is known from all of them
MOST_FEATURES = 512
_ENTRIES = 16384  # of an activation: its units times samples and positions
_LEAST_SAMPLES = 32  # of each unit
_SAMPLES, _TOKENS, _OF_EACH = 32, 64, 64  # whose spread is taken, and of how many entries
_GROUPS, _OF_A_GROUP = 256, 64  # that are normalised together
_FEATURE_ENTRIES = 65536
_SMALLEST = 1e-18  # rms of float32 numbers whose squares have lost no digits


def is_plain(tensor: object) -> bool:
    """Whether a value is an ordinary dense floating-point tensor with samples in it."""
    return (
        isinstance(tensor, torch.Tensor)
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_meta
        and tensor.dim() > 1
        and tensor.numel() > 0
    )


def unit_axis(dimensions: int, axis: int | None) -> int:
    """Which dimension counts the units (channels, features) of an output.

    Args:
        dimensions: that it has.
        axis: 1 after a convolution or what goes with one, -1 after a Linear; None: not known. Then images and volumes
            have theirs at 1, everything else at its end.
    """
    first = (dimensions > 3 and axis != -1) or (dimensions == 3 and axis == 1)
    return 1 if first else dimensions - 1


@lru_cache(maxsize=4096)
def _by_units(shape: tuple[int, ...], axis: int | None, entries: int, least: int, most: int) -> tuple[Cut, int]:
    """Which entries to take of about so many, all units among them, and how many units there are."""
    column = unit_axis(len(shape), axis)
    return cut(shape, (column,), max(entries // min(shape[column], most), least), most), shape[column]


@lru_cache(maxsize=4096)
def _by_samples(shape: tuple[int, ...], axis: int | None) -> Cut:
    """Which entries to take of an output's samples; where it has tokens, some tokens of some samples are those."""
    tokens = len(shape) > 2 and unit_axis(len(shape), axis) > 1
    columns = (len(shape) - 1,) if tokens else tuple(range(1, len(shape)))
    return cut(shape, columns, _TOKENS if tokens else _SAMPLES, _OF_EACH)


class _Slope(NamedTuple):
    key: tuple[int, int, int]  # site, calls of it earlier in the pass, activations of that call before this one
    saved: Saved  # its tensor a sketch, shape [samples and positions, units]
    units: int


class _Spread(NamedTuple):
    site: int
    samples: torch.Tensor  # [samples, entries]


class _Groups(NamedTuple):
    site: int
    entries: torch.Tensor  # [entries, groups]
    eps: float
    centred: bool  # RMSNorm takes no mean off
    number: int  # of groups
    running: tuple[torch.Tensor, torch.Tensor] | None  # mean and variance
    varies: bool  # whether the batch's own variance is used


class Look:
    """A closer look at one forward pass.

    Attributes:
        axis: where the units of what ran last are, see `unit_axis`.
        batch: samples that the model was fed; 0: not known.
        features: how many features its input has, as they are counted and flattened.
        past_input: whether something with weights has run that asks for no gradient.
        entries: (site, quantity, row of the collector).
        units: what each activation's units let through, and how many units it has.
    """

    def __init__(self) -> None:
        self.axis: int | None = None
        self.batch = 0
        self.features: set[int] = set()
        self.past_input = False
        self.entries: list[tuple[int, str, int]] = []
        self.units: dict[tuple[int, int, int], tuple[Sample, int]] = {}
        self._slopes: list[_Slope] = []
        self._taken: dict[tuple[int, int], int] = {}  # slopes of the same site and call so far
        self._spreads: list[_Spread] = []
        self._groups: list[_Groups] = []

    def release(self) -> None:
        """Lets go of the sketches."""
        self._slopes, self._spreads, self._groups = [], [], []

    # while the pass runs

    def take_features(self, site: int, tensor: torch.Tensor, axis: int | None, collector: Collector) -> None:
        """Mean and deviation of each feature of what the model is fed."""
        if tensor.is_nested:  # its shape is not one
            return
        self.batch = self.batch or tensor.shape[0]
        if not is_plain(tensor):
            return
        which, features = _by_units(tensor.shape, axis, _FEATURE_ENTRIES, 256, MOST_FEATURES)
        self.features |= {features, math.prod(tensor.shape[1:])}
        taken = sketch(tensor, which)
        first = taken[:1]
        taken = taken - first  # a constant feature comes out as exactly that
        means = taken.mean(0)
        deviations = (taken - means).square().mean(0).sqrt()
        for quantity, values in (("feature_mean", means + first[0]), ("feature_deviation", deviations)):
            self._add(collector, site, quantity, values, features)

    def take_slope(self, site: int, number: int, saved: Saved, axis: int | None) -> None:
        """What an activation's derivative is computed from, before anything overwrites it."""
        tensor = saved.tensor
        if not is_plain(tensor):
            return
        which, units = _by_units(tensor.shape, axis, _ENTRIES, _LEAST_SAMPLES, MOST_UNITS)
        saved = saved._replace(tensor=sketch(tensor, which))
        earlier = self._taken.get((site, number), 0)
        self._taken[site, number] = earlier + 1
        self._slopes.append(_Slope((site, number, earlier), saved, units))

    def take_spread(self, site: int, tensor: torch.Tensor, axis: int | None) -> None:
        """Some samples of a layer's output; where it has tokens, some tokens of some samples."""
        if self.batch and tensor.shape[0] % self.batch:  # of something else than the batch
            return
        which = _by_samples(tensor.shape, axis)
        if which.shape[0] > 1:
            self._spreads.append(_Spread(site, sketch(tensor, which)))

    def take_groups(
        self,
        site: int,
        tensor: torch.Tensor,
        dimensions: tuple[int, ...],
        eps: float,
        *,
        centred: bool = True,
        running: tuple[torch.Tensor, torch.Tensor] | None = None,
        varies: bool = True,
    ) -> None:
        """Some of the groups that a module normalises.

        Args:
            site: of the module.
            tensor: what it was fed; all entries that agree in `dimensions` are one group.
            dimensions: see there.
            eps: that is added to a group's variance.
            centred: whether the mean is taken off.
            running: the module's running mean and variance, one a group.
            varies: whether each group's own variance is used.
        """
        most, each = _GROUPS, _OF_A_GROUP
        if running is not None or dimensions == (1,):  # a batch normalisation's: channels
            most = MOST_UNITS
            each = max(_ENTRIES // min(tensor.shape[1], most), _LEAST_SAMPLES)
        few = sketch(tensor, cut(tensor.shape, dimensions, each, most))
        if running is not None:
            (channels,) = spaced((tensor.shape[1],), most)
            running = (running[0][channels].to(few.dtype, copy=True), running[1][channels].to(few.dtype, copy=True))
        count = math.prod(tensor.shape[d] for d in dimensions)
        self._groups.append(_Groups(site, few, eps, centred, count, running, varies))

    def take_attention(self, site: int, attention: Attention, collector: Collector) -> None:
        """What an attention's queries look at."""
        self._add(collector, site, "attention_entropy", attention.entropy, attention.queries)
        if attention.logit is not None:
            self._add(collector, site, "attention_logit", attention.logit, attention.queries)

    # at its end

    def finish(self, collector: Collector) -> None:
        """Turns the sketches into numbers."""
        for slopes in _alike(self._slopes, lambda one: (one.saved.derivative, one.saved.numbers, one.saved.tensor)):
            saved = slopes[0].saved
            derivatives = saved.derivative(torch.stack([one.saved.tensor for one in slopes]), *saved.numbers)
            rms = _rms(derivatives)
            for one, values in zip(slopes, kept(rms), strict=True):
                self.units[one.key] = values, one.units
                self._add(collector, one.key[0], "slope", values, one.units)
        for spreads in _alike(self._spreads, lambda one: (one.samples,)):
            distances = _spread(torch.stack([one.samples for one in spreads]))
            for one, values in zip(spreads, kept(distances), strict=True):
                self._add(collector, one.site, "sample_spread", values, len(values))
        for groups in _alike(self._groups, lambda one: (one.eps, one.centred, one.running is None, one.entries)):
            self._finish_groups(groups, collector)
        self.release()

    def _finish_groups(self, groups: list[_Groups], collector: Collector) -> None:
        """`group_variance` counts all groups, so that the activation's count over it is the entries of a group."""
        entries = torch.stack([one.entries for one in groups])
        first = entries[:, :1] if groups[0].centred else torch.zeros_like(entries[:, :1])
        entries = entries - first  # a constant group comes out as exactly that
        means = entries.mean(1, keepdim=True) if groups[0].centred else first
        variances = (entries - means).square().mean(1)
        shares = 1 / (1 + max(groups[0].eps, 1e-38) / variances)
        for one, values in zip(groups, kept(shares), strict=True):
            if one.varies:
                self._add(collector, one.site, "group_variance", values, one.number)
        if groups[0].running is None:
            return
        known = [one.running for one in groups if one.running is not None]
        running_means, running_variances = (torch.stack(parts) for parts in zip(*known, strict=True))
        size = entries.shape[1]
        unbiased = variances * (size / max(size - 1, 1))  # as what runs along is
        deviations, expected = ((part + groups[0].eps).sqrt() for part in (unbiased, running_variances))
        gaps = ((means + first)[:, 0] - running_means).abs() / deviations + (deviations / expected).log().abs()
        for one, values in zip(groups, kept(gaps), strict=True):
            self._add(collector, one.site, "running_gap", values, one.number)

    def _add(self, collector: Collector, site: int, quantity: str, values: Sample, count: int) -> None:
        self.entries.append((site, quantity, add(collector, values, count)))


def add(collector: Collector, values: Sample, count: int) -> int:
    """Queues the summary of `count` numbers, some of which are `values`, and gives its row."""
    return collector.add_sample(kept(values), count)


def kept(values: Sample) -> Sample:
    """Numbers that may outlive their step: on a CPU no tensor."""
    return values.numpy().copy() if isinstance(values, torch.Tensor) and values.is_cpu else values


def _alike(items: list[Any], traits: Any) -> list[list[Any]]:
    """Items in groups whose traits are the same; of a tensor its shape and kind."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        name = tuple(
            (part.shape, part.dtype, part.device) if isinstance(part, torch.Tensor) else part for part in traits(item)
        )
        groups.setdefault(name, []).append(item)
    return list(groups.values())


def _rms(values: torch.Tensor) -> torch.Tensor:
    """Over the second dimension, shape `[N, units]`; numbers whose squares are out of range are not taken for zeros."""
    rms = (values * values).mean(1).sqrt()
    return torch.where(rms > _SMALLEST, rms, values.abs().mean(1))


def _spread(samples: torch.Tensor) -> torch.Tensor:
    """The distance of each sample from their mean over the rms length of a sample, shape `[N, samples]`."""
    largest = samples.abs().amax((1, 2), keepdim=True)
    samples = samples / torch.where(largest > 0, largest, 1.0)  # so that squares stay in range
    typical = (samples * samples).sum(2).mean(1, keepdim=True).sqrt()
    away = samples - samples[:, :1]  # equal samples come out as exactly that
    away = away - away.mean(1, keepdim=True)
    distances = (away * away).sum(2).sqrt()
    return torch.where(typical > 0, distances / typical, 0.0)
