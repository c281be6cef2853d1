"""Every private name of torch that GradScope needs, tried on the installed torch: it fails when torch changes one."""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from gradscope.recorder import private


def test_a_backward_has_a_number_while_it_runs() -> None:
    """Outside of a backward the number is -1; inside, two backwards have two numbers, a nested one its own."""
    numbers: list[int] = []
    assert private.current_backward() == -1
    for _ in range(2):
        x = torch.ones(1, requires_grad=True)
        (x * 2).grad_fn.register_prehook(lambda gradients: numbers.append(private.current_backward()))
        y = x * 2
        y.grad_fn.register_prehook(lambda gradients: numbers.append(private.current_backward()))
        y.backward()
    assert len(set(numbers)) == 2
    assert min(numbers) >= 0


def test_a_callback_comes_when_gradients_are_there() -> None:
    """What is queued in a backward is called once, at its end."""
    x = torch.ones(1, requires_grad=True)
    found: list[Any] = []
    y = x * 2

    def queue(gradients: Any) -> None:
        assert x.grad is None
        private.after_backward(lambda: found.append(x.grad))

    y.grad_fn.register_prehook(queue)
    y.backward()
    assert len(found) == 1
    assert torch.equal(found[0], torch.tensor([2.0]))


def _forks(queue: Any) -> None:
    queue.put(private.forks())


def test_a_forked_child_knows_that_it_is_one() -> None:
    """The number of forks is one higher in a child."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_forks, args=(queue,))
    child.start()
    assert queue.get() == private.forks() + 1
    child.join()


def test_a_global_forward_hook_gets_keywords_and_leaves_nothing() -> None:
    """The hook is given keyword arguments, and torch's tables are as before once it is removed."""
    seen: list[Any] = []
    before = len(torch_module._global_forward_hooks_with_kwargs)
    remove = private.add_forward_hook(lambda module, args, kwargs, output: seen.append(list(kwargs)))
    nn.Linear(2, 2)(input=torch.ones(1, 2))
    remove()
    nn.Linear(2, 2)(input=torch.ones(1, 2))
    assert seen == [["input"]]
    assert len(torch_module._global_forward_hooks_with_kwargs) == before


def test_compiled_modules_are_known() -> None:
    """What `torch.compile` wrapped or `module.compile()` changed is known, and nothing else."""
    plain, wrapped, inside = nn.Linear(2, 2), torch.compile(nn.Linear(2, 2), backend="eager"), nn.Linear(2, 2)
    inside.compile(backend="eager")
    assert [private.is_compiled(module) for module in (plain, wrapped, inside)] == [False, True, True]


def test_transforms_are_known() -> None:
    """Inside vmap, grad and jvp, nested too, and nowhere else."""
    seen: list[bool] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(private.is_transformed())
        return (x * x).sum()

    function(torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch scripts something of its own
        torch.func.vmap(torch.func.grad(function))(torch.ones(3, 2))
        torch.func.jvp(function, (torch.ones(2),), (torch.ones(2),))
    function(torch.ones(2))
    assert seen == [False, True, True, False]
