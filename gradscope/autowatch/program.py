"""Runs a program as `python` would, in this process, as `__main__`."""

from __future__ import annotations

import atexit
import builtins
import importlib.util
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType, TracebackType

from gradscope.autowatch.session import Session
from gradscope.errors import ProgramError, ProgramNotFound
from gradscope.notices import say

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INTERRUPTED = 130


@dataclass(frozen=True)
class Target:
    """A program: a script or a module, and what comes behind it on the command line.

    Example:
        >>> Target.parse(["train.py", "--lr", "0.1"])
        Target(name='train.py', arguments=('--lr', '0.1'), is_module=False)
        >>> Target.parse(["-m", "package.train"]).command
        ('-m', 'package.train')
    """

    name: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @classmethod
    def parse(cls, command: Sequence[str]) -> Target:
        """Reads what would be typed behind `python`.

        Raises:
            ProgramError: nothing is named.
        """
        words = list(command)
        is_module = words[:1] == ["-m"]
        if is_module:
            del words[0]
        if not words:
            raise ProgramError("expected a script, or -m and a module, behind the options; none is there.")
        return cls(words[0], tuple(words[1:]), is_module)

    @property
    def command(self) -> tuple[str, ...]:
        """What would be typed behind `python`."""
        return (*(("-m",) if self.is_module else ()), self.name, *self.arguments)


def run_program(target: Target, session: Session) -> int:
    """Runs a program as `python` would, and gives its exit code.

    It is `__main__`, with its own `sys.argv` and `sys.path[0]`; they stay when it has ended, for what it left to be
    done at the exit. An exception that it does not catch is printed as Python prints it, without our part of the stack.
    Ctrl-C gives 130, and the process ends as Python does after Ctrl-C, by the signal.

    Args:
        target: what to run.
        session: entered around it.

    Raises:
        ProgramNotFound: there is no such script or module.
        BaseException: what a callback of the session raised to end the program.
    """
    main, code = _module(target) if target.is_module else _script(target)
    session.command, session.directory = target.command, os.getcwd()
    sys.modules["__main__"] = main
    sys.argv = [str(main.__file__) if target.is_module else target.name, *target.arguments]
    entered = os.getpid()
    interrupted: list[bool] = []
    atexit.register(_end_by_the_signal, interrupted)  # first to be registered, last to be called
    error: BaseException | None = None
    try:
        with session:
            try:
                exec(code, main.__dict__)
                _join_threads()
            except BaseException as raised:
                error = raised
                raise
    except BaseException as raised:
        if raised is not error or raised is session.raised:
            raise
        if os.getpid() != entered and isinstance(raised, SystemExit):
            raise  # a forked child
    if isinstance(error, KeyboardInterrupt):
        interrupted.append(True)
    return 0 if error is None else _ended_by(error)


def _script(target: Target) -> tuple[ModuleType, CodeType]:
    path = os.path.abspath(target.name)
    file = os.path.join(path, "__main__.py") if os.path.isdir(path) else path
    try:
        with io.open_code(file) as opened:
            text = opened.read()
    except OSError as error:
        raise ProgramNotFound(
            f"cannot open the script {target.name}: {error.strerror}. Name a Python file, or -m and a module."
        ) from error
    if text.startswith(b"PK\x03\x04"):
        raise ProgramError(f"{target.name} is an archive; unpack it and name the script in it.")
    main = _main(file, None, SourceFileLoader("__main__", file))
    main.__package__ = "" if file != path else None
    _first_on_path(path if file != path else os.path.dirname(os.path.realpath(file)))
    return main, _compiled(text, file)


def _compiled(text: bytes, file: str) -> CodeType:
    """The program's code. What is wrong in it is said as Python would say it."""
    try:
        return compile(text, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        error.__traceback__ = None
        sys.excepthook(type(error), error, None)
        raise SystemExit(1) from None


def _module(target: Target) -> tuple[ModuleType, CodeType]:
    _first_on_path(os.getcwd())
    try:
        spec = importlib.util.find_spec(target.name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{target.name}.__main__")
    except (ImportError, ValueError, AttributeError) as error:
        raise ProgramNotFound(f"no module {target.name} can be run: {error}.") from error
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    if spec is None or get_code is None or spec.origin is None:
        raise ProgramNotFound(f"no module {target.name} can be run from {os.getcwd()}: there is none of that name.")
    try:
        code = get_code(spec.name)
    except SyntaxError as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        raise SystemExit(1) from None
    main = _main(spec.origin, spec, spec.loader)
    main.__package__ = spec.parent
    return main, code


def _main(file: str, spec: ModuleSpec | None, loader: object) -> ModuleType:
    """A new `__main__`, as empty as Python makes it."""
    main = ModuleType("__main__")
    names = {"__file__": file, "__spec__": spec, "__loader__": loader, "__cached__": None, "__builtins__": builtins}
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    main.__dict__.update(names)
    return main


def _first_on_path(folder: str) -> None:
    """Puts a folder where Python puts the script's: in the place of that of our own command."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [folder]


def _join_threads() -> None:
    """Waits for the program's threads, as Python does before it ends: they may train.

    Those of an executor that nobody has shut down wait for work until they are told, at that moment, that none will come.
    """
    told: list[Callable[[], None]] = getattr(threading, "_threading_atexits", [])
    while told:
        with suppress(Exception):
            told.pop()()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()


def _ended_by(error: BaseException) -> int:
    """The exit code of a program that an exception ended, which is printed as Python would."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        say(str(error.code), sys.stderr or sys.__stderr__)
        return 1
    _leave_us_out(error, set())
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:  # a program's own excepthook
        sys.__excepthook__(type(error), error, error.__traceback__)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _end_by_the_signal(interrupted: list[bool]) -> None:
    """Ends the process as Python does after Ctrl-C, so that a shell's loop around it ends too."""
    if not interrupted or os.name != "posix":
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _leave_us_out(error: BaseException, seen: set[int]) -> None:
    """Takes our frames out of an exception's traceback, and out of those that led to it."""
    if id(error) in seen:
        return
    seen.add(id(error))
    error.__traceback__ = _without_us(error.__traceback__)
    for other in (error.__cause__, error.__context__):
        if other is not None:
            _leave_us_out(other, seen)


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    kept = []
    while trace is not None:
        if not os.path.abspath(trace.tb_frame.f_code.co_filename).startswith(os.path.join(_OURS, "")):
            kept.append(trace)
        trace = trace.tb_next
    for frame, following in zip(kept, [*kept[1:], None], strict=False):
        frame.tb_next = following
    return kept[0] if kept else None
