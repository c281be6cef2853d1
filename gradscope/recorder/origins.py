"""Which operation of a forward or backward pass makes the first NaN or Inf out of finite numbers, and where it stands."""

from __future__ import annotations

import linecache
import math
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from gradscope.recorder import replay
from gradscope.recorder.passes import Node
from gradscope.recorder.private import DispatchMode, latest_node, number_of, saved_tensors
from gradscope.recorder.replay import CannotReplay
from gradscope.recorder.tensors import tensors_in

_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<frozen")
_MOST_NODES = 10_000  # of a graph that are looked at


@dataclass(frozen=True)
class Place:
    """Where an operation was called: the user's line, and the module whose forward ran."""

    module: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Origin:
    """The first operation with a NaN or Inf that its inputs do not explain.

    `direction` is "forward", "backward" or "loss", or what held it already: "input", "weight", "target". `kind` is
    "NaN", "Inf" or "-Inf"; `largest_input` the largest finite magnitude of what the operation was given.
    """

    direction: str
    operation: str
    kind: str
    place: Place = Place()
    dtype: str = ""
    largest_input: float = 0.0
    number: int = 0  # the earliest has the lowest

    def data(self) -> dict[str, Any]:
        """What is written down of it."""
        facts = {name: value for name, value in asdict(self).items() if name not in ("place", "number")}
        code = linecache.getline(self.place.file, self.place.line).strip()
        return {**facts, **asdict(self.place), "code": code}


