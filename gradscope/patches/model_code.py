"""The lines that build the model: its classes, the functions and variables that they are made of."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.names import last_name, own
from gradscope.patches.program import Program
from gradscope.patches.source import FUNCTIONS, Code, Source

DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_GROWS = ("append", "extend", "insert", "add_module")


class ModelCode:
    """All pieces of the program that the model is built from.

    Attributes:
        pieces: statements, classes, functions and the expression that builds; none inside of another.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._definitions = {
            node.name: Code(source, node)
            for source in program.sources.values()
            for node in source.nodes
            if isinstance(node, DEFINITIONS) and not _is_method(source, node)
        }
        self._seen: dict[int, Code] = {}
        build, self.root = None, None
        why = "the line that builds the model was not found"
        try:
            build = program.model.build
        except NoPatch as error:
            why = str(error)
        if build is not None:
            self._follow(Code(build.source, build.node.value), build.line)  # type: ignore[attr-defined]
            self.root = build
        for place in program.info.places if build is None else ():
            source = program.sources.get(place.file)
            for node in source.nodes if source and place.what == "class" else ():
                if isinstance(node, ast.ClassDef) and node.name in place.of.split(", "):
                    self._follow(Code(source, node), node.lineno)  # type: ignore[arg-type]
        if not self._seen:
            raise NoPatch(why)
        self.pieces = [piece for piece in self._seen.values() if not self._is_inside(piece)]

    def _is_inside(self, piece: Code) -> bool:
        around = piece.source.parents.get(piece.node)
        while around is not None:
            if id(around) in self._seen:
                return True
            around = piece.source.parents.get(around)
        return False

    def _follow(self, code: Code, before: int) -> None:
        if id(code.node) in self._seen:
            return
        self._seen[id(code.node)] = code
        scope = code.source.scope(code.node)
        for name in ast.walk(code.node):
            word = last_name(name) if isinstance(name, (ast.Name, ast.Attribute)) else ""
            if not word or code.source.resolve(name).startswith("torch."):
                continue
            if word in self._definitions and isinstance(getattr(name, "ctx", None), ast.Load):
                self._follow(self._definitions[word], self._definitions[word].line)
            elif isinstance(name, ast.Name) and not isinstance(code.node, DEFINITIONS):
                for statement in _makers(scope, word):
                    if statement.lineno < before:
                        self._follow(Code(code.source, statement), before)

    def nodes(self) -> Iterator[Code]:
        """Every node of every piece."""
        for piece in self.pieces:
            for node in ast.walk(piece.node):
                yield Code(piece.source, node)

    def mentions(self, name: str) -> list[Code]:
        """Where a thing of torch is named: "torch.nn.Sigmoid"; not where a type is asked for."""
        return [
            code
            for code in self.nodes()
            if isinstance(code.node, (ast.Name, ast.Attribute)) and code.source.resolve(code.node) == name
            if not _is_question(code)
        ]

    def built(self, *names: str) -> list[tuple[Code, str]]:
        """The calls of classes of `torch.nn`, with their names: ("Linear", "Conv2d")."""
        found = []
        for code in self.nodes():
            if isinstance(code.node, ast.Call):
                whole = code.source.resolve(code.node.func)
                if whole.startswith("torch.nn.") and whole.split(".")[-1] in names:
                    found.append((code, whole.split(".")[-1]))
        return found

    def classes(self) -> list[Code]:
        """The user's classes that the model is made of."""
        return [code for code in self.nodes() if isinstance(code.node, ast.ClassDef)]

    def forwards(self) -> list[Code]:
        """Their forward methods."""
        return [
            Code(each.source, method)
            for each in self.classes()
            for method in each.node.body  # type: ignore[attr-defined]
            if isinstance(method, FUNCTIONS) and method.name == "forward"
        ]


def after_model(program: Program, lines: list[str], says: str) -> list[Edit]:
    """Statements after the model is built and before the optimizer is; "{model}" is its name, in each line."""
    model, optimizer = program.model, program.optimizer.statement
    build = model.build
    if build is not None and build.source is optimizer.source:
        same = build.source.scope(build.node) is optimizer.source.scope(optimizer.node)
        if same and build.line < optimizer.line and ast.unparse(_target(build)) == model.name:
            last = _last_change(build, model.name, optimizer)
            return last.after([line.format(model=model.name) for line in lines], says)
    return optimizer.before([line.format(model=model.name) for line in lines], says)


def _last_change(build: Code, model: str, optimizer: Code) -> Code:
    """The last statement between the one that builds the model and the optimizer's that may change the weights."""
    parent = build.source.parents[build.node]
    body = next((held for _, held in ast.iter_fields(parent) if isinstance(held, list) and build.node in held), [])
    between = [node for node in body if build.line < node.lineno < optimizer.line]
    loads = [node.lineno for node in between if "load" in ast.unparse(node)]  # what was loaded is not drawn anew
    changes = [
        node
        for node in between
        if node.lineno < min(loads, default=optimizer.line)
        and isinstance(node, (ast.Expr, ast.For, ast.With))  # not a wrapper: `ddp = DistributedDataParallel(model)`
        and any(ast.unparse(each) == model for each in ast.walk(node) if isinstance(each, (ast.Name, ast.Attribute)))
    ]
    return Code(build.source, changes[-1]) if changes else build


def drawn_anew(program: Program, code: str) -> list[Edit]:
    """Code that names the model `model` and torch `torch`, in the user's names, after the model is built."""
    source = program.optimizer.call.source
    nn = source.spell("torch.nn")
    lines = [line.partition("  # ")[0].replace("torch.nn.", f"{nn}.") for line in code.splitlines()]
    lines = [line.replace("model.", "{model}.") for line in lines]
    return [*after_model(program, lines, "draw the weights anew when the model is built"), *source.imported("torch.nn")]


def _target(build: Code) -> ast.expr:
    node = build.node
    return node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[attr-defined]


def _makers(scope: ast.AST, name: str) -> Iterator[ast.stmt]:
    """The statements of a scope that make a variable or add to it."""
    for node in own(scope):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id == name for target in targets for each in ast.walk(target)):
                yield node
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value.func
            if isinstance(call, ast.Attribute) and call.attr in _GROWS and last_name(call.value) == name:
                yield node


def _is_method(source: Source, node: ast.AST) -> bool:
    return isinstance(source.parents.get(node), ast.ClassDef) and not isinstance(node, ast.ClassDef)


def _is_question(code: Code) -> bool:
    """Whether a class is named inside of `isinstance` or in an annotation."""
    around = code.source.parents.get(code.node)
    while around is not None and not isinstance(around, ast.stmt):
        if isinstance(around, ast.Call) and last_name(around.func) in ("isinstance", "issubclass", "type"):
            return True
        if isinstance(around, (ast.arg,)):
            return True
        around = code.source.parents.get(around)
    return isinstance(around, ast.AnnAssign) and around.value is None
