"""What the graphs of a run's losses showed, and the targets of the running step."""

from __future__ import annotations

from collections.abc import Collection

import torch

from gradscope.recorder.loss_path import read_loss
from gradscope.recorder.passes import Edge
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.trivial_loss import Targets, targets_of
from gradscope.records import LossPath
from gradscope.stats import Collector

_MOST_LOSSES = 16  # of a step that are looked at
_MOST_CHANGES = 16  # of the way that are written down: losses may take turns for ever


class LossPaths:
    """Reads every recorded step's losses while their graphs are alive; keeps numbers.

    Args:
        table: is given the site of the targets.
        kinds: class names of the loss modules that were seen.
        path: what is known of a run that is resumed.

    Attributes:
        path: the way of the first loss of a step, as it was when it last changed.
        watcher: whose heads the ways lead to.
        rows: of the collector, where the step's targets are.
    """

    def __init__(self, table: SiteTable, kinds: Collection[str], path: LossPath | None) -> None:
        self.path = path
        self.watcher = 0
        self._table, self._kinds = table, kinds
        self._changes = 0
        self._given = False
        self.reset()

    def reset(self) -> None:
        """Forgets the step."""
        self.rows: list[int] = []
        self._targets: list[Targets | None] = []
        self._before_backward = 0
        self._waiting: list[Edge] = []  # losses of a forward pass that still runs

    @property
    def site(self) -> int:
        """Where targets are written down."""
        return self._table.target_site()

    def see(self, loss: torch.Tensor, collector: Collector, in_forward: bool, given: bool) -> None:
        """Looks at a loss. One that is computed inside the model is looked at when the heads are known.

        Args:
            loss: with its graph.
            collector: of the step.
            in_forward: whether the model's forward is still running.
            given: whether the user hands losses over; what was seen in the step before that is the same once more.
        """
        if given and not self._given:
            self._given = True
            self.reset()
        if loss.grad_fn is None or len(self._targets) + len(self._waiting) >= _MOST_LOSSES:
            return
        edge = loss.grad_fn, loss.output_nr
        if in_forward:
            self._waiting.append(edge)
        else:
            self._read(edge, collector)

    def look_again(self, collector: Collector | None) -> None:
        """Looks at the losses of the forward pass that has ended."""
        waiting, self._waiting = self._waiting, []
        if collector is not None:
            for edge in waiting:
                self._read(edge, collector)

    def _read(self, edge: Edge, collector: Collector) -> None:
        reading = read_loss(edge, self.watcher, sorted(self._kinds))
        if reading is None:
            return
        if not self._targets:
            self._learn(reading.path)
        self._targets.append(targets_of(reading))
        if reading.target is not None and reading.target.layout is torch.strided:
            self.rows.append(collector.add(reading.target))

    def _learn(self, path: LossPath) -> None:
        known = self.path
        if known is not None and (path.operations, path.kind) == (known.operations, known.kind):
            return
        if self._changes < _MOST_CHANGES:
            self._changes += 1
            self.path = path
            self._table.changed = True

    def mark(self) -> None:
        """A backward pass has ended."""
        self._before_backward = len(self._targets)

    def forget(self) -> None:
        """Drops what came before gradients were zeroed without a step."""
        del self._targets[: self._before_backward]
        del self.rows[: self._before_backward]
        self._before_backward = 0

    def take(self) -> list[Targets]:
        """The targets of the step's losses; none when they are of several kinds, or of one nothing is known."""
        found = [targets for targets in self._targets if targets is not None]
        alike = len({(targets.kind, targets.classes) for targets in found}) == 1
        return found if alike and len(found) == len(self._targets) else []
