"""Where in the user's program a finding is: the line that a cure changes, the class of a layer, or the script."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from gradscope.records import Finding, RunInfo

_LINE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?:: (?P<says>.*))?", re.DOTALL)  # "train.py:42: insert before step()"


def locations(info: RunInfo, finding: Finding) -> list[dict[str, Any]]:
    """The known places of a finding, the most telling first, each once: file, line, what is there.

    A file is named from where the program ran. The script as a whole, which has no line, comes last.

    Example:
        >>> from gradscope.records import Place
        >>> info = RunInfo("a", "Net", 0.0, places=(Place("class", "/x/net.py", 7, "Net"),), directory="/x")
        >>> locations(info, Finding("dead-units", "error", ("",), 0, 0, "All units are dead"))
        [{'file': 'net.py', 'line': 7, 'what': 'class Net'}]
    """
    found: dict[tuple[str, int | None], dict[str, Any]] = {}
    for place in (*_cures(finding), *_classes(info, finding), *_script(info)):
        found.setdefault((place["file"], place["line"]), place)
    return list(found.values())


def file_from(root: str, directory: str, file: str) -> str:
    """A file's path from `root`, with slashes; where it lies elsewhere, as it was named by the run.

    Args:
        root: the repository's folder on this machine.
        directory: where the program ran; "" when that is not known.
        file: from there, or absolute.

    Example:
        >>> file_from("/repository", "/repository/work", "train.py"), file_from("/repository", "/home/me", "train.py")
        ('work/train.py', 'train.py')
    """
    whole = os.path.normpath(os.path.join(directory, file)) if directory else file
    if root and PurePath(whole).is_relative_to(root):
        file = os.path.relpath(whole, root)
    return file.replace(os.sep, "/")


def _place(file: str, line: int | None, what: str) -> dict[str, Any]:
    where = {"file": file.replace(os.sep, "/")}
    return {**where, "line": line, **({} if line else {"line_words": "the whole file"}), "what": what}


def _cures(finding: Finding) -> Iterator[dict[str, Any]]:
    """The first line that a suggestion changes."""
    for suggestion in finding.suggestions:
        read = _LINE.fullmatch(suggestion.location or "")
        if read:
            yield _place(read["file"], int(read["line"]) or None, read["says"] or suggestion.title)


def _classes(info: RunInfo, finding: Finding) -> Iterator[dict[str, Any]]:
    """The classes of the user's that the layers are, or are part of, the innermost first."""
    classes = {place.of: place for place in info.places if place.what == "class"}
    kinds = {site.path: site.kind for site in info.sites if site.role != "parameter"} | {"": info.model}
    for layer in finding.layers if classes else ():
        path = layer
        while True:
            if (place := classes.get(kinds.get(path, ""))) is not None:
                yield _place(_named(info, place.file), place.line, f"class {place.of}")
                break
            if not path:
                break
            path = path.rpartition(".")[0]


def _script(info: RunInfo) -> Iterator[dict[str, Any]]:
    """The program itself, where it is a file."""
    name = info.command[0] if info.command else info.script.split(" ")[0]
    if name.endswith(".py"):
        yield _place(_named(info, name), None, "the script")


def _named(info: RunInfo, file: str) -> str:
    """A file's path from where the program ran."""
    if not os.path.isabs(file):
        return file
    try:
        return os.path.relpath(file, info.directory) if info.directory else os.path.basename(file)
    except ValueError:  # another drive
        return file
