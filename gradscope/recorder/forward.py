"""What a forward pass leaves behind: which module ran when, on which gradient edges. Torch's global module hooks."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradscope.recorder.private import add_forward_hook, keep_quiet_about_hooks
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.tensors import tensors_in
from gradscope.records import Link
from gradscope.stats import Collector

Node = Any  # torch.autograd.graph.Node; its subclasses are made at run time
Edge = tuple[Node, int]  # a node and which of its outputs: where a tensor's gradient arrives
EdgeKey = tuple[int, int]  # (id of a node, which of its outputs)


def key(edge: Edge) -> EdgeKey:
    """A hashable name of an edge, good while its node is alive."""
    return id(edge[0]), edge[1]


Guard = Callable[[Callable[..., None]], Callable[..., None]]  # wraps what torch calls, so that our errors end with us

_LABEL = "gradscope"  # key in a node's `metadata`, a dict that torch keeps for its users


@dataclass(eq=False)
class Probe:
    """One gradient edge that is listened to: the sites that its gradient belongs to."""

    sites: list[int]
    forward: ForwardPass
    rows: list[int] = field(default_factory=list)  # of the collector, once backward passes have come by


@dataclass(eq=False)
class Call:
    """One call of one module."""

    module: nn.Module | None  # None after the pass: a module is not kept alive
    path: str
    site: int
    parent: Call | None
    children: list[Call] = field(default_factory=list)
    inputs: list[Edge] = field(default_factory=list)
    outputs: list[Edge] = field(default_factory=list)
    own_parameters: bool = False


# A place where a module uses its input: the call, its output (or, as -1 - n, its input), the way back from there by
# indices into `next_functions`, and which input of the last node it is.
Port = tuple[int, int, tuple[int, ...], int]


@dataclass
class Plan:
    """What the graph of one order of calls looks like, without a reference to it."""

    links: list[Link] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)  # sites of head outputs
    followed: set[int] = field(default_factory=set)  # sites with parameters that a later one follows
    inputs: dict[int, list[int]] = field(default_factory=dict)  # call -> sites where its δ_in is, nothing else uses it
    branches: dict[int, list[Port]] = field(default_factory=dict)  # call -> where its part of a shared δ_in comes out


@dataclass(eq=False)
class ForwardPass:
    """One outermost call of a watched module and everything that ran in it."""

    calls: list[Call] = field(default_factory=list)  # in the order in which they began
    activations: list[tuple[int, int]] = field(default_factory=list)  # (site, row)
    probes: dict[EdgeKey, Probe] = field(default_factory=dict)  # nodes are kept alive by the calls, so ids are unique
    plan: Plan | None = None
    trained: bool = False  # a backward pass came back through it and reached a parameter
    measured: dict[int, tuple[weakref.ref[torch.Tensor], int, int, int]] = field(default_factory=dict)

    def probe_at(self, edge: Edge) -> Probe | None:
        """The probe on a gradient edge; each edge has one at most."""
        return self.probes.get(key(edge))

    def release(self) -> None:
        """Lets go of the autograd graph; what was learned from it are numbers. Later passes may begin at its outputs."""
        for call in self.calls:
            for edge in call.outputs if call.parent is None else ():
                edge[0].metadata.setdefault(_LABEL, {})[edge[1]] = self.probes.get(key(edge))
            call.module, call.inputs, call.outputs = None, [], []
        self.measured.clear()


class ForwardHooks:
    """Listens to the forward passes of a model's modules.

    Args:
        table: whose modules to listen to.
        began: called at the start of an outermost call, gives the collector to use; None when it is not recorded.
        ended: called with the finished pass.
        listen: puts a hook on a gradient edge on behalf of a probe.
    """

    def __init__(
        self,
        table: SiteTable,
        began: Callable[[nn.Module], Collector | None],
        ended: Callable[[ForwardPass], None],
        listen: Callable[[Edge, Probe], None],
    ) -> None:
        self._table = table
        self._began, self._ended, self._listen = began, ended, listen
        self._local = threading.local()  # nn.DataParallel calls replicas on threads
        self._handles = ExitStack()
        self.attached = False

    def attach(self, guard: Guard) -> None:
        """Puts the hooks on; `guard` wraps them so that an error of ours ends with us."""
        keep_quiet_about_hooks()
        self._handles.callback(register_module_forward_pre_hook(guard(self._before)).remove)
        self._handles.callback(add_forward_hook(guard(self._after)))
        self.attached = True

    def detach(self) -> None:
        """Takes the hooks off; what was running is forgotten."""
        self._handles.close()
        self.attached = False
        self._forget()
        self._local = threading.local()

    def _forget(self) -> None:
        """Lets go of the pass that ended, or raised before it could."""
        forward: ForwardPass | None = getattr(self._local, "forward", None)
        if forward is not None:
            forward.release()
            self._local.forward = None

    def _stack(self) -> list[Call]:
        stack: list[Call] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        path = self._table.module_of.get(module)
        if path is None or not torch.is_grad_enabled():
            return
        stack = self._stack()
        if path == "":
            stack.clear()  # left over from a forward that raised
        if not stack:
            collector = self._began(module)
            if collector is None:
                return
            self._forget()
            self._local.collector, self._local.forward = collector, ForwardPass()
        forward: ForwardPass = self._local.forward
        site = self._table.module_site(path, "output", module)
        call = Call(module, path, site, stack[-1] if stack else None)
        call.own_parameters = bool(module._parameters)
        if call.parent is not None:
            call.parent.children.append(call)
        forward.calls.append(call)
        stack.append(call)
        self._take_inputs(call, args)

    def _take_inputs(self, call: Call, values: Any) -> None:
        """Notes the gradient edges that lead into a call; of the model itself, also what it is fed."""
        forward: ForwardPass = self._local.forward
        assert call.module is not None
        for tensor in values if _is_one_tensor(values) else tensors_in(values):
            if call.parent is None:
                self._measure(tensor, self._table.module_site(call.path, "input", call.module))
            node = tensor.grad_fn
            if node is not None:
                edge = (node, tensor.output_nr)
                call.inputs.append(edge)
                if forward.probe_at(edge) is None:  # made by code between modules
                    site = self._table.module_site(call.path, "input", call.module)
                    self._probe(forward, edge, site)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        stack = self._stack()
        while stack and stack[-1].module is not module:
            if all(call.module is not module for call in stack):
                return  # its beginning was not recorded
            stack.pop()  # a child raised and the module caught it
        if not stack or not torch.is_grad_enabled():
            return
        call = stack.pop()
        if kwargs:
            self._take_inputs(call, kwargs)
        self._take_outputs(call, output)
        if not stack:
            forward: ForwardPass = self._local.forward
            self._ended(forward)
            self._forget()

    def _take_outputs(self, call: Call, output: Any) -> None:
        """Measures what a call gave, once per tensor: a container's output is mostly its last child's."""
        forward: ForwardPass = self._local.forward
        owners: set[int] = set()  # sites whose tensors these are already
        tensors = [output] if isinstance(output, torch.Tensor) else list(tensors_in(output))
        for tensor in tensors:
            owners.add(self._measure(tensor, call.site))
            node = tensor.grad_fn
            if node is not None:
                edge = (node, tensor.output_nr)
                call.outputs.append(edge)
                probe = forward.probe_at(edge) or self._probe(forward, edge, call.site)
                owners.update(probe.sites[:1])
        if len(owners) == 1 and call.site not in owners:
            self._table.update(call.site, same_as=owners.pop())
            return
        for tensor in tensors:
            _, _, site, row = forward.measured[id(tensor)]
            if site != call.site:
                forward.activations.append((call.site, row))
        for edge in call.outputs:
            shared = forward.probe_at(edge)
            if shared is not None and call.site not in shared.sites:
                shared.sites.append(call.site)
        if tensors and not self._table.sites[call.site].shape:
            self._table.update(call.site, shape=tuple(tensors[0].shape), dtype=str(tensors[0].dtype)[6:])

    def _measure(self, tensor: torch.Tensor, site: int) -> int:
        """Summarises a tensor unless it was, unchanged, in this pass; returns the site whose tensor it is."""
        forward: ForwardPass = self._local.forward
        version = -1 if tensor.is_inference() else tensor._version
        known = forward.measured.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version:
            return known[2]
        collector: Collector = self._local.collector
        row = collector.add(tensor)
        forward.measured[id(tensor)] = (weakref.ref(tensor), version, site, row)
        forward.activations.append((site, row))
        return site

    def _probe(self, forward: ForwardPass, edge: Edge, site: int) -> Probe:
        probe = forward.probes[key(edge)] = Probe([site], forward)
        self._listen(edge, probe)
        return probe


def _is_one_tensor(values: Any) -> bool:
    """Whether this is what most modules are given: a tuple of a tensor."""
    return len(values) == 1 and type(values) is tuple and type(values[0]) is torch.Tensor


def probe_of_earlier_pass(edge: Edge) -> Probe | None:
    """The probe that an earlier pass has on this edge, if that is one of its outputs."""
    found: Probe | None = edge[0].metadata.get(_LABEL, {}).get(edge[1])
    return found
