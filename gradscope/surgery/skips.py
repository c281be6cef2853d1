"""A way around blocks of layers for signal and gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import conv

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied
from gradscope.surgery.modules import hook, hook_before, modules_by_path
from gradscope.surgery.wiring import guess_layers


class OnTheWay(dict[str, torch.Tensor]):
    """What layers were fed, by path, until the next one takes it. Copies are empty: a graph can be neither copied nor
    pickled.
    """

    def __reduce__(self) -> tuple[type[OnTheWay], tuple[()]]:
        return OnTheWay, ()


class Skip:
    """Adds what a layer was fed to what the next layer is fed: the block between them is all that lies there.

    One of these stands before each layer of a chain. Where the shapes differ at the first forward it stays off.
    """

    def __init__(self, said: list[str], name: str, scale: float, fed: OnTheWay, before: str = "") -> None:
        self.said, self.name, self.scale, self.fed, self.before = said, name, scale, fed, before
        self.keeps = False  # for the one behind it
        self.on = before != ""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """What the layer is fed, with the way around added."""
        around = self.fed.pop(self.before, None)
        if not args or not isinstance(args[0], torch.Tensor):
            return None
        fed = args[0]
        if self.on and around is not None:
            if around.shape == fed.shape and around.dtype == fed.dtype and around.device == fed.device:
                fed = around + self.scale * fed
            else:
                self.on = False
                shapes = f"{tuple(around.shape)} and {tuple(fed.shape)}"
                self.said.append(f"no skip connection to {self.name} after all: its ends have shapes {shapes}")
        if self.keeps:
            self.fed[self.name] = fed
        return (fed, *args[1:])


def add_skips(
    applied: Applied, model: nn.Module, around: Sequence[Sequence[str]] | None = None, scale: float | None = None
) -> None:
    """Puts a skip connection around each layer whose output has the shape of its input.

    A block is a layer and all that follows it up to the next one, activations that are called as functions included:
    what the next layer is fed becomes `x + scale * block(x)`.

    Args:
        applied: is told.
        model: is changed in place.
        around: `[path of a layer, path of the next one]` each; None: as the order of the modules suggests.
        scale: of the branches; None: 1/√(how many there are), with which their sum keeps the signal's size.

    Raises:
        NotApplicable: no layer's input and output agree.

    Example:
        >>> applied = Applied()
        >>> add_skips(applied, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)))
        >>> print(applied)
        1 skip connection, x + block(x)
    """
    pairs = around if around is not None else [(layer.path, layer.next) for layer in guess_layers(model) if layer.next]
    modules = modules_by_path(model)
    fitting = [(a, b) for a, b in pairs if a in modules and b in modules and _fit(modules[a], modules[b])]
    if not fitting:
        raise NotApplicable(
            "no layer has an output of its input's shape: a skip connection needs that, or a projection"
        )
    factor = 1 / math.sqrt(len(fitting)) if scale is None else scale
    skips: dict[str, Skip] = {}
    fed, before = OnTheWay(), {second: first for first, second in fitting}
    for path in dict.fromkeys(path for pair in fitting for path in pair):
        skips[path] = Skip(applied.changes, path, factor, fed, before.get(path, ""))
        hook_before(applied, modules[path], skips[path])
    for first, _ in fitting:
        skips[first].keeps = True
    times = "" if factor == 1 else f" · {factor:.2g}"
    applied.change(f"{len(fitting)} skip connection{'s' * (len(fitting) > 1)}, x + block(x){times}")


class Scale:
    """A forward hook: the output times a number; of several outputs the first."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """The output, scaled."""
        if isinstance(output, tuple) and output and isinstance(output[0], torch.Tensor):
            return (output[0] * self.factor, *output[1:])
        return output * self.factor if isinstance(output, torch.Tensor) else None


def scale_branches(applied: Applied, model: nn.Module, ends: Sequence[str], factor: float | None = None) -> None:
    """Multiplies what the modules at the ends of residual branches give.

    Args:
        applied: is told.
        model: is changed in place.
        ends: paths of the modules.
        factor: what with; None: 1/√(how many there are).

    Raises:
        NotApplicable: no branches are known.

    Example:
        >>> applied, model = Applied(), nn.Sequential(nn.Identity(), nn.Identity())
        >>> scale_branches(applied, model, ["0", "1"], 0.5)
        >>> model(torch.ones(1)).item()
        0.25
    """
    modules = modules_by_path(model)
    found = {id(modules[path]): modules[path] for path in ends if path in modules}
    if not found:
        raise NotApplicable("no residual branches are known: a run has to show where paths join")
    by = 1 / math.sqrt(max(len(found), 2)) if factor is None else factor
    for module in found.values():
        hook(applied, module, Scale(by))
    applied.change(f"{len(found)} residual branch{'es' * (len(found) > 1)} multiplied by {by:.2g}")


def _fit(layer: nn.Module, following: nn.Module) -> bool:
    """Whether a layer gives what it is fed in shape, and the next one takes as much."""
    if isinstance(layer, nn.Linear):
        return layer.in_features == layer.out_features == getattr(following, "in_features", None)
    if not isinstance(layer, conv._ConvNd) or layer.transposed or not isinstance(following, type(layer)):
        return False
    same = layer.padding == "same" or (
        not isinstance(layer.padding, str)
        and all(
            2 * padding == dilation * (size - 1)
            for padding, dilation, size in zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
        )
    )
    channels = layer.in_channels == layer.out_channels == following.in_channels
    return same and channels and set(layer.stride) == {1}