def callers_line() -> tuple[str, int]:
    """The innermost line outside of torch and GradScope that led here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def kind_of(tensors: Sequence[torch.Tensor]) -> str:
    """The worst that tensors hold: "NaN", "Inf", "-Inf", or "" when all is finite."""
    found = {kind for tensor in tensors for kind in _kinds(tensor)}
    return next((kind for kind in ("NaN", "Inf", "-Inf") if kind in found), "")


def _kinds(tensor: torch.Tensor) -> Iterator[str]:
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta or tensor.is_nested:
        return
    with torch.no_grad():
        values = tensor.coalesce().values() if tensor.is_sparse else tensor.detach()
        if values.layout is not torch.strided or bool(torch.isfinite(values).all()):
            return
        if bool(torch.isnan(values).any()):
            yield "NaN"
        infinite = torch.isinf(values)
        if bool(infinite.any()):
            yield "Inf" if values.is_complex() or bool((infinite & (values > 0)).any()) else "-Inf"


def largest(tensors: Sequence[torch.Tensor]) -> float:
    """The largest finite magnitude in tensors."""
    found = 0.0
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.layout is torch.strided and tensor.numel() and not tensor.is_nested:
            size = tensor.detach().abs()
            size = torch.where(torch.isfinite(size), size, torch.zeros_like(size))
            found = max(found, float(size.max()))
    return found


class Tracer(DispatchMode):  # type: ignore[no-untyped-call]
    """Follows NaN and Inf through the operations of a forward pass, down to those that autograd is made of.

    An infinity that the code asks for (a mask) or that a buffer or an input holds is meant, and goes by until something
    makes a NaN of it.

    Args:
        model: whose parameters, buffers and modules' paths are known.
        given: what the pass is given.

    Attributes:
        places: by the number of an autograd node, where it was made and by which operation.
        leaves: by id, what requires a gradient and no operation of the pass made.
    """

    def __init__(self, model: nn.Module, given: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._paths = {module: path for path, module in model.named_modules()}
        self._model, self._given = model, {id(tensor) for tensor in given}
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int, str]] = {}
        self._broken: dict[int, tuple[torch.Tensor, Origin | None]] = {}  # None: it is meant
        self._stored: dict[int, Origin | None] = {}  # by the address of their storage, for views
        self._unwritten: set[int] = set()
        self._count = 0
        self.places: dict[int, tuple[Place, str]] = {}
        self.leaves: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        namespace, name = str(function).split(".")[:2]
        in_place = name.endswith("_")
        if "c10d" in namespace:
            raise CannotReplay("the forward pass talks to other ranks, and one rank cannot run alone")
        name = name.strip("_")
        place = self._place()
        self.places.setdefault(latest_node(), (place, name))
        inputs = list(tensors_in((args, kwargs)))
        bases = [tensor if tensor._base is None else tensor._base for tensor in inputs]
        self.leaves.update((id(base), base) for base in bases if base.requires_grad and base.is_leaf)
        broken = [tensor for tensor in inputs if self._kind(tensor)]
        size = largest(inputs) if in_place else 0.0
        output = function(*args, **kwargs)
        self._count += 1
        made = list(tensors_in(output))
        if name.startswith(("empty", "new_empty")):
            self._unwritten.update(id(tensor) for tensor in made)
            return output
        kind = kind_of(made)
        if kind:
            origin = self._trace(broken, kind, (args, kwargs))
            if origin is _NEW:
                dtype = str(next(tensor.dtype for tensor in made if kind_of([tensor])))[6:]
                size = size if in_place else largest(inputs)
                origin = Origin("forward", name, kind, place, dtype, size, self._count)
            for tensor in made:
                self._known.pop(id(tensor), None)  # written in place, its version is not yet another one
                if self._kind(tensor):
                    self._broken[id(tensor)] = (tensor, origin)
                    self._stored[_address(tensor)] = origin
        return output

    def origin_of(self, tensors: Sequence[torch.Tensor]) -> Origin | None:
        """Where the NaN and Inf of what the pass gave are from."""
        found = [origin for tensor in tensors if self._kind(tensor) and (origin := self._origin(tensor))]
        return min(found, key=lambda origin: origin.number, default=None)

    def last(self) -> Origin | None:
        """The last operation that made a NaN or Inf, whatever became of it."""
        made = [origin for _, origin in self._broken.values() if origin is not None]
        return max(made, key=lambda origin: origin.number, default=None)

    def _trace(self, broken: list[torch.Tensor], kind: str, given: Any) -> Any:
        """The origin of what came out: that of what went in, None when it is meant, `_NEW` when it is made here."""
        origins = [origin for tensor in broken if (origin := self._origin(tensor)) is not None]
        if origins:
            return min(origins, key=lambda origin: origin.number)
        if kind != "NaN" and (broken or any(math.isinf(number) for number in _numbers(given))):
            return None
        return _NEW

    def _kind(self, tensor: torch.Tensor) -> str:
        version = -1 if tensor.is_inference() else tensor._version
        known = self._known.get(id(tensor))
        if known is None or known[0]() is not tensor or known[1] != version:
            known = self._known[id(tensor)] = (weakref.ref(tensor), version, kind_of([tensor]))
        return known[2]

    def _origin(self, tensor: torch.Tensor) -> Origin | None:
        """The origin of a tensor with a NaN or Inf; None when it is meant."""
        if id(tensor) in self._broken:
            return self._broken[id(tensor)][1]
        address, kind = _address(tensor), self._kind(tensor)
        if address in self._stored:
            return self._stored[address]
        origin = None if id(tensor) in self._unwritten else self._brought(tensor, address, kind)
        self._broken[id(tensor)] = (tensor, origin)
        return origin

    def _brought(self, tensor: torch.Tensor, address: int, kind: str) -> Origin | None:
        """What a tensor that no operation of the pass made says of itself."""
        dtype, size = str(tensor.dtype)[6:], largest([tensor])
        for name, parameter in self._model.named_parameters():
            if _address(parameter) == address:
                return Origin("weight", name, kind, Place(name.rpartition(".")[0]), dtype, size)
        if kind != "NaN":
            return None
        for name, buffer in self._model.named_buffers():
            if _address(buffer) == address:
                return Origin("weight", name, kind, Place(name.rpartition(".")[0]), dtype, size)
        return Origin("input", "input" if id(tensor) in self._given else "constant", kind, Place(), dtype, size)

    def _place(self) -> Place:
        """Where the operation that runs was called, inside of the model."""
        frame: FrameType | None = sys._getframe(2)
        line: tuple[str, int] = "", 0
        module: str | None = None
        while frame is not None and frame.f_code.co_filename != replay.__file__:
            code = frame.f_code
            if not line[0] and not code.co_filename.startswith(_NOT_THE_USERS):
                line = code.co_filename, frame.f_lineno
            if module is None and code.co_argcount:
                module = self._paths.get(_hashable(frame.f_locals.get(code.co_varnames[0])))
            frame = frame.f_back
        return Place(module or "", *line)


_NEW: Any = object()


def _hashable(value: Any) -> Any:
    return value if isinstance(value, nn.Module) else None


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def _numbers(value: Any) -> Iterator[float]:
    """The plain numbers among an operation's arguments."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, dict):
        yield from _numbers(tuple(value.values()))


def nodes_between(starts: Sequence[Node], ends: Set[tuple[int, int]]) -> list[Node]:
    """The nodes of a graph from some of its nodes down to edges (number of a node, output), the nearest to them last."""
    found: dict[int, Node] = {}
    waiting = list(starts)
    while waiting and len(found) < _MOST_NODES:
        node = waiting.pop(0)
        if id(node) in found:
            continue
        found[id(node)] = node
        waiting += [
            after
            for after, output in node.next_functions
            if after is not None and (number_of(after), output) not in ends
        ]
    return list(found.values())


def in_backward(
    outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], tracer: Tracer, own: Set[int]
) -> Origin | None:
    """Runs a backward pass; the first node that makes a NaN or Inf out of a finite gradient.

    Args:
        outputs: of a pass that ran again.
        gradients: that arrived at them.
        tracer: which followed it.
        own: ids of the leaves that were made for it; no other tensor is touched.
    """
    found: list[Origin] = []
    handles = []
    nodes = nodes_between([output.grad_fn for output in outputs], set())
    for node in nodes:

        def passed(left: Any, arrived: Any, node: Node = node) -> None:
            if found:
                return
            origin = made_by(operation(node), left, arrived)
            if origin is not None:
                place, called = tracer.places.get(number_of(node), (Place(), ""))
                named = called if called and not _is_custom(node) else origin.operation
                found.append(replace(origin, place=place, operation=named))

        if not _is_leafs(node):  # that of a leaf, which may be the user's, is not run
            handles.append(node.register_hook(passed))
    try:
        sums = _backward(outputs, gradients, nodes, tracer.leaves, own)
    finally:
        for handle in handles:
            handle.remove()
    return next(iter(found), None) or next(filter(None, (_sum(each) for each in sums)), None)


