"""Torch's global hooks: when a model's first training forward begins, it is watched."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradscope import scope as scopes
from gradscope.autowatch.candidates import (
    Known,
    choose,
    holding,
    living_optimizers,
    living_scalers,
    owners,
    parameters_of,
    the_scaler,
)
from gradscope.autowatch.catching_up import catch_up
from gradscope.autowatch.objectives import Objectives
from gradscope.autowatch.watched import MOST, Watched, close_earlier, forget_empty
from gradscope.autowatch.wrapping import listen
from gradscope.errors import GradScopeError, TrainingUnhealthy
from gradscope.notices import say
from gradscope.recorder.parallel import unwrapped
from gradscope.recorder.places import here, way
from gradscope.recorder.private import (
    compiler_in_use,
    current_backward,
    forks,
    is_traced,
    is_transformed,
    keep_quiet_about_hooks,
    uncompiled,
)
from gradscope.records import Place

if TYPE_CHECKING:
    from gradscope.autowatch.session import Session


_MOST_SCALED = 3  # losses that wait for their backward


class Watcher:
    """Finds what is trained in this process, and has it watched.

    Args:
        session: on whose behalf.

    Attributes:
        watched: the models that were found, in that order.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._forks = forks()
        self._busy = self._stopped = self._full = False
        self._handles = ExitStack()
        self._listening: Any = None  # the hook on all forward passes, while any parameter waits for its model
        self._known: dict[int, Known] = {}
        self._wanted: set[int] = set()  # ids of parameters that optimizers hold and no watched model has
        self._dismissed: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # modules that have none of them
        self._zeroed: weakref.WeakKeyDictionary[nn.Module, Place | None] = weakref.WeakKeyDictionary()
        self._objectives = Objectives()
        self._scalers_before = weakref.WeakSet(living_scalers())
        # losses of which a scaler has made others, each with what it was made into; let go at the next backward
        self._scaled_losses: list[tuple[weakref.ref[torch.Tensor], torch.Tensor]] = []
        self._step: tuple[Optimizer, Any, Any, Place | None] | None = None  # that is running, how and from where
        self._kinds: dict[str, bool] = {}  # classes of the optimizers that were found, and whether one of them stepped
        self.watched: list[Watched] = []

    def start(self) -> None:
        """Puts the hooks on, and looks for optimizers that are there already."""
        safe = self._safely
        for back in (
            listen(Optimizer, "__init__", after=safe(lambda _, optimizer, *args, **kwargs: self._built(optimizer))),
            listen(Optimizer, "zero_grad", before=safe(self._zeroes)),
            listen(nn.Module, "zero_grad", before=safe(self._zeroes)),
            listen(torch.autograd, "backward", before=safe(self._backward)),
            listen(torch.amp.GradScaler, "scale", after=safe(self._scaled)),
            register_optimizer_step_pre_hook(safe(self._steps)).remove,
            register_optimizer_step_post_hook(safe(lambda optimizer, args, kwargs: self._stepped(optimizer))).remove,
        ):
            self._handles.callback(back)
        for optimizer in living_optimizers():
            self._know(optimizer)

    def stop(self, reason: str) -> None:
        """Takes everything off and closes the runs; those in which nothing stepped are no runs."""
        self._take_off()
        for each in self.watched:
            if each.own:
                each.scope._end(reason)
        self._session.scopes[:] = [each.scope for each in forget_empty(self.watched)]

    @property
    def missing(self) -> str:
        """Why there is no run, in one line."""
        names = ", ".join(self._kinds)
        if not names:
            return "no torch optimizer was built"
        if any(self._kinds.values()):
            return f"no torch.nn.Module was found that holds the parameters of {names}"
        seen = "" if self.watched else ", and no forward with gradients of a module that holds its parameters was seen"
        return f"{names} never stepped{seen}"

    def _take_off(self) -> None:
        self._stopped, self._step, self._scaled_losses = True, None, []
        self._handles.close()
        if self._listening is not None:
            self._listening.remove()
            self._listening = None

    def _safely(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function for torch to call: an error of ours ends what we do, never the training."""

        def safe(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or self._busy or self._stopped or forks() != self._forks:
                return None
            try:
                return function(*args, **kwargs)
            except TrainingUnhealthy:  # the user wants it to end
                raise
            except Exception as error:
                self._stopped = True  # hooks are taken off later: torch may be going through them
                text = f"{type(error).__name__}: {error}".split("\n")[0]
                say(f"gradscope: nothing new is watched from now on, the training goes on: {text}")
                return None

        return safe

    # optimizers

    def _built(self, optimizer: Optimizer) -> None:
        self._know(optimizer, here("optimizer", type(optimizer).__name__, past=optimizer))

    def _know(self, optimizer: Optimizer, built: Place | None = None) -> Known:
        known = self._known[id(optimizer)] = Known(weakref.ref(optimizer), built)
        self._kinds.setdefault(type(optimizer).__name__, False)
        self._look()
        return known

    def _alive(self) -> list[Known]:
        self._known = {number: known for number, known in self._known.items() if known.optimizer() is not None}
        return list(self._known.values())

    def _look(self) -> None:
        """Finds out which parameters wait for their model; none: no forward has to be heard."""
        self._wanted = set()
        for known in self._alive():
            self._wanted |= known.wanted
        self._dismissed.clear()
        if self._wanted and self._listening is None:
            keep_quiet_about_hooks()
            handle = self._listening = register_module_forward_pre_hook(self._called_safely())
            # before those of a recorder, whose run is over when its model is trained by another optimizer
            hooks: Any = handle.hooks_dict_ref()
            hooks.move_to_end(handle.id, last=False)
        elif not self._wanted and self._listening is not None and not compiler_in_use():
            self._listening.remove()
            self._listening = None

    def _called_safely(self) -> Callable[..., Any]:
        begin, join, dismissed = self._safely(self._called), self._safely(self._join), self._dismissed

        def called(module: nn.Module, args: tuple[Any, ...]) -> Any:
            # for every module of the process: what most of them are is found out first
            if torch.compiler.is_compiling() or not torch.is_grad_enabled() or module in dismissed:
                return None
            hooks = set(module._forward_pre_hooks)
            watched = begin(module)
            changed = catch_up(module, hooks, args)
            given = None if watched is None else join(watched, module, args if changed is None else changed)
            return changed if given is None else given

        return called

    def _zeroes(self, owner: Optimizer | nn.Module, *_: Any, **__: Any) -> None:
        """Notes, once each, where gradients are zeroed."""
        if isinstance(owner, nn.Module):
            if owner not in self._zeroed:
                place = self._zeroed[owner] = here("zero-grad")
                for watched in self._own():
                    if watched.parameters & parameters_of(owner):
                        watched.recorder.file.know(place)
            return
        known = self._known.get(id(owner))
        if known is not None and known.zeroed is None:
            known.zeroed = here("zero-grad", type(owner).__name__)
            for watched in self._own():
                if known in watched.optimizers:
                    watched.recorder.file.know(known.zeroed)

    def _steps(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._wanted:
            self._step = optimizer, args, kwargs, here("step", type(optimizer).__name__)

    def _stepped(self, optimizer: Optimizer) -> None:
        self._step = None
        known = self._known.get(id(optimizer))
        if known is None or known.optimizer() is not optimizer:
            known = self._know(optimizer)  # one that was unpickled, say
        mine = [each for each in self._own() if known in each.optimizers]
        if not known.fresh and not mine and not known.left and self._successors(known):
            known.fresh = known.joint = True
            self._look()
        elif known.fresh and not known.stepped:
            self._adopt_late(known)
        known.stepped = self._kinds[type(optimizer).__name__] = True
        for each in mine:
            self._objectives.stepped(id(each))
        self._tell(known)

    def _successors(self, known: Known) -> list[Watched]:
        """The models whose run was begun with another optimizer for the same parameters."""
        return [each for each in self._own() if each.parameters & known.ids]

    def _tell(self, known: Known | None = None) -> None:
        """Tells the session of closed steps. Of a run that has failed nobody closes any: its optimizers' are counted."""
        if self._session.after_step is None:
            return
        for each in self.watched:
            closed = each.recorder.file.step - each.first
            if not each.recorder.recording and each.optimizers and known is each.optimizers[-1]:
                closed = max(closed, each.steps + 1)
            if closed > each.steps:
                each.steps = closed
                self._outside(self._session.after_step, each.scope, closed)

    def _outside(self, callback: Callable[..., None], *args: Any) -> None:
        """Calls a callback of the session's; what it does with torch is none of the training's."""
        busy, self._busy = self._busy, True
        try:
            callback(*args)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._session.raised = error
            raise
        finally:
            self._busy = busy

    # losses

    def _own(self) -> list[Watched]:
        return [each for each in self.watched if each.own and each.recorder.recording]

    def _backward(self, tensors: Any = None, *args: Any, **kwargs: Any) -> None:
        if current_backward() >= 0:  # a reentrant checkpoint's
            return
        self._tell()
        if isinstance(tensors, (tuple, list)) and len(tensors) == 1:
            tensors = tensors[0]
        scaled, self._scaled_losses = self._scaled_losses, []
        if isinstance(tensors, torch.Tensor):
            losses = [loss for made, loss in scaled if made() is tensors] or [loss for _, loss in scaled[-1:]]
            self._take(losses[0] if losses else tensors)
            self._scaled_losses = [(made, loss) for made, loss in scaled if losses and loss is not losses[0]]
        for each in self._own():
            each.scope._passing()

    def _scaled(self, scaled: Any, _: Any, outputs: Any = None) -> None:
        """Keeps a loss until `backward` is called on what a scaler made of it: the loss itself is what counts."""
        if isinstance(outputs, torch.Tensor) and isinstance(scaled, torch.Tensor) and scaled is not outputs:
            kept = [pair for pair in self._scaled_losses if pair[0]() is not None]
            self._scaled_losses = [*kept[-_MOST_SCALED:], (weakref.ref(scaled), outputs)]

    def _take(self, loss: torch.Tensor) -> None:
        own = self._own()
        if loss.grad_fn is None or not own:
            return
        numbers = {id(each): each for each in own}
        models = {number: each.parameters for number, each in numbers.items()}
        lines = way()
        found = self._objectives.of(loss, lines, models)
        sure = self._objectives.is_sure(lines)
        for number in found:
            watched = numbers[number]
            watched.recorder.loss(loss, summed=True)
            if sure and lines not in watched.ways:
                watched.ways.add(lines)
                watched.recorder.file.know(here("backward"))

    # models

    def _called(self, module: nn.Module) -> Watched | None:
        """A module's forward with gradients begins."""
        if self._wanted.isdisjoint(parameters_of(module)):
            self._dismissed.add(module)
            return None
        if current_backward() >= 0 or is_traced() or is_transformed():
            return None
        model, optimizers = choose(self._alive(), module)
        if not optimizers:  # it is gone, and its parameters' ids are others' now
            self._look()
            return None
        return self._adopt(model, optimizers)

    def _join(self, watched: Watched, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Lets a recorder see the call that it was made in."""
        if not watched.own:
            return None
        if self._step is not None and any(known.optimizer() is self._step[0] for known in watched.optimizers):
            optimizer, values, named, place = self._step  # the model is called by a closure
            watched.recorder.file.called("step", optimizer, place)
            watched.recorder.before_update(optimizer, values, named)
        return watched.recorder.forward.join(module, args)

    def _adopt_late(self, known: Known) -> None:
        """Watches a model whose forward was not seen: it was called by another way than `model(x)`."""
        model = holding(known.ids)
        if model is not None:
            self._adopt(model, list(owners(self._alive(), parameters_of(model))))

    def _adopt(self, model: nn.Module, optimizers: list[Known]) -> Watched | None:
        """Begins a run."""
        self._busy = True
        try:
            watched = self._by_the_program(model, optimizers)
            if watched is None:
                optimizers += close_earlier(self._own(), model, optimizers)
                if len(self.watched) < MOST:
                    watched = self._watch(model, optimizers)
                elif not self._full:
                    say(f"gradscope: this program trains more than {MOST} models: those after them are not watched")
                    self._full = True
        except GradScopeError as error:
            say(f"gradscope: a {type(model).__name__} is not watched: {error}")
            watched = None
        finally:
            self._busy = False
        held = parameters_of(model)
        for known in optimizers:
            known.left, known.fresh, known.joint = (known.wanted - held), False, False
        if watched is not None:
            self.watched.append(watched)
            self._session.scopes.append(watched.scope)
        self._objectives.forget()
        self._look()
        return watched

    def _by_the_program(self, model: nn.Module, optimizers: list[Known]) -> Watched | None:
        """The scope of a program that watches its model itself: that is left alone."""
        held, own = parameters_of(model), {id(each.scope) for each in self.watched}
        for scope, parameters in scopes.open_scopes():
            if id(scope) not in own and held & parameters:
                recorder = scope._recorder
                assert recorder is not None
                self._treat(model, optimizers)
                watched = Watched(weakref.ref(model), scope, recorder, parameters, optimizers, own=False)
                watched.first = recorder.file.step
                return watched
        return None

    def _treat(self, model: nn.Module, optimizers: Iterable[Known]) -> list[Optimizer]:
        """Lets the session do what is to be done before a training begins; gives the optimizers."""
        found = [optimizer for known in optimizers if (optimizer := known.optimizer()) is not None]
        if self._session.before_training is not None:
            plain = unwrapped(model)
            self._outside(self._session.before_training, uncompiled(plain) or plain, found)
        return found

    def _watch(self, model: nn.Module, optimizers: list[Known]) -> Watched:
        given = self._treat(model, optimizers)
        options = {"scaler": the_scaler(self._scalers_before), **self._session.options}
        folder = options.get("run_dir")
        if folder is not None and os.getcwd() != self._session.directory:
            folder = options["run_dir"] = Path(self._session.directory, folder)  # the program has gone elsewhere
        if folder is not None and self.watched:
            options["run_dir"] = Path(folder).with_name(f"{Path(folder).name}-{len(self.watched) + 1}")
        scope = scopes.watch(model, given, **options)
        recorder = scope._recorder
        assert recorder is not None
        places = [place for known in optimizers for place in (known.built, known.zeroed)]
        places += [self._zeroed.get(module) for module in (model, unwrapped(model))]
        facts = {"command": tuple(self._session.command), "directory": self._session.directory}
        recorder.file.know(*places, **facts)
        # parameters that were added or exchanged before the training are the model's now
        return Watched(weakref.ref(model), scope, recorder, parameters_of(model), optimizers, first=recorder.file.step)
