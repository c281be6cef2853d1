"""The loss of a training, as `backward` is called on it: frameworks seldom show it to anybody before."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gradscope.autowatch.objectives import Objectives
from gradscope.autowatch.wrapping import listen
from gradscope.notices import say
from gradscope.recorder.places import way
from gradscope.recorder.private import current_backward, scale_of
from gradscope.scope import Scope


def give_loss(scope: Scope, loss: torch.Tensor, scaler: Any = None) -> None:
    """Gives a scope a loss that `backward` is called on. A step's loss is the sum of those that it is given.

    Args:
        loss: of one batch, divided already where gradients are accumulated.
        scaler: by whose scale it is multiplied.
    """
    if scope._recorder is None:
        return
    scale = scale_of(scaler)
    if scale is not None:
        with torch.enable_grad():  # beside the graph that backward goes through; its scale is a power of two
            loss = loss / scale.detach().to(loss.device)
    scope._recorder.loss(loss, summed=True)
    scope._passing()  # the program's own call: from here `on_finding="raise"` may end it


def hear_losses(scope: Scope, model: nn.Module, scaler: Any = None) -> None:
    """Gives a scope the losses of its model, whichever `backward` they come from, until it is handed one or ends."""
    listener = _Listener(scope, model, scaler)
    _Ear.listeners.append(listener)
    if _Ear.close is None:
        _Ear.close = listen(torch.autograd, "backward", before=_heard)
    scope._hear(lambda: _drop(listener))


class _Listener:
    """One scope that waits for losses."""

    def __init__(self, scope: Scope, model: nn.Module, scaler: Any) -> None:
        parameters = list(model.parameters())
        # what a graph of sharded parameters ends in is not the parameters
        sharded = any(hasattr(parameter, "device_mesh") for parameter in parameters)
        self.parameters = None if sharded else {id(parameter) for parameter in parameters}
        self.scope = scope
        self.scaler = None if scaler is None else weakref.ref(scaler)
        self.objectives = Objectives()

    @property
    def waits(self) -> bool:
        """Whether its run still goes on."""
        return self.scope._recorder is not None and self.scope._recorder.recording

    def wants(self, loss: torch.Tensor) -> bool:
        """Whether a loss is one of its model; looked up once for each way of the user's program that leads to it."""
        return self.parameters is None or bool(self.objectives.of(loss, way(), {0: self.parameters}))


class _Ear:
    """What listens in this process: one wrapper around `torch.autograd.backward`, while anybody waits for losses."""

    listeners: list[_Listener] = []
    close: Callable[[], None] | None = None


def _drop(*over: _Listener) -> None:
    _Ear.listeners = [listener for listener in _Ear.listeners if listener not in over]
    if not _Ear.listeners and _Ear.close is not None:
        _Ear.close()
        _Ear.close = None


def _heard(tensors: Any = None, *_: Any, **__: Any) -> None:
    if current_backward() >= 0:  # a reentrant checkpoint's
        return
    loss = tensors[0] if isinstance(tensors, (tuple, list)) and len(tensors) == 1 else tensors
    _drop(*(listener for listener in _Ear.listeners if not listener.waits))
    if not isinstance(loss, torch.Tensor) or loss.grad_fn is None or loss.numel() != 1:
        return
    for listener in list(_Ear.listeners):
        try:
            wanted = listener.wants(loss)
        except Exception as error:  # ours: the training goes on
            _drop(listener)
            say(f"gradscope: losses are not seen from now on: {type(error).__name__}: {error}")
            continue
        if wanted:
            give_loss(listener.scope, loss, None if listener.scaler is None else listener.scaler())
