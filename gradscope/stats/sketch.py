"""A sketch of a tensor: a small matrix of its entries, evenly spaced along every dimension."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch


@lru_cache(maxsize=4096)
def spaced(sizes: tuple[int, ...], most: int) -> tuple[slice, ...]:
    """Slices that leave at most `most` places of a grid, evenly spaced; its first dimension keeps the most of them.

    Example:
        >>> spaced((6,), 3), spaced((64, 7, 7), 128)
        ((slice(0, None, 2),), (slice(0, None, 2), slice(1, None, 4), slice(1, None, 4)))
    """
    slices = []
    for position, size in enumerate(sizes):
        others = math.prod(sizes[position + 1 :])
        dimensions = len(sizes) - position
        share = max(most // min(others, 4), 1) if position == 0 else int(most ** (1 / dimensions) + 1e-9)
        stride = -(-size // max(min(size, share), 1))
        start = (size - 1) % stride // 2
        slices.append(slice(start, None, stride))
        most = max(most // len(range(start, size, stride)), 1)
    return tuple(slices)


class Cut(NamedTuple):
    """Which entries of a tensor a sketch takes, and how they lie in it."""

    order: tuple[int, ...] | None  # of the dimensions; None: as they are
    slices: tuple[slice, ...]
    shape: tuple[int, int]  # of the sketch


@lru_cache(maxsize=4096)
def cut(shape: tuple[int, ...], columns: tuple[int, ...], most_rows: int, most_columns: int) -> Cut:
    """How to sketch tensors of a shape.

    Args:
        shape: of the tensor.
        columns: dimensions that are joined to the sketch's columns; all others are its rows.
        most_rows, most_columns: how many of them there may be.
    """
    rows = tuple(d for d in range(len(shape)) if d not in columns)
    slices = (
        *spaced(tuple(shape[d] for d in rows), most_rows),
        *spaced(tuple(shape[d] for d in columns), most_columns),
    )
    order = (*rows, *columns)
    sizes = [len(range(*part.indices(shape[d]))) for part, d in zip(slices, order, strict=True)]
    moved = None if order == tuple(range(len(shape))) else order
    return Cut(moved, slices, (math.prod(sizes[: len(rows)]), math.prod(sizes[len(rows) :])))


def sketch(tensor: torch.Tensor, which: Cut) -> torch.Tensor:
    """A copy of some entries of a dense tensor, shape `[rows, columns]`, float32 (float64 where the tensor is).

    Example:
        >>> sketch(torch.arange(8.0).view(2, 4), cut((2, 4), (1,), 2, 2))
        tensor([[0., 2.],
                [4., 6.]])
    """
    part = tensor.detach()
    part = (part if which.order is None else part.permute(which.order))[which.slices]
    if part.dtype in (torch.float32, torch.float64):
        part = part.clone(memory_format=torch.contiguous_format)
    else:
        part = part.to(torch.float32, memory_format=torch.contiguous_format)
    return part if part.shape == which.shape else part.view(which.shape)
