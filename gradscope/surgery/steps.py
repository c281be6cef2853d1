"""What happens around an optimizer's steps, without a change to the user's loop, the optimizer or its own hooks.

torch's global hooks wrap an optimizer's own: what is done before a step is done when those see it, and is taken back
after them. So a scheduler goes on as it is, and a recorder reads the learning rate that was used.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradscope.surgery.applied import Applied

Action = Callable[[Optimizer], None]
Group = dict[str, Any]


def around_steps(
    applied: Applied,
    optimizers: Sequence[Optimizer],
    *,
    before: Action | None = None,
    evaluating: Action | None = None,
    with_gradients: Action | None = None,
    after: Action | None = None,
) -> None:
    """Acts around every step of these optimizers, which are held weakly.

    Args:
        applied: takes the hooks off again.
        optimizers: of whose steps.
        before: called first of all.
        evaluating: before a step evaluates the closure that it was given, each time.
        with_gradients: when the gradients of the step are there: after each such evaluation, else right after `before`.
        after: called last of all, if the step did not raise.
    """
    references = [weakref.ref(optimizer) for optimizer in optimizers]

    def pre(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not any(reference() is optimizer for reference in references):
            return None
        if before is not None:
            before(optimizer)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)  # args begin with the optimizer itself
        if closure is None:
            if with_gradients is not None:
                with_gradients(optimizer)
            return None
        if evaluating is None and with_gradients is None:
            return None

        def evaluate() -> Any:
            if evaluating is not None:
                evaluating(optimizer)
            loss = closure()
            if with_gradients is not None:
                with_gradients(optimizer)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": evaluate}
        return (args[0], evaluate, *args[2:]), kwargs

    def post(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if after is not None and any(reference() is optimizer for reference in references):
            after(optimizer)

    applied.back(register_optimizer_step_pre_hook(pre).remove)
    if after is not None:
        applied.back(register_optimizer_step_post_hook(post).remove)


@dataclass(eq=False)
class _Factor:
    of_step: Callable[[int], float]
    instead_of_zero: float
    steps: int = 0  # taken with it


@dataclass(eq=False)
class _Rates:
    """All factors on one optimizer's learning rates: each can be taken off again, in any order."""

    hooks: Applied = field(default_factory=Applied)
    factors: list[_Factor] = field(default_factory=list)
    changed: list[tuple[Group, Any, Any]] = field(default_factory=list)  # a group, its rate, and what that became

    def begin(self, optimizer: Optimizer) -> None:
        self.end()  # of a step that raised
        for group in optimizer.param_groups:
            rate = was = group["lr"]
            for factor in self.factors:
                rate = _scaled(rate, factor.of_step(factor.steps), factor.instead_of_zero)
            if rate is not was:
                group["lr"] = rate
                self.changed.append((group, was, rate))

    def end(self) -> None:
        for group, was, became in self.changed:
            if group["lr"] is became:  # else the step has set another, which stays
                group["lr"] = was
        self.changed.clear()

    def stepped(self, _: Optimizer) -> None:
        self.end()
        for factor in self.factors:
            factor.steps += 1


_RATES: weakref.WeakKeyDictionary[Optimizer, _Rates] = weakref.WeakKeyDictionary()


def scale_rates(
    applied: Applied,
    optimizers: Sequence[Optimizer],
    factor: Callable[[int], float],
    instead_of_zero: float = 0.0,
) -> None:
    """Multiplies the learning rate of every group while these optimizers step; between steps it is the user's.

    Several factors multiply. A scheduler, and what the user prints, see the rate without them; the optimizer, its own
    hooks and so a recorder see it with them.

    Args:
        applied: takes the factor off again.
        optimizers: each of their groups has an "lr", a number or a tensor of one.
        factor: by how much, given how many steps were taken with it; 1 changes nothing.
        instead_of_zero: the rate, before `factor`, of a group whose rate is 0.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer, applied = torch.optim.SGD([weight], lr=0.5), Applied()
        >>> scale_rates(applied, [optimizer], lambda step: 0.1)
        >>> weight.grad = torch.ones(1)
        >>> optimizer.step()
        >>> round(weight.item(), 6), optimizer.param_groups[0]["lr"]
        (0.95, 0.5)
        >>> applied.undo()
    """
    for optimizer in optimizers:
        rates = _RATES.get(optimizer)
        if rates is None:
            rates = _RATES[optimizer] = _Rates()
            around_steps(rates.hooks, [optimizer], before=rates.begin, after=rates.stepped)
        one = _Factor(factor, instead_of_zero)
        rates.factors.append(one)
        applied.back(_take_off, weakref.ref(optimizer), rates, one)


def _take_off(reference: weakref.ref[Optimizer], rates: _Rates, factor: _Factor) -> None:
    rates.factors.remove(factor)
    rates.end()
    if not rates.factors:
        rates.hooks.undo()
        optimizer = reference()
        if optimizer is not None:
            _RATES.pop(optimizer, None)


def _scaled(rate: Any, factor: float, instead_of_zero: float) -> Any:
    """A new rate; the very same object where it does not change. A tensor on a device is not waited for."""
    if instead_of_zero and not isinstance(rate, torch.Tensor) and rate == 0:
        rate = instead_of_zero
    return rate if factor == 1 else rate * factor


def clip_norm(applied: Applied, optimizers: Sequence[Optimizer], bound: float) -> None:
    """Rescales the gradients of each of these optimizers, when their common L2 norm exceeds a bound, before it steps.

    What a scaler has already divided by its scale is taken as it is; where a fused optimizer will divide inside of its
    step (`grad_scale`), the bound is for what comes out. A norm that is not finite makes every gradient so, as
    `torch.nn.utils.clip_grad_norm_` does. Nothing waits for a device.

    Args:
        applied: takes it off again.
        optimizers: each is clipped by the norm over its own parameters.
        bound: the largest norm.
    """

    def clip(optimizer: Optimizer) -> None:
        parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None
        ]
        if not parameters or math.isinf(bound):
            return
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        scale = getattr(optimizer, "grad_scale", None)
        if isinstance(scale, torch.Tensor):
            norm = norm / scale
        torch.nn.utils.clip_grads_with_norm_(parameters, bound, norm)

    around_steps(applied, optimizers, with_gradients=clip)


def zero_gradients(applied: Applied, optimizers: Sequence[Optimizer]) -> None:
    """Sets the gradients of these optimizers to 0 after each step; LBFGS's also before it evaluates its closure.

    To 0, not to None: a loop that reads them after the step still can. Gradients that are gathered over several backward
    passes before one step stay whole.
    """

    def zero(optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)

    several = [optimizer for optimizer in optimizers if isinstance(optimizer, torch.optim.LBFGS)]
    around_steps(applied, optimizers, after=zero)
    if several:
        around_steps(applied, several, evaluating=zero)
