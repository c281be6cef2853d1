"""A program's lines that matter to its training, in the user's own names."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit, by_file, edited, unified_diff
from gradscope.patches.names import arguments, assigned, bound, calls, keyword, visible
from gradscope.patches.source import FUNCTIONS, Code, Source, read
from gradscope.records import Place, RunInfo

_LIBRARIES = ("lightning.", "pytorch_lightning.", "transformers.", "accelerate.")


@dataclass(frozen=True)
class Built:
    """The optimizer: the call that builds it, the statement around it, and what it is called; "" where it is returned."""

    call: Code
    name: str

    @property
    def statement(self) -> Code:
        """The statement that it is built in."""
        return self.call.statement


@dataclass(frozen=True)
class Step:
    """Where an optimizer steps."""

    call: Code
    optimizer: str  # as it is called there
    scaler: str = ""  # of `scaler.step(optimizer)`
    closure: bool = False  # the gradients are made in a function that it is handed

    @property
    def statement(self) -> Code:
        """The statement that it steps in."""
        return self.call.statement


@dataclass(frozen=True)
class Model:
    """The model: what it is called where the optimizer is built, and the statement that builds it, where that is seen."""

    name: str
    at: Code  # where it is called so
    build: Code | None  # an assignment


class Program:
    """The program of a run: what it found of it raises `NoPatch` where nobody can say."""

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        read_files = [read(each.path, each.text) for each in info.sources]
        self.sources: dict[str, Source] = {each.path: each for each in read_files if each is not None}

    # files

    def name_of(self, file: str) -> str:
        """A file's path from where the program ran."""
        try:
            return os.path.relpath(file, self.info.directory or ".") if self.info.directory else os.path.basename(file)
        except ValueError:  # another drive
            return file

    def location(self, edits: Sequence[Edit]) -> str:
        """Where the first of the edits is, and what it does: "train.py:42: insert before optimizer.step()"."""
        if not edits:
            return ""
        return f"{self.name_of(edits[0].file)}:{edits[0].first}: {' '.join(edits[0].says.split())}"

    def changed(self, edits: Sequence[Edit]) -> dict[str, tuple[str, str]]:
        """The text of each file before and after the edits.

        Raises:
            NoPatch: they cannot be made together, or change nothing.
        """
        texts = {each.path: each.text for each in self.info.sources}
        made = {file: (texts[file], edited(texts[file], some)) for file, some in by_file(edits).items()}
        if not any(old != new for old, new in made.values()):
            raise NoPatch("these lines do so already")
        return made

    def patch(self, edits: Sequence[Edit]) -> str:
        """The edits as a unified diff; raises `NoPatch` as `changed` does."""
        changed = self.changed(edits)
        return "".join(unified_diff(old, new, self.name_of(file)) for file, (old, new) in changed.items())

    # places

    def _found(self, what: str, names: Sequence[str]) -> list[Code]:
        """The calls by one of the names at the places of a kind, each once."""
        found: dict[int, Code] = {}
        for place in self._places(what):
            source = self.sources.get(place.file)
            if source is None:
                continue
            methods = [node for name in names for node in source.calls.get(name, []) if _is_method(node)]
            for node in methods or source.calls.get(place.of, []):
                code = Code(source, node)
                statement = code.statement
                if statement.line <= place.line <= source.end(statement.node)[0]:
                    found[id(node)] = code
        return list(found.values())

    def _places(self, what: str) -> list[Place]:
        if not self.info.sources:
            raise NoPatch("the run kept no source: record it with `gradscope run`")
        places = [place for place in self.info.places if place.what == what]
        if not places:
            raise NoPatch(f"the run does not know the line of the {_WORDS[what]}: record it with `gradscope run`")
        return places

    @cached_property
    def optimizer(self) -> Built:
        """The one optimizer."""
        calls = self._found("optimizer", ())
        if not calls:
            place = self._places("optimizer")[0]
            where = f"line {place.line:,} of {self.name_of(place.file)}"
            raise NoPatch(f"{where} does not build a {place.of or 'optimizer'} that could be read there")
        if len(calls) > 1:
            lines = ", ".join(f"{self.name_of(call.source.path)}:{call.line}" for call in calls)
            raise NoPatch(f"the program builds several optimizers ({lines}), and nobody can say which one is meant")
        statement = calls[0].statement.node
        target = _target(statement, calls[0].node)
        return Built(calls[0], target)

    @cached_property
    def steps(self) -> list[Step]:
        """Where the optimizer steps, in the user's own lines."""
        steps = [_step(call) for call in self._found("step", ("step",))]
        if not steps:
            raise NoPatch("no line of the program calls the optimizer's step() itself")
        if len({step.optimizer for step in steps}) > 1 and len(self._places("optimizer")) > 1:
            raise NoPatch("several optimizers step, and nobody can say which one is meant")
        return steps

    @cached_property
    def backwards(self) -> list[Code]:
        """Where `backward` is called."""
        calls = self._found("backward", ("backward", "manual_backward"))
        if not calls:
            raise NoPatch("no line of the program calls backward() itself")
        return calls

    @cached_property
    def model(self) -> Model:
        """The model whose parameters the optimizer was given."""
        code = self.optimizer.call
        given = keyword(code.node, "params", 0) or code.node  # type: ignore[arg-type]
        if isinstance(given, ast.Name):
            made = assigned(code.source.scope(code.node), given.id, code.line)
            given = made[-1].value or given if made else given
        owners = {
            _model_of(call.func.value)
            for call in ast.walk(given)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("parameters", "named_parameters")
        }
        if len(owners) != 1:
            several = f"of several models ({', '.join(sorted(owners))})" if owners else "that no model is named beside"
            raise NoPatch(f"line {code.line:,} gives the optimizer parameters {several}")
        name = owners.pop()
        return Model(name, code, self._build(name, code))

    def _build(self, name: str, at: Code, depth: int = 3) -> Code | None:
        """The statement that builds what is called so at a place."""
        source, scope = at.source, at.source.scope(at.node)
        owner = next(source.within(at.node, ast.ClassDef), None)
        if name.startswith("self.") and owner is not None:
            scopes: list[ast.AST] = [each for each in owner.body if isinstance(each, FUNCTIONS)]
            made = [each for method in scopes for each in assigned(method, name)]
        else:
            made = assigned(scope, name, at.line)
            if not made and name not in bound(scope) and not isinstance(scope, ast.Module):
                made = assigned(source.tree, name)
        fresh = [each for each in made if each.value and name not in _names(each.value)]
        if fresh:
            return self._followed(Code(source, fresh[-1]), depth)
        if isinstance(scope, FUNCTIONS) and depth:
            for call in calls(source, scope):
                for argument, parameter in arguments(call, scope):
                    if parameter == name:
                        return self._build(ast.unparse(argument), Code(source, call), depth - 1)
        return None

    def _followed(self, statement: Code, depth: int) -> Code | None:
        """The statement that builds, where this one only hands on: `self.net = net`."""
        value = statement.node.value  # type: ignore[attr-defined]
        if depth and isinstance(value, ast.Name):
            return self._build(value.id, statement, depth - 1) or statement
        return statement

    # names elsewhere

    def model_at(self, there: Code) -> str:
        """What the model is called at a place; "" where nobody can say."""
        try:
            model = self.model
        except NoPatch:
            return ""
        return visible(model.name, model.at, there)

    def parameters_at(self, step: Step) -> str:
        """The optimized parameters as an expression at a step."""
        name = self.model_at(step.statement)
        if name:
            return f"{name}.parameters()"
        return f'[p for group in {step.optimizer}.param_groups for p in group["params"]]'

    def library_call(self, *names: str) -> Code | None:
        """A call of a training library's class: Trainer, TrainingArguments; None where there is none."""
        for source in self.sources.values():
            for name in names:
                for node in source.calls.get(name, []):
                    if source.resolve(node.func).startswith(_LIBRARIES):
                        return Code(source, node)
        return None


