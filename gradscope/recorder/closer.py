"""A closer look at some of the recorded steps: what units, samples, features, groups and queries do.

closer_sketches.py   what is taken of a pass, and the numbers it comes to
closer_slope.py      an activation's derivative
closer_attention.py  attention
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import batchnorm, conv, instancenorm
from torch.nn.parameter import is_lazy

from gradscope.recorder import closer_attention, closer_slope
from gradscope.recorder.closer_sketches import MOST_FEATURES, Look, add, is_plain
from gradscope.recorder.graph import node_at
from gradscope.recorder.passes import Call, ForwardPass
from gradscope.recorder.sites import SiteTable
from gradscope.stats import Collector, Sample, spaced

_FIRST_STEPS = 16  # recorded ones, looked at closely: a short training has no more
_STRIDE = 4  # of the recorded steps after them
_LOOKS = 8  # that a unit must be silent in to be called dead
_CHANNELS_FIRST = (conv._ConvNd, batchnorm._NormBase, instancenorm._InstanceNorm, nn.GroupNorm)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.Bilinear)
_LAYERS = ("weights", "normalisation", "activation")


class CloserLook:
    """Takes what the rules need beyond norms, of every pass of a step that is looked at closely.

    Attributes:
        scaled: rows taken from numbers that have the loss scale in them.
    """

    def __init__(self, table: SiteTable) -> None:
        self._table = table
        self._step: weakref.ref[Collector] | None = None
        self._steps = 0  # recorded so far
        self._first: dict[str, weakref.ref[nn.Module]] = {}  # weights that are fed what the model is fed, by path
        self._features: dict[int, int] = {}  # their site -> row of their gradient by features
        self._history: dict[tuple[int, int, int], deque[Sample]] = {}
        self.scaled: list[int] = []

    def begin(self, collector: Collector) -> Look | None:
        """The look at a pass that begins; None in most steps."""
        if self._step is None or self._step() is not collector:
            self._step = weakref.ref(collector)
            self._steps += 1
            self._first, self._features, self.scaled = {}, {}, []
        close = self._steps <= _FIRST_STEPS or self._steps % _STRIDE == 1
        return Look() if close else None

    def fed(self, look: Look, site: int, tensor: torch.Tensor, module: nn.Module, collector: Collector) -> None:
        """Looks at what the model is fed."""
        if tensor.dim() == 0:
            return
        layers = (layer for layer in module.modules() if isinstance(layer, (*_CHANNELS_FIRST, *_CHANNELS_LAST)))
        first = next(layers, None) if tensor.dim() == 3 else None
        with torch.no_grad():
            look.take_features(site, tensor, 1 if isinstance(first, _CHANNELS_FIRST) else None, collector)

    def before(self, look: Look, call: Call, args: tuple[Any, ...]) -> None:
        """Looks at what a layer is given, before it can overwrite it."""
        kind, module = self._table.sites[call.site].mechanism, call.module
        if kind not in ("weights", "normalisation") or not args or not is_plain(args[0]):
            return
        if kind == "normalisation":
            with torch.no_grad():
                _take_groups(look, call, args[0])
        elif isinstance(module, (nn.Linear, conv._ConvNd)) and not (look.past_input or args[0].requires_grad):
            self._first.update({call.path: weakref.ref(module)} if _fan_in(module) in look.features else {})

    def after(self, look: Look, call: Call, args: tuple[Any, ...], output: Any) -> None:
        """Looks at what a layer gave."""
        kind, module = self._table.sites[call.site].mechanism, call.module
        if kind not in _LAYERS or not is_plain(output):
            return
        if kind != "activation":
            look.past_input |= kind == "weights" and not output.requires_grad
            first, last = isinstance(module, _CHANNELS_FIRST), isinstance(module, _CHANNELS_LAST)
            look.axis = 1 if first else -1 if last else None
        with torch.no_grad():
            if kind == "activation" and module is not None:
                saved = closer_slope.of_module(module, args[0] if args else None, output)
                if saved is not None:
                    look.take_slope(call.site, call.number, saved, look.axis)
            look.take_spread(call.site, output, look.axis)

    def finish(self, forward: ForwardPass, collector: Collector) -> None:
        """Looks at what functions did, and turns everything that was taken into numbers."""
        look, plan = forward.look, forward.plan
        if look is None:
            return
        with torch.no_grad():
            for number, name, port in plan.activations if plan is not None else ():
                node, source = node_at(forward, port), forward.calls[number]
                saved = closer_slope.of_node(node) if node is not None and node.name() == name else None
                if saved is not None:
                    look.take_slope(source.site, source.number, saved, _axis_of(source))
            for number, name, port in plan.attention if plan is not None else ():
                node = node_at(forward, port)
                seen = closer_attention.look(node) if node is not None and node.name() == name else None
                if seen is not None:
                    look.take_attention(forward.calls[number].site, seen, collector)
            look.finish(collector)

    def read_gradients(self, collector: Collector) -> None:
        """Reads, after a backward pass, how much of the first weights' gradient each of the model's features brings."""
        seen = self._first if self._step is not None and self._step() is collector else {}
        for path, reference in seen.items():
            module = reference()
            weight = None if module is None else module._parameters.get("weight")
            site = self._table.find(f"{path}.weight".removeprefix("."), "parameter")
            if weight is None or site is None or type(weight.grad) is not torch.Tensor or weight.grad.is_sparse:
                continue
            with torch.no_grad():
                norms = _by_feature(module, weight.grad)
                features = len(norms)
                self._features[site] = add(collector, norms[spaced((features,), MOST_FEATURES)], features)

    def entries(self, trained: Sequence[ForwardPass], collector: Collector) -> list[tuple[int, str, int]]:
        """The rows of a step's training passes, with what its units let through at this look or one of the last."""
        if self._step is None or self._step() is not collector:  # no forward was seen in this step
            self._first, self._features = {}, {}
        entries = [(site, "feature_gradient", row) for site, row in self._features.items()]
        self.scaled = [row for _, _, row in entries]
        units: dict[tuple[int, int, int], tuple[Sample, int]] = {}
        for look in (forward.look for forward in trained if forward.look is not None):
            entries += look.entries
            for name, (values, count) in look.units.items():
                known = units.get(name)
                same = known is not None and _alike(known[0], values)
                units[name] = (_largest([known[0], values]) if known is not None and same else values), count
        for name, (values, count) in units.items():
            history = self._history.setdefault(name, deque(maxlen=_LOOKS))
            if history and not _alike(history[-1], values):
                history.clear()
            history.append(values)
            entries.append((name[0], "lasting_slope", add(collector, _largest(list(history)), count)))
        return entries


