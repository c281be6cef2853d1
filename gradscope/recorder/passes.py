"""What a forward pass is to the recorder: its calls, the gradient edges that it listens at, the plan of its graph."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gradscope.recorder.closer_sketches import Look
from gradscope.recorder.recurrent import TimeAxis
from gradscope.records import Link

Node = Any  # torch.autograd.graph.Node; its subclasses are made at run time
Edge = tuple[Node, int]  # a node and which of its outputs: where a tensor's gradient arrives
EdgeKey = tuple[int, int]  # (id of a node, which of its outputs)


def key(edge: Edge) -> EdgeKey:
    """A hashable name of an edge, good while its node is alive."""
    return id(edge[0]), edge[1]


_WRAPPERS = ("RegisterPostBackwardFunctionBackward",)  # what `fully_shard` wraps around a module's inputs


def unwrapped_edge(edge: Edge) -> Edge:
    """The edge as it would be without wrappers, which only hand through what they are given, output by input."""
    while type(edge[0]).__name__ in _WRAPPERS:
        edge = edge[0].next_functions[edge[1]]
    return edge


_LABEL = "gradscope"  # with a watcher's number, key in a node's `metadata`, a dict that torch keeps for its users


@dataclass(eq=False)
class Probe:
    """One gradient edge that is listened to: the sites that its gradient belongs to."""

    sites: list[int]
    forward: ForwardPass
    number: int = 0  # calls of the same site earlier in the pass
    axes: list[TimeAxis] = field(default_factory=list)  # of recurrent modules that this edge feeds
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
    number: int = 0  # calls of the same site earlier in the pass
    ghost: bool = False  # ran without gradients inside a pass that has them: reentrant checkpointing, perhaps
    inside: list[tuple[str, nn.Module]] = field(default_factory=list)  # of a ghost: what ran in it, itself first
    made: list[torch.Tensor] = field(default_factory=list)  # by a ghost, until the next call
    axis: TimeAxis | None = None


# A place where a module uses its input: the call, its output (or, as -1 - n, its input), the way back from there by
# indices into `next_functions`, and which input of the last node it is.
Port = tuple[int, int, tuple[int, ...], int]


@dataclass
class Plan:
    """What the graph of one order of calls looks like, without a reference to it."""

    links: list[Link] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)  # sites of head outputs
    ghosts: set[int] = field(default_factory=set)  # sites that are recomputed in the backward
    feeding: list[int] = field(default_factory=list)  # sites whose output feeds their own next call
    followed: set[int] = field(default_factory=set)  # sites with parameters that a later one follows
    inputs: dict[int, list[int]] = field(default_factory=dict)  # call -> sites where its δ_in is, nothing else uses it
    own_inputs: set[int] = field(default_factory=set)  # calls fed by a module that is called several times
    # call -> for each of its inputs where its part of the δ_in, which others share, comes out
    branches: dict[int, list[list[Port]]] = field(default_factory=dict)
    # functions that act unit by unit outside of activation modules: the call whose output they are given, and the node
    activations: list[tuple[int, str, Port]] = field(default_factory=list)
    attention: list[tuple[int, str, Port]] = field(default_factory=list)  # the innermost call with it inside, the node


@dataclass(eq=False)
class ForwardPass:
    """One outermost call of a watched module and everything that ran in it."""

    watcher: int  # whose pass it is: several models may be watched, and one feed the other
    calls: list[Call] = field(default_factory=list)  # in the order in which they began
    looked: bool = False  # for modules that were added to the model
    haunted: bool = False  # something in it ran without gradients
    again: bool = False  # a recompute in the backward, of what first ran without gradients
    position: int = 0  # in a loop around the model: how many passes lead to this one
    numbers: dict[str, int] = field(default_factory=dict)  # path -> calls so far
    borrowed: list[tuple[int, int, list[int], list[Probe]]] = field(default_factory=list)  # see `ForwardHooks._lend`
    activations: list[tuple[int, int]] = field(default_factory=list)  # (site, row)
    timed: list[tuple[TimeAxis, int, int, int]] = field(default_factory=list)  # (axis, first time step, end, row)
    probes: dict[EdgeKey, Probe] = field(default_factory=dict)  # nodes are kept alive by the calls, so ids are unique
    plan: Plan | None = None
    trained: bool = False  # a backward pass came back through it and reached a parameter
    measured: dict[int, tuple[weakref.ref[torch.Tensor], int, int, int]] = field(default_factory=dict)
    look: Look | None = None  # a closer one, at some of the recorded steps

    def probe_at(self, edge: Edge) -> Probe | None:
        """The probe on a gradient edge; each edge has one at most."""
        return self.probes.get(key(edge))

    def gradients(self) -> Iterator[tuple[int, int]]:
        """The rows of the gradients that arrived, each with a site that they belong to."""
        for probe in self.probes.values():
            for row in probe.rows:
                yield from ((site, row) for site in probe.sites)

    def release(self) -> None:
        """Lets go of the autograd graph; what was learned from it are numbers. Later passes may begin at its outputs."""
        for call in self.calls:
            for edge in call.outputs if call.parent is None else ():
                edge[0].metadata.setdefault((_LABEL, self.watcher), {})[edge[1]] = self.probes.get(key(edge))
            call.module, call.inputs, call.outputs, call.made, call.inside = None, [], [], [], []
        self.measured.clear()
        if self.look is not None:
            self.look.release()


_HEAD = "gradscope head"  # the same for the heads' outputs


def mark_heads(forward: ForwardPass) -> None:
    """Makes the heads of a finished pass known to whoever comes back to them from the loss."""
    heads = set(forward.plan.heads) if forward.plan is not None else set()
    outputs = {}
    for reference, _, site, _ in forward.measured.values():
        tensor = reference() if site in heads else None
        if tensor is not None and tensor.grad_fn is not None:
            outputs[id(tensor.grad_fn), tensor.output_nr] = reference
    for call in forward.calls:
        for node, output in call.outputs if call.site in heads else ():
            node.metadata.setdefault((_HEAD, forward.watcher), {})[output] = outputs.get((id(node), output))


def is_head(edge: Edge, watcher: int) -> bool:
    """Whether an edge was marked as a head's output."""
    return edge[1] in edge[0].metadata.get((_HEAD, watcher), {})


def head_output(edge: Edge, watcher: int) -> torch.Tensor | None:
    """What the head put out at an edge, while somebody else still holds it."""
    reference = edge[0].metadata.get((_HEAD, watcher), {}).get(edge[1])
    tensor = None if reference is None else reference()
    return tensor if tensor is not None and tensor.grad_fn is edge[0] else None


def probe_of_earlier_pass(edge: Edge, forward: ForwardPass) -> Probe | None:
    """The probe that a pass of the same model before this one has on an edge, if that is one of its outputs."""
    found: Probe | None = edge[0].metadata.get((_LABEL, forward.watcher), {}).get(edge[1])
    return found
