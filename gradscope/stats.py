"""Tensor -> summary: the norm of the whole tensor in one pass, everything else from a fixed sample.

Nothing here waits for a device: `Collector.add` only queues small kernels, `collect` starts one copy, and the
numbers are read when `Pending.ready` says so. On a CPU reading a number is no waiting, so extreme tensors are
recounted there at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, HISTOGRAM_BINS, Rows, empty_summaries

SAMPLE_SIZE = 512  # numbers taken from a large tensor: a share of 0.5 is known within ±4 points
EXACT_UP_TO = 1024  # entries up to which a tensor is read whole
# Outside these a float32 sum of squares has lost digits or range (entries of 1e-23 square to 0): it is recounted.
SMALLEST_SQUARES, LARGEST_SQUARES = 1e-15, 1e15
_ROWS_AT_ONCE = 64  # of samples that are sorted into bins together, so that they stay in cache
_BLOCK = 1 << 16  # entries that are added up in float32: good for 5e-6 of the sum

# frexp exponents of float64 lie in [-1073, 1024]; this maps each, shifted by 1100, to its histogram bin
_BIN_OF_EXPONENT = np.searchsorted(EXPONENT_EDGES, np.arange(-1100, 1100), side="right").astype(np.int32)
# The bins that normal float32 numbers, of exponents -126 to 127, fall into, and where each begins among those exponents.
_NORMAL_BINS = slice(3, HISTOGRAM_BINS - 1)
_NORMAL_STARTS = EXPONENT_EDGES[2:-1] + 126


Sample = NDArray[Any] | torch.Tensor  # on a CPU numpy's, which is quicker at small things; else the device's


@lru_cache(maxsize=4096)
def sample_positions(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The fixed sample of a tensor of this shape, as row-major positions in rising order, shape `[sample]`.

    A Latin hypercube: along each dimension of up to `SAMPLE_SIZE` every index is met, equally often (a fixed stride
    meets few columns of a matrix whose width it divides), and which indices meet is as good as random (a lattice's
    parities go together, and a chessboard shows it one colour). The user's generators stay untouched.
    Tensors of up to `EXACT_UP_TO` entries are taken whole.
    """
    if math.prod(shape) <= EXACT_UP_TO:
        return np.arange(math.prod(shape))
    coordinates = []
    for dimension, size in enumerate(shape):
        hashed = _hashed(dimension)
        part = np.argsort(hashed)  # of SAMPLE_SIZE equal parts; from a part of several indices, any one
        first = part * size // SAMPLE_SIZE
        width = (part + 1) * size // SAMPLE_SIZE - first
        coordinates.append(first + hashed % width if size > SAMPLE_SIZE else first)
    return np.sort(np.ravel_multi_index(tuple(coordinates), shape))


def _hashed(dimension: int) -> NDArray[np.int64]:
    """`SAMPLE_SIZE` large numbers that are always the same and look random, others for each dimension."""
    numbers = np.arange(1, SAMPLE_SIZE + 1, dtype=np.uint64) + np.uint64(dimension * SAMPLE_SIZE)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0x9E3779B97F4A7C15)):  # splitmix64
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return (numbers >> np.uint64(1)).astype(np.int64)


