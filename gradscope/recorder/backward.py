"""What a backward pass brings: the gradient at every probed edge, and whether it was a training's at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gradscope.recorder.guard import Guard
from gradscope.recorder.parameters import ParameterReader
from gradscope.recorder.passes import Edge, ForwardPass, Node, Probe
from gradscope.recorder.private import after_backward, current_backward
from gradscope.recorder.recurrent import TimeAxis
from gradscope.recorder.shards import local, version
from gradscope.stats import Collector


@dataclass(eq=False)
class Branch:
    """A module's part of the gradient of a tensor that others use too, put together from its ports."""

    site: int
    forward: ForwardPass
    ports: int
    missing: int = 0  # ports that the running backward pass has not come by
    number: int = -1  # of that pass
    axis: TimeAxis | None = None
    part: torch.Tensor | None = None


@dataclass(eq=False)
class _Task:
    """One running backward pass. What it brought counts only if it changed a parameter's gradient."""

    before: list[tuple[int, int]]
    left_over: list[float | torch.Tensor]  # of each gradient, see `ParameterReader.left_over`
    probed: list[tuple[Probe, int]] = field(default_factory=list)
    timed: list[tuple[ForwardPass, tuple[TimeAxis, int, int, int]]] = field(default_factory=list)
    branched: list[tuple[Branch, int]] = field(default_factory=list)
    trained: bool = False  # an optimizer stepped inside of it


