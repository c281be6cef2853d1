"""What published tools look at, taken during the training now and then by plain module hooks.

It is theirs, not ours: output statistics of every layer, gradients and updates of every parameter, errors on data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.program import Training

LOOKS = 20
FIRST = 10  # steps that are looked at one by one
Numbers = dict[str, float]


class Trace:
    """Listens to a training; what it kept is plain data for `trace.json`."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.looks: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self._every = max(training.steps // LOOKS, 1)
        self._step = 0
        self._layers: dict[str, Numbers] = {}
        self._before: dict[str, Tensor] = {}
        self._gradients: dict[str, Numbers] = {}
        self._handles: list[Any] = []

    @property
    def looking(self) -> bool:
        """Whether this step is looked at."""
        return self._step < FIRST or self._step % self._every == 0

    def __enter__(self) -> Trace:
        for path, module in self.training.model.named_modules():
            if not list(module.children()):
                self._handles.append(module.register_forward_hook(self._forward(path)))
        for optimizer in self.training.optimizers[:1]:
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))
            self._handles.append(optimizer.register_step_post_hook(self._after_update))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def epoch(self, step: int, losses: list[float], errors: Numbers) -> None:
        """A twentieth of the training is over."""
        self.epochs.append({"step": step, "loss": sum(losses) / max(len(losses), 1), **errors})

    def _forward(self, path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self.looking and torch.is_grad_enabled() and isinstance(output, Tensor) and output.is_floating_point():
                fed = inputs[0].detach() if inputs and isinstance(inputs[0], Tensor) else None
                self._layers[path] = describe_output(module, fed, output.detach())

        return hook

    def _before_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if not self.looking:
            return
        for name, parameter in self.training.model.named_parameters():
            self._before[name] = parameter.detach().clone()
            if parameter.grad is not None:
                self._gradients[name] = describe_gradient(parameter.grad.detach())

    def _after_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if self.looking:
            parameters = {}
            for name, parameter in self.training.model.named_parameters():
                if name in self._before:
                    parameters[name] = describe_update(self._before[name], parameter.detach())
                    parameters[name] |= self._gradients.get(name, {})
            rate = float(optimizer.param_groups[0]["lr"])
            self.looks.append({"step": self._step, "rate": rate, "layers": self._layers, "parameters": parameters})
            self._layers, self._before, self._gradients = {}, {}, {}
        self._step += 1

    def kept(self) -> dict[str, Any]:
        """Everything, as plain data."""
        modules = {
            path: {"kind": type(module).__name__, "rate": float(getattr(module, "p", 0.0) or 0.0)}
            for path, module in self.training.model.named_modules()
            if not list(module.children())
        }
        x = self.training.task.x
        numbers = x.is_floating_point()
        return {
            "modules": modules,
            "input": [float(x.min()), float(x.max())] if numbers else [0.0, 0.0],
            "trivial": _trivial(self.training.task.y),
            "loss": getattr(self.training.loss, "__name__", ""),
            "looks": self.looks,
            "epochs": self.epochs,
        }


def _trivial(labels: Tensor) -> float:
    """The error rate of always saying the most frequent class; 0 where the targets are no classes."""
    if labels.is_floating_point():
        return 0.0
    return float(1 - torch.bincount(labels.flatten()).max() / labels.numel())


def describe_output(module: nn.Module, fed: Tensor | None, output: Tensor) -> Numbers:
    """A layer's output: mean, spread, how many neurons give next to nothing, how far its input is into saturation."""
    output = output.float()
    flat = output.reshape(output.shape[0], -1) if output.dim() > 1 else output.reshape(1, -1)
    top = torch.quantile(flat[:64, :512], 0.95, dim=0) if torch.isfinite(flat).all() else flat[0]
    numbers = {
        "mean": output.mean(),
        "deviation": output.std(unbiased=False),
        "size": output.abs().mean(),
        "finite": torch.isfinite(output).all(),
        "at_most_zero": (output <= 0).float().mean(),
        "idle_neurons": (top < 1e-5).float().mean(),
        "silent_neurons": ((flat <= 0).float().mean(0) > 0.99).float().mean(),
        "saturated_neurons": _saturated(module, flat),
    }
    if fed is not None and fed.is_floating_point():
        numbers["fed_beyond_5"] = (fed.abs() >= 5).float().mean()
        numbers["fed_low"], numbers["fed_high"] = fed.min(), fed.max()
    return {name: float(value) for name, value in numbers.items()}


def _saturated(module: nn.Module, flat: Tensor) -> Tensor:
    """The share of neurons whose outputs lie, on average, beyond 0.85 of the way to a bound."""
    if isinstance(module, nn.Sigmoid):
        flat = 2 * flat - 1
    elif not isinstance(module, nn.Tanh):
        return torch.zeros(())
    return (flat.abs().mean(0) > 0.85).float().mean()


def describe_gradient(gradient: Tensor) -> Numbers:
    """A parameter's gradient: mean size, norm, zeros, spread."""
    gradient = gradient.float()
    sizes = gradient.abs().flatten()
    sample = gradient.flatten()[:: max(gradient.numel() // 4096, 1)]
    finite = bool(torch.isfinite(sizes).all())
    spread = torch.quantile(sample, 0.95) - torch.quantile(sample, 0.05) if finite else torch.tensor(float("nan"))
    return {
        "gradient": float(sizes.mean()),
        "gradient_norm": float(sizes.square().sum().sqrt()),
        "gradient_zeros": float((sizes == 0).float().mean()),
        "gradient_count": float(sizes.numel()),
        "gradient_spread": float(spread),
    }


def describe_update(before: Tensor, after: Tensor) -> Numbers:
    """A parameter and how far one step moved it."""
    before, after = before.float(), after.float()
    moved = after - before
    return {
        "weight": float(before.abs().mean()),
        "weight_norm": float(before.square().sum().sqrt()),
        "variance": float(before.var(unbiased=False)),
        "dimensions": float(before.dim()),
        "update": float(moved.abs().mean()),
        "update_norm": float(moved.square().sum().sqrt()),
    }
