"""What follows what in a model that has not run yet: a guess from the order in which its modules were registered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules import activation, batchnorm, conv, instancenorm
from torch.nn.utils import parametrize

from gradscope.surgery.modules import modules_by_path

LAYERS = (nn.Linear, conv._ConvNd, nn.Bilinear)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
NORMS = (batchnorm._NormBase, instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layer:
    """A layer with weights and what seems to follow it.

    Attributes:
        activation: kind of the next activation; "" where none was found before the next layer.
        activation_path: its path.
        normalised: whether a normalisation lies between.
        next: path of the next layer; "" after the last one, the head.
    """

    path: str
    activation: str = ""
    activation_path: str = ""
    normalised: bool = False
    next: str = ""


def guess_layers(model: nn.Module) -> list[Layer]:
    """The layers with weights in the order in which they were registered, which in most models is that of their calls.

    A model whose layers are followed by no module at all calls its activations as functions: they count as ReLU, or as
    the one activation that it holds.

    Example:
        >>> [(layer.path, layer.activation) for layer in guess_layers(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))]
        [('0', 'Tanh')]
    """
    found: list[Layer] = []
    kinds: set[str] = set()
    for path, module in modules_by_path(model).items():
        if is_activation(module):
            kinds.add(type(module).__name__)
            if found and not found[-1].activation:
                found[-1] = replace(found[-1], activation=type(module).__name__, activation_path=path)
        elif isinstance(module, NORMS) and found:
            found[-1] = replace(found[-1], normalised=True)
        elif is_weighted(module):
            if found:
                found[-1] = replace(found[-1], next=path)
            found.append(Layer(path))
    if any(layer.activation for layer in found[:-1]):
        return found
    usual = kinds.pop() if len(kinds) == 1 else "ReLU"
    return [replace(layer, activation=usual, activation_path="") if layer.next else layer for layer in found]


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's activations; attention is none, though its file holds it."""
    return type(module).__module__ == activation.__name__ and not isinstance(module, nn.MultiheadAttention)


def is_weighted(module: nn.Module) -> bool:
    """Whether a module's weights multiply what it is fed, and can be drawn anew as they are.

    The projection inside attention is never called, and a parametrized weight is made from others.
    """
    inner = nn.modules.linear.NonDynamicallyQuantizableLinear
    if (
        not isinstance(module, (*LAYERS, *RECURRENT))
        or isinstance(module, inner)
        or parametrize.is_parametrized(module)
    ):
        return False
    return isinstance(module, RECURRENT) or isinstance(module._parameters.get("weight"), nn.Parameter)