@lru_cache(maxsize=4096)
def _positions_on(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(sample_positions(shape)).to(device)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor as a real floating-point tensor without history."""
    tensor = tensor.detach()
    if tensor.dtype is torch.float32 and tensor.layout is torch.strided and not tensor.is_neg():
        return tensor  # nearly always
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    elif tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_neg():  # the imaginary part of a conjugate
        tensor = tensor.resolve_neg()
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.is_cpu and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor


def take_sample(tensor: torch.Tensor) -> Sample:
    """The fixed sample of a tensor, float32 or float64, shape `[sample]`."""
    tensor = _plain(tensor)
    return _sample(tensor.reshape(-1) if tensor.is_cpu else tensor, tensor.shape)


def _sample(numbers: torch.Tensor, shape: tuple[int, ...]) -> Sample:
    """The sample of a plain tensor of this shape; on a CPU it is given flat."""
    if numbers.is_cpu:
        values: NDArray[Any] = numbers.numpy()
        return values.take(sample_positions(shape)) if len(values) > EXACT_UP_TO else values.copy()
    sample = numbers.take(_positions_on(shape, numbers.device))
    return sample if sample.dtype == torch.float64 else sample.to(torch.float32)


def _squares(numbers: torch.Tensor) -> float | torch.Tensor:
    """The sum of squares of all entries: a number on a CPU, a tensor that is read later on other devices."""
    if not numbers.is_cpu:
        norm: torch.Tensor = torch.linalg.vector_norm(numbers, dtype=torch.float64)
        return norm.square()
    if len(numbers) <= _BLOCK:
        return float(torch.dot(numbers, numbers))
    blocks = (numbers[start : start + _BLOCK] for start in range(0, len(numbers), _BLOCK))
    return math.fsum(float(torch.dot(block, block)) for block in blocks)


def _describe(values: NDArray[Any]) -> Rows:
    """Summaries of numbers, each row as if it were a whole tensor: float32 or float64, shape `[N, numbers]`."""
    rows = empty_summaries(len(values))
    rows["count"] = rows["sample_size"] = values.shape[1]
    if values.size:
        for start in range(0, len(values), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            _describe_part(values[part], rows[part])
    return rows


def _describe_part(values: NDArray[Any], rows: Rows) -> None:
    """Fills in the summaries of a few rows of numbers."""
    wide = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        rows["sum"] = wide.sum(axis=1)
        rows["sum_squares"] = np.einsum("ij,ij->i", wide, wide)
    clean = values
    if np.isfinite(rows["sum_squares"]).all():
        rows["minimum"], rows["maximum"] = values.min(axis=1), values.max(axis=1)
    else:
        finite = np.isfinite(values)
        clean = np.where(finite, values, 0)
        for name, test in (("nans", np.isnan), ("positive_infs", np.isposinf), ("negative_infs", np.isneginf)):
            rows[name] = test(values).sum(axis=1)
        rows["non_finite"] = ~finite.all(axis=1)
        rows["sum"] = clean.sum(axis=1, dtype=np.float64)
        rows["minimum"] = np.where(finite, values, np.inf).min(axis=1)
        rows["maximum"] = np.where(finite, values, -np.inf).max(axis=1)
    rows["zeros"] = values.shape[1] - np.count_nonzero(values, axis=1)
    masked = values.shape[1] - np.count_nonzero(clean, axis=1)  # zeros, and what was not finite
    rows["histogram"] = _magnitudes(clean, masked)


def _magnitudes(values: NDArray[Any], zeros: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many entries of each row lie in each bin, shape `[N, bins]`, given how many are 0."""
    if values.dtype == np.float32:  # its exponent is eight bits of it, which is five times faster to read
        fields = (values.view(np.int32) >> 23) & 255
        counted = _count(fields, 256)
        if np.array_equal(counted[:, 0], zeros):  # else there are denormals, whose exponent is further down
            binned = np.zeros((len(values), HISTOGRAM_BINS), np.int64)
            binned[:, _NORMAL_BINS] = np.add.reduceat(counted[:, 1:255], _NORMAL_STARTS, axis=1)
            return binned
    counted = _count(_BIN_OF_EXPONENT[np.frexp(values)[1] + 1099], HISTOGRAM_BINS)  # frexp: floor(log2|x|) + 1
    counted[:, _BIN_OF_EXPONENT[1099]] -= zeros  # frexp gives zeros exponent 0
    return counted


def _count(numbers: NDArray[np.int32], kinds: int) -> NDArray[np.int64]:
    """How often each number below `kinds` comes up in each row, shape `[N, kinds]`."""
    numbers = numbers + np.arange(len(numbers), dtype=np.int32)[:, None] * np.int32(kinds)
    return np.bincount(numbers.ravel(), minlength=len(numbers) * kinds).reshape(len(numbers), kinds)


_SAMPLED = ("sum", "zeros", "nans", "positive_infs", "negative_infs")


def _scale_up(rows: Rows, counts: NDArray[np.float64]) -> None:
    """Turns counts in a sample of `sample_size` into estimated counts among all `counts` entries, in place."""
    share = counts / np.maximum(rows["sample_size"], 1.0)
    for name in _SAMPLED:
        rows[name] *= share
    rows["histogram"] *= share[:, None]
    rows["sum_squares"] *= share
    rows["count"] = counts


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
        self._recounted: dict[int, Rows] = {}
        self._weight_dots: dict[int, torch.Tensor] = {}
        self._whole_pairs: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, tensor: torch.Tensor) -> int:
        """Queues the summary of a tensor, whose entries may change afterwards, and returns its row number."""
        tensor = _plain(tensor)
        row, count = len(self._counts), tensor.numel()
        self._counts.append(count)
        numbers = tensor.reshape(-1) if tensor.is_cpu else tensor
        self._samples.append(_sample(numbers, tensor.shape))
        if count > EXACT_UP_TO:
            squares = _squares(numbers)
            self._squares[row] = squares
            usual = isinstance(squares, torch.Tensor) or SMALLEST_SQUARES < squares < LARGEST_SQUARES
            if self._exact or not usual:
                values = tensor.to(torch.float64).reshape(-1).cpu().numpy()
                self._recounted[row] = _describe(values[None])
        return row

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
            self._weight_dots[row] = torch.dot(weight.reshape(-1), gradient.reshape(-1).to(weight.dtype))

    def collect(self) -> Pending:
        """Starts the copy of everything that was added. The collector is not used again."""
        kinds: dict[Any, list[int]] = {}
        for row, sample in enumerate(self._samples):
            device = sample.device if isinstance(sample, torch.Tensor) else None
            kinds.setdefault((device, sample.dtype, len(sample)), []).append(row)
        events: list[Any] = []
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
            rows[members] = _describe(values)
            samples.update(zip(members, values, strict=True))
        _scale_up(rows, np.array(self._counts, dtype=np.float64))
        squares = {row: known if isinstance(known, float) else numbers[row] for row, known in self._squares.items()}
        rows["sum_squares"][list(squares)] = list(squares.values())
        # every entry was added up, so this is certain; the counts are estimates
        for row in (row for row, known in squares.items() if not math.isfinite(known)):
            kind = "nans" if math.isnan(squares[row]) else "positive_infs"
            rows["non_finite"][row] = True
            if rows["positive_infs"][row] + rows["negative_infs"][row] + rows["nans"][row] == 0:
                rows[kind][row] = 1.0
        for row, recounted in self._recounted.items():
            rows[row] = recounted[0]
        for row in self._weight_dots:
            rows["weight_dot"][row] = numbers[-1 - row]
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
    event.record()
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
