"""Parameters at a step: gradients before and after clipping, weights, and what the optimizer did to them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradscope.recorder.compiled import plain_path
from gradscope.recorder.moments import Moments, normalised, read_moments, weighted
from gradscope.recorder.private import sharded_parameters, unreduced_gradients
from gradscope.recorder.shards import is_partial, is_sharded, local, version
from gradscope.recorder.sites import SiteTable
from gradscope.records import Site
from gradscope.stats import LARGEST_SQUARES, SMALLEST_SQUARES, Collector, HostNumber, Sample, take_sample

Entry = tuple[int, str, int]  # site, quantity, row of the collector


@dataclass(eq=False)
class _Watched:
    site: int
    parameter: torch.nn.Parameter
    owner: int  # id of the optimizer that updates it; 0: none
    group: dict[str, Any]  # of that optimizer
    weight: int = -1  # rows of the collector
    gradient: int = -1
    clipped: int = -1  # the gradient as the optimizer saw it
    read: tuple[int, int] = (0, 0)  # which gradient was read: tensor and version
    updated: bool = False  # its optimizer has stepped: what comes now is the next step's
    used: bool = False  # an optimizer was about to use its gradient, or has it made in a closure
    touched: bool = False  # by a backward pass of the step
    carried: float | torch.Tensor = 0.0  # sum of squares of the gradient that was there before the first one
    moments: Moments = field(default_factory=Moments)  # of before the step

    def used_by(self, optimizer: torch.optim.Optimizer) -> None:
        """Notes that its optimizer is about to step, and reads what that keeps of earlier gradients."""
        self.used = True
        self.moments = read_moments(optimizer.state.get(self.parameter), self.group, self.parameter)

    @property
    def gradient_tensor(self) -> torch.Tensor | None:
        """The gradient; None when there is none, or it is not summed over the ranks yet."""
        gradient = self.parameter.grad
        return None if gradient is None or is_partial(gradient) else gradient


def gradient_norm(optimizer: torch.optim.Optimizer, watched: Container[int]) -> torch.Tensor | None:
    """The L2 norm over the gradients that an optimizer is about to use, shape `[]`; None when there are none.

    Of parameters with these ids only: an optimizer may have others.
    Of DTensors over this rank's share: adding up all ranks' would be talking to them.
    In float32, and again in float64 where that is out of its range and costs no waiting.
    """
    held = [
        p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None and id(p) in watched
    ]
    gradients = [local(gradient) for gradient in held]
    if not gradients or any(gradient.layout is not torch.strided or is_partial(gradient) for gradient in held):
        return None
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm.is_cpu and not SMALLEST_SQUARES < float(norm) ** 2 < LARGEST_SQUARES:
        norm = torch.nn.utils.get_total_norm([gradient.double() for gradient in gradients])
    return norm


class ParameterReader:
    """Reads the parameters of a model; learns of new, unfrozen and replaced ones at every recorded step."""

    def __init__(
        self, model: nn.Module, table: SiteTable, optimizers: list[weakref.ref[torch.optim.Optimizer]]
    ) -> None:
        self._model = weakref.ref(model)
        self._table = table
        self._optimizers = optimizers
        self._watched: list[_Watched] = []
        self._waiting = False  # for lazy modules to get their parameters
        self.ids: set[int] = set()  # of the parameters at the last recorded step
        self._sharded = any(map(is_sharded, model.parameters()))  # over ranks
        self._known: dict[tuple[str, int, bool, bool], int | None] = {}  # a parameter's facts -> its site
        self.scaled: list[int] = []  # rows of gradients that were read with the loss scale in them
        self.scaled_dots: list[int] = []  # rows of which only the product with such a gradient has it in it
        self._kept: dict[int, tuple[Sample, Sample]] = {}  # by site: gradient and update, samples of the step before
        self._kept_step = -2  # and which one that was

    def start(self) -> None:
        """Begins a step: finds the parameters as they are now."""
        model = self._model()
        assert model is not None
        self.scaled, self.scaled_dots, self._watched = [], [], []
        self.ids.clear()
        owners = {
            id(parameter): (id(optimizer), group)
            for reference in self._optimizers
            if (optimizer := reference()) is not None
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        self._waiting = False
        names: dict[int, list[str]] = {}
        shards = sharded_parameters(model) if self._sharded else {}
        for name, shown in model.named_parameters():
            parameter = shards.get(id(shown), shown)
            lazy: bool = is_lazy(parameter)
            if lazy:  # its module has not run yet
                self._waiting = True
                continue
            owner, group = owners.get(id(parameter), (0, {}))
            facts = (name, id(parameter), parameter.requires_grad, not self._optimizers or owner != 0)
            if facts not in self._known:
                names = names or _names(model)
                self._known[facts] = self._site(model, *facts, parameter, tuple(names[id(shown)][1:]))
            index = self._known[facts]
            if index is not None:
                self._watched.append(_Watched(index, parameter, owner, group))
                self.ids.add(id(parameter))

    def _site(
        self,
        model: nn.Module,
        name: str,
        _: int,
        trainable: bool,
        optimized: bool,
        parameter: nn.Parameter,
        aliases: tuple[str, ...],
    ) -> int | None:
        owner = model.get_submodule(name.rpartition(".")[0])
        name, aliases = plain_path(name), tuple(map(plain_path, aliases))
        if not self._table.wanted(name.rpartition(".")[0]):
            return None
        shape, dtype = tuple(parameter.shape), str(parameter.dtype)[6:]
        site = Site(
            name,
            "parameter",
            "",
            -1,
            shape=shape,
            dtype=dtype,
            trainable=trainable,
            optimized=optimized,
            aliases=aliases,
            sharded=is_sharded(parameter),
        )
        return self._table.parameter_site(site, owner)

    def gradients(self) -> list[torch.Tensor | None]:
        """Every gradient that a backward pass may add to."""
        model = self._model() if self._sharded else None
        unreduced = [] if model is None else unreduced_gradients(model)
        return [*(watched.parameter.grad for watched in self._watched), *unreduced]

    def left_over(self) -> list[float | torch.Tensor]:
        """Of every gradient that the step has not touched yet, the sum of squares before a backward pass, from a sample."""
        with torch.no_grad(), np.errstate(all="ignore"):
            return [
                0.0
                if gradient is None or watched.touched or gradient.layout is not torch.strided
                else _squares(local(gradient))
                for watched in self._watched
                for gradient in (watched.gradient_tensor,)
            ]

    def touched(self, left_over: list[float | torch.Tensor], changed: list[bool]) -> None:
        """Notes what lay in gradients before the step's first backward pass that changed them."""
        for watched, squares, new in zip(self._watched, left_over, changed, strict=False):
            if new and not watched.touched:
                watched.touched, watched.carried = True, squares

    def untouched(self) -> None:
        """Forgets what the step's backward passes have touched: their gradients were zeroed."""
        for watched in self._watched:
            watched.touched, watched.carried = False, 0.0

    def carried(self) -> HostNumber | float:
        """The norm of what was there already when the step began to add to the gradients that an optimizer uses."""
        squares = [watched.carried for watched in self._watched if watched.used or not self._optimizers]
        on_device = [square for square in squares if isinstance(square, torch.Tensor)]
        if not on_device:
            return math.sqrt(sum(square for square in squares if isinstance(square, float)))
        device = on_device[0].device
        return HostNumber(torch.stack([square.to(device) for square in on_device]).sum().sqrt())

    def stop(self) -> None:
        """Ends a step and lets go of the parameters."""
        self._watched = []

    @property
    def has_gradients(self) -> bool:
        """Whether any gradient of the step was read."""
        return any(watched.gradient >= 0 for watched in self._watched)

    def look_again(self) -> None:
        """Finds the parameters that lazy modules have made since."""
        if self._waiting:
            self.start()

    def read_gradients(self, collector: Collector) -> None:
        """Reads gradients after a backward pass; a later pass of the step replaces what was read."""
        self.look_again()
        with torch.no_grad():
            for watched in self._watched:
                gradient = watched.gradient_tensor
                if not watched.updated:
                    watched.gradient = -1 if gradient is None else self._read_gradient(watched, gradient, collector)
        self.scaled = [watched.gradient for watched in self._watched if watched.gradient >= 0]

    def _read_gradient(self, watched: _Watched, gradient: torch.Tensor, collector: Collector) -> int:
        watched.read = (id(gradient), version(gradient))
        gradient = local(gradient)
        row = collector.add(gradient)
        collector.add_weight_dot(row, self._read_weight(watched, collector), local(watched.parameter), gradient)
        return row

    def _read_weight(self, watched: _Watched, collector: Collector) -> int:
        if watched.weight < 0:
            watched.weight = collector.add(local(watched.parameter))
        return watched.weight

    def read_weights(self, collector: Collector, optimizer: torch.optim.Optimizer) -> None:
        """Reads the weights ahead of an optimizer that evaluates a closure, which brings the gradients."""
        with torch.no_grad():
            for watched in self._watched:
                self._read_weight(watched, collector)
                if watched.owner == id(optimizer):
                    watched.used_by(optimizer)

    def before_update(self, collector: Collector, optimizer: torch.optim.Optimizer | None, scaled: bool) -> None:
        """Reads weights that are about to be updated, and gradients that were not read or changed since (clipping).

        Args:
            optimizer: the one that is about to step; None for all parameters that are left.
            scaled: whether gradients still have the loss scale in them.
        """
        with torch.no_grad():
            for watched in self._watched:
                if watched.updated or (optimizer is not None and watched.owner != id(optimizer)):
                    continue
                watched.updated = True
                self._read_weight(watched, collector)
                if optimizer is not None:
                    watched.used_by(optimizer)
                gradient = watched.gradient_tensor
                if gradient is None:
                    continue
                fresh = watched.gradient < 0
                if fresh:
                    watched.gradient = watched.clipped = self._read_gradient(watched, gradient, collector)
                elif watched.read == (id(gradient), version(gradient)) and local(gradient) is gradient:
                    watched.clipped = watched.gradient
                    continue
                else:  # clipping many DTensors at once leaves no trace in their versions
                    watched.clipped = collector.add(local(gradient))
                if scaled:
                    self.scaled.append(watched.clipped)

    def finish(self, collector: Collector, step: int) -> tuple[list[Entry], list[int], list[int]]:
        """What was read at this step, with what the optimizer's step added to the weights.

        Returns:
            The entries; the rows of the gradients; the rows of the gradients as the optimizer saw them.
        """
        entries: list[Entry] = []
        before, self._kept = (self._kept if step == self._kept_step + 1 else {}), {}
        self._kept_step = step
        with torch.no_grad(), np.errstate(all="ignore"):  # Inf - Inf is a NaN, and no news to anyone
            for watched in self._watched:
                if watched.gradient >= 0:
                    entries.append((watched.site, "gradient", watched.gradient))
                if watched.weight < 0:
                    continue
                entries.append((watched.site, "weight", watched.weight))
                weight = local(watched.parameter)
                count = math.prod(weight.shape)
                update = take_sample(weight) - collector.sample(watched.weight)
                row = collector.add_sample(update, count)
                entries.append((watched.site, "update", row))
                entries += self._moments(watched, collector, update, count)
                seen = watched.clipped if watched.clipped >= 0 else watched.gradient
                if seen >= 0 and collector.add_dot(row, update, collector.sample(seen)) and seen in self.scaled:
                    self.scaled_dots.append(row)
                if watched.gradient >= 0:
                    entries += self._change(watched, collector, update, before.get(watched.site))
        gradients = [watched.gradient for watched in self._watched if watched.gradient >= 0]
        clipped = [watched.clipped for watched in self._watched if watched.clipped >= 0]
        return entries, gradients, clipped

    def _change(
        self, watched: _Watched, collector: Collector, update: Sample, before: tuple[Sample, Sample] | None
    ) -> list[Entry]:
        """How the gradient changed since the step before, if that was recorded; keeps what the next step needs."""
        gradient = collector.sample(watched.gradient)
        if len(gradient) != len(update):  # a sparse one
            return []
        self._kept[watched.site] = (gradient.copy() if isinstance(gradient, np.ndarray) else gradient, update)
        if before is None or len(before[0]) != len(gradient):
            return []
        row = collector.add_sample(change := gradient - before[0], math.prod(local(watched.parameter).shape))
        collector.add_dot(row, before[1], change)
        if watched.gradient in self.scaled:
            self.scaled.append(row)
        return [(watched.site, "gradient_change", row)]

    def _moments(self, watched: _Watched, collector: Collector, update: Sample, count: int) -> list[Entry]:
        """The optimizer's moments of before the step, and the gradient over the second one's size."""
        moments, seen = watched.moments, watched.clipped if watched.clipped >= 0 else watched.gradient
        over = None if seen < 0 else normalised(collector.sample(seen), moments)
        samples = {"first_moment": moments.first, "second_moment": moments.second, "normalised_gradient": over}
        entries = [
            (watched.site, quantity, collector.add_sample(sample, count))
            for quantity, sample in samples.items()
            if sample is not None
        ]
        if (conditioned := weighted(update, moments)) is not None:
            row = next(row for _, quantity, row in entries if quantity == "second_moment")
            collector.add_dot(row, update, conditioned)
        if over is not None and seen in self.scaled:
            self.scaled.append(entries[-1][2])
        return entries


def _squares(tensor: torch.Tensor) -> float | torch.Tensor:
    """The sum of squares of a tensor, estimated from its fixed sample; on a device a tensor of shape `[]`."""
    sample = take_sample(tensor)
    share = tensor.numel() / max(len(sample), 1)
    if isinstance(sample, torch.Tensor):
        on_device: torch.Tensor = sample.double().square().sum() * share
        return on_device
    return float(np.dot(sample.astype(np.float64), sample)) * share


def _names(model: nn.Module) -> dict[int, list[str]]:
    """Every name that each parameter goes by: tied ones have several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def learning_rates(optimizers: list[weakref.ref[torch.optim.Optimizer]]) -> list[float]:
    """One rate a parameter group; NaN where it is a tensor on a device, which would have to be waited for."""
    alive = [optimizer for reference in optimizers if (optimizer := reference()) is not None]
    rates = [group["lr"] for optimizer in alive for group in optimizer.param_groups if "lr" in group]
    return [float("nan") if getattr(rate, "is_cuda", False) else float(rate) for rate in rates]
