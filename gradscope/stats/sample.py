"""The fixed sample of a tensor: which of its entries everything but the norm is known from."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SAMPLE_SIZE = 512  # numbers taken from a large tensor: a share of 0.5 is known within ±4 points
EXACT_UP_TO = 1024  # entries up to which a tensor is read whole

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
def sample_coordinates(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], ...]:
    """The fixed sample of a tensor of this shape, as an index of it."""
    return np.unravel_index(sample_positions(shape), shape)


@lru_cache(maxsize=4096)
def _positions_on(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    positions = torch.from_numpy(sample_positions(shape))
    return positions.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else positions.to(device)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor as a real floating-point tensor without history."""
    tensor = tensor.detach()
    if tensor.dtype is torch.float32 and tensor.layout is torch.strided and not (tensor.is_neg() or tensor.is_nested):
        return tensor  # nearly always
    if tensor.is_nested:
        tensor = (
            tensor.values() if tensor.layout is torch.jagged else torch.cat([t.reshape(-1) for t in tensor.unbind()])
        )
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


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """All entries in the order in which they lie in memory, shape `[N]`; a copy only where they do not lie together."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    strides = tensor.stride()
    ordered = tensor.permute(sorted(range(tensor.dim()), key=lambda dimension: -strides[dimension]))
    return ordered.view(-1) if ordered.is_contiguous() else tensor.reshape(-1)


def take_sample(tensor: torch.Tensor) -> Sample:
    """The fixed sample of a tensor, float32 or float64, shape `[sample]`."""
    tensor = plain(tensor)
    return sample_of(tensor, tensor.shape)


def sample_of(numbers: torch.Tensor, shape: tuple[int, ...]) -> Sample:
    """The sample of a plain tensor of this shape."""
    if numbers.is_cpu:
        values: NDArray[Any] = numbers.numpy().reshape(-1)
        return values.take(sample_positions(shape)) if values.size > EXACT_UP_TO else values.copy()
    sample = numbers.take(_positions_on(shape, numbers.device))
    return sample if sample.dtype == torch.float64 else sample.to(torch.float32)
