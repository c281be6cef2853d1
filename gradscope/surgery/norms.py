"""Normalisation put between a layer and its activation, or in the place of another one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules import batchnorm, conv, instancenorm
from torch.optim import Optimizer

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied
from gradscope.surgery.modules import insert_after, modules_by_path, put
from gradscope.surgery.parameters import join, leave, one_process_only
from gradscope.surgery.wiring import LAYERS, guess_layers, is_weighted

_GROUPS = (8, 4, 2, 1)
_FEWEST = 8  # channels of a group


class FeatureBatchNorm(nn.BatchNorm1d):
    """BatchNorm of what a Linear gives: one mean a feature, the last dimension, over everything else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises numbers of shape `[..., features]`."""
        flat: torch.Tensor = super().forward(x.reshape(-1, x.shape[-1]))
        return flat.view(x.shape)


def normalise_after(
    applied: Applied,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    after: Sequence[Sequence[str]] | None,
    kind: Literal["batch", "layer"],
) -> None:
    """Puts a normalisation after layers, before their activations.

    Args:
        applied: is told.
        model: is changed in place.
        optimizers: get the new scales and shifts, in the group of the layer before.
        after: `[path, "batch" or "layer"]` each; None: as the order of the modules suggests, all of `kind`.
        kind: over the batch, or each sample by itself.

    Raises:
        NotApplicable: there is no hidden layer without a normalisation behind it.

    Example:
        >>> applied, model = Applied(), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> normalise_after(applied, model, [], None, "batch")
        >>> [type(module).__name__ for module in model]
        ['Linear', 'FeatureBatchNorm', 'ReLU', 'Linear']
    """
    one_process_only()
    guessed = [(layer.path, kind) for layer in guess_layers(model) if layer.next and not layer.normalised]
    modules, made, seen = modules_by_path(model), Counter[str](), set[int]()
    for path, of in guessed if after is None else after:
        layer = modules.get(path)
        if not isinstance(layer, LAYERS) or not is_weighted(layer) or id(layer) in seen:
            continue
        seen.add(id(layer))
        norm = _norm(layer, of)
        insert_after(applied, model, path, norm)
        join(applied, optimizers, norm.parameters(), layer.parameters())
        made[type(norm).__name__.removeprefix("Feature")] += 1
    if not made:
        raise NotApplicable("no Linear or convolution between input and head is left without a normalisation behind it")
    said = " and ".join(f"{count} {name}" for name, count in made.items())
    applied.change(f"{said} put in, each between a layer and what follows it")


def swap_norms(
    applied: Applied, model: nn.Module, optimizers: Sequence[Optimizer], layers: Sequence[str] | None = None
) -> None:
    """Replaces normalisations by others that work on each sample by itself and on numbers enough.

    BatchNorm and InstanceNorm become GroupNorm: images get groups of channels, a BatchNorm1d one group. A GroupNorm gets
    fewer groups. Scale and shift stay the very same parameters. A LayerNorm of a single number is taken out.

    Args:
        applied: is told.
        model: is changed in place.
        optimizers: lose the parameters of what is taken out.
        layers: paths; None: every BatchNorm.

    Raises:
        NotApplicable: there is none that could be replaced.
    """
    modules, done = modules_by_path(model), Counter[str]()
    for path, old in modules.items():
        new = _instead(old) if (isinstance(old, batchnorm._BatchNorm) if layers is None else path in layers) else None
        if new is None:
            continue
        if isinstance(new, nn.Identity):
            leave(applied, optimizers, old.parameters())
        put(applied, model, old, new)
        done[f"{type(old).__name__} replaced by {new}"] += 1
    if not done:
        raise NotApplicable("the model has no normalisation that could be replaced")
    applied.change(", ".join(f"{count} {what}" for what, count in done.items()))


def _instead(old: nn.Module) -> nn.Module | None:
    """What takes the place of a normalisation; None for what has none."""
    if isinstance(old, nn.LayerNorm):
        return nn.Identity() if math.prod(old.normalized_shape) == 1 else None
    if isinstance(old, nn.GroupNorm):
        channels, affine = old.num_channels, old.affine
        groups = next((n for n in _GROUPS if channels % n == 0 and n < old.num_groups and channels // n >= _FEWEST), 1)
    elif isinstance(old, (batchnorm._BatchNorm, instancenorm._InstanceNorm)):
        channels, affine = old.num_features, old.affine
        flat = isinstance(old, nn.BatchNorm1d)
        groups = 1 if flat else next(n for n in _GROUPS if (channels % n == 0 and channels // n >= _FEWEST) or n == 1)
    else:
        return None
    new = nn.GroupNorm(groups, channels, eps=old.eps, affine=False)
    if affine:  # the very same parameters: the optimizer has them already
        new.affine, new.weight, new.bias = True, old.weight, old.bias
    return new


def normalise_before_blocks(applied: Applied, model: nn.Module) -> None:
    """Turns torch's own transformer blocks from post-norm into pre-norm.

    Raises:
        NotApplicable: there are none, or they are so already.
    """
    blocks = [m for m in model.modules() if isinstance(m, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer))]
    after = [block for block in blocks if not block.norm_first]
    if not after:
        raise NotApplicable(
            "the order of sum and normalisation is written in the blocks' own forward: it needs your edit"
        )
    for block in after:
        applied.back(setattr, block, "norm_first", block.norm_first)
        block.norm_first = True
    applied.change(f"{len(after)} transformer blocks normalise before attention and feed-forward, not after the sum")


def _norm(layer: nn.Module, kind: str) -> nn.Module:
    """The normalisation for what a layer gives."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    where: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(layer, conv._ConvNd):
        channels = layer.out_channels
        if kind == "layer":
            return nn.GroupNorm(next(size for size in _GROUPS if channels % size == 0), channels, **where)
        return {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[len(layer.kernel_size)](channels, **where)
    features = layer.out_features
    assert isinstance(features, int)
    return FeatureBatchNorm(features, **where) if kind == "batch" else nn.LayerNorm(features, **where)
