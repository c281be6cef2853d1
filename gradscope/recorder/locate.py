"""Finds the operation and the line where the first NaN or Inf of a training is made, by running the step again."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradscope.recorder.guard import Guard
from gradscope.recorder.origins import (
    Origin,
    Place,
    Tracer,
    callers_line,
    in_backward,
    in_loss,
    kind_of,
    made_by,
    nodes_between,
    operation,
)
from gradscope.recorder.private import (
    add_forward_hook,
    after_backward,
    current_backward,
    is_traced,
    number_of,
    scale_of,
)
from gradscope.recorder.replay import CannotReplay, KeptForward, Replay, changed_since, keep, replayed, without_history
from gradscope.recorder.tensors import tensors_in

_MOST_FORWARDS = 64  # of one step that are kept, the latest
_MOST_UNUSED = 4  # of them whose graph is gone and saw no backward pass: a validation's, or a target's
_MOST_NODES = 10_000  # of losses that are watched, the latest
_SKIPS = 10  # steps that a scaler skips in a row: by then it is no overflow any more


class Locator:
    """Keeps what each training forward of the running step was given, until something is NaN or Inf; then runs it again.

    It waits for the device, at every loss and before every update. One event is written, then it is done.

    Args:
        model: kept by weak reference only.
        scaler: whose skipped steps are its own work.
        guard: the recorder's: nothing that is run again is recorded.
        recording: whether anything is recorded at this moment.
        write: takes the data of the event.
    """

    def __init__(
        self,
        model: nn.Module,
        scaler: Any,
        guard: Guard,
        recording: Callable[[], bool],
        write: Callable[[dict[str, Any]], None],
    ) -> None:
        self._model = weakref.ref(model)
        self._scaler = None if scaler is None else weakref.ref(scaler)
        self._write = write
        self.done = True  # until it is attached
        self._recorders = guard
        self._guard = Guard(lambda: not self.done and not guard.paused and recording(), self._gave_up)
        self._running: KeptForward | None = None  # between its beginning and its end
        self._forwards: deque[KeptForward] = deque(maxlen=_MOST_FORWARDS)
        # operations of the loss with the gradients that left and arrived, in the latest backward pass
        self._loss: list[tuple[str, Any, Any]] = []
        self._loss_place = ("", 0)
        self._scaled = scaler is not None  # gradients may overflow and be skipped
        self._version, self._skips = -1, 0  # of the scaler's scale; steps without an update in a row
        self._backward, self._awaited = -1, False  # the latest, and whether its end is
        self._step_handles: list[Any] = []
        self._handles: list[Callable[[], None]] = []

    def attach(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Begins to watch; the updates of these optimizers are looked at before they happen."""
        self.done = False
        self._handles += [
            register_module_forward_pre_hook(self._before).remove,
            add_forward_hook(self._after),
            *(each.register_step_pre_hook(self._guard(self._before_update)).remove for each in optimizers),
        ]

    def detach(self) -> None:
        """Takes every hook off and forgets what was kept."""
        self.done = True
        self.closed()
        while self._handles:
            self._handles.pop()()

    def closed(self, late: bool = False) -> None:
        """Ends a step. `late`: the forward pass of the next one has run."""
        waiting = [kept for kept in self._forwards if late and not kept.arrived]
        self._forwards.clear()
        self._forwards.extend(waiting)
        self._loss.clear()
        if not late:
            while self._step_handles:
                self._step_handles.pop().remove()

    def _let_go(self) -> None:
        """Forgets the hooks on graphs that are gone, and all but a few of the forwards that led to nothing."""
        alive = [handle for handle in self._step_handles if _is_alive(handle)]
        for handle in alive[:-_MOST_NODES]:
            handle.remove()
        self._step_handles = alive[-_MOST_NODES:]
        unused = [kept for kept in self._forwards if not kept.reached and not any(map(_is_alive, kept.hooks))]
        for kept in unused[:-_MOST_UNUSED]:
            self._forwards.remove(kept)

    def _gave_up(self, error: Exception) -> None:
        self._finish({"said": f"the step could not be run again: {type(error).__name__}: {error}".split("\n")[0]})

    def _finish(self, data: dict[str, Any]) -> None:
        self.done = True
        self._running = None
        self.closed()
        self._write(data)

    # what is kept

    def _before(self, module: nn.Module, args: Any) -> None:
        # it is called for every module of the process, and means one of them
        if not torch.compiler.is_compiling() and module is self._model():
            self._guard(self._begin)(module, args)

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and module is self._model():
            self._guard(self._end)(kwargs, output)

    def _begin(self, model: nn.Module, args: Any) -> None:
        if not torch.is_grad_enabled() or current_backward() >= 0 or is_traced():
            return
        self._count_skips()
        self._let_go()
        self._running = keep(model, args, callers_line())

    def _end(self, kwargs: Any, output: Any) -> None:
        kept, self._running = self._running, None
        if kept is None or not torch.is_grad_enabled():
            return
        kept.kwargs = without_history(kwargs)
        for number, tensor in enumerate(tensors_in(output)):
            kept.outputs.append(tensor.detach())
            node = tensor.grad_fn
            if node is not None:
                kept.ends.add((number_of(node), tensor.output_nr))  # the node itself would keep the graph alive
                arrived = self._guard(partial(self._arrived, kept, number, tensor.output_nr))
                kept.hooks.append(node.register_prehook(arrived))
        self._step_handles += kept.hooks
        self._forwards.append(kept)

    def _count_skips(self) -> None:
        """Drops what belongs to a step that the scaler skipped."""
        scale = None if self._scaler is None else scale_of(self._scaler())
        if scale is None or scale._version == self._version:
            return
        if self._version >= 0:
            self._skips += 1  # an update takes it back
            self.closed()
        self._version = scale._version

    # when to look

    def _arrived(self, kept: KeptForward, number: int, output: int, gradients: Sequence[torch.Tensor | None]) -> None:
        gradient = gradients[output]
        if gradient is None:
            return
        self._in_backward()
        if not self._awaited:
            self._awaited = True
            after_backward(self._guard(self._after_backward))
        kept.reached = True
        kept.arrived[number] = gradient.detach()

    def _in_backward(self) -> None:
        """Forgets the backward pass before the one that runs."""
        if self._backward != current_backward():
            self._backward, self._awaited = current_backward(), False
            self._loss.clear()
            for each in self._forwards:
                each.arrived.clear()

    def saw_loss(self, loss: torch.Tensor) -> None:
        """Looks at a loss that backward is about to be called on."""
        if not self.done:
            self._guard(self._look_at_loss)(loss)

    def _look_at_loss(self, loss: torch.Tensor) -> None:
        self._loss_place = callers_line()
        if kind_of([loss]):
            if self._scaler is None or self._skips >= _SKIPS:
                self._locate(loss)
            return
        if loss.grad_fn is None:
            return
        ends = self._ends()
        if number_of(loss.grad_fn) in {number for number, _ in ends}:  # the model gives its loss itself
            return
        position = loss.output_nr

        def scaled(gradients: Sequence[torch.Tensor | None]) -> None:
            gradient = gradients[position]
            self._scaled |= gradient is not None and gradient.numel() == 1 and float(gradient) > 1

        self._step_handles.append(loss.grad_fn.register_prehook(self._guard(scaled)))
        for node in nodes_between([loss.grad_fn], ends):
            if not node.name().endswith("AccumulateGrad"):
                passed = self._guard(partial(self._passed, operation(node)))
                self._step_handles.append(node.register_hook(passed))

    def _ends(self) -> set[tuple[int, int]]:
        return set().union(*(kept.ends for kept in self._forwards))

    def _passed(self, operation: str, left: Any, arrived: Any) -> None:
        self._in_backward()
        if len(self._loss) < _MOST_NODES:
            self._loss.append((operation, left, arrived))

    def _after_backward(self) -> None:
        # under a scaler gradients may overflow: it skips such steps, and that is its work
        if not self._scaled or self._skips >= _SKIPS:
            self._look_at_gradients()

    def _before_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._skips = -1  # the scaler's own update comes after it
        found = getattr(optimizer, "found_inf", None)
        skips = isinstance(found, torch.Tensor) and bool(found)
        if current_backward() < 0 and not skips:
            self._look_at_gradients()

    def _look_at_gradients(self) -> None:
        model = self._model()
        gradients = [p.grad for p in model.parameters() if p.grad is not None] if model is not None else []
        plain = [each for each in gradients if each.layout is torch.strided]
        with torch.no_grad():
            if len(plain) == len(gradients) and (not plain or torch.isfinite(torch.nn.utils.get_total_norm(plain))):
                return
        if kind_of(gradients):
            self._locate(None)

    # what is found

    def _locate(self, loss: torch.Tensor | None) -> None:
        """Runs the step's forwards again, the earliest first, and writes down the first origin that they show."""
        model = self._model()
        if model is None or not self._forwards:
            return
        found, reasons = None, []
        last: Origin | None = None  # of what the forwards made, whatever became of it
        self._recorders.paused += 1
        try:
            for kept in list(self._forwards):
                tracer = Tracer(model, list(tensors_in((kept.args, kept.kwargs))))
                reasons.append(changed_since(kept))
                with replayed(model, kept, tracer) as replay:
                    found = self._origin(kept, tracer, replay, loss)
                last = tracer.last() or last
                if found is not None:
                    break
                reasons.append(
                    f"{replay.left_out} of your hooks on modules are not called in it" if replay.left_out else ""
                )
        except CannotReplay as error:
            reasons = [str(error)]
        finally:
            self._recorders.paused -= 1
        if found is None and loss is not None and not kind_of([o for kept in self._forwards for o in kept.outputs]):
            found = in_loss(loss, self._ends()) or last or Origin("loss", "", kind_of([loss]))
        said = next(filter(None, reasons), "")
        if found is None:
            self._finish({"said": f"running the step again does not show it: {said or 'it is not reproducible'}"})
            return
        if not found.place.file:
            line = {"forward": kept.place, "backward": kept.place, "loss": self._loss_place, "target": self._loss_place}
            found = replace(found, place=Place(found.place.module, *line.get(found.direction, ("", 0))))
        self._finish({**found.data(), "said": said})

    def _origin(self, kept: KeptForward, tracer: Tracer, replay: Replay, loss: torch.Tensor | None) -> Origin | None:
        """What one forward pass shows that was run again."""
        outputs = list(tensors_in(replay.output))
        found = tracer.origin_of(outputs)
        if found is not None or loss is not None:
            return found
        arrived = {number: gradient for number, gradient in kept.arrived.items() if number < len(outputs)}
        if kind_of(list(arrived.values())):
            return self._in_loss_backward()
        pairs = [(outputs[n], gradient) for n, gradient in arrived.items() if outputs[n].grad_fn is not None]
        if not pairs:
            return None
        return in_backward([output for output, _ in pairs], [gradient for _, gradient in pairs], tracer, replay.own)

    def _in_loss_backward(self) -> Origin | None:
        """Which operation of the loss was the first to make a NaN or Inf of a finite gradient."""
        for name, left, arrived in self._loss:
            origin = made_by(name, left, arrived)
            if origin is not None:
                return replace(origin, direction="loss", place=Place("", *self._loss_place))
        return Origin("loss", "", "NaN")


def _is_alive(handle: Any) -> bool:
    """Whether the node that a hook is on still is: it holds the hooks, their handle does not."""
    return handle.hooks_dict_ref() is not None
