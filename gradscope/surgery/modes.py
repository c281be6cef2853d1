"""Modes, dropout rates and frozen parameters: switches that were left where they should not be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import batchnorm, dropout
from torch.optim import Optimizer

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied
from gradscope.surgery.modules import hook, hook_before_all, modules_by_path
from gradscope.surgery.parameters import join, one_process_only

_IDLE = 0.01  # momentum, below which running statistics take more than a hundred steps to follow


def _train(module: nn.Module) -> None:
    """Puts what runs with gradients into training mode; it stays there until `eval()` is called."""
    if torch.is_grad_enabled() and not module.training:
        module.train()


class TestMode:
    """Puts what runs without gradients into eval mode; `Restore` ends it."""

    def __init__(self) -> None:
        self.back: list[nn.Module] = []

    def __call__(self, module: nn.Module) -> None:
        """Notes what is in training mode, and puts it into eval mode."""
        if not torch.is_grad_enabled() and not self.back:
            self.back = [each for each in module.modules() if each.training]
            for each in self.back:
                each.training = False


class Restore:
    """The forward hook that ends what a `TestMode` began."""

    def __init__(self, mode: TestMode) -> None:
        self.mode = mode

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Gives the modules their mode back."""
        for each in self.mode.back:
            each.training = True
        self.mode.back = []


def train_in_training_mode(applied: Applied, model: nn.Module, layers: Sequence[str] | None = None) -> None:
    """Keeps modules in training mode whenever gradients are computed, whatever mode they were left in.

    Args:
        applied: is told.
        model: is changed in place.
        layers: paths of the modules; None: the model.
    """
    modules = modules_by_path(model)
    chosen = [modules[path] for path in layers or ("",) if path in modules]
    for module in model.modules():
        applied.back(setattr, module, "training", module.training)
    for module in chosen:
        module.train()
        hook_before_all(applied, module, _train)
    norms = {each for module in chosen for each in module.modules() if isinstance(each, batchnorm._BatchNorm)}
    slow = [norm for norm in norms if norm.momentum is not None and norm.momentum < _IDLE]
    for norm in slow:
        applied.back(setattr, norm, "momentum", norm.momentum)
        norm.momentum = 0.1
    if slow:
        many = len(slow) > 1
        applied.change(f"{len(slow)} running average{'s follow' if many else ' follows'} with a momentum of 0.1")
    what = "the model is" if not layers else f"{len(chosen)} module{'s are' if len(chosen) > 1 else ' is'}"
    applied.change(f"{what} in training mode whenever gradients are computed")


def test_in_eval_mode(applied: Applied, model: nn.Module) -> None:
    """Runs every forward without gradients in eval mode, and gives the modules their mode back after it."""
    mode = TestMode()
    hook_before_all(applied, model, mode)
    hook(applied, model, Restore(mode), always=True)
    applied.change("forwards without gradients run in eval mode: dropout is off in them")


def lower_dropout(applied: Applied, model: nn.Module, rate: float) -> None:
    """Lowers every dropout rate that is above `rate`, those inside recurrent layers and attention included.

    Raises:
        NotApplicable: none is above.

    Example:
        >>> applied, model = Applied(), nn.Sequential(nn.Dropout(0.9), nn.Dropout(0.1))
        >>> lower_dropout(applied, model, 0.2)
        >>> print(applied)
        1 dropout rate lowered to 0.2, from 0.9
    """
    highest, count = 0.0, 0
    for module in model.modules():
        inside = isinstance(module, (nn.RNNBase, nn.MultiheadAttention))
        name = "p" if isinstance(module, dropout._DropoutNd) else "dropout" if inside else ""
        before = getattr(module, name) if name else 0.0
        if before > rate:
            applied.back(setattr, module, name, before)
            setattr(module, name, rate)
            highest, count = max(highest, before), count + 1
    if not count:
        raise NotApplicable(f"no Dropout module has a rate above {rate:g}; F.dropout in forward needs your edit")
    applied.change(f"{count} dropout rate{'s' * (count > 1)} lowered to {rate:g}, from {highest:g}")


def unfreeze(applied: Applied, model: nn.Module, optimizers: Sequence[Optimizer], layers: Sequence[str] | None) -> None:
    """Lets frozen parameters learn, and hands those that no optimizer holds to the first group of the first optimizer.

    Args:
        applied: is told.
        model: is changed in place.
        optimizers: get what they do not hold yet.
        layers: paths of modules; None: all.

    Raises:
        NotApplicable: nothing is frozen there.
    """
    one_process_only()
    modules = modules_by_path(model)
    chosen = [model] if layers is None else [modules[path] for path in layers if path in modules]
    frozen = {id(p): p for module in chosen for p in module.parameters() if not p.requires_grad}
    if not frozen:
        raise NotApplicable("no parameter is frozen here")
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for parameter in frozen.values():
        applied.back(setattr, parameter, "grad", parameter.grad)
        applied.back(parameter.requires_grad_, False)
        parameter.requires_grad_(True)
    new = [p for p in frozen.values() if id(p) not in held]
    if optimizers and new:
        join(applied, optimizers, new, optimizers[0].param_groups[0]["params"][:1])
    entries = sum(parameter.numel() for parameter in frozen.values())
    applied.change(f"{len(frozen)} frozen parameter{'s' * (len(frozen) > 1)} learn again, {entries:,} entries")
