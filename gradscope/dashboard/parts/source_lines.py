"""Where in the user's own program a layer is made, as far as the run knows its text."""

from __future__ import annotations

import ast
import os

from gradscope.records import Place, RunInfo, Site


def source_line(site: Site, info: RunInfo, sites: tuple[Site, ...]) -> str:
    """The line that makes a layer, "net.py:14", or the class that it is made in; "" where the run does not know.

    A layer of torch's own is made in the class of the module around it: by `self.name = …`, where that is written.
    """
    kinds = {each.path: each.kind for each in sites if each.role == "output"}
    classes = {place.of: place for place in info.places if place.what == "class" and place.of}
    parts = [part for part in site.path.split(".") if part] if site.role != "parameter" else site.module.split(".")
    for length in range(len(parts) - 1, -1, -1):
        owner = classes.get(kinds.get(".".join(parts[:length]), ""))
        if owner is not None:
            return _name(owner.file, _assignment(owner, parts[length], info) or owner.line, info)
    own = classes.get(site.kind)
    return _name(own.file, own.line, info) if own is not None else ""


def _assignment(owner: Place, attribute: str, info: RunInfo) -> int | None:
    """The line of `self.attribute = …` in a class."""
    text = next((source.text for source in info.sources if source.path == owner.file), "")
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner.of:
            for each in ast.walk(node):
                if isinstance(each, ast.Assign) and f"self.{attribute}" in map(ast.unparse, each.targets):
                    return each.lineno
    return None


def _name(file: str, line: int, info: RunInfo) -> str:
    name = os.path.relpath(file, info.directory) if info.directory and file.startswith(info.directory) else ""
    return f"{name or os.path.basename(file)}:{line}"