class BackwardHooks:
    """Listens to gradients through hooks on nodes of the autograd graph.

    Node hooks leave no trace on the user's tensors, and a hook on an output's node keeps seeing that output's
    gradient when an in-place operation follows; module backward hooks break `ReLU(inplace=True)`.

    Args:
        parameters: whose gradients a training's backward pass changes.
        ended: called after each backward pass that changed a parameter's gradient.
        zeroed: called when the gradients of the step's earlier backward passes turn out to be zeroed.
        guard: wraps what torch calls, so that an error of ours ends with us.
    """

    def __init__(
        self,
        parameters: ParameterReader,
        ended: Callable[[], None],
        zeroed: Callable[[], None],
        guard: Guard,
    ) -> None:
        self._parameters, self._gradients = parameters, parameters.gradients
        self._ended, self._zeroed = ended, zeroed
        self._guard = guard
        self._tasks: dict[int, _Task] = {}
        self._trained: list[Probe] = []  # what the step's backward passes have filled so far
        self._left: list[tuple[int, int]] = []  # the gradients that they left behind
        self._handles: list[Any] = []
        self.collector: Collector | None = None  # of the step that is being recorded
        self.branch_rows: list[tuple[int, int]] = []  # (site, row)
        self.passes = 0  # that changed a parameter's gradient, in recorded steps

    def start(self, collector: Collector) -> None:
        """Begins a step."""
        self.collector = collector
        self.branch_rows, self._trained, self._left = [], [], []

    def stop(self) -> None:
        """Ends a step: every hook goes, and with them every way from the user's graph to us."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._tasks.clear()
        self._trained, self._left = [], []
        self.collector = None

    def listen(self, edge: Edge, probe: Probe) -> None:
        """Records the gradient that arrives at an edge, summed over everything that uses its tensor."""
        node, output = edge

        def arrived(gradients: Sequence[torch.Tensor | None]) -> None:
            gradient = gradients[output]
            if gradient is not None and self.collector is not None:
                task = self._task()
                task.probed.append((probe, self._add(gradient)))
                for axis in probe.axes:
                    self._read_times(task, probe.forward, axis, gradient)

        self._handles.append(node.register_prehook(self._guard(arrived)))

    def listen_at_port(self, node: Node, position: int, branches: Sequence[Branch]) -> None:
        """Records the part of a gradient that comes out at one input of a node, on behalf of branches."""

        def passed(inputs: Sequence[torch.Tensor | None], _: Any) -> None:
            gradient = inputs[position]
            if self.collector is None:
                return
            task, number = self._task(), current_backward()
            for branch in branches:
                if branch.number != number:
                    branch.number, branch.missing, branch.part = number, branch.ports, None
                branch.missing -= 1
                if gradient is not None:
                    part = gradient.detach()
                    branch.part = part if branch.part is None else branch.part + part
                if branch.missing == 0 and branch.part is not None:
                    task.branched.append((branch, self._add(branch.part)))
                    if branch.axis is not None:
                        self._read_times(task, branch.forward, branch.axis, branch.part)
                    branch.part = None

        self._handles.append(node.register_hook(self._guard(passed)))

    def listen_at_loss(self, loss: torch.Tensor, arrived: Callable[[torch.Tensor], None]) -> None:
        """Calls back with the gradient at a loss: the factor between it and what `backward` was called on."""
        position = loss.output_nr

        def passed(gradients: Sequence[torch.Tensor | None]) -> None:
            if self.collector is not None:
                self._task()  # all that is seen of it, where the forward was a compiled function's
            gradient = gradients[position]
            if gradient is not None:
                arrived(gradient)

        if loss.grad_fn is not None:
            self._handles.append(loss.grad_fn.register_prehook(self._guard(passed)))

    def stepped(self) -> None:
        """Notes that an optimizer stepped inside the running backward pass, which so counts as a training's."""
        if self.collector is not None:
            self._task().trained = True

    def _add(self, gradient: torch.Tensor) -> int:
        assert self.collector is not None
        return self.collector.add(gradient)

    def _read_times(self, task: _Task, forward: ForwardPass, axis: TimeAxis, gradient: torch.Tensor) -> None:
        for start, stop, part in axis.bins(gradient.detach()):
            task.timed.append((forward, (axis, start, stop, self._add(part))))

    def open(self) -> None:
        """Takes note of the backward pass that runs, if there is one, before its first gradient arrives."""
        if current_backward() >= 0:
            self._task()

    def forget_unfinished(self) -> None:
        """Drops backward passes that raised before their end."""
        self._tasks.clear()

    def _task(self) -> _Task:
        number = current_backward()
        task = self._tasks.get(number)
        if task is not None:
            return task
        if self._tasks:  # a backward inside a backward: reentrant checkpointing; both are one
            task = self._tasks[number] = next(iter(self._tasks.values()))
            return task
        before = self._gradient_versions()
        if self._left and self._were_zeroed(before):
            self._forget()
        task = self._tasks[number] = _Task(before, self._parameters.left_over())
        after_backward(self._guard(lambda: self._end(number)))
        return task

    def _gradient_versions(self) -> list[tuple[int, int]]:
        """What changes when a gradient is accumulated: the tensor or its version."""
        return [(0, 0) if gradient is None else (id(gradient), version(gradient)) for gradient in self._gradients()]

    def _were_zeroed(self, now: list[tuple[int, int]]) -> bool:
        """Whether all gradients that earlier backward passes of the step left behind are gone."""
        for whole, left, found in zip(self._gradients(), self._left, now, strict=False):
            if left == (0, 0) or whole is None:
                continue
            gradient = local(whole)
            if left == found or (gradient.is_cpu and not gradient.is_sparse and bool(gradient.any())):
                return False  # on other devices a look would wait; hardly anything else changes it in between
        return True

    def _forget(self) -> None:
        """Drops what earlier backward passes of the step brought."""
        for probe in self._trained:
            probe.rows.clear()
            probe.forward.timed.clear()
            probe.forward.trained = False
        self.branch_rows, self._trained, self._left = [], [], []
        self._parameters.untouched()
        self._zeroed()

    def _end(self, number: int) -> None:
        task = self._tasks.get(number)
        self._tasks.clear()
        after = self._gradient_versions()
        if task is None or (not task.trained and after == task.before):
            return  # `autograd.grad`, or a backward to something else
        for probe, row in task.probed:
            probe.rows.append(row)
            probe.forward.trained = True
            self._trained.append(probe)
        for forward, timed in task.timed:
            forward.timed.append(timed)
        self.branch_rows += [(branch.site, row) for branch, row in task.branched if branch.forward.trained]
        self._left = after
        self.passes += 1
        self._parameters.touched(task.left_over, [now != then for now, then in zip(after, task.before, strict=False)])
        self._ended()
