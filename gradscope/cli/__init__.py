"""The command line. One file is one command: parse, read, call one function, print.

A command is a module of this package with `HELP` (one line), `arguments(parser)` and `run(options) -> int`; it is
found by itself and imports what is slow inside `run`. Modules that are no commands begin with an underscore.

Results go to stdout, everything else to stderr.

Example:
    >>> main(["rules", "--color", "never"])  # doctest: +SKIP
    0
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import itertools
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn, TextIO

from gradscope import __version__
from gradscope.cli._exit_codes import BROKEN_PIPE, INTERNAL_ERROR, INTERRUPTED, USAGE
from gradscope.errors import GradScopeError, UsageError

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # the disk is full, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code.

    Args:
        arguments: as typed after `gradscope`; those of the process when not given.
    """
    try:
        code = _run(arguments)
        if sys.stdout is not None and not getattr(sys.stdout, "closed", False):  # by a program that was run
            sys.stdout.flush()  # a broken pipe is to be met here, not at the interpreter's end
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if not _of_stdout(error):
            raise
        _discard_stdout()
        _say(f"gradscope: cannot write to stdout: {error.strerror}. Give -o a file, or make room.")
        return USAGE
    return code


def _of_stdout(error: Exception) -> bool:
    """Whether it is about writing to a stream: an error about a file names it."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _NOT_WRITTEN


def _run(arguments: Sequence[str] | None) -> int:
    _tolerate_any_text()
    as_json = _asks_for_json(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser().parse_args(arguments)
        if options.command is None:
            raise UsageError(parser().format_help())
        as_json = getattr(options, "format", "") == "json"
        return int(options.run(options))
    except GradScopeError as error:
        _say(str(error) if isinstance(error, UsageError) else f"gradscope: {error}")
        return _failed(error, error.exit_code, as_json)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if _of_stdout(error):
            raise
        import traceback

        traceback.print_exc()
        print(
            "gradscope: this is an error of GradScope itself; please report it with the lines above.", file=sys.stderr
        )
        return _failed(error, INTERNAL_ERROR, as_json)


def _say(text: str) -> None:
    """Says what went wrong, as the stream can show it; names in it are the user's, and steer no terminal."""
    from gradscope.reports.look import look_of
    from gradscope.reports.words import ascii_only, harmless

    said = harmless(text, keep="\n\t")
    print(said if look_of(sys.stderr).unicode else ascii_only(said), file=sys.stderr)


def _failed(error: Exception, code: int, as_json: bool) -> int:
    """The exit code; what reads JSON gets its document, whatever happened."""
    if as_json:
        from gradscope.reports import json_text
        from gradscope.reports.envelope import error_document

        sys.stdout.write(json_text.render(error_document(error)))
    return code


def _asks_for_json(words: Sequence[str]) -> bool:
    """Whether JSON is asked for by what cannot be parsed."""
    pairs = set(itertools.pairwise(words))
    return "--json" in words or ("-f", "json") in pairs or ("--format", "json") in pairs or "--format=json" in words


def commands() -> dict[str, ModuleType]:
    """The modules of all commands by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are raised like all others; those of a command name it and its options."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it, but what is not known is refused here, where the command is known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage()}{self.prog}: error: {message}")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    whole = _Parser(prog="gradscope", description="A doctor for neural-network training.")
    whole.add_argument("--version", action="version", version=f"gradscope {__version__}")
    choices = whole.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, module in commands().items():
        command = choices.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return whole


_strict: list[tuple[TextIO, str]] = []  # the streams, and how they took what their encoding cannot hold


def _tolerate_any_text() -> None:
    """Lets both streams spell out what their encoding cannot hold, rather than fail."""
    _strict.clear()
    if sys.stdout is None:  # closed, as by `>&-`: what is asked for may go to a file all the same
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stand-in of a notebook or a test
            _strict.append((stream, stream.errors or "strict"))
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def leave_streams_alone() -> None:
    """Takes that back: the streams are a program's that we run."""
    for stream, errors in _strict:
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors=errors)  # type: ignore[attr-defined]


def _discard_stdout() -> None:
    """Points stdout at nothing, so that the interpreter's own last flush stays quiet."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
