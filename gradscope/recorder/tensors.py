"""Finds the tensors in whatever a module takes or returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout, type)
_DEEPEST = 4  # attributes of attributes of … that are looked at for tensors


def tensors_in(value: Any, unknown: set[str] | None = None) -> Iterator[torch.Tensor]:
    """All tensors in nested lists, tuples, dicts and dataclasses, in order.

    Args:
        value: what a module took or gave.
        unknown: is told the classes of other objects that hold tensors, which are not looked into.

    Example:
        >>> [t.item() for t in tensors_in({"a": [torch.tensor(1), None], "b": (torch.tensor(2),)})]
        [1, 2]
    """
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):  # a Transformers ModelOutput is one
        for item in value.values():
            yield from tensors_in(item, unknown)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, unknown)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name), unknown)
    elif unknown is not None and _holds_tensors(value, _DEEPEST):
        unknown.add(type(value).__qualname__)


def _holds_tensors(value: Any, depth: int) -> bool:
    """Whether an object's attributes lead to a tensor."""
    if isinstance(value, torch.Tensor):
        return True
    if depth == 0 or isinstance(value, _PLAIN):
        return False
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    else:
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        parts = [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]
    return any(_holds_tensors(part, depth - 1) for part in parts)
