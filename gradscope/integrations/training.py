"""What all adapters share: a training under watch, from its first step to its verdict."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from gradscope.alerts import handlers_of
from gradscope.autowatch.session import in_session
from gradscope.diagnosis import diagnose
from gradscope.errors import RunExists
from gradscope.integrations.losses import hear_losses
from gradscope.notices import say, silent
from gradscope.recorder.ranks import this_rank
from gradscope.records import Diagnosis
from gradscope.scope import Scope, watch
from gradscope.store.bounded import BoundedReader

if TYPE_CHECKING:
    from typing_extensions import Self

_MOST_FOLDERS = 1000
_IDLE: dict[str, Any] = {"_scope": None, "_left": None, "_pauses": None, "_trained": ()}


class Watching:
    """A training that a framework runs, under watch. One object sees as many trainings as it is given, one at a time.

    A training of the same model with the same optimizers as the one before goes on with its run. Any other begins a
    new one: with `run_dir="runs/a"` the second is `runs/a-2`. Copies and pickles of it hold no scope, only what is
    known; a training is never stopped for our sake: what cannot be watched is said on stderr and in `diagnosis`.

    Args:
        quiet: say nothing on stderr, neither where it is recorded nor the verdict at the end.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Attributes:
        quiet, options: as they were given.
        run_dir: the absolute folder of the last training's run; None before it, and when GRADSCOPE=off.
    """

    def __init__(self, *, quiet: bool = False, **options: Any) -> None:
        inspect.signature(watch).bind(None, **options)  # what cannot be is said now, not when a training begins
        handlers_of(options.get("on_finding"), this_rank().world)
        self.quiet, self.options = quiet, options
        self.run_dir: Path | None = None
        self._diagnosis: Diagnosis | None = None
        self._trainings = 0
        self._scope: Scope | None
        self._left: weakref.finalize[Any, Any] | None
        self._pauses: ExitStack | None
        self._trained: Sequence[weakref.ref[Any]]
        self.__dict__.update(_IDLE)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **_IDLE}

    @property
    def scope(self) -> Scope | None:
        """The scope of the training that runs or ran last; None before the first, and in copies."""
        return self._scope

    @property
    def diagnosis(self) -> Diagnosis:
        """What GradScope says of the training so far, or said at its end."""
        if self._diagnosis is not None:
            return self._diagnosis
        if self._scope is None:
            if self.run_dir is None:
                return Diagnosis("not-enough-data", "No training has begun.")
            return diagnose(BoundedReader(self.run_dir).read().run)
        diagnosis = self._scope.diagnose()
        if self._left is None:
            self._diagnosis = diagnosis
        return diagnosis

    def close(self) -> None:
        """Ends recording before the framework does; the verdict is said."""
        self._end()

    def __enter__(self) -> Self:
        """For frameworks that do not tell of exceptions: one that leaves the block is how the run ended."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    # what the adapters call

    def _begin(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: Any = None,
        *,
        hear: bool = True,
        **found: Any,
    ) -> None:
        """Watches a training that is about to begin.

        Args:
            hear: take the losses from where `backward` is called; else `give_loss` hands them over.
            **found: further options of `watch` that the framework knows; what the user said counts more.
        """
        self._end("the training began anew")
        trained = [weakref.ref(each) for each in (model, *optimizers)]
        goes_on = self.run_dir is not None and trained == self._trained
        options = {"scaler": scaler, **found, **self.options}
        if goes_on:
            options.update(run_dir=self.run_dir, resume=True)
        try:
            with silent() if self.quiet else nullcontext():
                scope = self._watch(model, optimizers, options, goes_on)
        except Exception as error:
            self._scope, self.run_dir, self._trained = None, None, ()
            self._diagnosis = Diagnosis("not-enough-data", f"The training was not watched: {error}")
            say(f"gradscope: this training is not watched: {error}")
            return
        self._scope, self._diagnosis, self._pauses, self._trained = scope, None, ExitStack(), trained
        self.run_dir = scope._at
        if scope._recorder is not None:
            if hear:
                hear_losses(scope, model, options["scaler"])
            self._left = weakref.finalize(self, _abandoned, scope, id(_last_error()))

    def _watch(
        self, model: nn.Module, optimizers: Sequence[Optimizer], options: dict[str, Any], goes_on: bool
    ) -> Scope:
        folder = options.get("run_dir")
        self._trainings += not goes_on
        if folder is None or options.get("resume"):
            return watch(model, optimizers, **options)
        alone = this_rank().world == 1
        for number in range(1, _MOST_FOLDERS) if alone else [self._trainings]:  # ranks must not go by what is there
            options["run_dir"] = folder if number == 1 else Path(folder).with_name(f"{Path(folder).name}-{number}")
            try:
                return watch(model, optimizers, **options)
            except RunExists:
                if not alone:
                    raise
        raise RunExists(f"{folder} and {_MOST_FOLDERS - 2} more of its name exist. Give another run_dir=.")

    def _pause(self) -> None:
        """Sees nothing until `_go_on`: a validation begins."""
        if self._scope is not None and self._pauses is not None:
            self._pauses.enter_context(self._scope.pause())

    def _go_on(self) -> None:
        if self._pauses is not None:
            self._pauses.close()

    def _log(self, values: Mapping[str, Any]) -> None:
        """Writes down those values that are one number."""
        for name, value in values.items():
            number = _number(value)
            if number is not None and self._scope is not None:
                self._scope.log(str(name), number)

    def _end(self, why: BaseException | str | None = None) -> None:
        """Closes the run of the training that runs, if one does, and says the verdict."""
        scope, left = self._scope, self._left
        if scope is None or left is None:
            return
        left.detach()
        self._go_on()
        self._left = None
        scope._end(f"{type(why).__name__}: {why}" if isinstance(why, BaseException) else why or "closed")
        if self.quiet or in_session() or this_rank().number != 0:
            return
        try:
            diagnosis = self.diagnosis
        except Exception as error:  # ours: what follows the training must go on
            say(f"gradscope: {self.run_dir} cannot be diagnosed: {type(error).__name__}: {error}")
            return
        line = f"{diagnosis.verdict}: {diagnosis.headline} (all of it: gradscope report {scope.run_dir})"
        say(f"gradscope: {''.join(letter if letter.isprintable() else '?' for letter in line)}")


def plain_optimizer(optimizer: Any) -> tuple[Any, Any]:
    """The torch optimizer inside of what Accelerate makes of one, and the gradient scaler that came with it."""
    scaler = None
    while "optimizer" in getattr(optimizer, "__dict__", {}) and "_optimizer_step_pre_hooks" not in optimizer.__dict__:
        scaler = scaler or getattr(optimizer, "scaler", None)
        optimizer = optimizer.optimizer
    return optimizer, scaler


def _number(value: Any) -> float | None:
    """A number, or an array or tensor without dimensions, as a float; None for anything else."""
    if isinstance(value, (bool, str, bytes)) or getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except Exception:  # any object may be logged, and the training goes on
        return None


def _abandoned(scope: Scope, known: int) -> None:
    """Closes the run of a training that did not come to its end: its callback is gone, or the program ends."""
    error = _last_error()
    unhandled = error is not None and id(error) != known
    scope._end(f"{type(error).__name__}: {error}" if unhandled else "the training did not come to its end")


def _last_error() -> BaseException | None:
    """The exception that Python printed last: at the exit, the one that ended the program."""
    return getattr(sys, "last_value", None)
