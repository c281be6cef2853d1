"""What was learned of who feeds whom, kept over the passes of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from gradscope.recorder.backward import Branch
from gradscope.recorder.forward import ForwardPass, Node, Plan
from gradscope.recorder.graph import node_at, read_graph, signature
from gradscope.recorder.sites import SiteTable
from gradscope.records import Link, NotObserved

_MOST_PLANS = 64  # orders of calls that are told apart; beyond them only gains are recorded, no budget


class Topology:
    """Gives each forward pass its plan and, once the pass has trained, writes the plan into the site table."""

    def __init__(self, table: SiteTable, listen_at_port: Callable[[Node, int, Sequence[Branch]], None]) -> None:
        self._table = table
        self._listen_at_port = listen_at_port
        self._plans: dict[Any, Plan] = {}
        self._learned: set[int] = set()  # ids of plans that are in the table
        self.links: dict[Link, None] = {}
        self._heads: dict[int, None] = {}
        self._followed: set[int] = set()

    @property
    def heads(self) -> tuple[int, ...]:
        """Sites of the head's outputs."""
        return tuple(site for site in self._heads if site not in self._followed)

    def unseen(self) -> list[NotObserved]:
        """Modules that no recorded training forward called, those without a forward of their own left out."""
        silent = [
            path
            for module, path in self._table.module_of.items()
            if self._table.find(path, "output") is None and type(module).forward is not nn.Module.forward
        ]
        outermost = [path for path in silent if not any(path.startswith(f"{other}.") for other in silent)]
        return [
            NotObserved(path or "(model)", "its forward was not called in a recorded training step")
            for path in outermost
        ]

    def prepare(self, forward: ForwardPass) -> None:
        """Reads the graph of a finished pass, or recalls it, and listens where a module's input is shared."""
        order = signature(forward)
        plan = self._plans.get(order)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                return
            plan = self._plans[order] = read_graph(forward)
        forward.plan = plan
        ports: dict[tuple[int, int], tuple[Node, list[Branch]]] = {}
        for number, ways in plan.branches.items():
            call = forward.calls[number]
            nodes = [(node_at(forward, port), port[3]) for port in ways]
            if call.module is None or any(node is None for node, _ in nodes):
                continue
            site = self._table.module_site(call.path, "input", call.module)
            for edge in call.inputs:
                probe = forward.probe_at(edge)
                if probe is not None and site in probe.sites:
                    probe.sites.remove(site)  # the total is not this module's part
            branch = Branch(site, forward, len(nodes))
            for node, position in nodes:
                ports.setdefault((id(node), position), (node, []))[1].append(branch)
        for (_, position), (node, branches) in ports.items():
            self._listen_at_port(node, position, branches)

    def learn(self, forward: ForwardPass) -> None:
        """Writes down what the plan of a pass that trained says."""
        plan = forward.plan
        if plan is None or id(plan) in self._learned:
            return
        self._learned.add(id(plan))
        self._table.changed = True
        self.links.update(dict.fromkeys(plan.links))
        self._heads.update(dict.fromkeys(plan.heads))
        self._followed |= plan.followed
        inputs: dict[int, dict[int, None]] = {}
        for number, sites in plan.inputs.items():
            inputs.setdefault(forward.calls[number].site, {}).update(dict.fromkeys(sites))
        for number in plan.branches:
            call = forward.calls[number]
            part = self._table.find(call.path, "input")
            if part is not None:
                inputs.setdefault(call.site, {})[part] = None
        for site, found in inputs.items():
            self._table.update(site, inputs=tuple(found))