_WORDS = {"optimizer": "optimizer", "step": "optimizer's step", "backward": "backward pass", "class": "model's class",
          "zero-grad": "zero_grad"}  # fmt: skip


def _target(statement: ast.AST, call: ast.AST) -> str:
    """What a call's result is called."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            return next((ast.unparse(a) for a, b in zip(target.elts, value.elts, strict=True) if b is call), "")
        return ast.unparse(target) if value is call else ""
    if isinstance(statement, ast.AnnAssign) and statement.value is call:
        return ast.unparse(statement.target)
    return ""


def _is_method(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute)


def _step(code: Code) -> Step:
    """A call of `step`, read."""
    call = code.node
    owner = ast.unparse(call.func.value)  # type: ignore[attr-defined]
    if not call.args:  # type: ignore[attr-defined]
        return Step(code, owner)
    first = call.args[0]  # type: ignore[attr-defined]
    functions = {each.name for each in code.source.nodes if isinstance(each, FUNCTIONS)}
    if isinstance(first, ast.Lambda) or (isinstance(first, ast.Name) and first.id in functions):
        return Step(code, owner, closure=True)
    return Step(code, ast.unparse(first), scaler=owner)


def _model_of(owner: ast.expr) -> str:
    """The model in `net.head.parameters()`: "net"; "self.net" of `self.net.head`."""
    parts = ast.unparse(owner).split(".")
    return ".".join(parts[:2]) if parts[0] == "self" else parts[0]


def _names(node: ast.AST) -> set[str]:
    """The names, with their attributes, that a node reads."""
    return {ast.unparse(each) for each in ast.walk(node) if isinstance(each, (ast.Name, ast.Attribute))}
