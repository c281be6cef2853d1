"""Reads from the autograd graph who feeds whom: links between modules, branches, heads.

A graph is walked when a forward pass calls its modules in an order not seen before; later passes of the same order
reuse the `Plan`, in which nodes are named by the way that leads to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from gradscope.recorder.closer_attention import is_attention, may_be_attention
from gradscope.recorder.closer_slope import FORMULAS
from gradscope.recorder.passes import (
    Call,
    Edge,
    EdgeKey,
    ForwardPass,
    Node,
    Plan,
    Port,
    key,
    probe_of_earlier_pass,
    unwrapped_edge,
)
from gradscope.recorder.sites import mechanism
from gradscope.records import Link


def signature(forward: ForwardPass) -> tuple[tuple[int, int, tuple[str, ...]], ...]:
    """The order of calls with what each gave; two passes with one signature share a plan."""
    return tuple((c.site, len(c.inputs), tuple(edge[0].name() for edge in c.outputs)) for c in forward.calls)


def read_graph(forward: ForwardPass) -> Plan:
    """Walks the graph of a finished forward pass that still holds its edges."""
    return _Reading(forward).plan()


_Trail = tuple[Any, str, int]  # the trail before, the operation passed, by which of its inputs it was left
_MOST_SOURCES = 16  # ways into a module that are told apart, nearest first: a thousand blocks written as one have more
_FAR = 64  # nodes between an activation and the module that it is applied to
_MOST_FUNCTIONS = 256  # activations and attention in code whose nodes are sought again in every pass: the way is long
_MOST_OPERATIONS = 32  # kinds of them that a link keeps of the code between two modules


def _follow(trail: _Trail | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The operations on a trail, and the way along it by indices into `next_functions`."""
    operations, way = [], []
    while trail is not None:
        trail, operation, index = trail
        operations.append(operation)
        way.append(index)
    return tuple(dict.fromkeys(operations[::-1]))[:_MOST_OPERATIONS], tuple(way[::-1])