def _alike(one: Sample, other: Sample) -> bool:
    """Whether numbers are of as many units, and in one place."""
    places = [numbers.device if isinstance(numbers, torch.Tensor) else None for numbers in (one, other)]
    return one.shape == other.shape and places[0] == places[1]


def _largest(looks: list[Any]) -> Sample:
    """Each unit's largest number."""
    if isinstance(looks[0], torch.Tensor):
        return torch.stack(looks).amax(0)
    largest: Sample = np.max(looks, axis=0)
    return largest


def _axis_of(call: Call) -> int | None:
    """Where the units of what a call gave are."""
    if isinstance(call.module, _CHANNELS_FIRST):
        return 1
    return -1 if isinstance(call.module, _CHANNELS_LAST) else None


def _fan_in(module: nn.Linear | conv._ConvNd) -> int:
    return module.in_features if isinstance(module, nn.Linear) else module.in_channels


def _by_feature(module: nn.Module | None, gradient: torch.Tensor) -> torch.Tensor:
    """The norm of a weight's gradient for each input feature or channel, shape `[features]`."""
    if isinstance(module, conv._ConvTransposeNd):
        rows = gradient.flatten(1)
    elif isinstance(module, conv._ConvNd):  # each group of inputs feeds its own outputs
        rows = gradient.view(module.groups, -1, *gradient.shape[1:]).transpose(1, 2).flatten(0, 1).flatten(1)
    else:
        rows = gradient.t()
    norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms.float()


def _take_groups(look: Look, call: Call, fed: torch.Tensor) -> None:
    """Looks at what a normalisation is fed."""
    module, dimensions = call.module, fed.dim()
    if isinstance(module, instancenorm._InstanceNorm):
        if dimensions > 2:
            look.take_groups(call.site, fed, (0, 1), module.eps)
    elif isinstance(module, batchnorm._NormBase):
        mean, variance = module.running_mean, module.running_var
        running = None if mean is None or variance is None else (mean, variance)
        if running is None or not is_lazy(running[0]):
            varies = module.training or running is None
            look.take_groups(call.site, fed, (1,), module.eps, running=running, varies=varies)
    elif isinstance(module, nn.GroupNorm):
        if fed.shape[1] % module.num_groups == 0:
            groups = fed.unflatten(1, (module.num_groups, -1))  # type: ignore[no-untyped-call]
            look.take_groups(call.site, groups, (0, 1), module.eps)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        leading = tuple(range(dimensions - len(module.normalized_shape)))
        eps = torch.finfo(fed.dtype).eps if module.eps is None else module.eps
        look.take_groups(call.site, fed, leading, eps, centred=isinstance(module, nn.LayerNorm))
