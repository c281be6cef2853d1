"""Which modules, optimizers and gradient scalers there are, and which of them belong together."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from gradscope.records import Place

T = TypeVar("T")


@dataclass(eq=False)
class Known:
    """An optimizer that was found, and what is known of it."""

    optimizer: weakref.ref[Optimizer]
    built: Place | None = None
    zeroed: Place | None = None  # where its `zero_grad` is called
    fresh: bool = True  # not watched yet
    joint: bool = False  # steps beside the one that was taken for its successor
    stepped: bool = False
    left: set[int] = field(default_factory=set)  # of a watched one, the parameters that no watched model has

    @property
    def ids(self) -> set[int]:
        """The ids of its parameters."""
        optimizer = self.optimizer()
        return set() if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}

    @property
    def wanted(self) -> set[int]:
        """The ids of its parameters that are still to be watched."""
        return self.ids if self.fresh else self.left


def parameters_of(module: nn.Module) -> set[int]:
    """The ids of a module's parameters."""
    return {id(parameter) for parameter in module.parameters()}


def living(kind: type[T]) -> list[T]:
    """Every object of a class, or of one derived from it, that is alive in this process.

    By its type alone: asking an object itself could run the code of a lazy proxy.
    """
    derived: dict[type, bool] = {}
    found = []
    for each in gc.get_objects():
        its = type(each)
        known = derived.get(its)
        if known is None:
            known = derived[its] = issubclass(its, kind)
        if known:
            found.append(each)
    return found


def living_optimizers() -> list[Optimizer]:
    """The optimizers that are alive and can be listened to; a wrapper around another one cannot."""

    def listens(optimizer: Optimizer) -> bool:
        try:
            optimizer.register_step_pre_hook(_nothing).remove()
        except AttributeError:
            return False
        return True

    return [optimizer for optimizer in living(Optimizer) if listens(optimizer)]


def _nothing(*_: Any) -> None:
    """A hook to try whether hooks can be put on."""


def living_scalers() -> list[Any]:
    """The gradient scalers of the process that do something."""
    return [scaler for scaler in living(torch.amp.GradScaler) if scaler.is_enabled()]


def the_scaler(earlier: AbstractSet[Any]) -> Any:
    """The one gradient scaler that there is, or that was made since; None when there is none, or several.

    Args:
        earlier: those that were there before: of a training that is over, for one.
    """
    found = living_scalers()
    for scalers in (found, [scaler for scaler in found if scaler not in earlier]):
        if len(scalers) == 1:
            return scalers[0]
    return None


def around(module: nn.Module, needed: set[int]) -> nn.Module:
    """The nearest module around one that holds most of the parameters that are needed, or the module itself."""
    inside = set(map(id, module.modules()))
    best, most, smallest = module, len(needed & parameters_of(module)), len(inside)
    for other in living(nn.Module):
        if id(other) in inside or not other.__dict__.get("_modules"):
            continue
        parts = list(other.modules())
        if all(part is not module for part in parts):
            continue
        covered = len(needed & parameters_of(other))
        if covered > most or (covered == most and len(parts) < smallest):
            best, most, smallest = other, covered, len(parts)
    return best


def holding(needed: set[int]) -> nn.Module | None:
    """The smallest module that holds most of the parameters that are needed; None when none holds any."""
    best, most, smallest = None, 0, 0
    for module in living(nn.Module):
        if not module.__dict__.get("_parameters") and not module.__dict__.get("_modules"):
            continue
        covered, size = len(needed & parameters_of(module)), sum(1 for _ in module.modules())
        if covered > most or (covered == most > 0 and size < smallest):
            best, most, smallest = module, covered, size
    return best


def owners(known: Iterable[Known], held: set[int]) -> Iterator[Known]:
    """Those of the optimizers that want some of the parameters."""
    return (each for each in known if each.wanted & held)


def choose(known: list[Known], module: nn.Module) -> tuple[nn.Module, list[Known]]:
    """The model that a call of a module belongs to, and the optimizers that update it, see `Session`."""
    held = parameters_of(module)
    optimizers = list(owners(known, held))
    needed = set().union(*(each.ids for each in optimizers if each.fresh))
    model = module if needed <= held else around(module, needed)
    return model, list(owners(known, parameters_of(model)))