class _Reading:
    """One walk over a graph. Keeps every node that it met alive, so that ids stay unique."""

    def __init__(self, forward: ForwardPass) -> None:
        self._forward = forward
        self._calls = forward.calls
        self._number = {id(call): index for index, call in enumerate(forward.calls)}
        self._alive: list[Node] = []
        self._consumers: dict[EdgeKey, set[tuple[int, int]]] = {}  # edge -> (id of the node that uses it, its input)
        self._ports: list[dict[EdgeKey, dict[tuple[int, int], Port]]] = [{} for _ in forward.calls]
        self._noticed: dict[int, tuple[Node, Port, int]] = {}  # by id: activations, attention, in which call
        self._repeated = {call.site for call in forward.calls if call.number > 0}
        self._plan = Plan()

    def plan(self) -> Plan:
        for number in reversed(range(len(self._calls))):  # children before their parents
            self._read_call(number)
        for root in (call for call in self._calls if call.parent is None):
            for edge in root.outputs:  # the loss uses it too
                self._consumers.setdefault(key(edge), set()).add((-1, -1))
        for number, call in enumerate(self._calls):
            if not call.ghost:
                self._find_inputs(number, call)
        self._find_heads()
        self._find_functions()
        self._plan.ghosts = {call.site for call in self._calls if call.ghost}
        self._plan.feeding = [
            link.source for link in self._plan.links if link.source is not None and link.source == link.target
        ]
        return self._plan

    def _read_call(self, number: int) -> None:
        """The links between the children of one call, and where it uses its inputs itself."""
        call = self._calls[number]
        entries = {key(edge) for edge in call.inputs}
        made: dict[EdgeKey, list[int]] = {}
        for child_number, child in enumerate(call.children):
            for edge in child.outputs:
                made.setdefault(key(edge), []).append(child_number)
        seen: dict[tuple[int | None, int | None], tuple[str, ...]] = {}
        targets: list[tuple[int | None, Call]] = [*enumerate(call.children), (None, call)]
        for order, target in targets:
            starts = target.outputs if order is None else target.inputs
            for output, start in enumerate(starts):
                place = (number, output) if order is None else (self._number[id(target)], -1 - output)
                for source, operations, way in self._walk(start, order, entries, made, (number, *place)):
                    if source is None:
                        self._enter(number, order, output, way)
                    if (source, order) not in seen or operations:
                        seen[source, order] = operations
        for between, operations in seen.items() if not call.ghost else ():  # the recompute shows what is inside
            ends = [None if end is None else call.children[end].site for end in between]
            if call.children:
                self._plan.links.append(Link(call.site, ends[0], ends[1], operations))
            elif operations:
                self._plan.links.append(Link(call.site, None, None, operations))

    def _walk(
        self,
        start: Edge,
        order: int | None,
        entries: set[EdgeKey],
        made: dict[EdgeKey, list[int]],
        place: tuple[int, int, int],
    ) -> Iterator[tuple[int | None, tuple[str, ...], tuple[EdgeKey, tuple[int, ...]]]]:
        """Goes back from an edge to the children (before `order`) or entries that it comes from.

        Notices activations and attention on the way, given the `place` of the start: in which call, and as in a `Port`.

        Yields:
            The child's number or None for an entry; the operations on the way; the edge met and the way to it.
        """
        waiting: deque[tuple[Edge, _Trail | None]] = deque([(start, None)])
        visited, found = set(), 0
        while waiting and (found < _MOST_SOURCES or order is None):  # the nearest first
            edge, trail = waiting.popleft()
            name = key(edge)
            earlier = [child for child in made.get(name, ()) if order is None or child < order]
            if earlier or name in entries:
                found += bool(earlier)
                operations, way = _follow(trail)
                yield earlier[-1] if earlier else None, operations, (name, way)
            elif name not in visited:
                visited.add(name)
                self._alive.append(edge[0])
                if edge[0].name() in FORMULAS or may_be_attention(edge[0]):
                    port = (*place[1:], _follow(trail)[1], 0)
                    self._noticed.setdefault(id(edge[0]), (edge[0], port, place[0]))
                for index, (node, output) in enumerate(map(unwrapped_edge, edge[0].next_functions)):
                    if node is None or (node.name().endswith("AccumulateGrad") and (id(node), output) not in entries):
                        continue
                    self._alive.append(node)
                    self._consumers.setdefault((id(node), output), set()).add((id(edge[0]), index))
                    waiting.append(((node, output), (trail, edge[0].name(), index)))

    def _enter(self, number: int, order: int | None, output: int, way: tuple[EdgeKey, tuple[int, ...]]) -> None:
        """Notes through which node inputs a call uses an edge that it was given, itself or through a child."""
        edge, path = way
        ports = self._ports[number].setdefault(edge, {})
        call = self._calls[number]
        if order is None and path:
            node = _back(call.outputs[output][0], path[:-1])
            ports[id(node), path[-1]] = (number, output, path[:-1], path[-1])
        elif order is not None:
            child = self._number[id(call.children[order])]
            if not path:
                ports.update(self._ports[child].get(edge, {}))
            else:  # code of this call between its input and the child's
                node = _back(call.children[order].inputs[output][0], path[:-1])
                ports[id(node), path[-1]] = (child, -1 - output, path[:-1], path[-1])

    def _find_inputs(self, number: int, call: Call) -> None:
        """Says where a call's δ_in is measured: at its input's tensor, or, when others use that too, at its ports."""
        sites: list[int] = []
        ports: list[list[Port]] = []
        shared = repeated = False
        for edge in {key(edge): edge for edge in call.inputs}.values():  # attention is given one tensor three times
            mine = self._ports[number].get(key(edge), {})
            if not mine and edge not in call.outputs:  # no gradient goes back through here
                continue
            if mine:
                ports.append(list(mine.values()))
            shared |= bool(mine) and set(mine) != self._consumers.get(key(edge), set())
            probe = self._forward.probe_at(edge)
            sites += probe.sites[:1] if probe is not None else []
            repeated |= probe is not None and probe.sites[0] in self._repeated
        if shared:
            self._plan.branches[number] = ports
        elif repeated:  # its tensor's gradient is one of several that the site before it has
            self._plan.own_inputs.add(number)
        elif sites:
            self._plan.inputs[number] = list(dict.fromkeys(sites))

    def _find_functions(self) -> None:
        """Says where activations are computed outside of activation modules, and where attention is."""
        makers: dict[EdgeKey, int] = {}
        for number in reversed(range(len(self._calls))):  # children before their parents
            for edge in self._calls[number].outputs:
                makers.setdefault(key(edge), number)
        for node, port, number in islice(self._noticed.values(), _MOST_FUNCTIONS):
            call = self._calls[number]
            of_activation = call.module is not None and mechanism(call.module) == "activation"
            if node.name() not in FORMULAS:
                within = self._number[id(call.parent)] if of_activation and call.parent is not None else number
                if is_attention(node):
                    self._plan.attention.append((within, node.name(), port))
            elif not of_activation and not call.ghost:
                source = self._source(node, makers) if call.children else number
                if source is not None:
                    self._plan.activations.append((source, node.name(), port))

    def _source(self, node: Node, makers: dict[EdgeKey, int]) -> int | None:
        """The latest of the calls whose outputs a function is given, directly or through other functions."""
        waiting: deque[Edge] = deque([(node, -1)])
        visited: set[EdgeKey] = set()
        found: list[int] = []
        while waiting and len(visited) < _FAR:
            edge = waiting.popleft()
            maker = makers.get(key(edge))
            if maker is not None and edge[0] is not node:
                found.append(maker)
            elif key(edge) not in visited:
                visited.add(key(edge))
                self._alive.append(edge[0])
                waiting += [after for after in map(unwrapped_edge, edge[0].next_functions) if after[0] is not None]
        return max(found, default=None)

    def _find_heads(self) -> None:
        """The outputs of modules with parameters that no other such module follows (DESIGN §2)."""
        owners = self._owners()
        heads: dict[int, None] = {}
        # each way back remembers the head that it began at: a module that only feeds its own next call stays a head
        starts: list[tuple[Edge, int | None]] = [
            (edge, None) for call in self._calls if call.parent is None for edge in call.outputs
        ]
        visited: dict[EdgeKey, set[int | None]] = {}
        while starts:
            edge, head = starts.pop()
            by = visited.setdefault(key(edge), set())
            if head in by or len(by - {None}) > 1:  # one of any two heads is another one than whatever comes before
                continue
            by.add(head)
            self._alive.append(edge[0])
            owner = owners.get(key(edge))
            if head is not None:
                earlier = probe_of_earlier_pass(edge, self._forward) if owner is None else None
                before = [owner] if owner is not None else earlier.sites if earlier is not None else []
                self._plan.followed.update(site for site in before if site != head)
            elif owner is not None:
                heads[owner] = None
                head = owner
            back = map(unwrapped_edge, edge[0].next_functions)
            starts += [((node, nr), head) for node, nr in back if node is not None]
        self._plan.heads = [site for site in heads if site not in self._plan.followed]

    def _owners(self) -> dict[EdgeKey, int]:
        """Where the innermost modules with parameters gave their outputs, and what stands for those recomputed later."""
        owners: dict[EdgeKey, int] = {}
        above: set[int] = set()  # calls with such a module inside, by their identity
        for call in reversed(self._calls):  # children before their parents
            recomputed = call.ghost and call.module is not None and any(True for _ in call.module.parameters())
            if (call.own_parameters or recomputed) and id(call) not in above:
                owners.update({key(edge): call.site for edge in call.outputs if key(edge) not in owners})
            if call.parent is not None and (call.own_parameters or recomputed or id(call) in above):
                above.add(id(call.parent))
        return owners


def node_at(forward: ForwardPass, port: Port) -> Node | None:
    """The node that a port of a plan stands for in another pass of the same order; None when the way is another."""
    call, output, way, _ = port
    edges = forward.calls[call].outputs if output >= 0 else forward.calls[call].inputs
    position = output if output >= 0 else -1 - output
    if position >= len(edges):
        return None
    return _back(edges[position][0], way)


def _back(node: Node | None, way: tuple[int, ...]) -> Node | None:
    """The node that one comes to from another by these indices into `next_functions`."""
    for index in way:
        following = node.next_functions if node is not None else ()
        node = unwrapped_edge(following[index])[0] if index < len(following) else None
    return node
