"""What `watch` may be given, and why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from gradscope.errors import ForeignOptimizer, NothingToWatch, WatchError


def optimizers_of(given: object) -> list[torch.optim.Optimizer]:
    """The optimizers that were given: one, several or none."""
    found: list[torch.optim.Optimizer] = []
    for optimizer in [] if given is None else given if isinstance(given, Sequence) else [given]:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise WatchError(
                f"watch() expected a torch optimizer, a sequence of them or None; it got {type(optimizer).__name__}."
            )
        try:
            optimizer.register_step_pre_hook(_nothing).remove()
        except AttributeError as error:
            raise WatchError(
                f"{type(optimizer).__name__} was made without Optimizer.__init__, so that nobody can listen to it. "
                "Hand watch() the optimizer inside it, whose step() it calls."
            ) from error
        found.append(optimizer)
    return found


def _nothing(*_: Any) -> None:
    """A hook to try whether hooks can be put on."""


def scaler_of(given: Any) -> Any:
    """The gradient scaler, None when it is there but does nothing."""
    if given is not None and not all(callable(getattr(given, name, None)) for name in ("scale", "step", "update")):
        raise WatchError(f"scaler= expected a torch.amp.GradScaler or None; it got {type(given).__name__}.")
    return given if given is not None and given.is_enabled() else None


def check(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    every: object,
    overhead: float,
    compiled: str,
    on_non_finite: object,
) -> None:
    """Refuses what cannot be watched, with the reason and what to do."""
    if not isinstance(model, nn.Module):
        raise WatchError(f"watch() expected a torch.nn.Module; it got {type(model).__name__}.")
    parameters = list(model.parameters())
    if not parameters:
        raise NothingToWatch(
            f"{type(model).__name__} has no parameters, so nothing of it can be trained. "
            "Hand watch() the module whose parameters the optimizer updates."
        )
    if any(parameter.is_meta for parameter in parameters if not isinstance(parameter, UninitializedParameter)):
        raise NothingToWatch(
            f"parameters of {type(model).__name__} are on the meta device and hold no numbers. "
            "Call model.to_empty(device=...) and initialise them, then watch()."
        )
    if every != "auto" and not (isinstance(every, int) and every >= 1):
        raise WatchError(f'every= must be "auto" or a whole number of steps of 1 or more; it is {every!r}.')
    if compiled not in ("boundary", "full"):
        raise WatchError(f'compiled= is "boundary" or "full"; it is {compiled!r}.')
    if on_non_finite not in (None, "locate"):
        raise WatchError(f'on_non_finite= is "locate" or None; it is {on_non_finite!r}.')
    if not 0 < overhead <= 1:
        raise WatchError(f"overhead= is a share of the training's time in (0, 1]; it is {overhead!r}.")
    known = {id(parameter) for parameter in parameters}
    for optimizer in optimizers:
        if not any(id(parameter) in known for group in optimizer.param_groups for parameter in group["params"]):
            raise ForeignOptimizer(
                f"{type(optimizer).__name__} updates none of the parameters of {type(model).__name__}. "
                "Was it made for another model, or before the model was copied or moved?"
            )
