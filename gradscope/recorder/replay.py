"""Runs a forward pass again as it was, and leaves no trace: not in buffers, gradients, attributes or random numbers."""

from __future__ import annotations

import random
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from gradscope.recorder.passes import Edge
from gradscope.recorder.private import compiler_in_use, leave_out_hooks, uncompiled
from gradscope.recorder.shards import is_partial, is_sharded
from gradscope.recorder.tensors import tensors_in

_CONTAINERS = (list, tuple, dict, set, OrderedDict, deque)
_LARGEST = 4096  # entries of a container that is copied: larger ones are data, not what a forward pass counts on


class CannotReplay(Exception):
    """Why a forward pass cannot be run again."""


class RandomStates:
    """The state of every random number generator that a forward pass may draw from; `restore` brings it back."""

    def __init__(self, model: nn.Module) -> None:
        self._cpu, self._python, self._numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
        devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
        self._cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
        found = (value for module in model.modules() for value in vars(module).values())
        self._own = [(each, each.get_state().clone()) for each in found if isinstance(each, torch.Generator)]

    def restore(self) -> None:
        """Sets every generator to what it was."""
        torch.set_rng_state(self._cpu)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        for device, state in self._cuda:
            torch.cuda.set_rng_state(state, device)
        for generator, state in self._own:
            generator.set_state(state)


@dataclass(eq=False)
class KeptForward:
    """What a forward pass was given and began with, by reference but for buffers, and what came of it."""

    args: tuple[Any, ...]
    place: tuple[str, int]  # the user's line that called the model
    states: RandomStates
    attributes: dict[nn.Module, dict[str, Any]]
    buffers: dict[int, tuple[torch.Tensor, torch.Tensor]]  # by id: each with its copy
    autocast: list[tuple[str, bool, torch.dtype]]
    versions: list[int]  # of the parameters, then of what the pass was given
    kwargs: dict[str, Any] = field(default_factory=dict)
    outputs: list[torch.Tensor] = field(default_factory=list)  # without history
    edges: list[Edge | None] = field(default_factory=list)  # where their gradients arrive
    arrived: dict[int, torch.Tensor] = field(default_factory=dict)  # which did in the latest backward pass


def keep(model: nn.Module, args: tuple[Any, ...], place: tuple[str, int]) -> KeptForward:
    """Takes note of everything that a forward pass which is about to run depends on."""
    copies: dict[int, Any] = {}
    devices = {"cpu", *(parameter.device.type for parameter in model.parameters())}
    return KeptForward(
        args,
        place,
        RandomStates(model),
        {module: {n: _copied(v, copies) for n, v in vars(module).items()} for module in model.modules()},
        {id(buffer): (buffer, buffer.detach().clone()) for buffer in model.buffers()},
        [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices],
        [parameter._version for parameter in model.parameters()] + _versions(args),
    )


def changed_since(model: nn.Module, kept: KeptForward) -> str:
    """What is no longer as it was when the pass ran, in words; "" when all is."""
    parameters = [parameter._version for parameter in model.parameters()]
    if parameters != kept.versions[: len(parameters)]:
        return "weights were changed since the forward pass"
    if _versions(kept.args) != kept.versions[len(parameters) :]:
        return "what the model was given was changed since, in place"
    return ""


def _versions(args: Any) -> list[int]:
    return [-1 if tensor.is_inference() else tensor._version for tensor in tensors_in(args)]


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """A container's copy, with its containers; the same one gets the same copy wherever it is held."""
    return _mapped(value, lambda item: item, copies) if type(value) in _CONTAINERS else value


def _mapped(value: Any, change: Callable[[Any], Any], copies: dict[int, Any]) -> Any:
    """Nested plain containers with everything in them changed; `copies` holds those made already, by their id."""
    if id(value) in copies:
        return copies[id(value)]
    kind: Any = type(value)
    made: Any
    if kind in _CONTAINERS and len(value) > _LARGEST:
        return value
    if kind in (dict, OrderedDict):
        made = copies[id(value)] = kind()
        made.update((name, _mapped(item, change, copies)) for name, item in value.items())
    elif kind in (list, deque):
        made = copies[id(value)] = value.copy()
        for number, item in enumerate(value):
            made[number] = _mapped(item, change, copies)
    elif kind is set:
        made = copies[id(value)] = set(value)
    elif isinstance(value, tuple):
        items = [_mapped(item, change, copies) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    elif isinstance(value, Mapping) and hasattr(value, "copy"):  # a Transformers BatchEncoding, say
        made = value.copy()
        for name, item in value.items():
            made[name] = _mapped(item, change, copies)
    else:
        return change(value)
    return made


@contextmanager
def replayed(model: nn.Module, kept: KeptForward, around: AbstractContextManager[Any]) -> Iterator[tuple[Any, int]]:
    """Runs the forward pass again inside `around`; in the `with` block a backward pass may follow.

    Yields:
        Its output, and how many hooks on modules were left out: they are the user's, and would run once more.

    Raises:
        CannotReplay: with the reason.
    """
    model = uncompiled(model) or model
    _refuse(model)
    now = RandomStates(model)
    # copies: a forward pass that writes on its weights must not do it twice
    exchange: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for parameter in model.parameters()
    }
    exchange |= {number: copy.clone() for number, (_, copy) in kept.buffers.items()}
    originals = [(module, module.__dict__) for module in kept.attributes]
    copies: dict[int, Any] = {}
    left = 0
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user has seen them
        stack.callback(now.restore)
        stack.callback(_put_back, originals)
        for module, attributes in kept.attributes.items():
            mine = {name: _mapped(item, lambda v: exchange.get(id(v), v), copies) for name, item in attributes.items()}
            left += leave_out_hooks(mine)
            object.__setattr__(module, "__dict__", mine)
        kept.states.restore()
        if compiler_in_use():
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        fresh: dict[int, Any] = {}
        args, kwargs = _mapped(kept.args, _own_leaf, fresh), _mapped(kept.kwargs, _own_leaf, fresh)
        with torch.enable_grad(), ExitStack() as modes:
            for device, enabled, dtype in kept.autocast:
                modes.enter_context(torch.autocast(device, dtype, enabled, cache_enabled=False))
            modes.enter_context(around)
            output = model(*args, **kwargs)
        yield output, left


def _own_leaf(value: Any) -> Any:
    """A tensor that shares the numbers of another and whose gradient goes no further."""
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value


def _put_back(originals: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, attributes in originals:
        object.__setattr__(module, "__dict__", attributes)


def _refuse(model: nn.Module) -> None:
    """Leaves alone what cannot be run again by itself."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise CannotReplay("parts of the model are TorchScript")
    if any(is_sharded(parameter) or is_partial(parameter) for parameter in model.parameters()):
        raise CannotReplay("the weights are spread over ranks, and one rank cannot run alone")
