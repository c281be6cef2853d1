"""Other activations in the place of those that shrink, cut off or bound what passes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied
from gradscope.surgery.initialise import initialise
from gradscope.surgery.modules import hook, module_at, modules_by_path, put
from gradscope.surgery.wiring import guess_layers, is_activation, is_weighted

SATURATING = (
    *("Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Softsign", "Softplus", "LogSigmoid", "Tanhshrink", "Softmax"),
    *("ReLU6", "Hardshrink", "Softshrink", "Threshold"),
)


def swap_activations(
    applied: Applied, model: nn.Module, paths: Sequence[str] | None, to: str, draw: Sequence[Sequence[str]] | None
) -> None:
    """Replaces hidden activations, and draws the layers before them for the new ones.

    Args:
        applied: is told.
        model: is changed in place.
        paths: of the activations; None: every saturating one (for LeakyReLU every ReLU) before the last layer.
        to: "ReLU", "ELU" or "LeakyReLU".
        draw: layers as `initialise` wants them; None: those before what was replaced. Empty: none.

    Raises:
        NotApplicable: the activations are no modules.
    """
    modules = modules_by_path(model)
    kinds = ("ReLU", "ReLU6") if to == "LeakyReLU" else SATURATING
    chosen = _hidden(model, kinds) if paths is None else [path for path in paths if path in modules]
    found = {id(modules[path]): modules[path] for path in chosen if _is_one(modules[path])}
    if not found:
        raise NotApplicable("its hidden activations are called as functions inside forward: that needs your edit")
    layers = guess_layers(model)
    before = [(layer.path, to) for layer in layers if layer.activation_path in chosen and layer.activation_path]
    counts = Counter(type(module).__name__ for module in found.values())
    for old in found.values():
        put(applied, model, old, nn.LeakyReLU(0.01) if to == "LeakyReLU" else nn.ELU() if to == "ELU" else nn.ReLU())
    said = " and ".join(f"{count} {kind}" for kind, count in counts.items())
    applied.change(f"{said} replaced by {to}")
    if (chosen_layers := before if draw is None else draw) and to != "LeakyReLU":
        initialise(applied, model, chosen_layers)


def _is_one(module: nn.Module) -> bool:
    """Whether a module is an activation of torch's, or may be one written by hand: without weights and modules in it."""
    alone = next(module.children(), None) is None and next(module.parameters(), None) is None
    return is_activation(module) or (alone and not type(module).__module__.startswith("torch."))


def _hidden(model: nn.Module, kinds: Sequence[str]) -> list[str]:
    """Paths of activations before the last layer; of all where none is registered before it."""
    order = list(modules_by_path(model).items())
    last = max((place for place, (_, module) in enumerate(order) if is_weighted(module)), default=-1)
    all_of = [(place, path) for place, (path, module) in enumerate(order) if type(module).__name__ in kinds]
    inside = [path for place, path in all_of if place < last]
    return inside or [path for _, path in all_of if not isinstance(model, nn.Sequential)]


class Output:
    """A forward hook that puts an activation on a model's output."""

    def __init__(self, kind: str, dimension: int) -> None:
        self.kind, self.dimension = kind, dimension

    def __call__(self, module: nn.Module, args: object, output: object) -> torch.Tensor:
        """The output behind the activation."""
        if not isinstance(output, torch.Tensor):
            raise NotApplicable(f"the model gives a {type(output).__name__}, not a tensor that an activation can go on")
        if self.kind == "Sigmoid":
            return output.sigmoid()
        return output.softmax(self.dimension) if self.kind == "Softmax" else output.log_softmax(self.dimension)


def change_output(applied: Applied, model: nn.Module, path: str | None, to: str, dimension: int) -> None:
    """Replaces the activation that makes the output, or puts one on it.

    Args:
        applied: is told.
        model: is changed in place.
        path: of the activation; "" puts one on the model's output; None: the model's last module, if it is one.
        to: "Identity", "Softmax", "LogSoftmax" or "Sigmoid".
        dimension: of the classes.

    Raises:
        NotApplicable: the activation is no module, or serves other layers too.
    """
    if path == "":
        hook(applied, model, Output(to, dimension))
        applied.change(f"{to} put on the model's output")
        return
    path = _last_activation(model) if path is None else path
    old = module_at(model, path)
    if not is_activation(old):
        raise NotApplicable("the model's output activation is called as a function in forward: that needs your edit")
    made: dict[str, nn.Module] = {
        "Softmax": nn.Softmax(dimension),
        "LogSoftmax": nn.LogSoftmax(dimension),
        "Sigmoid": nn.Sigmoid(),
    }
    new = made.get(to, nn.Identity())
    put(applied, model, old, new)
    applied.change(f"{path}: {type(old).__name__} replaced by {to}")


def _last_activation(model: nn.Module) -> str:
    """The path of the last module of a chain, where it is an activation; of any model's softmax."""
    order = list(modules_by_path(model).items())
    last = max((place for place, (_, module) in enumerate(order) if is_weighted(module)), default=-1)
    chain = all(isinstance(module, nn.Sequential) for _, module in order if next(module.children(), None) is not None)
    kinds = nn.Module if chain else (nn.Softmax, nn.LogSoftmax)
    behind = [path for path, module in order[last + 1 :] if is_activation(module) and isinstance(module, kinds)]
    if not behind:
        raise NotApplicable(
            "no activation module is seen to make the output: forward may call a function, which needs your edit"
        )
    return behind[-1]
