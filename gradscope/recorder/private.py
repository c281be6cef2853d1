"""Everything of torch that GradScope needs and torch does not promise to keep. Each has a test of its own."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

DispatchMode = TorchDispatchMode  # sees every operation below autograd


def current_backward() -> int:
    """A number for the backward pass that runs on this thread, -1 outside of one."""
    return torch._C._current_graph_task_id()


def after_backward(callback: Callable[[], None]) -> None:
    """Calls back once when the running backward pass is over, gradients accumulated. Only during a backward.

    Among ranks also reduced: DDP does that in a callback of its own, which a static graph queues from another.
    """
    for _ in range(2 if torch.distributed.is_available() and torch.distributed.is_initialized() else 0):
        callback = partial(torch.autograd.Variable._execution_engine.queue_callback, callback)
    torch.autograd.Variable._execution_engine.queue_callback(callback)


def scale_of(scaler: object) -> torch.Tensor | None:
    """The tensor that a `GradScaler` keeps its scale in; None before it is first used. Its getter would wait."""
    scale = getattr(scaler, "_scale", None)
    return scale if isinstance(scale, torch.Tensor) else None


class _Process:
    """How many forks lie between this process and the one that imported us."""

    forks = 0


def _forked() -> None:
    _Process.forks += 1


os.register_at_fork(after_in_child=_forked)


def forks() -> int:
    """Changes in a forked child; asking the system for a process id takes longer."""
    return _Process.forks


def add_forward_hook(hook: Callable[..., None]) -> Callable[[], None]:
    """Registers a global forward hook that is given keyword arguments, and returns what takes it off again.

    Removing torch's own handle leaves an entry behind that grows with every registration.
    """
    handle = torch_module.register_module_forward_hook(hook, with_kwargs=True)

    def remove() -> None:
        handle.remove()
        torch_module._global_forward_hooks_with_kwargs.pop(handle.id, None)

    return remove


_ABOUT_HOOKS = re.compile(r"Using .torch\.compile\(module\). when there are global hooks", re.IGNORECASE)
_QUIET = ("ignore", _ABOUT_HOOKS, Warning, None, 0)  # as `warnings.filterwarnings` would add it


def keep_quiet_about_hooks() -> None:
    """Spares users a warning of torch that our hooks fire once more for a compiled module's wrapper: we know.

    `warnings.filterwarnings` would make Python forget which of the user's own warnings were shown, and show them again.
    """
    filters = cast("list[object]", warnings.filters)
    if _QUIET not in filters:
        filters.insert(0, _QUIET)


def keywords_of_call(module: nn.Module) -> dict[str, Any] | None:
    """The keyword arguments of a module's call that runs: the dict that its `forward` is going to be given.

    torch hands a global pre-hook the positional arguments alone.
    """
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        if frame.f_code is nn.Module._call_impl.__code__ and frame.f_locals.get("self") is module:
            keywords: dict[str, Any] | None = frame.f_locals.get("kwargs")
            return keywords
    return None


def is_compiled(module: nn.Module) -> bool:
    """Whether calling the module runs code that `torch.compile` made, inside which hooks are not called."""
    dynamo = sys.modules.get("torch._dynamo")  # importing it takes seconds; without it nothing is compiled
    return dynamo is not None and (isinstance(module, dynamo.OptimizedModule) or module._compiled_call_impl is not None)


def compiler_in_use() -> bool:
    """Whether `torch.compile` was called in this process.

    From then on global hooks stay as they are: compiled code is guarded by their number and handles, and is compiled
    again whenever one is put on or taken off.
    """
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    return compiler is not None and any(backend is not None for backend in compiler.cached_backends.values())


def uncompiled(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper made by `torch.compile(module)` stands for; None for every other module."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None or not isinstance(module, dynamo.OptimizedModule):
        return None
    original: nn.Module = module._orig_mod
    return original


def is_transformed() -> bool:
    """Whether the calls of this moment are those of a torch.func transform (vmap, grad …)."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_traced() -> bool:
    """Whether `torch.jit.trace` runs: what hooks computed now would become part of its graph."""
    return torch._C._get_tracing_state() is not None


def active_ddp() -> DistributedDataParallel | None:
    """The DDP wrapper whose forward is running; its inner model does not know of it."""
    return DistributedDataParallel._active_ddp_module


