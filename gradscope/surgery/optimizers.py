"""Changes to optimizers and to what they update: another kind, more parameters, weights in float32."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import copy
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import Parameter
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gradscope.surgery.applied import Applied

ADAM_LIKE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "SparseAdam")
HALF = (torch.float16, torch.bfloat16)


def stepping(optimizers: Sequence[Optimizer]) -> list[Optimizer]:
    """The optimizers themselves: Accelerate's wrap another, and torch's hooks are called by that one alone."""
    found = []
    for optimizer in optimizers:
        while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
            optimizer = inner
        found.append(optimizer)
    return found


def without_rate(optimizers: Sequence[Optimizer]) -> str:
    """The kind of the first optimizer that has a group without a learning rate to multiply; "" where there is none."""
    for optimizer in optimizers:
        if any(not isinstance(group.get("lr"), (int, float, Tensor)) for group in optimizer.param_groups):
            return type(optimizer).__name__
    return ""


def highest_rate(optimizer: Optimizer) -> float:
    """The highest learning rate of its groups, now or as a scheduler began or will have it."""
    keys = ("lr", "initial_lr", "max_lr")
    return max((float(group[key]) for group in optimizer.param_groups for key in keys if key in group), default=0.0)


def makes_sparse_gradients(model: nn.Module) -> bool:
    """Whether an embedding of the model has sparse gradients, which have no norm and which Adam refuses."""
    return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse for module in model.modules())


# parameters


def forgotten(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[Parameter]:
    """The trainable parameters of a model that none of these optimizers updates."""
    held = {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}
    return [each for each in model.parameters() if each.requires_grad and id(each) not in held]


def largest(optimizers: Sequence[Optimizer]) -> Optimizer:
    """The one that updates the most numbers."""
    return max(optimizers, key=lambda optimizer: sum(map(_size, optimizer.param_groups)))


def _size(group: dict[str, Any]) -> int:
    return sum(each.numel() for each in group["params"])


def join(applied: Applied, optimizer: Optimizer, model: nn.Module, parameters: Sequence[Parameter]) -> None:
    """Parameters of a model join the largest group of an optimizer.

    Args:
        applied: takes them out again, with what the optimizer has come to keep of them.
        optimizer: that is to update them.
        model: which tells their names to an optimizer that was built with `named_parameters()`.
        parameters: that it does not have.
    """
    group = max(optimizer.param_groups, key=_size)
    applied.back(_leave, optimizer, list(parameters))
    group["params"].extend(parameters)  # the same list: an optimizer may hold it
    if "param_names" in group:
        names = {id(each): name for name, each in model.named_parameters()}
        group["param_names"].extend(names[id(each)] for each in parameters)


def _leave(optimizer: Optimizer, parameters: list[Parameter]) -> None:
    gone = {id(each) for each in parameters}
    for group in optimizer.param_groups:  # loading a state dict has made new ones
        stay = [place for place, each in enumerate(group["params"]) if id(each) not in gone]
        for key in ("params", "param_names"):
            if key in group:
                group[key][:] = [group[key][place] for place in stay]
    for each in parameters:
        optimizer.state.pop(each, None)


# another kind


class _Tracker(LRScheduler):
    """A scheduler that leaves every rate as it is: building one has torch wrap the optimizer's step as they expect."""

    def get_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]


def has_step_of_its_own(optimizer: Optimizer) -> bool:
    """Whether somebody else than a scheduler has put another `step` on the object itself."""
    return "step" in vars(optimizer) and not _is_tracked(optimizer)


def _is_tracked(optimizer: Optimizer) -> bool:
    step = vars(optimizer).get("step")
    return getattr(step, "__globals__", {}).get("__name__") == LRScheduler.__module__


