"""A file of the user's program: its text, its syntax tree, and changes of it at a node."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit, parse, split_lines

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
Position = tuple[int, int]  # line from 1, column in characters from 0
Node = TypeVar("Node", bound=ast.AST)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, eq=False)
class Source:
    """A file as it was when it ran."""

    path: str
    text: str
    lines: list[str] = field(repr=False)  # without line ends
    tree: ast.Module = field(repr=False)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """What each node is in."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All of the syntax tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def calls(self) -> dict[str, list[ast.Call]]:
        """All calls by the last part of the name that is called: "step" of `optimizer.step()`."""
        found: dict[str, list[ast.Call]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def imports(self) -> dict[str, str]:
        """What the names of imported things stand for: {"nn": "torch.nn"}."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    names[each.asname or each.name.split(".")[0]] = (
                        each.name if each.asname else each.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.update({each.asname or each.name: f"{node.module}.{each.name}" for each in node.names})
        return names

    def resolve(self, node: ast.AST) -> str:
        """The full name of something imported, "torch.nn.Linear" for `nn.Linear`; "" for anything else."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, "")
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    def spell(self, name: str) -> str:
        """How this file writes a full name of torch's: "nn.ReLU"; where it imports no torch the full name."""
        known = [(whole, alias) for alias, whole in self.imports.items() if f"{name}.".startswith(f"{whole}.")]
        if not known:
            return name
        whole, alias = max(known, key=lambda pair: (len(pair[0]), -len(pair[1])))
        return alias + name[len(whole) :]

    def imported(self, name: str) -> list[Edit]:
        """The import that `spell` needs: none where there is one already."""
        if any(f"{name}.".startswith(f"{whole}.") for whole in self.imports.values()):
            return []
        first = next((node for node in self.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))), None)
        while isinstance(first, ast.ImportFrom) and first.module == "__future__":
            place = self.tree.body.index(first) + 1
            first = self.tree.body[place] if place < len(self.tree.body) else None  # type: ignore[assignment]
        if first is None:
            raise NoPatch(f"{self.path} imports no torch")
        root = name.split(".")[0]
        return [Edit(self.path, first.lineno, 0, (f"import {root}",), f"import {root}")]

    def column(self, line: int, offset: int) -> int:
        """A column in characters, of one that Python counts in bytes."""
        text = self.lines[line - 1]
        return offset if text.isascii() else len(text.encode()[:offset].decode(errors="ignore"))

    def start(self, node: ast.AST) -> Position:
        """Where a node begins; a decorated function at its decorator."""
        decorators = getattr(node, "decorator_list", [])
        line = min([node.lineno, *(each.lineno for each in decorators)])  # type: ignore[attr-defined]
        return (line, self.column(line, node.col_offset))  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> Position:
        """Where a node ends."""
        return (node.end_lineno, self.column(node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]

    def segment(self, start: Position, end: Position) -> str:
        """The text between two positions."""
        if start[0] == end[0]:
            return self.lines[start[0] - 1][start[1] : end[1]]
        middle = self.lines[start[0] : end[0] - 1]
        return "\n".join([self.lines[start[0] - 1][start[1] :], *middle, self.lines[end[0] - 1][: end[1]]])

    def within(self, node: ast.AST, kinds: type[Node] | tuple[type[Node], ...]) -> Iterator[Node]:
        """The nodes of a kind around one, the nearest first."""
        around = self.parents.get(node)
        while around is not None:
            if isinstance(around, kinds):
                yield around
            around = self.parents.get(around)

    def scope(self, node: ast.AST) -> Scope:
        """The function that a node is in, or the module."""
        for around in self.within(node, ast.AST):
            if isinstance(around, (*FUNCTIONS, ast.Module)):
                return around
        return self.tree


@lru_cache(maxsize=32)
def read(path: str, text: str) -> Source | None:
    """A file of the program; None where it is no Python (a cell of a notebook with magic, say)."""
    try:
        tree = parse(text)
    except SyntaxError:
        return None
    return Source(path, text, [line.rstrip("\r\n") for line in split_lines(text.removeprefix("\ufeff"))], tree)


@dataclass(frozen=True)
class Code:
    """A piece of a file, and what can be done with it."""

    source: Source
    node: ast.AST

    @property
    def text(self) -> str:
        """As the user wrote it."""
        return self.source.segment(self.source.start(self.node), self.source.end(self.node))

    @property
    def line(self) -> int:
        """Its first."""
        return self.source.start(self.node)[0]

    @property
    def statement(self) -> Code:
        """The statement that it is in, or itself."""
        node = self.node
        while not isinstance(node, ast.stmt):
            node = self.source.parents[node]
        return Code(self.source, node)

    @property
    def indent(self) -> str:
        """What its first line begins with."""
        text = self.source.lines[self.line - 1]
        return text[: len(text) - len(text.lstrip())]

    def inside(self, kind: type[Node] | tuple[type[Node], ...]) -> list[Node]:
        """The nodes of a kind in it, in the order of the text."""
        found = [node for node in ast.walk(self.node) if isinstance(node, kind)]
        return sorted(found, key=self.source.start)

    def before(self, lines: Iterable[str], says: str) -> list[Edit]:
        """Inserts statements before this one; `says` names what is done."""
        lines, start = list(lines), self.source.start(self.node)
        head = self.source.lines[start[0] - 1][: start[1]]
        if not head.strip():
            return [Edit(self.source.path, start[0], 0, tuple(_indented(lines, self.indent)), says)]
        if any(line.endswith(":") for line in lines) or isinstance(self.node, (ast.For, ast.While, ast.With, ast.If)):
            raise NoPatch(f"line {start[0]:,} holds several statements")
        return replaced(self.source, [(start, start, "; ".join([*lines, ""]))], says)

    def after(self, lines: Iterable[str], says: str) -> list[Edit]:
        """Inserts statements after this one."""
        lines, start, end = list(lines), self.source.start(self.node), self.source.end(self.node)
        head, rest = self.source.lines[start[0] - 1][: start[1]], self.source.lines[end[0] - 1][end[1] :].strip()
        if not head.strip() and (not rest or rest.startswith("#")):
            return [Edit(self.source.path, end[0] + 1, 0, tuple(_indented(lines, self.indent)), says)]
        if any(line.endswith(":") for line in lines):
            raise NoPatch(f"line {start[0]:,} holds several statements")
        return replaced(self.source, [(end, end, "; ".join(["", *lines]))], says)

    def become(self, text: str, says: str) -> list[Edit]:
        """Writes something else in its place."""
        return replaced(self.source, [(self.source.start(self.node), self.source.end(self.node), text)], says)


def replaced(source: Source, changes: Iterable[tuple[Position, Position, str]], says: str) -> list[Edit]:
    """Changes inside of lines as edits of whole lines; those that share a line become one.

    Args:
        source: the file.
        changes: where each begins and ends, and what is to be there.
        says: what is done.
    """
    edits: list[Edit] = []
    group: list[tuple[Position, Position, str]] = []
    for change in sorted(set(changes)):
        if group and change[0] < group[-1][1]:
            raise NoPatch(f"two changes want line {change[0][0]:,}")
        if group and change[0][0] > group[-1][1][0]:
            edits.append(_edit(source, group, says))
            group = []
        group.append(change)
    return [*edits, _edit(source, group, says)] if group else edits


def _edit(source: Source, changes: list[tuple[Position, Position, str]], says: str) -> Edit:
    first, last = changes[0][0][0], changes[-1][1][0]
    made, position = "", (first, 0)
    for start, end, text in changes:
        made += source.segment(position, start) + text
        position = end
    made += source.segment(position, (last, len(source.lines[last - 1])))
    lines = tuple(made.split("\n"))
    return Edit(source.path, first, last - first + 1, lines if made.strip() else (), says)


def _indented(lines: list[str], indent: str) -> Iterator[str]:
    for line in lines:
        deeper = len(line) - len(line.lstrip(" "))
        unit = "\t" if indent.startswith("\t") else "    "
        yield (indent + unit * (deeper // 4) + line.lstrip(" ")) if line else ""
