"""Opens and closes steps, decides which are recorded, and hands their numbers on."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradscope.recorder.agreement import schedule_for
from gradscope.recorder.backward import BackwardHooks
from gradscope.recorder.delivery import ClosedStep, Delivery
from gradscope.recorder.forward import ForwardHooks
from gradscope.recorder.gather import MOST_PASSES, gather
from gradscope.recorder.guard import Guard
from gradscope.recorder.light import LightSteps
from gradscope.recorder.locate import Locator
from gradscope.recorder.loss_paths import LossPaths
from gradscope.recorder.losses import LossReader
from gradscope.recorder.oddities import Oddities
from gradscope.recorder.options import Options
from gradscope.recorder.parallel import Parallelism
from gradscope.recorder.parameters import ParameterReader, gradient_norm, learning_rates
from gradscope.recorder.passes import ForwardPass
from gradscope.recorder.private import after_backward, compiler_in_use, current_backward, forks
from gradscope.recorder.run_file import RunFile, Sources
from gradscope.recorder.scaling import LossScale
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.topology import Topology
from gradscope.records import RunInfo
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
        info: what is known of the run before it begins, or goes on.
        options: how to record.
        scaler: the gradient scaler of a mixed precision training.
        first_step: its number; not 0 when a run is resumed.

    Attributes:
        forward, before_update: the hooks on the model's modules, and that on its optimizers' steps.
        file, guard, schedule: see their classes.
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
        first_step: int = 0,
    ) -> None:
        self._forks = forks()
        self._model = weakref.ref(model)
        self._writer = RunWriter(folder, info, resume=options.resume)
        self.schedule = schedule_for(options.every, options.overhead, folder, info.rank, info.world_size)
        self._exact, self._compiled, self._parallel = options.exact, options.compiled, Parallelism(model, info)
        self._closed = self._manual_steps = self._owed = False
        self.guard = Guard(lambda: self.recording and not self.file.capturing(self._device), self._fail)
        self._last_close = time.perf_counter()
        self._device = next(model.parameters()).device.type
        self._table = SiteTable(model, options.include, options.exclude, info.sites)
        self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        self._parameters = ParameterReader(model, self._table, self._optimizers)
        self._scale = LossScale(scaler)
        self._losses = LossReader(criterion, self.guard, self._saw_loss)
        self._paths = LossPaths(self._table, self._losses.kinds, info.loss_path)
        self._take_loss = self.guard(self._losses.give)
        self._lights, self._light, self._backwards = LightSteps(), False, 0
        few = len(optimizers), scaler, info.world_size, self._device, options.locate
        self._may_be_light = few == (1, None, 1, "cpu", False)
        self._backward = BackwardHooks(self._parameters, self._backward_ended, self._zeroed, self.guard)
        self._topology = Topology(self._table, self._backward.listen_at_port, info)
        odd, heard = Oddities(self._table, model, self._optimizers, info), self._backward.listen
        self.forward = ForwardHooks(self._table, self._began, self._again, self._forward_ended, heard, odd)
        self._paths.watcher = id(self.forward)
        parts = self._table, self._topology, self.forward, self._losses, self._scale, self._parallel, self._paths
        self.file = RunFile(info, self._writer, Sources(*parts), options.compiled)
        self.file.step = self._first_step = first_step
        self._delivery = Delivery(self._writer, self.file.write_if_changed, self.schedule)
        self.before_update, after = self.guard(self._before_update), self.guard(self._after_update)
        self._optimizer_handles: list[Any] = [each.register_step_pre_hook(self.before_update) for each in optimizers]
        self._optimizer_handles += [each.register_step_post_hook(after) for each in optimizers]
        located = self.guard(lambda data: self._writer.write_event(self.file.step, "located", data))
        self._locator = Locator(model, scaler, self.guard, lambda: self.recording, located)
        if options.locate:
            self._locator.attach(optimizers)
        self._arm()
        if first_step:
            self.guard(self._writer.write_event)(first_step, "resumed", {})

    # what the scope calls

    @property
    def failure(self) -> str | None:
        """Why recording stopped; None while it goes on."""
        return self.file.failure

    @property
    def recording(self) -> bool:
        """Whether anything is still being recorded."""
        return not self._closed and self.file.failure is None and forks() == self._forks

    def loss(self, loss: torch.Tensor, summed: bool = False) -> None:
        """Takes the loss of a forward pass; `summed`: a step's loss is the sum of what it is given, not the mean."""
        self._take_loss(loss, summed)

    def pause(self, paused: bool) -> None:
        """Sees nothing until it is unpaused."""
        self.guard.paused += 1 if paused else -1  # they nest

    def log(self, name: str, value: float) -> None:
        """Writes a value of the user's down."""
        self.guard(self._writer.write_event)(self.file.step, "value", {"name": name, "value": value})

    def step(self) -> None:
        """Closes the step, in loops without an optimizer."""
        self._manual_steps = True
        self.guard(self._close_step)()

    def flush(self) -> None:
        """Waits for the device and writes everything down, what could not be seen included."""

        def write() -> None:
            self._end_light()
            self._delivery.flush(wait=True)
            self.file.write()

        self.guard(write)()

    def close(self, reason: str = "closed") -> None:
        """Ends the run: takes every hook off and writes what is left."""
        if self._closed or forks() != self._forks:
            return
        if self._backwards and (not self._optimizers or self.file.step == self._first_step):  # nobody ever stepped
            if self._optimizers:
                self._backwards = self._backward.passes
            self.guard(self._close_step)()
        self.guard(self._close_if_skipped)()
        self.guard(self._end_light)()
        self._closed = True
        self._take_off()
        if self.failure is None:
            try:
                self._delivery.flush(wait=True)
                self.file.end(reason)
            except Exception as error:  # a full disk, say: the training must end as it would have
                self.file.fail(error)
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
        self._in_closure = self._evaluated = False  # an optimizer steps with a closure; it has brought the gradients

    def _arm(self, late: bool = False) -> None:
        """Decides about the coming step; hooks that it does not need are not there. `late`: its forward has run."""
        self._reset_step()
        wanted = (self.schedule.wants(self.file.step) or self._owed) and not self._parallel.blind_to_parameters
        self._armed = wanted and (self.forward.awake or not late)
        self._owed = wanted and not self._armed  # by the step whose forward is seen next
        self._light = self._may_be_light and not wanted and self.schedule.hurried
        self._norm_wanted = not self._armed and self.schedule.wants_norm()
        self._losses.attach()
        stays = self._compiled == "full" or compiler_in_use()
        if not self.forward.attached and (wanted or stays):
            self.forward.attach(self.guard, self._compiled == "full")
        if wanted:
            self.forward.wake()
        elif stays:
            self.forward.stop()
        else:
            self.forward.detach()

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
        self.file.never_seen = False
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
        self._locator.saw_loss(loss)
        if self._light:
            return
        if self._stepped and not self._in_closure:  # no forward hook was there to close it
            self._close_step(late=True)
        self._close_if_skipped(late=True)
        self._scale.mark()
        if self._collector is not None and not (self._in_closure and self._evaluated):
            self._backward.listen_at_loss(loss, self._scale.at_loss)
            self._paths.see(loss, self._collector, self.forward.running, self._losses.given)

    def _again(self) -> Collector | None:
        """The collector for what is recomputed in a backward pass of the running step."""
        if self._armed:
            self.file.never_seen = False
            self._begin()
            self._backward.open()
        return self._collector

    def _forward_ended(self, forward: ForwardPass) -> None:
        self._parameters.look_again()  # the pass may have made them
        self._topology.prepare(forward)
        self._paths.look_again(self._collector)
        self._passes.append(forward)
        if len(self._passes) == MOST_PASSES:  # a step that never closes must not take all memory
            self.file.crowded, self._armed, self._collector, self._passes = True, False, None, []
            for part in (self.forward, self._backward, self._parameters):
                part.stop()

    def _backward_ended(self) -> None:
        self._backwards += 1
        self.file.called("backward")
        self._scale.mark()
        self._evaluated = self._in_closure
        self._losses_before_backward = len(self._losses)
        self._paths.mark()
        if self._collector is not None:
            self._scale.backward()
            self._parameters.read_gradients(self._collector)
            self.forward.closer.read_gradients(self._collector)

    def _zeroed(self) -> None:
        """What came before gradients were zeroed without a step is no part of the step (a GAN's other pass)."""
        self._losses.forget(self._losses_before_backward)
        self._paths.forget()
        self._backwards = 0

    def _before_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is not None:
            self._in_closure = self._losses.first_only = True
        elif self._light and not self._norm_wanted:
            return
        if not self._armed:
            if closure is None:
                self._take_norm(optimizer)
            return
        collector = self._begin()
        self.file.called("step", optimizer)
        if closure is not None:
            self._parameters.read_weights(collector, optimizer)
            return
        if current_backward() >= 0:
            self._backward.stepped()
        scaled = self._scale.before_update(optimizer)
        self._parameters.before_update(collector, optimizer, scaled)

    def _take_norm(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes what a step that is not recorded in full can afford."""
        scaled = self._scale.before_update(optimizer)
        if self._norm_wanted:
            entered = time.perf_counter()
            norm = gradient_norm(optimizer, self._parameters.ids)
            if norm is not None:
                self._norms.append((HostNumber(norm), scaled))
            self._norm_seconds += time.perf_counter() - entered

    def _after_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._light and not self._in_closure and not self._norms:
            self._close_lightly()
            return
        self._in_closure = self._losses.first_only = False
        if id(optimizer) in self._stepped:  # the others took no part
            self._close_step()
        self._stepped.add(id(optimizer))
        if len(self._stepped) < len(self._optimizers):
            return
        if current_backward() >= 0:  # it stepped in a hook of the last parameter that was left
            after_backward(self.guard(self._close_step))
        else:
            self._close_step()

    def _close_lightly(self) -> None:
        """Notes a step; at times, and when its loss raises an alarm, everything that was noted is written."""
        now, losses = time.perf_counter(), self._losses.take()
        seconds, self._last_close = now - self._last_close, now
        due = self._lights.note(self.file.step, now, seconds, losses, learning_rates(self._optimizers))
        self.file.step, self._norm_wanted = self.file.step + 1, False
        due |= self.schedule.is_milestone(self.file.step)
        if due or (losses and losses[-1].ready() and self.schedule.saw_loss(losses[-1].value())):
            self._end_light()

    def _end_light(self) -> None:
        """Writes what was noted, and decides anew."""
        if len(self._lights):
            self._write_light()
            self._arm()

    def _write_light(self) -> None:
        """Writes what was noted, if anything was."""
        if not len(self._lights):
            return
        ours, aside = self.guard.spent, self.guard.take_aside()
        steps = self._lights.take(ours + aside)
        self._delivery.add_light(steps)
        self.schedule.spent(sum(facts["seconds"] for facts, _ in steps) - aside, ours, False, steps=len(steps))
        self.guard.spent = 0.0

    def _close_step(self, skipped: bool = False, late: bool = False) -> None:
        self._write_light()
        entered = time.perf_counter()
        trained = [forward for forward in self._passes if forward.trained]
        facts = {
            "step": self.file.step,
            "time": time.time(),
            "forwards": sum(not forward.again for forward in trained) or bool(trained),
            "backwards": self._backwards,
            "training_mode": self._training_mode,
            "skipped": skipped,
        }
        step = ClosedStep(facts, learning_rates(self._optimizers), self._losses.take())
        step.scale, step.found_inf = self._scale.number, self._scale.found_inf
        step.norms = self._norms if len(self._norms) == len(self._optimizers) else []
        recorded = self._collector is not None and self._parameters.has_gradients
        if self._collector is not None and recorded:
            self._scale.closed()
            parts = self._parameters, self._backward, self._topology, self._table, self._paths, self.forward.closer
            gather(step, trained, self._collector, *parts)
        facts["recorded"] = recorded
        self._backward.stop()
        self._parameters.stop()
        self._paths.reset()
        self._locator.closed(late)
        now = time.perf_counter()
        seconds = facts["seconds"] = now - self._last_close
        ours, aside = self.guard.spent + now - entered, self.guard.take_aside()
        facts["recorder_seconds"] = ours + aside
        self._delivery.add(step)
        # writing is part of the price, and lands in the next step's time
        self.schedule.spent(seconds - aside, ours, recorded, self._norm_seconds)
        self.guard.spent, self._last_close = entered - now, now  # the guard adds all of this function's time
        self.file.step += 1
        self._arm(late)

    def _fail(self, error: Exception) -> None:
        self.file.fail(error)
        self._take_off(failed=True)
        try:
            self.file.stop()
        except Exception:  # the disk may be what failed; `failure` is in the diagnosis all the same
            return

    def _take_off(self, failed: bool = False) -> None:
        """Removes every hook; an optimizer's, where torch may be going through them, stays and sleeps."""
        self._locator.detach()
        self.forward.detach()
        self._backward.stop()
        self._parameters.stop()
        self._losses.detach()
        while self._optimizer_handles and not (failed or self.guard.telling):
            self._optimizer_handles.pop().remove()
