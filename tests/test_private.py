"""Every private name of torch that GradScope needs, tried on the installed torch: it fails when torch changes one."""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_pre_hook

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


def test_what_a_node_saved_is_read_unless_it_is_packed_changed_or_freed() -> None:
    """It comes without history; None when somebody's hooks hold it, after a change, after the backward."""
    x = torch.randn(3, requires_grad=True)
    y = torch.relu(x)
    saved = private.unchanged_saved_tensor(y.grad_fn, "result")
    assert saved is not None
    assert torch.equal(saved, y)
    assert not saved.requires_grad
    assert private.unchanged_saved_tensor(y.grad_fn, "self") is None
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: 1 / 0):
        packed = torch.relu(x)
    assert private.unchanged_saved_tensor(packed.grad_fn, "result") is None
    changed = torch.relu(x)
    node = changed.grad_fn
    changed.add_(1.0)
    assert private.unchanged_saved_tensor(node, "result") is None
    y.sum().backward()
    assert private.unchanged_saved_tensor(y.grad_fn, "result") is None


def test_nodes_are_numbered_as_they_are_made() -> None:
    """The number of the node that was made last is that of the youngest node of the graph."""
    x = torch.ones(2, requires_grad=True)
    first = x * 2
    assert private.number_of(first.grad_fn) == private.latest_node()
    second = first.exp()
    assert private.number_of(second.grad_fn) == private.latest_node() == private.number_of(first.grad_fn) + 1


def test_the_tensors_that_a_node_keeps() -> None:
    """By name: a division keeps its divisor, an exponential its result."""
    x = torch.full((2,), 3.0, requires_grad=True)
    assert private.saved_tensors((x / x).grad_fn)["other"].tolist() == [3, 3]
    assert list(private.saved_tensors(x.exp().grad_fn)) == ["result"]


def test_a_dispatch_mode_sees_what_autograd_is_made_of() -> None:
    """The operations below autograd, in order."""
    seen: list[str] = []

    class Mode(private.DispatchMode):  # type: ignore[misc, valid-type]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Mode():
        torch.ones(2).mul(2).exp()
    assert seen[-2:] == ["aten.mul.Tensor", "aten.exp.default"]


def test_hooks_are_left_out_of_a_copy_of_a_modules_attributes() -> None:
    """The user's hooks go, torch's own stay, and the module itself is as it was."""
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    module.register_forward_pre_hook(lambda *_: None)
    lazy = nn.LazyLinear(2)
    for each, left in ((module, 2), (lazy, 0)):
        before = len(each._forward_pre_hooks)
        attributes = {name: value.copy() if isinstance(value, dict) else value for name, value in vars(each).items()}
        assert private.leave_out_hooks(attributes) == left
        assert len(each._forward_pre_hooks) == before == 1
    assert not attributes["_compiled_call_impl"]
    assert len(attributes["_forward_pre_hooks"]) == 1


def test_what_a_node_keeps_can_be_read() -> None:
    """The tensors and numbers that a loss keeps for its backward, with negative dimensions, and shapes in the forward."""
    logits = torch.randn(4, 3, requires_grad=True) * 2
    target = torch.tensor([0, 1, 2, 0])
    node = nn.functional.nll_loss(logits.log_softmax(-1), target).grad_fn
    kept = private.saved_tensor(node, "target")
    assert kept is not None
    assert kept.tolist() == [0, 1, 2, 0]
    assert private.saved_tensor(node, "weight") is None
    assert private.saved_number(node, "ignore_index") == -100
    softmax = node.next_functions[0][0]  # type: ignore[union-attr]
    assert private.saved_number(softmax, "dim") == -1
    assert private.shape_at(softmax, 0) == (4, 3)
    indexed = logits[torch.arange(4), target].grad_fn
    assert private.saved_tensor(indexed, "indices") is not None


def test_what_hooks_packed_is_not_unpacked() -> None:
    """A saved tensor that somebody's hooks have packed is left as it is."""
    logits = torch.randn(4, 3, requires_grad=True) * 2
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        loss = nn.functional.nll_loss(logits, torch.tensor([0, 1, 2, 0]))
    assert private.saved_tensor(loss.grad_fn, "target") is None


def test_keywords_of_call() -> None:
    """A global pre-hook finds the very dict that `forward` is given; outside of a call there is none."""
    seen = []

    class Fed(nn.Module):
        def forward(self, **named: int) -> int:
            return named["x"]

    def hook(module: nn.Module, _: object) -> None:
        keywords = private.keywords_of_call(module)
        assert keywords is not None
        seen.append(dict(keywords))
        keywords["x"] = 2

    handle = register_module_forward_pre_hook(hook)
    try:
        assert Fed()(x=1) == 2
    finally:
        handle.remove()
    assert seen == [{"x": 1}]
    assert private.keywords_of_call(Fed()) is None
