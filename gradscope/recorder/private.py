"""Everything of torch that GradScope needs and torch does not promise to keep. Each has a test of its own."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules import module as torch_module


def current_backward() -> int:
    """A number for the backward pass that runs on this thread, -1 outside of one."""
    return torch._C._current_graph_task_id()


def after_backward(callback: Callable[[], None]) -> None:
    """Calls back once when the running backward pass is over, gradients accumulated. Only during a backward."""
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


def keep_quiet_about_hooks() -> None:
    """Spares users a warning of torch that our hooks fire once more for a compiled module's wrapper: we know."""
    warnings.filterwarnings("ignore", message=r"Using .torch\.compile\(module\). when there are global hooks")


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
