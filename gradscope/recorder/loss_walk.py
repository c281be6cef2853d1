"""The way back from a loss to the heads that its graph was marked with, and the summands on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from gradscope.recorder.passes import Edge, Node, is_head, unwrapped_edge
from gradscope.recorder.private import saved_number, saved_tensor, shape_at

_MOST_NODES = 2000  # that a walk looks at: a loss is short, but what leads elsewhere may be a whole network
RESHAPES = {"View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Alias", "Clone", "ToCopy", "Transpose", "T"}
LOGARITHMS = {"Log", "LogSoftmax", "LogSigmoid", "Logsumexp"}
MOST_ENTRIES = 1 << 20  # of targets that anything is worked out from


class Term(NamedTuple):
    """One summand of a loss: the node at which outputs meet targets, and what becomes of its entries."""

    node: Node
    weight: float  # of each of its entries in the loss; NaN: no constant
    averaged: bool  # by a mean
    rooted: bool  # a square root was taken of it


def name_of(node: Node) -> str:
    """The operation of a node without what autograd adds: "PowBackward0" is "Pow"."""
    name: str = node.name()
    return name.rpartition("Backward")[0] or name


class Walk:
    """The nodes on some way from a loss to a head, the head's end first, and the edges at which the heads are met."""

    def __init__(self, start: Edge, watcher: int) -> None:
        self.watcher = watcher
        self.start = start
        self.heads: list[Edge] = []
        self.nodes: list[Node] = []
        self._leads: dict[int, bool] = {}
        self._alive: list[Node] = []
        self._place: dict[int, int] = {}
        if is_head(start, watcher):
            self.heads.append(start)
        else:
            self._go(start[0])
        self._place.update((id(node), place) for place, node in enumerate(self.nodes))

    def _go(self, root: Node) -> None:
        self._leads[id(root)] = False
        stack = [(root, iter(root.next_functions))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                if self._leads[id(node)]:
                    self.nodes.append(node)
                    if stack:
                        self._leads[id(stack[-1][0])] = True
            elif following[0] is not None:
                child, output = unwrapped_edge(following)
                self._alive.append(child)
                if is_head((child, output), self.watcher):
                    self._leads[id(node)] = True
                    if (child, output) not in self.heads:
                        self.heads.append((child, output))
                elif id(child) in self._leads:
                    self._leads[id(node)] |= self._leads[id(child)]
                elif len(self._leads) < _MOST_NODES:
                    self._leads[id(child)] = False
                    stack.append((child, iter(child.next_functions)))

    def back(self, node: Node) -> list[tuple[int, Edge]]:
        """Where a node's way to the heads goes on: which of its inputs, and the edge there."""
        edges = [(place, unwrapped_edge(edge)) for place, edge in enumerate(node.next_functions) if edge[0] is not None]
        return [(place, edge) for place, edge in edges if self.on_way(edge)]

    def on_way(self, edge: Edge) -> bool:
        """Whether an edge leads to a head or is one."""
        return self._leads.get(id(edge[0]), False) or is_head(edge, self.watcher)

    def before(self, *nodes: Node) -> list[Node]:
        """The nodes from the heads to a node, itself last; of several, all their ways in the order of the walk."""
        found: dict[int, Node] = {}
        waiting = list(nodes)
        while waiting:
            here = waiting.pop()
            if id(here) not in found:
                found[id(here)] = here
                waiting += [edge[0] for _, edge in self.back(here) if not is_head(edge, self.watcher)]
        known = [each for number, each in found.items() if number in self._place]
        return sorted(known, key=lambda each: self._place[id(each)])

    def factors(self, node: Node) -> dict[Node, torch.Tensor | None]:
        """What is multiplied with logarithms on the way to a node, by the product, the largest first."""
        before = self.before(node)
        first = next((place for place, each in enumerate(before) if name_of(each) in LOGARITHMS), len(before))
        found: dict[Node, torch.Tensor | None] = {}
        for each in before[first:]:
            back = self.back(each)
            if name_of(each) == "Mul" and len(back) == 1:
                found[each] = saved_tensor(each, "other" if back[0][0] == 0 else "self")
        return dict(sorted(found.items(), key=lambda item: 0 if item[1] is None else -item[1].numel()))

    def terms(self) -> Iterator[Term]:
        """The summands of the loss, and how much each entry of them counts."""
        waiting = [(self.start, 1.0, False, False)]
        while waiting:
            edge, weight, averaged, rooted = waiting.pop(0)
            if is_head(edge, self.watcher):
                continue
            node, name = edge[0], name_of(edge[0])
            back = self.back(node)
            size = math.prod(shape_at(node, edge[1]))
            single = len(back) == 1
            if name in ("Add", "Sub", "Stack", "Cat") and size == 1 and not self._is_comparison(node, back):
                share = 1 / len(back) if name in ("Stack", "Cat") and averaged else 1.0
                for place, following in back:
                    sign = -1 if name == "Sub" and place else 1
                    kept = math.nan if name in ("Add", "Sub") else 1.0  # what is added to it is none of this one's
                    waiting.append((following, weight * sign * share * kept, averaged, rooted))
            elif not single:
                yield Term(node, weight, averaged, rooted)
            elif name in ("Mean", "Sum"):
                ratio = max(math.prod(shape_at(*back[0][1])), 1) / max(size, 1)  # 1 of an empty batch
                waiting.append(
                    (back[0][1], weight / (ratio if name == "Mean" else 1), averaged or name == "Mean", rooted)
                )
            elif name == "Neg":
                waiting.append((back[0][1], -weight, averaged, rooted))
            elif name in ("Mul", "Div") and (factor := _constant(node, back[0][0])) is not None:
                by = factor if name == "Mul" else 1 / factor if factor else math.nan
                waiting.append((back[0][1], weight * by, averaged, rooted))
            elif name == "Sqrt" and size == 1:
                waiting.append((back[0][1], weight, averaged, True))
            elif name in RESHAPES or (name in ("Expand", "Select") and size == 1):
                waiting.append((back[0][1], weight, averaged, rooted))
            else:
                yield Term(node, weight, averaged, rooted)

    def _is_comparison(self, node: Node, back: list[tuple[int, Edge]]) -> bool:
        """Whether a difference of single numbers is between an output and its target: a batch of one."""
        edge = back[0][1]
        while len(back) == 1 and not is_head(edge, self.watcher) and name_of(edge[0]) in RESHAPES:
            edge = self.back(edge[0])[0][1]
        return len(back) == 1 and (is_head(edge, self.watcher) or name_of(edge[0]) in _SQUASHING)


_SQUASHING = {"Sigmoid", "Tanh", "Softmax", "Relu", "Softplus"}


def _constant(node: Node, place: int) -> float | None:
    """The one number that a product or quotient combines its input number `place` with."""
    if name_of(node) == "Div" and place:
        return None
    other = saved_tensor(node, "other" if place == 0 else "self")
    if other is not None:
        return float(other) if other.numel() == 1 and other.is_cpu else None
    number = saved_number(node, "other")
    return number


def are_complements(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether labels and what is left to 1, with whatever sign; those that are not at hand are taken to be."""
    if one is None or other is None or one.shape != other.shape:
        return False
    if not one.is_cpu or not other.is_cpu or not one.numel():
        return True
    with torch.no_grad():
        one, other = (each.detach().reshape(-1)[:MOST_ENTRIES].double().abs() for each in (one, other))
        return float((one + other - 1).abs().max()) < 1e-3
