"""What a forward pass leaves behind: which module ran when, on which gradient edges. Torch's global module hooks."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.modules.module import register_module_forward_pre_hook

from gradscope.recorder.closer import CloserLook
from gradscope.recorder.guard import Guard
from gradscope.recorder.oddities import Oddities
from gradscope.recorder.passes import Call, Edge, ForwardPass, Node, Probe, key, probe_of_earlier_pass, unwrapped_edge
from gradscope.recorder.private import (
    add_forward_hook,
    current_backward,
    is_traced,
    is_transformed,
    keep_quiet_about_hooks,
)
from gradscope.recorder.recurrent import SEQUENCE_MODULES, axis_of, with_gradient
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.tensors import tensors_in
from gradscope.records import NotObserved
from gradscope.stats import Collector


class ForwardHooks:
    """Listens to the forward passes of a model's modules.

    Args:
        table: whose modules to listen to.
        began: called at the start of an outermost call, gives the collector to use; None when it is not recorded.
        again: the same for an outermost call inside a backward pass, where something is recomputed.
        ended: called with the finished pass.
        listen: puts a hook on a gradient edge on behalf of a probe.
        oddities: told of modules without a path and of forwards without gradients.
    """

    def __init__(
        self,
        table: SiteTable,
        began: Callable[[nn.Module], Collector | None],
        again: Callable[[], Collector | None],
        ended: Callable[[ForwardPass], None],
        listen: Callable[[Edge, Probe], None],
        oddities: Oddities,
    ) -> None:
        self._table = table
        self.oddities, self.closer = oddities, CloserLook(table)
        self._began, self._again, self._ended, self._listen = began, again, ended, listen
        self._collector: Collector | None = None  # of the latest pass that was no recompute
        self._called: set[str] = set()  # paths of modules called with gradients in that step
        self._unknown: set[str] = set()  # classes among outputs that hold tensors and were not looked into
        self._strangers: dict[str, str] = {}  # what was not looked into, and why
        self._thread: int | None = None  # which trains
        self._local = threading.local()  # nn.DataParallel calls replicas on threads
        self._handles = ExitStack()
        self.blind: set[str] = set()  # paths of modules that ran without gradients inside a pass that has them
        self.attached = False
        self._enter: Callable[..., tuple[Any, ...] | None] = self._before  # guarded, once attached
        self.awake = False  # hooks that stay on for a compiler's sake do nothing between recorded steps

    @property
    def running(self) -> bool:
        """Whether a forward pass has begun and not ended."""
        return bool(self._stack())

    def attach(self, guard: Guard, inside_compiled: bool = False) -> None:
        """Puts the hooks on; `guard` wraps them so that an error of ours ends with us.

        With `inside_compiled` compiled code calls them too, if they are there when it is compiled.
        """
        keep_quiet_about_hooks()
        before, after = guard(self._before), guard(self._after)
        if inside_compiled:
            before, after = (torch.compiler.disable(hook) for hook in (before, after))  # type: ignore[no-untyped-call]
        self._enter = before
        self._handles.callback(register_module_forward_pre_hook(before).remove)
        self._handles.callback(add_forward_hook(after))
        self.attached = True

    def join(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Begins with a call that was about to run when the hooks were put on: torch will not call them for it.

        Gives what a forward pre-hook does: other arguments, or None.
        """
        return self._enter(module, args) if self.attached else None

    def wake(self) -> None:
        """Begins to listen, with hooks that are on."""
        self.awake = True

    def stop(self) -> None:
        """Stops listening; what was running is forgotten."""
        if self.awake:
            self.awake = False
            self._forget()
            self._local = threading.local()

    def detach(self) -> None:
        """Takes the hooks off."""
        self.stop()
        self._handles.close()
        self.attached = False

    def _forget(self) -> None:
        """Lets go of the pass that ended, or raised before it could."""
        forward: ForwardPass | None = getattr(self._local, "forward", None)
        if forward is not None:
            forward.release()
            self._local.forward = self._local.collector = None

    def _stack(self) -> list[Call]:
        stack: list[Call] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def not_observed(self) -> list[NotObserved]:
        """Calls and outputs that could not be looked into, and why."""
        return [NotObserved(what, why) for what, why in self._strangers.items()]

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Opens a call. Gives other arguments to a recurrent module whose input asks for no gradient."""
        if not self.awake:
            return None
        path = self._table.module_of.get(module)
        if path is None:
            path = self._path_of_stranger(module)
            if path is None:
                return None
        stack = self._stack()
        if stack and stack[-1].path == path and stack[-1].module is not module:
            return None  # what a compiled wrapper stands for
        if path == "" and stack:
            stack.clear()  # left over from a forward that raised
        ghost = not torch.is_grad_enabled()
        if ghost and (not stack or stack[-1].ghost):
            if stack:
                stack[-1].inside.append((path, module))
            elif current_backward() >= 0:
                self._again()  # a checkpoint in a checkpoint: the backward that both are part of is known from now on
            elif path == "":
                self.oddities.tested(module)
            return None
        if is_transformed():
            self._strangers["calls inside torch.func transforms"] = "tensors hold no numbers of their own there"
            return None
        if not stack and not self._open_pass(module, path):
            return None
        forward: ForwardPass = self._local.forward
        parent = stack[-1] if stack else None
        if forward.haunted and parent is not None:
            self._settle_ghosts(parent)
        call = Call(module, path, -1, parent, ghost=ghost)
        call.own_parameters = bool(module._parameters)
        if parent is not None:
            parent.children.append(call)
        forward.calls.append(call)
        stack.append(call)
        if ghost:
            forward.haunted = True
            call.inside.append((path, module))
            self._take_inputs(call, args)
            return None
        site = call.site = self._table.module_site(path, "output", module)
        if self._table.sites[site].training != module.training:
            self._table.update(site, training=module.training)
        call.number = forward.numbers.get(path, 0)
        forward.numbers[path] = call.number + 1
        if not forward.again:
            self._called.add(path)
        replaced = None
        if type(module) in SEQUENCE_MODULES and args:
            replaced = with_gradient(module, args)
            args = args if replaced is None else replaced
            call.axis = axis_of(module, site, args[0])
        self._take_inputs(call, args)
        if forward.look is not None:
            self.closer.before(forward.look, call, args)
        return replaced

    def _path_of_stranger(self, module: nn.Module) -> str | None:
        """The path of a module that was not there at the last look; None for one of another model, or a loss."""
        if not torch.is_grad_enabled():
            return None
        if not self._stack():
            return self._table.path_of_wrapper(module)
        if self._local.forward.looked or not self._table.is_news(module):
            self._local.forward.looked = True  # one look a pass
            self.oddities.stranger(module)
            return None
        self._local.forward.looked = True
        return self._table.module_of[module]

    def _open_pass(self, module: nn.Module, path: str) -> bool:
        """Begins a pass with an outermost call; False when it is not recorded."""
        if is_traced():
            return False
        again = current_backward() >= 0
        if not again and self._thread != (this := threading.get_ident()):
            if self._thread is not None:
                self._strangers["calls on other threads"] = "one thread's calls are recorded, those that came first"
                return False
            self._thread = this
        if again and path in self._called:
            return False  # the first time it ran with gradients: that is the one that counts
        collector = self._again() if again else self._began(module)
        if collector is None:
            return False
        self._forget()
        if not again and collector is not self._collector:
            self._collector = collector
            self._called.clear()
        self._local.collector, self._local.forward = collector, ForwardPass(id(self), again=again)
        self._local.forward.look = self.closer.begin(collector)
        return True

    def _settle_ghosts(self, parent: Call) -> None:
        """Finds where the gradient of checkpointed children will arrive; drops those that never get one."""
        if not parent.children or not parent.children[-1].ghost or parent.children[-1].outputs:
            return
        forward: ForwardPass = self._local.forward
        for call in [child for child in parent.children if child.ghost and not child.outputs]:
            for tensor in call.made:
                node: Node = tensor.grad_fn
                if isinstance(node, torch.autograd.function.BackwardCFunction):
                    call.outputs.append((node, tensor.output_nr))
            if call.outputs:
                sites = [self._table.module_site(path, "output", module) for path, module in call.inside]
                call.site = sites[0]
            else:
                parent.children.remove(call)
                forward.calls.remove(call)
                self.blind.update(path for path, _ in call.inside)
            call.made, call.inside = [], []

    def _take_inputs(self, call: Call, values: Any) -> None:
        """Notes the gradient edges that lead into a call; of the model itself, also what it is fed."""
        forward: ForwardPass = self._local.forward
        assert call.module is not None
        for tensor in values if _is_one_tensor(values) else tensors_in(values):
            # of the model itself; a single number beside the data, such as a count of items, is no feature
            if call.parent is None and tensor.dim() and (tensor.is_floating_point() or tensor.is_complex()):
                fed = self._table.module_site(call.path, "input", call.module)
                if not self._table.sites[fed].shape:
                    self._table.update(fed, shape=tuple(tensor.shape), dtype=str(tensor.dtype)[6:])
                self._measure(tensor, fed)
                if forward.look is not None:
                    self.closer.fed(forward.look, fed, tensor, call.module, self._local.collector)
            if not tensor.requires_grad:
                continue
            node = tensor.grad_fn
            if node is None:
                if isinstance(tensor, nn.Parameter) or (call.ghost and tensor._is_view()):  # made without gradients
                    continue
                edge: Edge = get_gradient_edge(tensor)[:2]  # where the gradient of a leaf accumulates
            else:
                edge = unwrapped_edge((node, tensor.output_nr))
            call.inputs.append(edge)
            if call.ghost:  # its inputs are measured when it is recomputed
                continue
            probe = forward.probe_at(edge)
            if probe is None:  # made by code between modules
                probe = self._probe(forward, edge, self._table.module_site(call.path, "input", call.module), call)
            if call.axis is not None and len(call.inputs) == 1:
                probe.axes.append(call.axis)
            if call.parent is None:
                earlier = probe_of_earlier_pass(edge, forward)
                if earlier is not None:
                    forward.position = max(forward.position, earlier.forward.position + 1)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self.awake:
            return
        stack = self._stack()
        while stack and stack[-1].module is not module:
            if all(call.module is not module for call in stack):
                return  # its beginning was not recorded
            stack.pop()  # a child raised and the module caught it
        if not stack:
            return
        if stack[-1].ghost:
            stack.pop().made = list(tensors_in(output))  # until the next call: then they are known to have a node
            return
        if not torch.is_grad_enabled():
            return
        call = stack.pop()
        if self._local.forward.haunted:
            self._settle_ghosts(call)
        if kwargs:
            self._take_inputs(call, kwargs)
            if "input" in kwargs and type(module) in SEQUENCE_MODULES:
                why = "its input came as a keyword argument, which is not exchanged for one whose gradient can be read"
                self._strangers[f"the time profile of {call.path or '(model)'}"] = why
        self._take_outputs(call, output)
        forward: ForwardPass = self._local.forward
        if forward.look is not None:
            self.closer.after(forward.look, call, args, output)
        if not stack:
            collector = self._local.collector
            self._lend(forward)
            self._ended(forward)
            self.closer.finish(forward, collector)
            self._forget()

    def _take_outputs(self, call: Call, output: Any) -> None:
        """Measures what a call gave, once per tensor: a container's output is mostly its last child's."""
        forward: ForwardPass = self._local.forward
        owners: set[int] = set()  # sites whose tensors these are already
        unknown: set[str] = set()
        tensors = [output] if isinstance(output, torch.Tensor) else list(tensors_in(output, unknown))
        for name in unknown - self._unknown:  # said of the innermost module that gives it
            self._unknown.add(name)
            self._strangers[call.path or "(model)"] = f"its output of type {name} was not looked into"
        tensors = [tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]
        for tensor in tensors:
            owners.add(self._measure(tensor, call.site))
            node = tensor.grad_fn
            if node is not None:
                edge = (node, tensor.output_nr)
                call.outputs.append(edge)
                probe = forward.probe_at(edge) or self._probe(forward, edge, call.site, call)
                owners.update(probe.sites[:1])
        if tensors and not self._table.sites[call.site].shape:
            shape = () if tensors[0].is_nested else tuple(tensors[0].shape)
            self._table.update(call.site, shape=shape, dtype=str(tensors[0].dtype)[6:])
        if owners == {call.site}:
            return
        rows = [row for _, _, site, row in (forward.measured[id(tensor)] for tensor in tensors) if site != call.site]
        probes = [probe for probe in map(forward.probe_at, call.outputs) if probe is not None]
        if len(owners) == 1 and call.site not in owners:
            forward.borrowed.append((call.site, owners.pop(), rows, probes))
            return
        _enter(forward, call.site, rows, probes)

    def _lend(self, forward: ForwardPass) -> None:
        """Lets a container whose output is its last child's share that child's numbers, if all its calls do."""
        for site, owner, rows, probes in forward.borrowed:
            calls, of_owner = (forward.numbers.get(self._table.sites[index].path) for index in (site, owner))
            if calls == of_owner:
                self._table.update(site, same_as=owner)
            else:  # an activation that is called several times, the last of them for this container's output
                _enter(forward, site, rows, probes)
        forward.borrowed.clear()

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

    def _probe(self, forward: ForwardPass, edge: Edge, site: int, call: Call) -> Probe:
        probe = forward.probes[key(edge)] = Probe([site], forward, call.number)
        self._listen(edge, probe)
        return probe


def _enter(forward: ForwardPass, site: int, rows: list[int], probes: list[Probe]) -> None:
    """Notes what was measured on behalf of other sites for this one too."""
    forward.activations += [(site, row) for row in rows]
    for probe in probes:
        if site not in probe.sites:
            probe.sites.append(site)


def _is_one_tensor(values: Any) -> bool:
    """Whether this is what most modules are given: a tuple of a tensor."""
    return len(values) == 1 and type(values) is tuple and type(values[0]) is torch.Tensor
