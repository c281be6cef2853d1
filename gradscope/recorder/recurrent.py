"""Gradients time step by time step: at the input of recurrent modules, and call by call where a module feeds itself.

The profile is kept as ordinary summaries at sites of role "time", one a bin, so that it merges, thins and travels like
everything else. A bin spans a power of two of time steps, so that finer bins add up to coarser ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

if TYPE_CHECKING:
    from gradscope.recorder.passes import ForwardPass
    from gradscope.recorder.sites import SiteTable

MOST_BINS = 64
SEQUENCE_MODULES = (nn.RNN, nn.LSTM, nn.GRU)  # exactly these: a subclass may do with its input what it likes


@dataclass(frozen=True)
class TimeAxis:
    """Where time lies in the input of a recurrent module."""

    site: int  # the module's output site
    dimension: int
    batch_sizes: tuple[int, ...] | None = None  # of a packed sequence: rows of each time step

    def bins(self, gradient: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
        """The parts of a gradient of the input: first time step, the one after the last, the numbers."""
        length = gradient.shape[self.dimension] if self.batch_sizes is None else len(self.batch_sizes)
        row = 0
        for start, stop in spans(length):
            until = min(stop, length)
            if self.batch_sizes is None:
                yield start, stop, gradient.narrow(self.dimension, start, until - start)
            else:
                rows = sum(self.batch_sizes[start:until])
                yield start, stop, gradient.narrow(0, row, rows)
                row += rows


def spans(length: int) -> list[tuple[int, int]]:
    """The bins of so many time steps, as first step and the one after the last; at most `MOST_BINS` of one width.

    Example:
        >>> spans(3), spans(100)[-1], len(spans(100))
        ([(0, 1), (1, 2), (2, 3)], (98, 100), 50)
    """
    width = 1
    while length > MOST_BINS * width:
        width *= 2
    return [(start, start + width) for start in range(0, length, width)]


def axis_of(module: nn.Module, site: int, fed: Any) -> TimeAxis | None:
    """Where time lies in what a recurrent module was fed; None where its gradient cannot be read."""
    if isinstance(fed, PackedSequence) and fed.data.requires_grad:
        return TimeAxis(site, 0, tuple(fed.batch_sizes.tolist()))
    if not isinstance(fed, torch.Tensor) or fed.is_nested or not fed.requires_grad:
        return None
    return TimeAxis(site, 1 if module.batch_first and fed.dim() == 3 else 0)


def with_gradient(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The arguments of a recurrent module with an input whose gradient can be read; None where that is no concern.

    The numbers are the same and so is everything that the module makes of them: its weights ask for gradients anyway.
    """
    packed = args[0] if isinstance(args[0], PackedSequence) else None
    data = args[0] if packed is None else packed.data
    if not isinstance(data, torch.Tensor) or data.requires_grad or data.is_inference() or data.is_nested:
        return None
    if not data.is_floating_point() or not any(parameter.requires_grad for parameter in module.parameters()):
        return None
    leaf = data.detach().requires_grad_()
    return (leaf if packed is None else packed._replace(data=leaf), *args[1:])


def time_rows(passes: Sequence[ForwardPass], table: SiteTable) -> Iterator[tuple[int, int]]:
    """The rows of a step's training passes that belong to a time step, each with the site of its bin."""
    for forward in passes:
        for axis, start, stop, row in forward.timed:
            yield table.time_site(axis.site, start, stop), row
    feeds = {site: None for forward in passes if forward.plan for site in forward.plan.feeding}
    feeds |= {forward.calls[0].site: None for forward in passes if forward.position}  # a loop around the model
    for feeding in feeds:
        owner = table.sites[feeding].same_as  # a container's output is mostly its last child's
        source = feeding if owner is None else owner
        probes = [
            (probe.forward.position + probe.number, probe)
            for forward in passes
            for probe in forward.probes.values()
            if probe.rows and probe.sites[:1] == [source]
        ]
        bins = spans(1 + max((number for number, _ in probes), default=0))
        width = bins[0][1]
        for number, probe in probes:
            start = number // width * width
            for row in probe.rows:
                yield table.time_site(feeding, start, start + width), row
