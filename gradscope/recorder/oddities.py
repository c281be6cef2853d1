"""Facts about how a model is used that its training alone does not show: parts of nobody, tests in training mode."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import batchnorm, dropout
from torch.nn.modules.loss import _Loss

from gradscope.recorder.sites import SiteTable
from gradscope.records import RunInfo

_MOST = 16  # labels of parts of nobody


class Oddities:
    """Notes modules that run in a model without being part of it, and forwards without gradients.

    Args:
        table: the model's modules.
        model: kept by weak reference only.
        optimizers: what they update is somebody's.
        info: of the run so far.
    """

    def __init__(
        self,
        table: SiteTable,
        model: nn.Module,
        optimizers: Sequence[weakref.ref[torch.optim.Optimizer]],
        info: RunInfo,
    ) -> None:
        self._table, self._model, self._optimizers = table, weakref.ref(model), optimizers
        self._belongs: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._unregistered: dict[str, None] = dict.fromkeys(info.unregistered)
        self._tested = {True: info.tested_in_training_mode, False: info.tested_in_eval_mode}
        self._matters: bool | None = None  # whether training mode and eval mode differ

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of `RunInfo`."""
        return {
            "unregistered": tuple(self._unregistered),
            "tested_in_training_mode": self._tested[True],
            "tested_in_eval_mode": self._tested[False],
        }

    def stranger(self, module: nn.Module) -> None:
        """Takes note of a module that runs with gradients inside the model and has no path."""
        own = [parameter for parameter in module._parameters.values() if parameter is not None]
        if not any(parameter.requires_grad for parameter in own) or isinstance(module, _Loss):
            return
        if module in self._belongs or len(self._unregistered) >= _MOST:
            return
        label = f"{type(module).__name__}({module.extra_repr()})"
        if label in self._unregistered:
            return
        if self._is_somebodys(module, own):
            self._belongs.add(module)
        else:
            self._unregistered[label] = None
            self._table.changed = True

    def _is_somebodys(self, module: nn.Module, own: list[nn.Parameter]) -> bool:
        """Whether a module, or what it holds, is the model's or an optimizer's."""
        model = self._model()
        if model is None or any(module is other for other in model.modules()):
            return True
        known = {id(parameter) for parameter in model.parameters()}
        for reference in self._optimizers:
            optimizer = reference()
            for group in optimizer.param_groups if optimizer is not None else ():
                known.update(map(id, group["params"]))
        return any(id(parameter) in known for parameter in own)

    def tested(self, module: nn.Module) -> None:
        """Takes note of a forward of the model without gradients."""
        if self._matters is None:
            self._matters = any(
                isinstance(part, batchnorm._BatchNorm) or (isinstance(part, dropout._DropoutNd) and part.p > 0)
                for part in module.modules()
            )
        if self._matters:
            self._tested[module.training] += 1
