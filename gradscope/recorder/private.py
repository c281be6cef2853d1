"""Everything of torch that GradScope needs and torch does not promise to keep. Each has a test of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def current_backward() -> int:
    """A number for the backward pass that runs on this thread, -1 outside of one."""
    return torch._C._current_graph_task_id()


def after_backward(callback: Callable[[], None]) -> None:
    """Calls back once when the running backward pass is over, gradients accumulated. Only during a backward."""
    torch.autograd.Variable._execution_engine.queue_callback(callback)


def is_compiled(module: nn.Module) -> bool:
    """Whether calling the module runs code that `torch.compile` made, inside which hooks are not called."""
    return isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None
