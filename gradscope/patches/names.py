"""What a thing is called in another place of the program."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.patches.source import FUNCTIONS, Code, Source

Function = ast.FunctionDef | ast.AsyncFunctionDef


def visible(name: str, at: Code, there: Code) -> str:
    """What the expression `name`, as it is understood at one place, is called at another; "" where nobody can say.

    The same scope, the module's own names, the attributes of one object, and arguments handed to a function are known.
    """
    if at.source is there.source and _same_scope(name, at, there):
        return name
    function = there.source.scope(there.node)
    for argument, parameter in _handed(at.source, function):
        if argument == name:
            return parameter
    return ""


def _same_scope(name: str, at: Code, there: Code) -> bool:
    source, root = at.source, name.split(".")[0]
    if root == "self":
        owner = next(source.within(at.node, ast.ClassDef), None)
        return owner is not None and owner is next(source.within(there.node, ast.ClassDef), None)
    home, scope = source.scope(at.node), source.scope(there.node)
    while scope is not home:
        if isinstance(scope, ast.Module) or root in bound(scope):
            return False
        scope = source.scope(scope)
    return True


def bound(function: ast.AST) -> set[str]:
    """The names that a function makes its own: its parameters and what it assigns."""
    names: set[str] = set()
    if isinstance(function, FUNCTIONS):
        names |= set(parameters(function))
    for node in own(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            names -= set(node.names)
    return names


def own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions and classes in it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield from own(child)


def parameters(function: Function) -> list[str]:
    """The names of a function's parameters that can be given by position, then the others."""
    held = function.args
    return [each.arg for each in (*held.posonlyargs, *held.args, *held.kwonlyargs)]


def calls(source: Source, function: Function) -> list[ast.Call]:
    """Where a function of the file is called by its name, as a method too."""
    return [call for call in source.calls.get(function.name, []) if not source.resolve(call.func).startswith("torch.")]


def _handed(source: Source, function: ast.AST) -> Iterator[tuple[str, str]]:
    """What a function is called with, as it is called there, with the parameter that takes it."""
    if not isinstance(function, FUNCTIONS):
        return
    for call in calls(source, function):
        for argument, parameter in arguments(call, function):
            yield ast.unparse(argument), parameter


def arguments(call: ast.Call, function: Function) -> Iterator[tuple[ast.expr, str]]:
    """What a call hands to each parameter."""
    names = parameters(function)
    if isinstance(call.func, ast.Attribute) and names[:1] == ["self"]:
        names = names[1:]
    yield from zip(call.args, names, strict=False)
    for keyword in call.keywords:
        if keyword.arg:
            yield keyword.value, keyword.arg


def last_name(node: ast.AST) -> str:
    """The last part of a dotted name: "SGD" of `torch.optim.SGD`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """An argument of a call by its name, or by its position."""
    for each in call.keywords:
        if each.arg == name:
            return each.value
    if position is None or any(isinstance(each, ast.Starred) for each in call.args[: position + 1]):
        return None
    return call.args[position] if position < len(call.args) else None


def assigned(scope: ast.AST, name: str, before: int = 10**9) -> list[ast.Assign | ast.AnnAssign]:
    """The assignments to a name (also "self.net") in a scope, in the order of the text, those before a line."""
    found: list[ast.Assign | ast.AnnAssign] = []
    for node in own(scope):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(ast.unparse(target) == name for target in targets) and node.lineno < before:  # type: ignore[attr-defined]
            found.append(node)  # type: ignore[arg-type]
    return sorted(found, key=lambda node: node.lineno)
