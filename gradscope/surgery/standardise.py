"""Inputs and targets of unit size, whatever the training's own code feeds and compares."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules import conv

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied
from gradscope.surgery.modules import hook, hook_before

_CONSTANT = 1e-6  # deviation over the mean's size, below which a feature is a constant and float32 its only change


class Standardiser:
    """A forward pre-hook: subtracts each feature's mean and divides by its deviation, over all batches trained on so far.

    Features are the channels of images and of what a convolution is fed, else the last dimension. Numbers that were
    seen without gradients, or in eval mode, change no statistics. It has no parameters and is not in the `state_dict`;
    it is copied and pickled with the model.
    """

    def __init__(self, channels_first: bool) -> None:
        self.channels_first = channels_first
        self.count = 0.0
        self.mean: torch.Tensor | None = None
        self.squares: torch.Tensor | None = None  # summed squared distances from the mean, one number a feature

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The arguments with the first floating-point tensor among them standardised."""
        place = next((place for place, value in enumerate(args) if _floating(value)), None)
        if place is None:
            return None
        return (*args[:place], self.standardise(args[place], learn=module.training), *args[place + 1 :])

    def standardise(self, x: torch.Tensor, *, learn: bool) -> torch.Tensor:
        """Standardised numbers of the shape of x."""
        feature = (1 if self.channels_first or x.dim() >= 4 else x.dim() - 1) if x.dim() > 1 else -1
        if self.mean is None or (learn and torch.is_grad_enabled()):
            self._learn(x.detach(), feature)
        assert self.mean is not None
        assert self.squares is not None
        mean, deviation = self.mean, (self.squares / self.count).sqrt()
        still = deviation <= _CONSTANT * mean.abs().clamp(min=1e-24)
        deviation = torch.where(still, torch.ones_like(deviation), deviation)
        shape = [1] * x.dim()
        if feature >= 0:
            shape[feature] = -1
        mean, deviation = (each.to(x.device).reshape(shape) for each in (mean, deviation))
        return ((x - mean) / deviation).to(x.dtype)

    def _learn(self, x: torch.Tensor, feature: int) -> None:
        """Joins a batch's mean and squares with those of all before it (Chan et al. 1979)."""
        axes = [axis for axis in range(x.dim()) if axis != feature]
        wide = x.to(torch.float64) if x.device.type != "mps" else x.float()
        mean, count = wide.mean(axes), wide.numel() / (wide.shape[feature] if feature >= 0 else 1)
        squares = wide.var(axes, correction=0) * count
        if self.mean is None or self.squares is None or self.mean.shape != mean.shape:
            self.count, self.mean, self.squares = count, mean, squares
            return
        before, total = self.mean.to(mean), self.count + count
        apart = mean - before
        self.squares = self.squares.to(mean) + squares + apart**2 * (self.count * count / total)
        self.mean, self.count = before + apart * (count / total), total


class ByName:
    """The same for a model that is fed by keyword; it refuses to be fed no floating-point tensor at all."""

    def __init__(self, standardiser: Standardiser) -> None:
        self.standardiser = standardiser

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments with the first floating-point tensor among the named ones standardised, if no other was."""
        if any(map(_floating, args)):
            return None
        name = next((name for name, value in kwargs.items() if _floating(value)), None)
        if name is None:
            raise NotApplicable(
                "the model is fed no tensor of floating-point numbers: numbers of words or classes have no scale"
            )
        return args, {**kwargs, name: self.standardiser.standardise(kwargs[name], learn=module.training)}


def standardise_inputs(applied: Applied, model: nn.Module) -> None:
    """Standardises what the model is fed, in training and in use.

    Example:
        >>> applied, model = Applied(), nn.Sequential(nn.Linear(1, 1))
        >>> standardise_inputs(applied, model)
        >>> model[0].weight.data, model[0].bias.data = torch.ones(1, 1), torch.zeros(1)
        >>> model(torch.tensor([[100.0], [300.0]])).tolist()
        [[-1.0], [1.0]]
    """
    first = next(
        (module for module in model.modules() if next(module.parameters(recurse=False), None) is not None), None
    )
    standardiser = Standardiser(isinstance(first, conv._ConvNd))
    hook_before(applied, model, standardiser)
    hook_before(applied, model, ByName(standardiser), by_name=True)
    applied.change("inputs are standardised by the mean and deviation of all batches so far, feature by feature")


class UserUnits:
    """A forward hook that gives a model's output in the units of the targets, and lets it train in standard ones.

    With p = r·s + m the squared error (p - y)² is s² times (r - (y - m)/s)², that of standardised targets. So what comes
    back at r·s is divided by s²: every step of the optimizer is then the one of a training on standardised targets. A
    loss that grows as |p - y| needs one s only: `power` is 1 there.
    """

    def __init__(self, mean: float, deviation: float, power: int) -> None:
        self.mean, self.deviation, self.power = mean, deviation, power

    def __call__(self, module: nn.Module, args: Any, output: Any) -> torch.Tensor:
        """The output in the targets' units."""
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            raise NotApplicable(f"the model gives a {type(output).__name__}, not one tensor of predictions")
        if output.dtype in (torch.float16, torch.bfloat16):
            output = output.float()  # the targets' units may lie outside of what half precision can hold
        scaled = output * self.deviation
        if scaled.requires_grad:
            scaled.register_hook(Divide(self.deviation**self.power))
        moved: torch.Tensor = scaled + self.mean
        return moved


class Divide:
    """A tensor hook: the gradient over a number."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient, divided."""
        return gradient / self.by


def standardise_targets(
    applied: Applied, model: nn.Module, mean: float | None, deviation: float | None, power: int
) -> None:
    """Lets the model train on standardised targets while its outputs and loss stay in the targets' units.

    Args:
        applied: is told.
        model: gets a hook on its output.
        mean, deviation: of the targets.
        power: how the loss grows with the distance to the targets: 2 for a squared error, 1 for an absolute one.

    Raises:
        NotApplicable: mean and deviation are not known, or the targets are all alike.

    Example:
        >>> applied, model = Applied(), nn.Sequential(nn.Linear(1, 1))
        >>> standardise_targets(applied, model, 150.0, 80.0, 2)
        >>> model[0].weight.data, model[0].bias.data = torch.ones(1, 1), torch.zeros(1)
        >>> model(torch.ones(1, 1)).item()
        230.0
    """
    if mean is None or deviation is None:
        raise NotApplicable("the targets were not seen: their mean and standard deviation are not known")
    if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0):
        raise NotApplicable(f"the targets do not vary: mean {mean:.3g}, standard deviation {deviation:.3g}")
    hook(applied, model, UserUnits(mean, deviation, power))
    applied.change(f"the model trains on (target - {mean:.3g}) / {deviation:.3g}; outputs and loss keep their units")


def _floating(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
