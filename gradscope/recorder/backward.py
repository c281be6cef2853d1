"""What a backward pass brings: the gradient at every probed edge, and whether it was a training's at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gradscope.recorder.forward import Edge, ForwardPass, Guard, Node, Probe
from gradscope.recorder.private import after_backward, current_backward
from gradscope.stats import Collector


@dataclass(eq=False)
class Branch:
    """A module's part of the gradient of a tensor that others use too, put together from its ports."""

    site: int
    forward: ForwardPass
    missing: int
    part: torch.Tensor | None = None


@dataclass(eq=False)
class _Task:
    """One running backward pass. What it brought counts only if it changed a parameter's gradient."""

    before: list[tuple[int, int]]
    probed: list[tuple[Probe, int]] = field(default_factory=list)
    branched: list[tuple[Branch, int]] = field(default_factory=list)
    trained: bool = False  # an optimizer stepped inside of it


class BackwardHooks:
    """Listens to gradients through hooks on nodes of the autograd graph.

    Node hooks leave no trace on the user's tensors, and a hook on an output's node keeps seeing that output's
    gradient when an in-place operation follows; module backward hooks break `ReLU(inplace=True)`.

    Args:
        parameters: gives the watched parameters.
        ended: called after each backward pass that changed a parameter's gradient.
        guard: wraps what torch calls, so that an error of ours ends with us.
    """

    def __init__(
        self, parameters: Callable[[], Sequence[torch.Tensor]], ended: Callable[[], None], guard: Guard
    ) -> None:
        self._parameters = parameters
        self._ended = ended
        self._guard = guard
        self._tasks: dict[int, _Task] = {}
        self._handles: list[Any] = []
        self.collector: Collector | None = None  # of the step that is being recorded
        self.branch_rows: list[tuple[int, int]] = []  # (site, row)

    def start(self, collector: Collector) -> None:
        """Begins a step."""
        self.collector = collector
        self.branch_rows = []

    def stop(self) -> None:
        """Ends a step: every hook goes, and with them every way from the user's graph to us."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._tasks.clear()
        self.collector = None

    def listen(self, edge: Edge, probe: Probe) -> None:
        """Records the gradient that arrives at an edge, summed over everything that uses its tensor."""
        node, output = edge

        def arrived(gradients: Sequence[torch.Tensor | None]) -> None:
            gradient = gradients[output]
            if gradient is not None and self.collector is not None:
                self._task().probed.append((probe, self._add(gradient)))

        self._handles.append(node.register_prehook(self._guard(arrived)))

    def listen_at_port(self, node: Node, position: int, branches: Sequence[Branch]) -> None:
        """Records the part of a gradient that comes out at one input of a node, on behalf of branches."""

        def passed(inputs: Sequence[torch.Tensor | None], _: Any) -> None:
            gradient = inputs[position]
            if self.collector is None:
                return
            task = self._task()
            for branch in branches:
                branch.missing -= 1
                if gradient is not None:
                    part = gradient.detach()
                    branch.part = part if branch.part is None else branch.part + part
                if branch.missing == 0 and branch.part is not None:
                    task.branched.append((branch, self._add(branch.part)))
                    branch.part = None

        self._handles.append(node.register_hook(self._guard(passed)))

    def listen_at_loss(self, loss: torch.Tensor, arrived: Callable[[torch.Tensor], None]) -> None:
        """Calls back with the gradient at a loss: the factor between it and what `backward` was called on."""
        position = loss.output_nr

        def passed(gradients: Sequence[torch.Tensor | None]) -> None:
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

    def _task(self) -> _Task:
        number = current_backward()
        task = self._tasks.get(number)
        if task is None:
            task = self._tasks[number] = _Task(self._gradient_versions())
            after_backward(self._guard(lambda: self._end(number)))
        return task

    def _gradient_versions(self) -> list[tuple[int, int]]:
        """What changes when a gradient is accumulated: the tensor or its version."""
        gradients = (parameter.grad for parameter in self._parameters())
        return [(0, 0) if gradient is None else (id(gradient), gradient._version) for gradient in gradients]

    def _end(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is None or (not task.trained and self._gradient_versions() == task.before):
            return  # `autograd.grad`, or a backward to something else
        for probe, row in task.probed:
            probe.rows.append(row)
            probe.forward.trained = True
        self.branch_rows += [(branch.site, row) for branch, row in task.branched if branch.forward.trained]
        self._ended()
