"""Parameters that come and go: they join and leave the optimizer's groups, and the weights keep a way back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied


def join(
    applied: Applied, optimizers: Sequence[Optimizer], new: Iterable[nn.Parameter], beside: Iterable[nn.Parameter]
) -> None:
    """Hands new parameters to the group that holds one of those beside them; to none where no group does.

    Example:
        >>> old, new = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(old.parameters(), lr=0.1)
        >>> join(Applied(), [optimizer], new.parameters(), old.parameters())
        >>> len(optimizer.param_groups[0]["params"])
        4
    """
    neighbours = {id(parameter) for parameter in beside}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if any(id(parameter) in neighbours for parameter in group["params"]):
                for parameter in new:
                    _add(applied, optimizer, group, parameter)
                return


def leave(applied: Applied, optimizers: Sequence[Optimizer], gone: Iterable[nn.Parameter]) -> None:
    """Takes parameters out of the groups that hold them, with what the optimizer remembers of them."""
    going = {id(parameter): parameter for parameter in gone}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for key in ("params", "param_names"):
                if key in group and any(id(parameter) in going for parameter in group["params"]):
                    applied.back(_refill, group[key], list(group[key]))
            kept = [n for n, parameter in enumerate(group["params"]) if id(parameter) not in going]
            if "param_names" in group:
                group["param_names"][:] = [group["param_names"][n] for n in kept]
            group["params"][:] = [group["params"][n] for n in kept]
        for parameter in going.values():
            if parameter in optimizer.state:
                applied.back(optimizer.state.__setitem__, parameter, optimizer.state.pop(parameter))


def remember(applied: Applied, parameters: Iterable[torch.Tensor]) -> None:
    """Notes the numbers that parameters or buffers hold, so that they can be put back bit for bit."""
    for parameter in parameters:
        applied.back(_restore, parameter, parameter.detach().clone())


def one_process_only() -> None:
    """Refuses what every rank would do in its own way.

    Raises:
        NotApplicable: several processes train together.
    """
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    ):
        raise NotApplicable(
            "several ranks train together, and their wrapper knows only the weights that it was made with: it has to be "
            "done before the model is wrapped"
        )


def _add(applied: Applied, optimizer: Optimizer, group: dict[str, Any], parameter: nn.Parameter) -> None:
    for key in ("params", "param_names"):
        if key in group:
            applied.back(_refill, group[key], list(group[key]))
    applied.back(optimizer.state.pop, parameter, None)
    group["params"].append(parameter)
    if "param_names" in group:
        group["param_names"].append(f"gradscope_{len(group['params'])}")


def _refill(holder: list[Any], items: list[Any]) -> None:
    holder[:] = items


def _restore(parameter: torch.Tensor, numbers: torch.Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(numbers)
