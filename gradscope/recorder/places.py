"""Lines of the user's own program: who called, seen from the stack, and where a module's class is defined."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from types import FrameType
from typing import Literal

import torch
from torch import nn

from gradscope.records import Place, SourceFile

What = Literal["optimizer", "step", "backward", "zero-grad", "class"]

LARGEST_FILE = 200_000  # bytes; what is larger was written by a program
_MOST_FILES, _MOST_CLASSES = 20, 100
_DEEPEST = 8  # of the user's frames, the innermost, tell two ways to a line apart

_LIBRARIES = tuple(
    os.path.join(os.path.abspath(folder), "")
    for folder in {
        os.path.dirname(os.path.dirname(__file__)),
        os.path.dirname(torch.__file__),
        site.getusersitepackages(),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)
_users: dict[str, bool] = {}
_trees: dict[str, tuple[str, ast.Module] | None] = {}


def is_users(file: str) -> bool:
    """Whether a file is the user's own: there, and neither torch, nor GradScope, nor installed, nor Python's.

    Example:
        >>> is_users(torch.__file__), is_users("<ipython-input-1>")
        (False, False)
    """
    known = _users.get(file)
    if known is None:
        whole = os.path.abspath(file)
        installed = {"site-packages", "dist-packages"} & set(PurePath(whole).parts)
        known = _users[file] = not installed and not whole.startswith(_LIBRARIES) and os.path.isfile(whole)
    return known


def users_frames() -> Iterator[FrameType]:
    """The frames of the user's code that lead here, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def way() -> tuple[tuple[str, int], ...]:
    """The lines of the user's code that lead here, to tell calls apart. Takes some microseconds."""
    lines: list[tuple[str, int]] = []
    for frame in users_frames():
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        if len(lines) == _DEEPEST:
            break
    return tuple(lines)


def here(what: What, of: str = "", past: object = None) -> Place | None:
    """The line of the user's program that called; None when no frame is one of its files (a notebook's cell is none).

    Methods of `past` did not call, they were called: an optimizer's `__init__`.
    """
    frame = next((frame for frame in users_frames() if past is None or _first_argument(frame) is not past), None)
    if frame is None:
        return None
    file = os.path.abspath(frame.f_code.co_filename)
    return Place(what, file, _first_line(file, frame.f_lineno), of)


def _first_argument(frame: FrameType) -> object:
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


def class_places(model: nn.Module) -> tuple[Place, ...]:
    """Where the classes of a model's modules are defined, those in the user's own files."""
    places: dict[Place, None] = {}
    for kind in dict.fromkeys(type(module) for module in model.modules()):
        home = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if not isinstance(home, str) or not is_users(home):
            continue
        file = os.path.abspath(home)
        line = _line_of_class(file, kind.__qualname__)
        if line and len(places) < _MOST_CLASSES:
            places[Place("class", file, line, kind.__name__)] = None
    return tuple(places)


def sources(places: Iterable[Place]) -> tuple[SourceFile, ...]:
    """The text of every file that places are in, up to 200 kB a file and 20 of them."""
    files = dict.fromkeys(place.file for place in places)
    read = [(file, _read(file)) for file in files]
    return tuple(SourceFile(file, found[0]) for file, found in read if found is not None)[:_MOST_FILES]


def _read(file: str) -> tuple[str, ast.Module] | None:
    """A file's text and what it means; read once, so that what is kept is what ran."""
    if file not in _trees:
        _trees[file] = None
        try:
            if os.path.getsize(file) <= LARGEST_FILE:
                with open(file, "rb") as opened:
                    raw = opened.read()
                tree = ast.parse(raw)
                text = raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")
                _trees[file] = text, tree
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None
    return _trees[file]


@functools.cache  # asked for at every step while an optimizer waits for its model; a long file takes milliseconds
def _first_line(file: str, line: int) -> int:
    """The line that the statement around a line begins with."""
    found = _read(file)
    if found is None:
        return line
    first = line
    for node in ast.walk(found[1]):  # from the outside in
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            first = node.lineno
    return first


def _line_of_class(file: str, name: str) -> int:
    """The line that a class of this qualified name begins with; 0 where there is none."""
    found = _read(file)
    scope: list[ast.stmt] = [] if found is None else found[1].body
    line = 0
    for part in name.replace(".<locals>", "").split("."):
        node = next((each for each in _definitions(scope) if each.name == part), None)
        if node is None:
            return 0
        line, scope = node.lineno, node.body
    return line


def _definitions(
    body: Iterable[ast.AST],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The classes and functions of one scope, those under an `if` or `try` too."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        else:
            yield from _definitions(ast.iter_child_nodes(node))
