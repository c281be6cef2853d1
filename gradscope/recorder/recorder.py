"""Opens and closes steps, decides which are recorded, and hands their numbers on."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from gradscope.recorder import compiled
from gradscope.recorder.agreement import schedule_for
from gradscope.recorder.backward import BackwardHooks
from gradscope.recorder.delivery import ClosedStep, Delivery
from gradscope.recorder.forward import ForwardHooks
from gradscope.recorder.losses import LossReader
from gradscope.recorder.options import Options
from gradscope.recorder.parallel import Parallelism
from gradscope.recorder.parameters import Entry, ParameterReader, gradient_norm, learning_rates
from gradscope.recorder.passes import ForwardPass
from gradscope.recorder.private import after_backward, compiler_in_use, current_backward, forks
from gradscope.recorder.recurrent import time_rows
from gradscope.recorder.scaling import LossScale
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.topology import Topology
from gradscope.records import STEP, NotObserved, RunInfo
from gradscope.stats import Collector, HostNumber
from gradscope.store import RunWriter


class Recorder:
    """Records one training of one model into one run folder, from construction to `close`.

    Whatever goes wrong in here is caught here: recording stops, `failure` says why, training goes on.

    Args:
        model: kept by weak reference only.
        optimizers: whose steps are the training's steps; none: see `step`.
        criterion: the loss module, if the user named it.
        folder: of the run.
        info: what is known of the run before it begins.
        options: how to record.
        scaler: the gradient scaler of a mixed precision training.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        criterion: nn.Module | None,
        folder: Path,
        info: RunInfo,
        options: Options,
        scaler: Any = None,
    ) -> None:
        self._forks = forks()
        self._model = weakref.ref(model)
        self._info = info
        self._writer = RunWriter(folder, info)
        self._schedule = schedule_for(options.every, options.overhead, folder, info.rank, info.world_size)
        self._exact, self._compiled, self._parallel = options.exact, options.compiled, Parallelism(model, info)
        self.failure: str | None = None
        self._closed = self._paused = False
        self._step = 0
        self._last_close = time.perf_counter()
        self._spent = 0.0  # seconds of ours in this step
        self._device = next(model.parameters()).device.type
        self._table = SiteTable(model, options.include, options.exclude)
        self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        self._parameters = ParameterReader(model, self._table, self._optimizers)
        self._scale = LossScale(scaler)
        self._losses = LossReader(criterion, self._guard, self._saw_loss)
        self._backward = BackwardHooks(self._parameters.gradients, self._backward_ended, self._zeroed, self._guard)
        self._topology = Topology(self._table, self._backward.listen_at_port)
        self._forward = ForwardHooks(self._table, self._began, self._again, self._forward_ended, self._backward.listen)
        self._delivery = Delivery(self._writer, self._write_info_if_changed, self._schedule)
        self._optimizer_handles: list[Any] = []
        for optimizer in optimizers:
            self._optimizer_handles += [
                optimizer.register_step_pre_hook(self._guard(self._before_update)),
                optimizer.register_step_post_hook(self._guard(self._after_update)),
            ]
        self._never_seen = True  # whether no forward pass was seen in any recorded step
        self._manual_steps = False
        self._reset_step()
        self._arm()

    # what the scope calls

    @property
    def recording(self) -> bool:
        """Whether anything is still being recorded."""
        return self.failure is None and not self._closed and forks() == self._forks

    def loss(self, loss: torch.Tensor) -> None:
        """Takes the loss of a forward pass."""
        self._guard(self._losses.give)(loss)

    def pause(self, paused: bool) -> None:
        """Sees nothing until it is unpaused."""
        self._paused = paused

    def log(self, name: str, value: float) -> None:
        """Writes a value of the user's down."""
        self._guard(self._writer.write_event)(self._step, "value", {"name": name, "value": value})

    def step(self) -> None:
        """Closes the step, in loops without an optimizer."""
        self._manual_steps = True
        self._guard(self._close_step)()

    def flush(self) -> None:
        """Waits for the device and writes everything down, what could not be seen included."""

        def write() -> None:
            self._delivery.flush(wait=True)
            self._write_info(self._info.state)

        self._guard(write)()

    def close(self, reason: str = "closed") -> None:
        """Ends the run: takes every hook off and writes what is left."""
        if self._closed or forks() != self._forks:
            return
        if self._backwards and not self._optimizers:
            self._guard(self._close_step)()
        self._closed = True
        self._take_off()
        if self.failure is None:
            try:
                self._delivery.flush(wait=True)
                self._writer.write_event(self._step, "ended", {"reason": reason})
                self._write_info("ended", ended=time.time())
            except Exception as error:  # a full disk, say: the training must end as it would have
                self.failure = describe(error)
        self._writer.close()

    # steps

    def _reset_step(self) -> None:
        self._collector: Collector | None = None
        self._passes: list[ForwardPass] = []
        self._backwards = self._losses_before_backward = 0
        self._stepped: set[int] = set()
        self._training_mode = True
        self._scale.reset()
        self._norms: list[tuple[HostNumber, bool]] = []  # of the optimizers that have stepped
        self._norm_seconds = 0.0
        self._in_closure = False  # an optimizer that was given a closure is stepping
        self._evaluated = False  # and its closure has brought the step's gradients

    def _arm(self, late: bool = False) -> None:
        """Decides about the coming step; hooks that it does not need are not there. `late`: its forward has run."""
        self._armed = self._schedule.wants(self._step) and (self._forward.awake or not late)
        self._armed &= not self._parallel.blind_to_parameters
        self._norm_wanted = not self._armed and self._schedule.wants_norm()
        self._losses.attach()
        stays = self._compiled == "full" or compiler_in_use()
        if not self._forward.attached and (self._armed or stays):
            self._forward.attach(self._guard, self._compiled == "full")
        if self._armed:
            self._forward.wake()
        elif stays:
            self._forward.sleep()
        else:
            self._forward.detach()

    def _began(self, module: nn.Module) -> Collector | None:
        if self._in_closure and self._evaluated:
            self._backwards += module is self._model()
            return None
        over = self._stepped or (self._backwards and not self._optimizers and not self._manual_steps)
        if over and not self._in_closure:
            self._close_step()
        self._close_if_skipped()
        if not self._armed or self._parallel.look():
            return None
        self._backward.forget_unfinished()
        self._never_seen = False
        self._training_mode = module.training
        self._scale.forward(self._device)
        return self._begin()

    def _begin(self) -> Collector:
        """The collector of the running step, which begins with the first call."""
        if self._collector is None:
            self._collector = Collector(self._exact)
            self._parameters.start()
            self._backward.start(self._collector)
        return self._collector

    def _close_if_skipped(self, late: bool = False) -> None:
        """Closes a step that the gradient scaler skipped: it was updated, and no optimizer stepped."""
        if not self._stepped and self._scale.skipped():
            self._close_step(skipped=True, late=late)

    def _saw_loss(self, loss: torch.Tensor) -> None:
        self._close_if_skipped(late=True)
        self._scale.mark()
        if self._collector is not None:
            self._backward.listen_at_loss(loss, self._scale.at_loss)

    def _again(self) -> Collector | None:
        """The collector for what is recomputed in a backward pass of the running step."""
        if self._armed:
            self._never_seen = False
            self._begin()
            self._backward.open()
        return self._collector

    def _forward_ended(self, forward: ForwardPass) -> None:
        self._parameters.look_again()  # the pass may have made them
        self._topology.prepare(forward)
        self._passes.append(forward)

    def _backward_ended(self) -> None:
        self._backwards += 1
        self._scale.mark()
        self._evaluated = self._in_closure
        self._losses_before_backward = len(self._losses)
        if self._collector is not None:
            self._scale.backward()
            self._parameters.read_gradients(self._collector)

    def _zeroed(self) -> None:
        """What came before gradients were zeroed without a step is no part of the step (a GAN's other pass)."""
        self._losses.forget(self._losses_before_backward)
        self._backwards = 0

    def _before_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is not None:
            self._in_closure = self._losses.first_only = True
        if not self._armed:
            if closure is None:
                self._take_norm(optimizer)
            return
        collector = self._begin()
        if closure is not None:
            self._parameters.read_weights(collector)
            return
        if current_backward() >= 0:
            self._backward.stepped()
        scaled = self._scale.before_update(optimizer)
        self._parameters.before_update(collector, id(optimizer), scaled)

    def _take_norm(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes what a step that is not recorded in full can afford."""
        scaled = self._scale.before_update(optimizer)
        if self._norm_wanted:
            entered = time.perf_counter()
            norm = gradient_norm(optimizer)
            if norm is not None:
                self._norms.append((HostNumber(norm), scaled))
            self._norm_seconds += time.perf_counter() - entered

    def _after_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._in_closure = self._losses.first_only = False
        if id(optimizer) in self._stepped:  # the others took no part
            self._close_step()
        self._stepped.add(id(optimizer))
        if len(self._stepped) < len(self._optimizers):
            return
        if current_backward() >= 0:  # it stepped in a hook of the last parameter that was left
            after_backward(self._guard(self._close_step))
        else:
            self._close_step()

    def _close_step(self, skipped: bool = False, late: bool = False) -> None:
        entered = time.perf_counter()
        trained = [forward for forward in self._passes if forward.trained]
        row = np.zeros(1, STEP)
        row["step"], row["time"] = self._step, time.time()
        row["loss"] = row["gradient_norm"] = row["clipped_gradient_norm"] = np.nan
        row["forwards"], row["backwards"] = sum(not f.again for f in trained) or bool(trained), self._backwards
        row["training_mode"], row["scale"], row["skipped"] = self._training_mode, 1.0, skipped
        step = ClosedStep(
            row, learning_rates(self._optimizers), scale=self._scale.number, found_inf=self._scale.found_inf
        )
        loss = self._losses.take()
        step.loss = None if loss is None else HostNumber(loss)
        if len(self._norms) == len(self._optimizers):
            step.norms = self._norms
        recorded = self._collector is not None and self._parameters.has_gradients
        if recorded:
            self._collect(step, trained)
        row["recorded"] = recorded
        self._backward.stop()
        self._parameters.stop()
        now = time.perf_counter()
        row["seconds"] = now - self._last_close
        row["recorder_seconds"] = self._spent + now - entered
        self._delivery.add(step)
        # writing is part of the price, and lands in the next step's time
        self._schedule.spent(float(row["seconds"][0]), float(row["recorder_seconds"][0]), recorded, self._norm_seconds)
        self._spent, self._last_close = 0.0, now
        self._step += 1
        self._reset_step()
        self._arm(late)

    def _collect(self, step: ClosedStep, trained: list[ForwardPass]) -> None:
        """Gathers the rows that belong to a recorded step."""
        assert self._collector is not None
        self._scale.closed()
        self._parameters.before_update(self._collector, None, scaled=True)  # where no optimizer stepped
        step.entries, step.gradient_rows, step.clipped_rows = self._parameters.finish(self._collector)
        deltas: list[Entry] = [(site, "activation_gradient", row) for site, row in self._backward.branch_rows]
        for forward in trained:
            self._topology.learn(forward)
            step.entries += [(site, "activation", row) for site, row in forward.activations]
            deltas += [(site, "activation_gradient", row) for site, row in forward.gradients()]
        deltas += [(site, "activation_gradient", row) for site, row in time_rows(trained, self._table)]
        step.entries += deltas
        step.scaled_rows = list({*self._parameters.scaled, *(row for _, _, row in deltas)})
        step.summaries = self._collector.collect()

    # what is written once

    def _write_info_if_changed(self) -> None:
        if self._table.changed:
            self._write_info(self._info.state)

    def _write_info(self, state: Literal["recording", "stopped", "ended"], ended: float | None = None) -> None:
        self._table.order_parameters()
        self._table.changed = False
        self._info = replace(
            self._info,
            sites=tuple(self._table.sites),
            links=tuple(self._topology.links),
            heads=self._topology.heads,
            criterion=", ".join(sorted(self._losses.kinds)),
            not_observed=tuple(self.not_observed()),
            **self._parallel.facts,
            state=state,
            ended=ended,
        )
        self._writer.write_info(self._info)

    def not_observed(self) -> list[NotObserved]:
        """What could not be seen so far, and why."""
        found = [*compiled.not_observed(self._table.compiled(), self._compiled), *self._scale.not_observed()]
        if self.failure is not None:
            found.append(NotObserved(f"everything after step {self._step}", f"recording stopped: {self.failure}"))
        found += self._parallel.not_observed()
        if self._step and self._never_seen and not self._parallel.blind:
            why = "no forward pass was seen: was it compiled in place (model.compile()), or model.forward called directly?"
            found.append(NotObserved("activations and their gradients", why))
        elif self._step and not self._parallel.blind:
            found += self._topology.unseen(self._compiled == "full")
        found += self._forward.not_observed()
        if self._step and not self._losses.found:
            found.append(NotObserved("the loss", self._losses.missing))
        return found

    # an error of ours ends with us

    def _guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps what torch or the user calls: counts its time, does nothing when not recording, stops on an error."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            # first of all: when torch.compile traces a hook it must find nothing but this
            if torch.compiler.is_compiling() or self._paused or not self.recording:
                return None
            entered = time.perf_counter()
            try:
                return function(*args, **kwargs)
            except Exception as error:
                self._fail(error)
            finally:
                self._spent += time.perf_counter() - entered

        return guarded

    def _fail(self, error: Exception) -> None:
        self.failure = describe(error)
        self._take_off()
        try:
            self._writer.write_event(self._step, "warning", {"text": f"recording stopped: {self.failure}"})
            self._write_info("stopped")
        except Exception:  # the disk may be what failed; `failure` is in the diagnosis all the same
            return

    def _take_off(self) -> None:
        """Removes every hook."""
        self._forward.detach()
        self._backward.stop()
        self._parameters.stop()
        self._losses.detach()
        while self._optimizer_handles:
            self._optimizer_handles.pop().remove()


def describe(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".strip().split("\n")[0]
