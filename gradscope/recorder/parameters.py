"""Parameters at a step: gradients before and after clipping, weights, and what the optimizer did to them."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradscope.recorder.sites import SiteTable
from gradscope.records import Site
from gradscope.stats import Collector, Sample, take_sample

Entry = tuple[int, str, int]  # site, quantity, row of the collector


@dataclass(eq=False)
class _Watched:
    site: int
    parameter: torch.nn.Parameter
    version: int = -1  # of the gradient when it was read
    row: int = -1  # of the gradient
    sample: Sample | None = None  # of the weights before the update


@dataclass
class ParameterRows:
    """What was read at one step."""

    weights: list[Entry] = field(default_factory=list)
    gradients: list[Entry] = field(default_factory=list)  # before clipping
    clipped: list[int] | None = None  # rows after clipping, when something changed the gradients
    updates: list[Entry] = field(default_factory=list)


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
        self._known: dict[tuple[str, int, bool, bool], int | None] = {}  # a parameter's facts -> its site
        self.rows = ParameterRows()

    def start(self) -> None:
        """Begins a step: finds the parameters as they are now."""
        model = self._model()
        assert model is not None
        self.rows, self._watched = ParameterRows(), []
        optimized = {
            id(parameter)
            for reference in self._optimizers
            if (optimizer := reference()) is not None
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        self._waiting = False
        for name, parameter in model.named_parameters():
            lazy: bool = is_lazy(parameter)
            if lazy:  # its module has not run yet
                self._waiting = True
                continue
            facts = (name, id(parameter), parameter.requires_grad, not self._optimizers or id(parameter) in optimized)
            if facts not in self._known:
                self._known[facts] = self._site(model, *facts, parameter)
            index = self._known[facts]
            if index is not None:
                self._watched.append(_Watched(index, parameter))

    def _site(
        self, model: nn.Module, name: str, _: int, trainable: bool, optimized: bool, parameter: nn.Parameter
    ) -> int | None:
        path = name.rpartition(".")[0]
        if not self._table.wanted(path):
            return None
        shape, dtype = tuple(parameter.shape), str(parameter.dtype)[6:]
        site = Site(name, "parameter", "", -1, shape=shape, dtype=dtype, trainable=trainable, optimized=optimized)
        return self._table.parameter_site(site, model.get_submodule(path))

    def parameters(self) -> list[torch.Tensor]:
        """The parameters of this step."""
        return [watched.parameter for watched in self._watched]

    def stop(self) -> None:
        """Ends a step and lets go of the parameters."""
        self._watched = []

    def read_gradients(self, collector: Collector) -> None:
        """Reads gradients after a backward pass; a later pass of the step replaces what was read."""
        if self._waiting:
            self.start()
        self.rows.gradients = []
        with torch.no_grad():
            for watched in self._watched:
                gradient = watched.parameter.grad
                if gradient is not None:
                    watched.version = gradient._version
                    row = watched.row = collector.add(gradient)
                    self.rows.gradients.append((watched.site, "gradient", row))

    def before_update(self, collector: Collector) -> None:
        """Reads the weights, once a step, and the gradients again where something (clipping) changed them since."""
        if self.rows.weights:
            return
        with torch.no_grad():
            changed = False
            for watched in self._watched:
                gradient = watched.parameter.grad
                same = gradient is None or gradient._version == watched.version
                changed |= not same
                row = collector.add(watched.parameter)
                if gradient is not None and same:
                    collector.add_weight_dot(watched.row, row, watched.parameter, gradient)
                self.rows.weights.append((watched.site, "weight", row))
                watched.sample = collector.sample(row)
            if changed and self.rows.gradients:
                gradients = [watched.parameter.grad for watched in self._watched]
                self.rows.clipped = [collector.add(gradient) for gradient in gradients if gradient is not None]

    def after_update(self, collector: Collector) -> None:
        """Reads what the optimizer's step added to the weights."""
        with torch.no_grad(), np.errstate(invalid="ignore"):  # Inf - Inf is a NaN, and no news to anyone
            for watched in self._watched:
                if watched.sample is None:
                    continue
                update = take_sample(watched.parameter) - watched.sample
                row = collector.add_sample(update, math.prod(watched.parameter.shape))
                self.rows.updates.append((watched.site, "update", row))
                watched.sample = None
