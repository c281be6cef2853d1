"""Keeps `run.json` up to date: what a run is of, and what could not be seen."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch

from gradscope.recorder import compiled
from gradscope.recorder.forward import ForwardHooks
from gradscope.recorder.loss_paths import LossPaths
from gradscope.recorder.losses import LossReader
from gradscope.recorder.parallel import Parallelism
from gradscope.recorder.places import What, here, sources
from gradscope.recorder.scaling import LossScale
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.topology import Topology
from gradscope.records import NotObserved, Place, RunInfo
from gradscope.store import RunWriter


class Sources(NamedTuple):
    """The parts of a recorder that know something that is written once."""

    table: SiteTable
    topology: Topology
    forward: ForwardHooks
    losses: LossReader
    scale: LossScale
    parallel: Parallelism
    paths: LossPaths


class RunFile:
    """What does not grow with the steps of a run, written when it changes.

    Args:
        info: what is known before the run begins.
        writer: where to.
        sources: who knows the rest.
        mode: what was asked to be seen of compiled code.

    Attributes:
        step: the running step.
        never_seen: whether no forward pass was seen in any recorded step.
        failure: why recording stopped; None while it goes on.
        info: what is known so far.
        crowded: whether a step held more forward passes than are recorded.
    """

    def __init__(self, info: RunInfo, writer: RunWriter, sources: Sources, mode: compiled.Mode) -> None:
        self.info, self._writer, self._sources, self._mode = info, writer, sources, mode
        self.step = 0
        self.never_seen = True
        self.failure: str | None = None
        self._captured = False
        self.crowded = False
        self._called: set[tuple[str, int]] = set()
        self.know(*info.places)

    def capturing(self, device: str) -> bool:
        """Whether a CUDA graph is being captured: what we queued now would become part of it."""
        if device != "cuda" or not torch.cuda.is_current_stream_capturing():
            return False
        self._captured = True
        return True

    def fail(self, error: Exception) -> None:
        """Notes, in one line, why recording stops."""
        self.failure = f"{type(error).__name__}: {error}".strip().split("\n")[0]

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Writes down something that happened at the last closed step."""
        self._writer.write_event(max(self.step - 1, 0), kind, data)

    def end(self, reason: str) -> None:
        """Writes how the run ended."""
        self._writer.write_event(self.step, "ended", {"reason": reason})
        self.write("ended", ended=time.time())

    def stop(self) -> None:
        """Writes that recording stopped, and why."""
        self._writer.write_event(self.step, "warning", {"text": f"recording stopped: {self.failure}"})
        self.write("stopped")

    def know(self, *places: Place | None, **facts: Any) -> None:
        """Learns lines of the user's program, and other facts: fields of `RunInfo`."""
        known = tuple(dict.fromkeys([*self.info.places, *(place for place in places if place is not None)]))
        self.info = replace(self.info, places=known, sources=sources(known), **facts)
        self._sources.table.changed = True

    def called(self, what: What, optimizer: torch.optim.Optimizer | None = None, place: Place | None = None) -> None:
        """Learns, the first time, the line of the user's program that is calling, if it is not `place`."""
        key = what, id(optimizer)
        if key not in self._called:
            self._called.add(key)
            self.know(place or here(what, "" if optimizer is None else type(optimizer).__name__))

    def write_if_changed(self) -> None:
        """Writes when there are sites that are not on disk yet."""
        if self._sources.table.changed:
            self.write()

    def write(self, state: Literal["recording", "stopped", "ended"] = "recording", ended: float | None = None) -> None:
        """Writes everything."""
        table = self._sources.table
        table.order_parameters()
        table.changed = False
        self.info = replace(
            self.info,
            sites=tuple(table.sites),
            links=tuple(self._sources.topology.links),
            heads=self._sources.topology.heads,
            loss_path=self._sources.paths.path,
            criterion=", ".join(sorted(self._sources.losses.kinds)),
            not_observed=tuple(self.not_observed()),
            **self._sources.parallel.facts,
            **self._sources.forward.oddities.facts,
            state=state,
            ended=ended,
        )
        self._writer.write_info(self.info)

    def not_observed(self) -> list[NotObserved]:
        """What could not be seen so far, and why."""
        table, topology, forward, losses, scale, parallel, _ = self._sources
        found = [*compiled.not_observed(table.compiled(), self._mode), *scale.not_observed()]
        if self.failure is not None:
            found.append(NotObserved(f"everything after step {self.step}", f"recording stopped: {self.failure}"))
        if self.crowded:
            why = "no watched optimizer stepped for so long; was it replaced, or is validation run without no_grad?"
            found.append(NotObserved("steps of hundreds of forward passes", why))
        if self._captured:
            why = "their replays call no hooks; of a captured step only what happens outside the graph is seen"
            found.append(NotObserved("calls captured in a CUDA graph", why))
        found += parallel.not_observed()
        if self.step and self.never_seen and not parallel.blind:
            why = "no forward pass was seen: was it compiled in place (model.compile()), or model.forward called directly?"
            found.append(NotObserved("activations and their gradients", why))
        elif self.step and not parallel.blind:
            found += topology.unseen(self._mode == "full", forward.blind)
        found += forward.not_observed()
        if self.step and not losses.found:
            found.append(NotObserved("the loss", losses.missing))
        return found
