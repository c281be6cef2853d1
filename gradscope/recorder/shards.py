"""Parameters that are spread over ranks: each rank reads its own share, and nothing is ever gathered for our sake."""

from __future__ import annotations

import torch
from torch import nn

_PLAIN = (torch.Tensor, nn.Parameter)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that lies on this rank, without history: of a DTensor its shard, else the tensor itself.

    Every reading goes through here: an operation on a DTensor may talk to other ranks, or not exist (`histc`).
    """
    if type(tensor) in _PLAIN or not hasattr(tensor, "to_local"):
        return tensor
    with torch.no_grad():
        part: torch.Tensor = tensor.to_local()
        return part


def version(tensor: torch.Tensor) -> int:
    """Changes when somebody writes into the tensor: through a DTensor, or into the part of it that lies here."""
    return tensor._version if type(tensor) in _PLAIN else tensor._version + local(tensor)._version


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether each rank holds other entries of it."""
    return type(tensor) not in _PLAIN and any(place.is_shard() for place in getattr(tensor, "placements", ()))


def is_partial(tensor: torch.Tensor) -> bool:
    """Whether each rank holds a summand of it only."""
    return type(tensor) not in _PLAIN and any(place.is_partial() for place in getattr(tensor, "placements", ()))
