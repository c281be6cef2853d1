"""Steps that average the gradients of several batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied


class Gather:
    """An optimizer's pre-hook: keeps each step's gradients to itself, and hands over the mean of `count` at a time.

    Between, the optimizer finds no gradients and moves nothing: parameters, momenta and step counts stay as they are.
    """

    def __init__(self, count: int) -> None:
        self.count, self.met = count, 0
        self.sums: dict[int, torch.Tensor] = {}

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Takes the gradients away, or puts the mean of all since the last step in their place."""
        if len(args) > 1 or kwargs.get("closure") is not None:  # the first argument is the optimizer
            raise NotApplicable(
                "step() is given a closure, which computes the gradients inside: hand it larger batches"
            )
        self.met += 1
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if parameter.grad is not None:
                before = self.sums.get(id(parameter))
                gradient = parameter.grad.detach()
                self.sums[id(parameter)] = gradient.clone() if before is None else before + gradient
            whole = self.sums.pop(id(parameter), None) if self.met % self.count == 0 else None
            parameter.grad = None if whole is None else whole / self.count


def average_batches(applied: Applied, optimizers: Sequence[Optimizer], count: int) -> None:
    """Lets each optimizer step once for `count` calls, by the mean of their gradients.

    Raises:
        NotApplicable: there is no optimizer, or it computes its gradients inside its step.
    """
    if not optimizers:
        raise NotApplicable("no optimizer is known whose steps could be joined")
    if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in optimizers):
        raise NotApplicable("LBFGS computes its gradients inside its step: hand it larger batches")
    for optimizer in optimizers:
        applied.back(optimizer.register_step_pre_hook(Gather(count)).remove)
    applied.change(f"each step averages {count} batches: {count} times the data and time for a step")