def _is_stepping(optimizer: Optimizer) -> bool:
    """Whether we were called from within the optimizer's own step, which evaluates the model in a closure."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "step" and frame.f_locals.get("self") is optimizer:
            return True
        frame = frame.f_back
    return False


def unlike_adam(model: nn.Module, optimizer: Optimizer) -> str:
    """Why an optimizer cannot become an Adam; "" where it can."""
    kind = type(optimizer)
    if kind.__name__ == "LBFGS":
        return "LBFGS chooses the length of its steps itself, from several evaluations of the loss a step"
    if not kind.__module__.startswith("torch.optim."):
        return f"{kind.__name__} is no optimizer of torch.optim; what else its class does would be lost"
    if has_step_of_its_own(optimizer):
        return f"somebody has put another `step` on this {kind.__name__}, which would go on calling the old one"
    if _is_stepping(optimizer):
        return "its step is running, as with a closure or in Lightning: the second half of it would be another class's"
    if without_rate([optimizer]):
        return f"{kind.__name__} has no learning rate in its groups; it chooses one itself"
    if makes_sparse_gradients(model):
        return "an embedding has sparse gradients, which Adam refuses"
    if any(each.dtype == torch.float16 for group in optimizer.param_groups for each in group["params"]):
        return "the weights are in float16, in which Adam's eps is 0"
    return ""


def become_adam(applied: Applied, optimizer: Optimizer, eps: float) -> None:
    """The optimizer stays the same object, and becomes an Adam that has not stepped yet.

    Its groups keep what they have (weight decay too) and get Adam's options beside it. Its own hooks, its learning rates
    and its schedulers stay: they, too, hold this object.

    Args:
        applied: makes it what it was, with the state that it had.
        optimizer: one of torch's own classes, without a step of its own.
        eps: Adam's.
    """
    options = Adam(
        [nn.Parameter(torch.zeros(1))], eps=eps
    ).defaults  # building one also has torch put hooks on the class
    state, kind = dict(optimizer.state), type(optimizer)
    applied.back(optimizer.state.update, state)
    applied.back(optimizer.state.clear)
    optimizer.state.clear()
    for place, each in enumerate([optimizer.defaults, *optimizer.param_groups]):
        new = {key: value for key, value in options.items() if key not in each or key == "eps"}
        applied.back(_put_back, optimizer, place, {key: each[key] for key in new if key in each}, list(new))
        each.update(new)
    applied.back(_turn, optimizer, kind, vars(optimizer).get("step"))
    _turn(optimizer, Adam)


def _put_back(optimizer: Optimizer, place: int, were: dict[str, Any], changed: list[str]) -> None:
    """Takes back what was changed in a group, and nothing that a scheduler may have set since."""
    options = [optimizer.defaults, *optimizer.param_groups][place]  # loading a state dict has made new ones
    for key in changed:
        if key not in were:
            options.pop(key, None)
    options.update(were)  # in the order that they had


def _turn(optimizer: Optimizer, kind: type[Optimizer], step: Any = None) -> None:
    """Gives it a class. A scheduler's wrapper on the object would go on calling the old class's step: it is made anew."""
    tracked = _is_tracked(optimizer)
    vars(optimizer).pop("step", None)
    optimizer.__class__ = kind
    if step is not None:
        vars(optimizer)["step"] = step
    elif tracked:
        # a scheduler's first act is to set each group's initial rate, which is there: there has been a scheduler
        rates = [dict(group) for group in optimizer.param_groups]
        _Tracker(optimizer)
        for group, was in zip(optimizer.param_groups, rates, strict=True):
            group.update(was)


def lower_eps(applied: Applied, optimizer: Optimizer, eps: float) -> bool:
    """Lowers Adam's eps in every group where it is higher; whether there was one."""
    higher = [each for each in (optimizer.defaults, *optimizer.param_groups) if each.get("eps", 0.0) > eps]
    for each in higher:
        applied.back(each.__setitem__, "eps", each["eps"])
        each["eps"] = eps
    return bool(higher)


# precision


def in_half_precision(model: nn.Module) -> list[Parameter]:
    """The parameters that are held in float16 or bfloat16."""
    return [each for each in model.parameters() if each.dtype in HALF]


def is_shared_out(model: nn.Module) -> bool:
    """Whether processes share it: DDP has made its buffers, or the parameters are parts of larger ones."""
    from torch.distributed.tensor import DTensor

    wrapped = any(isinstance(module, DistributedDataParallel) for module in model.modules())
    return wrapped or any(isinstance(each, DTensor) for each in model.parameters())


def to_float32(applied: Applied, model: nn.Module) -> None:
    """Weights and buffers in half precision become float32, and so do such inputs of the model. The objects stay.

    Args:
        applied: rounds them to what they were; unless they were trained that gives the very same numbers.
        model: is computed in float32 then, and its outputs are float32.
    """
    applied.back(_flatten, model)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dtype in HALF:
            applied.back(_hold_in, tensor, tensor.dtype)
            _hold_in(tensor, torch.float32)
    _flatten(model)

    def widen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return _in_float32(args), _in_float32(kwargs)

    applied.back(model.register_forward_pre_hook(widen, with_kwargs=True).remove)


def _hold_in(tensor: Tensor, dtype: torch.dtype) -> None:
    gradient = tensor.grad if tensor.is_leaf else None
    if gradient is not None:
        tensor.grad = None  # it may not be of another format than its tensor
    tensor.data = tensor.data.to(dtype)
    if gradient is not None:
        tensor.grad = gradient.to(dtype)


def _flatten(model: nn.Module) -> None:
    """Recurrent modules keep their weights in one piece of memory on some devices."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()


def _in_float32(value: Any) -> Any:
    """A value with every half-precision tensor in it as float32; containers are built anew."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named one
        return type(value)(*map(_in_float32, value))
    if type(value) in (list, tuple):
        return type(value)(map(_in_float32, value))
    if isinstance(value, dict):
        wide = copy(value)
        wide.update({key: _in_float32(each) for key, each in value.items()})
        return wide
    return value