def _backward(
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    nodes: Sequence[Node],
    seen: dict[int, torch.Tensor],
    own: Set[int],
) -> list[torch.Tensor | None]:
    """The gradients of a graph's leaves, none of which is added to or calls a hook but our own."""
    leaves = {id(node.variable): node.variable for node in nodes if _is_leafs(node)}
    theirs = [leaf for number, leaf in {**seen, **leaves}.items() if number not in own]
    kept = [leaf.grad for leaf in theirs]  # code of the user's that runs backward itself adds to them
    try:
        for leaf in theirs:
            leaf.grad = None
        if any(node.name().endswith("CheckpointFunctionBackward") for node in nodes):  # reentrant: refuses `grad`
            if theirs:
                raise CannotReplay("a reentrant checkpoint computes with weights that are not the model's")
            torch.autograd.backward(outputs, gradients, retain_graph=True)
            return [leaf.grad for leaf in leaves.values()]
        inputs = [leaf for number, leaf in leaves.items() if number in own or not leaf._backward_hooks]
        if not inputs:
            return []
        return list(torch.autograd.grad(outputs, inputs, gradients, retain_graph=True, allow_unused=True))
    finally:
        for leaf, gradient in zip(theirs, kept, strict=True):
            leaf.grad = gradient


def _is_leafs(node: Node) -> bool:
    return bool(node.name().endswith("AccumulateGrad"))


def _sum(gradient: torch.Tensor | None) -> Origin | None:
    """Of finite gradients that overflow where they come together in a leaf."""
    kind = "" if gradient is None else kind_of([gradient])
    if gradient is None or not kind:
        return None
    return Origin(
        "backward", "sum of gradients", kind, dtype=str(gradient.dtype)[6:], largest_input=largest([gradient])
    )


def made_by(operation: str, left: Sequence[Any], arrived: Sequence[Any]) -> Origin | None:
    """What an operation did to the gradients that arrived at it, if it made a NaN or Inf of finite ones or of their sum."""
    came = [tensor for tensor in arrived if isinstance(tensor, torch.Tensor)]
    went = [tensor for tensor in left if isinstance(tensor, torch.Tensor)]
    if kind := kind_of(came):
        return Origin("backward", "sum of gradients", kind, dtype=str(came[0].dtype)[6:], largest_input=largest(came))
    if kind := kind_of(went):
        return Origin("backward", operation, kind, dtype=str(went[0].dtype)[6:], largest_input=largest(came))
    return None


def operation(node: Node) -> str:
    """The operation of an autograd node: "sqrt" for SqrtBackward0."""
    name = node.name().rpartition("::")[2].partition("Backward")[0]
    return "_".join(part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)) or node.name()


def _is_custom(node: Node) -> bool:
    """Whether a node is of a `torch.autograd.Function`, whose forward is several operations."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


# What makes a NaN or Inf of which finite input: by operation, the name of what its node keeps, and the test.
_DOMAINS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "log": ("self", lambda x: x <= 0),
    "log2": ("self", lambda x: x <= 0),
    "log10": ("self", lambda x: x <= 0),
    "log1p": ("self", lambda x: x <= -1),
    "div": ("other", lambda x: x == 0),
}


def in_loss(loss: torch.Tensor, ends: Set[tuple[int, int]]) -> Origin | None:
    """Which operation between a model's outputs and its loss makes the loss a NaN or Inf, from what its nodes keep."""
    nodes = nodes_between([loss.grad_fn], ends) if loss.grad_fn is not None else []
    kind, dtype = kind_of([loss]), str(loss.dtype)[6:]
    for node in reversed(nodes):
        kept, name = saved_tensors(node), operation(node)
        if "target" in kept and (held := kind_of([kept["target"]])):
            return Origin("target", name, held, dtype=dtype, largest_input=largest([kept["target"]]))
        inputs = [tensor for key, tensor in kept.items() if key != "result"]
        if kind_of(inputs):
            continue
        where, test = _DOMAINS.get(name, ("", None))
        if (test is not None and where in kept and bool(test(kept[where]).any())) or (
            "result" in kept and kind_of([kept["result"]])
        ):
            return Origin("loss", name, kind, dtype=dtype, largest_input=largest(inputs or [kept["result"]]))
    steps = {id(node): node for node in nodes}
    for node in reversed(nodes):  # one that was handed a NaN or Inf tells of what came before
        inputs = [tensor for key, tensor in saved_tensors(node).items() if key != "result"]
        if kind_of(inputs):
            before = [after for after, _ in node.next_functions if after is not None and id(after) in steps]
            if before:
                return Origin("loss", operation(before[0]), kind, dtype=dtype, largest_input=largest(inputs))
    return None
