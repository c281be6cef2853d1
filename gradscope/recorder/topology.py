"""What was learned of who feeds whom, kept over the passes of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import getattr_static
from typing import Any

import torch
from torch import nn

from gradscope.recorder.backward import Branch
from gradscope.recorder.compiled import inside
from gradscope.recorder.graph import node_at, read_graph, signature
from gradscope.recorder.passes import ForwardPass, Node, Plan, mark_heads
from gradscope.recorder.sites import SiteTable
from gradscope.records import Link, NotObserved, RunInfo

_MOST_PLANS = 64  # orders of calls that are told apart; beyond them only gains are recorded, no budget


class Topology:
    """Gives each forward pass its plan and, once the pass has trained, writes the plan into the site table."""

    def __init__(
        self, table: SiteTable, listen_at_port: Callable[[Node, int, Sequence[Branch]], None], info: RunInfo
    ) -> None:
        self._table = table
        self._listen_at_port = listen_at_port
        self._plans: dict[Any, Plan] = {}
        self._learned: set[int] = set()  # ids of plans that are in the table
        self.links: dict[Link, None] = dict.fromkeys(info.links)  # there are some when a run is resumed
        self._heads: dict[int, None] = dict.fromkeys(info.heads)
        self._recomputed_heads: dict[int, None] = {}  # of a checkpoint around no module that was seen: if nothing else
        self._ghosts: set[int] = set()  # sites that run without gradients first and are recomputed in the backward
        self._heads_inside: dict[int, list[int]] = {}  # of those
        self._followed: set[int] = set()

    @property
    def heads(self) -> tuple[int, ...]:
        """Sites of the head's outputs."""
        heads = list(self._heads or self._recomputed_heads)
        found: dict[int, None] = {}
        while heads:
            site = heads.pop(0)
            inside = self._heads_inside.get(site)
            if inside:  # the outermost recomputed module stands for its own heads
                heads = [head for head in inside if head != site] + heads
                inside = [site] if site in inside else []
            if inside != [] and site not in self._followed:
                found[site] = None
        return tuple(found)

    def unseen(self, calls_inside: bool, blind: set[str]) -> list[NotObserved]:
        """Modules that no recorded training forward called, those without a forward of their own left out.

        Args:
            calls_inside: whether compiled code should have called hooks; else it goes without saying that it did not.
            blind: paths of modules that ran without gradients.
        """
        seen = {path for path in self._table.module_of.values() if self._table.find(path, "output") is not None}
        modules = [module for module, path in self._table.module_of.items() if path in seen]
        used = {id(parameter) for module in modules for parameter in module.parameters(recurse=False)}
        entered = {parent for path in seen for parent in _parents(path)}  # something inside ran
        silent = {
            path: module
            for module, path in self._table.module_of.items()
            if path not in seen
            and getattr_static(type(module), "forward", None) is not nn.Module.forward
            and (not path or any(id(p) not in used for p in module.parameters(recurse=path not in entered)))
        }
        compiled = self._table.compiled()
        return [
            NotObserved(path or "(model)", self._why_silent(path, compiled, blind))
            for path in silent
            if not any(parent in silent for parent in _parents(path)) and (calls_inside or not inside(path, compiled))
        ]

    def _why_silent(self, path: str, compiled: set[str], blind: set[str]) -> str:
        """Why a module's forward was not seen."""
        if inside(path, compiled):
            return (
                "it was compiled before watch(), without hooks; call watch() first, or torch._dynamo.reset() after it"
            )
        if path in blind:
            return "it ran under no_grad, so that no gradient reaches it"
        if path == "":
            return "its forward was not called in a recorded training step; model.forward(x) goes unseen, model(x) does not"
        above = {module for module, other in self._table.module_of.items() if other in ("", *_parents(path))}
        if any(isinstance(module, torch.jit.ScriptModule) for module in above):
            return "inside a TorchScript module, where hooks are not called"
        if any(isinstance(module, nn.DataParallel) and len(module.device_ids) > 1 for module in above):
            return "nn.DataParallel runs copies of it on several devices, which are not looked into"
        return "its forward was not called in a recorded training step"

    def prepare(self, forward: ForwardPass) -> None:
        """Reads the graph of a finished pass, or recalls it, and listens where a module's input is shared."""
        order = signature(forward)
        plan = self._plans.get(order)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                return
            plan = self._plans[order] = read_graph(forward)
        forward.plan = plan
        mark_heads(forward)
        self._give_own_inputs(forward, plan)
        listeners: dict[tuple[int, int], tuple[Node, list[Branch]]] = {}
        for number, ways in plan.branches.items():
            call = forward.calls[number]
            groups = [[(node_at(forward, port), port[3]) for port in ports] for ports in ways]
            if call.module is None or call.ghost or any(node is None for nodes in groups for node, _ in nodes):
                continue
            site = self._table.module_site(call.path, "input", call.module)
            for edge in call.inputs:
                probe = forward.probe_at(edge)
                if probe is None:
                    continue
                if site in probe.sites:
                    probe.sites.remove(site)  # the total is not this module's part
                if call.axis in probe.axes:
                    probe.axes.remove(call.axis)
            for place, nodes in enumerate(groups):
                branch = Branch(site, forward, len(nodes), axis=None if place else call.axis)
                for node, position in nodes:
                    listeners.setdefault((id(node), position), (node, []))[1].append(branch)
        for (_, position), (node, branches) in listeners.items():
            self._listen_at_port(node, position, branches)

    def _give_own_inputs(self, forward: ForwardPass, plan: Plan) -> None:
        """Gives calls that a module called several times feeds an input site of their own."""
        for number in plan.own_inputs:
            call = forward.calls[number]
            if call.module is None:
                continue
            site = self._table.module_site(call.path, "input", call.module)
            for edge in call.inputs:
                fed = forward.probe_at(edge)
                if fed is not None and site not in fed.sites:
                    fed.sites.append(site)

    def learn(self, forward: ForwardPass) -> None:
        """Writes down what the plan of a pass that trained says."""
        plan = forward.plan
        if plan is None or id(plan) in self._learned:
            return
        self._learned.add(id(plan))
        self._table.changed = True
        self.links.update(dict.fromkeys(plan.links))
        self._ghosts |= plan.ghosts
        root = forward.calls[0].site
        if forward.again and root in self._ghosts:
            self._heads_inside[root] = plan.heads
        else:
            (self._recomputed_heads if forward.again else self._heads).update(dict.fromkeys(plan.heads))
        self._followed |= plan.followed
        inputs: dict[int, dict[int, None]] = {}
        for number, sites in plan.inputs.items():
            inputs.setdefault(forward.calls[number].site, {}).update(dict.fromkeys(sites))
        for number in [*plan.own_inputs, *plan.branches]:
            call = forward.calls[number]
            part = self._table.find(call.path, "input")
            if part is not None:
                inputs.setdefault(call.site, {})[part] = None
        for site, found in inputs.items():
            self._table.update(site, inputs=tuple(found))


def _parents(path: str) -> list[str]:
    """The paths of all modules around a module, the model itself left out."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
