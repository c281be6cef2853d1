"""Many tensors -> summaries with few operations each and one copy for all.

Nothing here waits for a device: `Collector.add` only queues small kernels, `collect` starts one copy, and the
numbers are read when `Pending.ready` says so. On a CPU reading a number is no waiting, so extreme tensors are
recounted there at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradscope.records import Rows, empty_summaries
from gradscope.stats.describe import describe, scale_up, sum_of_squares
from gradscope.stats.sample import (
    EXACT_UP_TO,
    SAMPLE_SIZE,
    Sample,
    flat,
    plain,
    sample_coordinates,
    sample_of,
    sample_positions,
)

# Outside these a float32 sum of squares has lost digits or range (entries of 1e-23 square to 0): it is recounted.
SMALLEST_SQUARES, LARGEST_SQUARES = 1e-15, 1e15


class Pending:
    """Summaries on their way from the device.

    `rows()` gives them, dtype `SUMMARY`, shape `[N]`; it waits if `ready()` is False.
    """

    def __init__(self, read: Callable[[], Rows], events: list[Any]) -> None:
        self._read = read
        self._events = events

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return all(event.query() for event in self._events)

    def rows(self) -> Rows:
        """The summaries, in the order in which their tensors were added."""
        for event in self._events:
            event.synchronize()
        return self._read()


class _Samples:
    """Samples of large float32 tensors on a CPU, one a row of a matrix that is used again at the next step."""

    _spare: list[NDArray[np.float32]] = []

    def __init__(self) -> None:
        self.matrix = self._spare.pop() if self._spare else np.empty((256, SAMPLE_SIZE), np.float32)
        self.members: list[int] = []  # rows of the collector

    def take(self, row: int, tensor: torch.Tensor) -> NDArray[np.float32]:
        """Takes the sample of a row; the view that is returned is good until `release`."""
        if len(self.members) == len(self.matrix):
            self.matrix = np.concatenate([self.matrix, np.empty_like(self.matrix)])
        sample: NDArray[np.float32] = self.matrix[len(self.members)]
        numbers: NDArray[np.float32] = tensor.numpy()
        if tensor.is_contiguous():
            # other modes than "clip" go through a buffer
            numbers.reshape(-1).take(sample_positions(tensor.shape), out=sample, mode="clip")
        else:
            sample[:] = numbers[sample_coordinates(tensor.shape)]
        self.members.append(row)
        return sample

    def release(self) -> None:
        """Hands the matrix to the next step."""
        if not self._spare:
            self._spare.append(self.matrix)


class Collector:
    """Summarises many tensors with few operations each and one copy for all.

    Args:
        exact: take every statistic from every entry, not from the sample.

    Example:
        >>> collector = Collector()
        >>> collector.add(torch.tensor([3.0, 4.0]))
        0
        >>> float(collector.collect().rows()["sum_squares"][0])
        25.0
    """

    def __init__(self, exact: bool = False) -> None:
        self._exact = exact
        self._counts: list[int] = []
        self._squares: dict[int, float | torch.Tensor] = {}  # of tensors that were not read whole
        self._samples: list[Sample] = []
        self._large = _Samples()
        self._recounted: dict[int, Rows | NDArray[np.float64]] = {}  # summaries, or the numbers of all entries
        self._events: list[Any] = []
        self._weight_dots: dict[int, float | torch.Tensor] = {}
        self._whole_pairs: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, tensor: torch.Tensor) -> int:
        """Queues the summary of a tensor, whose entries may change afterwards, and returns its row number."""
        row = len(self._counts)
        tensor = plain(tensor)
        if not tensor.is_cpu:
            self._counts.append(count := tensor.numel())
            self._samples.append(sample_of(tensor, tensor.shape))
            if count > EXACT_UP_TO:
                self._squares[row] = torch.linalg.vector_norm(tensor, dtype=torch.float64).square()
                if self._exact:
                    self._recount(row, tensor)
            return row
        self._counts.append(count := tensor.numel())
        if count <= EXACT_UP_TO:
            self._samples.append(tensor.numpy().flatten())
            return row
        squares = self._squares[row] = sum_of_squares(flat(tensor))
        # after the squares: what they have read is in the cache
        take = self._large.take if tensor.dtype is torch.float32 else None
        self._samples.append(sample_of(tensor, tensor.shape) if take is None else take(row, tensor))
        if self._exact or not SMALLEST_SQUARES < squares < LARGEST_SQUARES:
            self._recount(row, tensor)
        return row

    def _recount(self, row: int, tensor: torch.Tensor) -> None:
        """Takes every statistic of a row from every entry: at once on a CPU, else when the copy has come."""
        values = to_host(tensor.to(torch.float64).reshape(1, -1), self._events).numpy()
        self._recounted[row] = describe(values) if tensor.is_cpu else values

    def add_sample(self, sample: Sample, count: int) -> int:
        """Queues a summary known from a sample only, such as an update's; its sum of squares is an estimate."""
        self._counts.append(count)
        self._samples.append(sample)
        return len(self._counts) - 1

    def sample(self, row: int) -> Sample:
        """The fixed sample that was taken for a row, shape `[sample]`."""
        return self._samples[row]

    def add_weight_dot(self, row: int, weight_row: int, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        """Attaches <weight, gradient> over all entries to a row, given the row of the weight."""
        if gradient.is_sparse or weight.is_complex() or weight.shape != gradient.shape:
            return
        if weight.numel() <= EXACT_UP_TO:  # both were read whole
            self._whole_pairs.append((row, weight_row))
        else:
            dot = torch.dot(weight.detach().reshape(-1), gradient.detach().reshape(-1).to(weight.dtype))
            self._weight_dots[row] = float(dot) if dot.is_cpu else dot

    def add_dot(self, row: int, one: Sample, other: Sample) -> bool:
        """Attaches <one, other> to a row, estimated from two samples; False when these do not fit together."""
        if len(one) != len(other) or not len(one):
            return False
        share = self._counts[row] / len(one)
        if isinstance(one, torch.Tensor):
            self._weight_dots[row] = torch.dot(one.double(), torch.as_tensor(other).double()) * share
        else:
            self._weight_dots[row] = float(np.dot(one.astype(np.float64), other)) * share
        return True

    def collect(self) -> Pending:
        """Starts the copy of everything that was added. The collector is not used again."""
        kinds: dict[Any, list[int]] = {}
        in_matrix = set(self._large.members)
        for row, sample in enumerate(self._samples):
            if row not in in_matrix:
                device = sample.device if isinstance(sample, torch.Tensor) else None
                kinds.setdefault((device, sample.dtype, len(sample)), []).append(row)
        events = self._events
        parts = []
        for members in kinds.values():
            samples = [self._samples[row] for row in members]
            on_device = [sample for sample in samples if isinstance(sample, torch.Tensor)]
            parts.append((members, to_host(torch.stack(on_device), events).numpy() if on_device else np.stack(samples)))
        scalars = {**self._squares, **{-1 - row: dot for row, dot in self._weight_dots.items()}}
        numbers: list[tuple[list[int], torch.Tensor]] = []
        tensors = {key: value.double() for key, value in scalars.items() if isinstance(value, torch.Tensor)}
        for device in {value.device for value in tensors.values()}:
            keys = [key for key, value in tensors.items() if value.device == device]
            numbers.append((keys, to_host(torch.stack([tensors[key] for key in keys]), events)))
        return Pending(lambda: self._assemble(parts, numbers), events)

    def _assemble(
        self, parts: list[tuple[list[int], NDArray[Any]]], copied: list[tuple[list[int], torch.Tensor]]
    ) -> Rows:
        numbers = {key: value for keys, values in copied for key, value in zip(keys, values.tolist(), strict=True)}
        rows = empty_summaries(len(self._counts))
        samples: dict[int, NDArray[Any]] = {}
        for members, values in parts:
            rows[members] = describe(values)
            if self._whole_pairs:
                samples.update(zip(members, values, strict=True))
        large = self._large.members
        rows[large] = describe(self._large.matrix[: len(large)], squares=False)
        self._large.release()
        scale_up(rows, np.array(self._counts, dtype=np.float64))
        squares = {row: known if isinstance(known, float) else numbers[row] for row, known in self._squares.items()}
        rows["sum_squares"][list(squares)] = list(squares.values())
        # every entry was added up, so this is certain; the counts are estimates
        for row in (row for row, known in squares.items() if not math.isfinite(known)):
            kind = "nans" if math.isnan(squares[row]) else "positive_infs"
            rows["non_finite"][row] = True
            if rows["positive_infs"][row] + rows["negative_infs"][row] + rows["nans"][row] == 0:
                rows[kind][row] = 1.0
        for row, recounted in self._recounted.items():
            rows[row] = (recounted if recounted.dtype.names else describe(recounted))[0]
        for row, known in self._weight_dots.items():
            rows["weight_dot"][row] = known if isinstance(known, float) else numbers[-1 - row]
        with np.errstate(all="ignore"):
            for row, weight_row in self._whole_pairs:
                rows["weight_dot"][row] = np.dot(samples[row].astype(np.float64), samples[weight_row])
        return rows


def to_host(tensor: torch.Tensor, events: list[Any]) -> torch.Tensor:
    """Starts the copy of a tensor to host memory; it is there at once on a CPU, else after the last of `events`."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))
    events.append(event)
    return host


class HostNumber:
    """One number on its way from the device. `value()` waits if `ready()` is False."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._events: list[Any] = []
        self._host = float(tensor) if tensor.is_cpu else to_host(tensor, self._events)

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return all(event.query() for event in self._events)

    def value(self) -> float:
        """The number."""
        for event in self._events:
            event.synchronize()
        return float(self._host)


def summarise(tensor: torch.Tensor, exact: bool = False) -> Rows:
    """The summary of one tensor, dtype `SUMMARY`, shape `[1]`.

    Example:
        >>> float(summarise(torch.tensor([1.0, float("nan")]))["nans"][0])
        1.0
    """
    collector = Collector(exact)
    with torch.no_grad():
        collector.add(tensor)
        return collector.collect().rows()
