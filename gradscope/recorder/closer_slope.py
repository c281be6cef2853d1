"""The derivative that an activation really had, from what autograd keeps of it for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from gradscope.recorder.private import saved_number, unchanged_saved_tensor

Derivative = Callable[..., torch.Tensor]


class Formula(NamedTuple):
    """How an activation's derivative follows from what its node saves."""

    saved: str  # "result" or "self": what it gave, or was given
    derivative: Derivative  # of that tensor and the numbers below
    numbers: tuple[str, ...] = ()  # saved beside it


def _elu(x: torch.Tensor, alpha: float, scale: float, input_scale: float) -> torch.Tensor:
    below = alpha * scale * input_scale * (x * input_scale).exp()
    return torch.where(x > 0, torch.full_like(x, scale), below)


def _elu_result(y: torch.Tensor, alpha: float, scale: float, input_scale: float) -> torch.Tensor:
    return torch.where(y > 0, torch.full_like(y, scale), input_scale * (y + alpha * scale))


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """That of the exact one; the tanh approximation is within 6e-4 of it."""
    density: torch.Tensor = (-0.5 * x * x).exp() * 0.3989422804014327
    return torch.special.ndtr(x) + x * density  # type: ignore[no-any-return]


def _silu(x: torch.Tensor) -> torch.Tensor:
    y = x.sigmoid()
    return y * (1 + x * (1 - y))


def _mish(x: torch.Tensor) -> torch.Tensor:
    y = nn.functional.softplus(x).tanh()
    return y + x * (1 - y * y) * x.sigmoid()


def _softplus(x: torch.Tensor, beta: float, threshold: float) -> torch.Tensor:
    return torch.where(x * beta > threshold, torch.ones_like(x), (x * beta).sigmoid())


def _hardswish(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 3, torch.ones_like(x), torch.where(x < -3, torch.zeros_like(x), (2 * x + 3) / 6))


def _leaky(x: torch.Tensor, slope: float) -> torch.Tensor:
    return torch.where(x > 0, torch.ones_like(x), torch.full_like(x, slope))


# By the name of the node that autograd makes of it; those ending in 1 are in-place ones that keep what they gave.
FORMULAS: dict[str, Formula] = {
    "ReluBackward0": Formula("result", torch.sign),  # it gives nothing below 0
    "TanhBackward0": Formula("result", lambda y: 1 - y * y),
    "SigmoidBackward0": Formula("result", lambda y: y * (1 - y)),
    "LeakyReluBackward0": Formula("self", _leaky, ("negative_slope",)),
    "LeakyReluBackward1": Formula("result", _leaky, ("negative_slope",)),
    "EluBackward0": Formula("self", _elu, ("alpha", "scale", "input_scale")),
    "EluBackward1": Formula("result", _elu_result, ("alpha", "scale", "input_scale")),
    "CeluBackward0": Formula("self", lambda x, alpha: (x / alpha).clamp(max=0).exp(), ("alpha",)),
    "CeluBackward1": Formula("result", lambda y, alpha: 1 + y.clamp(max=0) / alpha, ("alpha",)),
    "GeluBackward0": Formula("self", _gelu),
    "SiluBackward0": Formula("self", _silu),
    "MishBackward0": Formula("self", _mish),
    "SoftplusBackward0": Formula("self", _softplus, ("beta", "threshold")),
    "HardtanhBackward0": Formula(
        "self", lambda x, low, high: ((x > low) & (x < high)).to(x.dtype), ("min_val", "max_val")
    ),
    "HardsigmoidBackward0": Formula("self", lambda x: (x.abs() < 3).to(x.dtype) / 6),
    "HardswishBackward0": Formula("self", _hardswish),
    "LogSigmoidBackward0": Formula("self", lambda x: (-x).sigmoid()),
    "ThresholdBackward0": Formula("self", lambda x, threshold: (x > threshold).to(x.dtype), ("threshold",)),
    "ClampBackward1": Formula("self", lambda x, low: (x >= low).to(x.dtype), ("min",)),
    "ClampMinBackward0": Formula("self", lambda x, low: (x >= low).to(x.dtype), ("min",)),
    "HardshrinkBackward0": Formula("self", lambda x, band: (x.abs() > band).to(x.dtype), ("lambd",)),
    "SoftshrinkBackward0": Formula("self", lambda x, band: (x.abs() > band).to(x.dtype), ("lambd",)),
}
_BY_CLASS: dict[type[nn.Module], Formula] = {  # written in several operations
    nn.Softsign: Formula("result", lambda y: (1 - y.abs()).square()),
}


class Saved(NamedTuple):
    """What an activation's derivative is computed from."""

    derivative: Derivative
    tensor: torch.Tensor
    numbers: tuple[float, ...]


def of_node(node: Any) -> Saved | None:
    """What an activation's node holds; None for other nodes, and where it must not or cannot be read."""
    formula = FORMULAS.get(node.name())
    if formula is None:
        return None
    numbers = _numbers(node, formula)
    tensor = unchanged_saved_tensor(node, formula.saved)
    return None if tensor is None or numbers is None else Saved(formula.derivative, tensor, numbers)


def of_module(module: nn.Module, fed: Any, output: torch.Tensor) -> Saved | None:
    """The same for an activation module that has just run; under checkpointing from what it was fed or gave."""
    node = output.grad_fn
    formula = _BY_CLASS.get(type(module)) or (None if node is None else FORMULAS.get(node.name()))
    if formula is None or node is None:
        return None
    numbers = _numbers(node, formula)
    if formula.saved == "result":
        tensor: torch.Tensor | None = output
    else:
        tensor = unchanged_saved_tensor(node, formula.saved)
        if tensor is None and isinstance(fed, torch.Tensor) and not getattr(module, "inplace", False):
            tensor = fed
    return None if tensor is None or numbers is None else Saved(formula.derivative, tensor, numbers)


def _numbers(node: Any, formula: Formula) -> tuple[float, ...] | None:
    numbers = tuple(number for name in formula.numbers if (number := saved_number(node, name)) is not None)
    guards = formula.numbers == ("min",) and numbers != (0,)  # a clamp at 0 is a ReLU, another guards against something
    return None if guards or len(numbers) < len(formula.numbers) else numbers
