"""Runs a forward pass again as it was, and leaves no trace: not in buffers, gradients, attributes or random numbers."""

from __future__ import annotations

import random
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from gradscope.recorder.private import compiler_in_use, leave_out_hooks, uncompiled
from gradscope.recorder.shards import is_partial, is_sharded
from gradscope.recorder.tensors import tensors_in

_CONTAINERS = (list, tuple, dict, set, OrderedDict, deque)
_LARGEST = 4096  # entries of a container that is copied: larger ones are data, not what a forward pass counts on
_MOST_COPIED = 2**24  # numbers, in plain tensors of modules, that are copied at a pass: the others when it is run again


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
    attributes: dict[nn.Module, dict[str, Any]]  # with copies of the tensors in them, but for the weights
    tensors: list[torch.Tensor]  # these copies, of buffers and plain tensors
    shared: list[tuple[torch.Tensor, int]]  # those among them that share their numbers with the module's, by version
    autocast: list[tuple[str, bool, torch.dtype]]
    versions: list[int]  # of the parameters, then of what the pass was given
    kwargs: dict[str, Any] = field(default_factory=dict)
    outputs: list[torch.Tensor] = field(default_factory=list)  # without history
    ends: set[tuple[int, int]] = field(default_factory=set)  # where their gradients arrive: node's number, output
    hooks: list[Any] = field(default_factory=list)  # handles of hooks on these nodes, which they do not keep alive
    reached: bool = False  # by a backward pass
    arrived: dict[int, torch.Tensor] = field(default_factory=dict)  # which did in the latest backward pass


@dataclass
class Replay:
    """A forward pass that ran again."""

    output: Any
    left_out: int  # hooks on modules: they are the user's, and would run once more
    own: set[int]  # ids of the leaves that were made for it: nobody else sees their gradients


def keep(model: nn.Module, args: tuple[Any, ...], place: tuple[str, int]) -> KeptForward:
    """Takes note of everything that a forward pass which is about to run depends on."""
    modules = _modules(model)
    weights = {id(each) for each in _weights(modules)}
    buffers = {id(buffer) for module in modules for buffer in module.buffers(recurse=False)}
    tensors: dict[int, torch.Tensor] = {}
    shared: list[tuple[torch.Tensor, int]] = []
    room = _MOST_COPIED

    def copied(item: Any) -> Any:
        nonlocal room
        if not isinstance(item, torch.Tensor) or id(item) in weights:
            return item
        if id(item) not in tensors:
            plain = id(item) not in buffers
            alone = not plain or item.numel() <= room
            room -= item.numel() if plain and alone else 0
            tensors[id(item)] = _twin(item, alone)
            if not alone:
                shared.append((tensors[id(item)], _versions([item])[0]))
        return tensors[id(item)]

    copies: dict[int, Any] = {}
    devices = {"cpu", *(parameter.device.type for parameter in model.parameters())}
    return KeptForward(
        without_history(args),
        place,
        RandomStates(model),
        {
            module: {n: _mapped(v, copied, copies) if _is_plain(v) else v for n, v in vars(module).items()}
            for module in modules
        },
        list(tensors.values()),
        shared,
        [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices],
        _versions(_weights(modules)) + _versions(args),
    )


def without_history(given: Any) -> Any:
    """What a model is given, where tensors share their numbers but keep no graph alive."""
    return _mapped(given, lambda v: _own_leaf(v) if isinstance(v, torch.Tensor) and v.grad_fn is not None else v, {})


def _modules(model: nn.Module) -> list[nn.Module]:
    """A model's modules and those that they hold in plain containers, which torch does not know of."""
    found: dict[nn.Module, None] = {}
    waiting = list(model.modules())
    while waiting:
        module = waiting.pop(0)
        if module not in found:
            found[module] = None
            waiting += [each for each in _held(vars(module), set()) if isinstance(each, nn.Module)]
    return list(found)


def _held(value: Any, met: set[int]) -> Iterator[Any]:
    """What plain containers hold, and theirs."""
    if type(value) not in _CONTAINERS:
        yield value
    elif id(value) not in met and len(value) <= _LARGEST:
        met.add(id(value))
        for item in list(value.values() if isinstance(value, dict) else value):
            yield from _held(item, met)


def _weights(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return list(dict.fromkeys(each for module in modules for each in module.parameters(recurse=False)))


def _is_plain(value: Any) -> bool:
    return type(value) in _CONTAINERS or isinstance(value, (tuple, torch.Tensor))


def _twin(tensor: torch.Tensor, alone: bool = True) -> torch.Tensor:
    """A leaf with the same numbers, `alone` in a place of their own."""
    numbers = tensor.detach().clone() if alone else tensor.detach()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(numbers, tensor.requires_grad)
    return numbers.requires_grad_(tensor.requires_grad)


def changed_since(kept: KeptForward) -> str:
    """What is no longer as it was when the pass ran, in words; "" when all is."""
    weights = _versions(_weights(kept.attributes))
    if weights != kept.versions[: len(weights)]:
        return "weights were changed since the forward pass"
    if _versions(kept.args) != kept.versions[len(weights) :]:
        return "what the model was given was changed since, in place"
    if any(_versions([tensor]) != [version] for tensor, version in kept.shared):
        return "a large tensor that a module holds was changed since, in place"
    return ""


def _versions(args: Any) -> list[int]:
    return [-1 if tensor.is_inference() else tensor._version for tensor in tensors_in(args)]


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
        made = copies[id(value)] = {_mapped(item, change, copies) for item in value}
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
def replayed(model: nn.Module, kept: KeptForward, around: AbstractContextManager[Any]) -> Iterator[Replay]:
    """Runs the forward pass again inside `around`; in the `with` block a backward pass may follow.

    Raises:
        CannotReplay: with the reason.
    """
    model = uncompiled(model) or model
    _refuse(kept.attributes)
    now = RandomStates(model)
    # copies: a forward pass that writes on them must not do it twice, nor a backward pass add to their gradients
    exchange = {id(tensor): _twin(tensor) for tensor in [*_weights(kept.attributes), *kept.tensors]}
    own = {id(tensor) for tensor in exchange.values()}
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
        args, kwargs = _mapped((kept.args, kept.kwargs), _own_leaf, {})
        own |= {id(tensor) for tensor in tensors_in((args, kwargs))}
        with torch.enable_grad(), ExitStack() as modes:
            for device, enabled, dtype in kept.autocast:
                modes.enter_context(torch.autocast(device, dtype, enabled, cache_enabled=False))
            modes.enter_context(around)
            output = model(*args, **kwargs)
        yield Replay(output, left, own)


def _own_leaf(value: Any) -> Any:
    """A tensor that shares the numbers of another and whose gradient goes no further."""
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value


def _put_back(originals: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, attributes in originals:
        object.__setattr__(module, "__dict__", attributes)


def _refuse(modules: Iterable[nn.Module]) -> None:
    """Leaves alone what cannot be run again by itself."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in modules):
        raise CannotReplay("parts of the model are TorchScript")
    if any(is_sharded(parameter) or is_partial(parameter) for parameter in _weights(modules)):
        raise CannotReplay("the weights are spread over ranks, and one rank cannot run alone")