def _fsdp_groups(model: nn.Module) -> Iterator[Any]:
    """The groups of parameters that `fully_shard` gathers together."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    for module in model.modules() if fsdp is not None else ():
        if isinstance(module, fsdp.FSDPModule):  # type: ignore[union-attr]
            yield from module._get_fsdp_state()._fsdp_param_groups


def gradient_divisor(model: nn.Module) -> float | None:
    """What `fully_shard` divides the ranks' summed gradients by, where the user said so."""
    return next((group.gradient_divide_factor for group in _fsdp_groups(model)), None)


def unreduced_gradients(model: nn.Module) -> list[torch.Tensor | None]:
    """Gradients that `fully_shard` keeps whole because the user delays their reduction, `.grad` not yet among them."""
    found: list[torch.Tensor | None] = []
    for group in _fsdp_groups(model):
        for parameter in group.fsdp_params:
            whole = getattr(parameter, "_unsharded_param", None)
            found += [parameter.unsharded_accumulated_grad, None if whole is None else whole.grad]
    return found


def sharded_parameters(model: nn.Module) -> dict[int, nn.Parameter]:
    """The shard that the optimizer updates, by the id of the gathered parameter that a module may show instead."""
    return {
        id(whole): parameter.sharded_param
        for group in _fsdp_groups(model)
        for parameter in group.fsdp_params
        if (whole := getattr(parameter, "_unsharded_param", None)) is not None
    }


def saved_tensor(node: Any, name: str) -> torch.Tensor | None:
    """What a node of the autograd graph keeps for its backward, e.g. `saved_tensor(loss.grad_fn, "target")`.

    None where it keeps nothing of that name, and where somebody's hooks (checkpointing, offloading) have packed it:
    asking for it then would run their code.
    """
    saved = getattr(node, f"_raw_saved_{name}", None)
    if isinstance(saved, tuple):  # of several, such as indices: the last
        saved = saved[-1] if saved else None
    if saved is None or saved.unpack_hook is not None:
        return None
    return saved.data if isinstance(saved.data, torch.Tensor) else None


def unchanged_saved_tensor(node: Any, name: str) -> torch.Tensor | None:
    """The same, without history; None also where the tensor was changed in place since, or is kept no longer."""
    saved = getattr(node, f"_raw_saved_{name}", None)
    if saved is None or getattr(saved, "unpack_hook", saved) is not None:
        return None
    try:
        tensor = getattr(node, f"_saved_{name}")  # compares versions
    except RuntimeError:
        return None
    return tensor.detach() if isinstance(tensor, torch.Tensor) else None


def saved_number(node: Any, name: str) -> float | None:
    """A number that a node keeps, e.g. a softmax's "dim"; None where there is none. Negative ones come unsigned.

    None also where a tensor is kept under that name: asking for that could run somebody's hooks, see `saved_tensor`.
    """
    if hasattr(node, f"_raw_saved_{name}"):
        return None
    value = getattr(node, f"_saved_{name}", None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value


def shape_at(node: Any, output: int) -> tuple[int, ...]:
    """The shape of what a node put out in the forward pass; () where it is not known."""
    known = getattr(node, "_input_metadata", ())
    if output >= len(known) or known[output].is_nested_tensor:
        return ()
    return tuple(int(size) for size in known[output].shape)


def saved_tensors(node: Any) -> dict[str, torch.Tensor]:
    """All that a node keeps for its backward, by name, see `saved_tensor`."""
    names = [name.removeprefix("_raw_saved_") for name in dir(node) if name.startswith("_raw_saved_")]
    return {name: saved for name in names if (saved := saved_tensor(node, name)) is not None}


def latest_node() -> int:
    """The number of the autograd node that this thread made last, see `number_of`."""
    return torch._C._autograd._get_sequence_nr() - 1


def number_of(node: Any) -> int:
    """The number of an autograd node, which grows from node to node that a thread makes."""
    return int(node._sequence_nr())


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def leave_out_hooks(attributes: dict[str, Any]) -> int:
    """Takes, from a copy of a module's attributes, its hooks but those of torch itself, and compiled code.

    Torch's own (weight norm, lazy modules) are part of what the module computes. Returns how many were left out.
    """
    left = 0
    for name in _HOOKS:
        hooks = attributes.get(name, {})
        for number, hook in list(hooks.items()):
            if not (getattr(hook, "__module__", None) or type(hook).__module__).startswith("torch."):
                del hooks[number]
                left += 1
    attributes["_compiled_call_impl"] = None
    return left
