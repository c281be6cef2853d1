"""A process under observation, from entering to leaving: one at a time."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from gradscope.errors import WatchError
from gradscope.notices import pinned, say

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from gradscope.autowatch.watcher import Watcher
    from gradscope.scope import Scope


class Session:
    """Finds and watches the models that are trained while it is entered. A context manager, one per process at a time.

    A model is watched when its first forward with gradients begins and an optimizer holds its parameters: the outermost
    module that is called, or the nearest module around it that holds all that the optimizer updates. Models that were
    made before are found too. Each has a run of its own; a new optimizer for a model that is watched begins a new run.

    Args:
        before_training: called right before a model is watched, so before its first training forward runs, with the
            model and its optimizers.
        after_step: called after each closed step of a watched model, with its scope and the number of steps so far.
            What it raises, if it is no `Exception`, passes through torch and the program.
        announce: say on stderr, at the end, what was found.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_finding … Of several models the first is recorded
            into `run_dir`, the others into `run_dir-2`, `run_dir-3` …

    Attributes:
        scopes: one for each model found, in that order. Those that never stepped are gone when the session has ended.
        command: what the program is to be run again with, if it is one: ("train.py", "--lr", "0.1").
        missing: why nothing was found, in one line; "" while something is.
    """

    def __init__(
        self,
        *,
        before_training: Callable[[nn.Module, list[Optimizer]], None] | None = None,
        after_step: Callable[[Scope, int], None] | None = None,
        announce: bool = False,
        **options: Any,
    ) -> None:
        if options.get("on_finding") is not None:
            _check_handlers(options["on_finding"])
        self.before_training, self.after_step, self.options = before_training, after_step, options
        self.scopes: list[Scope] = []
        self.command: Sequence[str] = ()
        self.directory = ""
        self.raised: BaseException | None = None  # by a callback, to end the program
        self._announce = announce
        self._waiting: _WhenImported | None = None
        self._watcher: Watcher | None = None
        self._missing = "no torch: the program never imported it"
        self._process = 0
        self._speech = ExitStack()

    @property
    def missing(self) -> str:
        """Why nothing was found, in one line; "" while something is."""
        if self.scopes:
            return ""
        return self._missing if self._watcher is None else self._watcher.missing

    def __enter__(self) -> Session:
        if os.environ.get("GRADSCOPE", "").lower() == "off":
            self._missing = "GRADSCOPE=off in the environment"
            return self
        if _Active.session is not None:
            raise WatchError("this process is watched already: leave the first autowatch() before another is entered.")
        _Active.session, self._process = self, os.getpid()
        self.directory = self.directory or os.getcwd()
        self._speech.enter_context(pinned())
        if "torch" in sys.modules:
            self._start()
        else:
            self._waiting = _WhenImported("torch", self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _Active.session is not self or self._process != os.getpid():  # a forked child is none of ours
            return
        _Active.session = None
        if self._waiting is not None:
            self._waiting.forget()
        if self._watcher is not None:
            self._watcher.stop("closed" if kind is None else f"{kind.__name__}: {error}")
        said = self.summary() if self._announce else ""
        if said:
            say(said)
        self._speech.close()

    def summary(self) -> str:
        """What was found, in a few lines, and what to type next; "" when GRADSCOPE=off, and on ranks other than 0."""
        if self._process != os.getpid() or os.environ.get("RANK", "0") != "0":
            return ""
        from gradscope.autowatch.summary import summary

        return summary(self)

    def _start(self) -> None:
        from gradscope.autowatch.watcher import Watcher

        self._watcher = Watcher(self)
        try:
            self._watcher.start()
        except Exception as error:
            self._missing = f"{type(error).__name__}: {error}"
            self._watcher.stop("closed")
            self._watcher = None


def _check_handlers(on_finding: object) -> None:
    """Says what cannot be told now, and not when a model is found."""
    from gradscope.alerts import handlers_of  # brings numpy, which the program may want to prepare for

    world = os.environ.get("WORLD_SIZE", "1")
    handlers_of(on_finding, int(world) if world.isdecimal() else 1)


class _Active:
    """The session of this process."""

    session: Session | None = None


def in_session() -> bool:
    """Whether this process is under observation: what is found is then told at its end."""
    return _Active.session is not None


class _WhenImported(importlib.abc.MetaPathFinder):
    """Calls back once, when a package has been imported; it is found and loaded by whoever would have.

    Args:
        name: of the package.
        then: called when its import has ended, on the importing thread.
    """

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name, self._then = name, then
        sys.meta_path.insert(0, self)

    def forget(self) -> None:
        """Waits no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Finds the package as if we were not there, and listens to its loader."""
        if name != self._name:
            return None
        self.forget()
        spec = importlib.util.find_spec(name)
        loader = None if spec is None else spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return spec
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # ours, on the instance
            load(module)
            self._then()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def autowatch(**options: Any) -> Session:
    """Watches whatever is trained inside the `with` block, without a change to it.

    Args:
        **options: of `gradscope.watch`: run_dir, every, overhead, on_finding …

    Example:
        >>> import tempfile, torch, gradscope
        >>> def train():  # knows nothing of GradScope
        ...     model = torch.nn.Linear(4, 1)
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ...     for _ in range(5):
        ...         model(torch.ones(8, 4)).square().mean().backward()
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with gradscope.autowatch(run_dir=f"{folder}/run") as session:
        ...         train()
        ...     [scope.diagnose().verdict for scope in session.scopes]
        ['healthy']
    """
    return Session(announce=True, **options)
