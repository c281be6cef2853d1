"""Where a number is written that a call is given: in the call, or behind a name, a default, an option, a key."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator

from gradscope.patches.names import arguments, calls, keyword, last_name
from gradscope.patches.program import Program
from gradscope.patches.source import FUNCTIONS, Code, Source

_HOPS = 3  # names that only hand on: lr = args.lr


def number_of(node: ast.AST | None) -> float:
    """The number that an expression of numbers alone stands for: 1e-3, 1 / 8; NaN for any other.

    Example:
        >>> [number_of(ast.parse(text, mode="eval").body) for text in ("-2", "1 / 8", "2 ** 3", "lr", "True")]
        [-2.0, 0.125, 8.0, nan, nan]
    """
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -number_of(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div, ast.Pow)):
        left, right = number_of(node.left), number_of(node.right)
        try:
            made = (
                left * right
                if isinstance(node.op, ast.Mult)
                else left / right
                if isinstance(node.op, ast.Div)
                else left**right
            )
            return float(made)
        except (ArithmeticError, TypeError):
            return math.nan
    return math.nan


def written(program: Program, given: ast.expr | str, fits: Callable[[float], bool]) -> Code | None:
    """The one number of the program that an expression stands for; None where there is not one.

    `args.lr` is the default of the option `--lr`, `cfg["lr"]` the value of a key, `self.lr` and `lr` a variable, a
    parameter's default or what a call hands to it. What a call hands over goes before what would hold without it.

    Args:
        program: the user's.
        given: the expression, or the last name of one.
        fits: whether a number can be the one that was in force.
    """
    name = given if isinstance(given, str) else _name(given)
    found = dict.fromkeys(_numbers(program, name, _HOPS)) if name else {}
    fitting = [(code, is_handed) for code, is_handed in found if fits(number_of(code.node))]
    handed = [code for code, is_handed in fitting if is_handed]
    chosen = handed or [code for code, _ in fitting]
    return chosen[0] if len({id(code.node) for code in chosen}) == 1 else None


def _numbers(program: Program, name: str, hops: int) -> Iterator[tuple[Code, bool]]:
    """All numbers that are called so, each with whether a call hands it over."""
    for source in program.sources.values():
        for value, is_handed in _values(program, source, name):
            other = _name(value)
            if not math.isnan(number_of(value)):
                yield Code(source, value), is_handed
            elif hops and other and other != name:
                yield from _numbers(program, other, hops - 1)


def _values(program: Program, source: Source, name: str) -> Iterator[tuple[ast.expr, bool]]:
    for node in source.nodes:
        if isinstance(node, ast.Call):
            yield from ((each, False) for each in _option(program, node, name))
            if not source.resolve(node.func).startswith("torch."):
                yield from ((each.value, True) for each in node.keywords if each.arg == name)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from ((value, False) for key, value in pairs if isinstance(key, ast.Constant) and key.value == name)
        elif isinstance(node, ast.Assign):
            yield from ((value, False) for target in node.targets for value in _assigned(target, node.value, name))
        elif isinstance(node, ast.AnnAssign) and node.value is not None and last_name(node.target) == name:
            yield node.value, False
        elif isinstance(node, FUNCTIONS):
            yield from ((each, False) for each in _defaults(node.args, name))
            yield from ((each, True) for each in _handed(source, node, name))


def _assigned(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    """What an assignment gives a name, one by one in `lr, decay = 0.1, 0`."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _assigned(one, other, name)
    elif _name(target) == name:
        yield value


def _defaults(held: ast.arguments, name: str) -> Iterator[ast.expr]:
    names = [*held.posonlyargs, *held.args]
    pairs = [*zip(names[len(names) - len(held.defaults) :], held.defaults, strict=True)]
    pairs += [(each, value) for each, value in zip(held.kwonlyargs, held.kw_defaults, strict=True) if value]
    return (value for each, value in pairs if each.arg == name)


def _handed(source: Source, function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[ast.expr]:
    """What calls in the file hand to a parameter by its position; of `__init__` those of the class."""
    if name not in {each.arg for each in (*function.args.posonlyargs, *function.args.args)}:
        return
    owner = source.parents.get(function)
    made: list[ast.Call] = source.calls.get(owner.name, []) if isinstance(owner, ast.ClassDef) else []
    for call in made if function.name == "__init__" else calls(source, function):
        first = [ast.Constant(None)] if function.name == "__init__" else []  # self
        whole = ast.Call(call.func, [*first, *call.args], []) if first else call
        yield from (value for value, parameter in arguments(whole, function) if parameter == name)


def _option(program: Program, call: ast.Call, name: str) -> Iterator[ast.expr]:
    """The default of `add_argument("--lr", default=...)`, unless the command line gave another value."""
    flags = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    flags = [flag for flag in flags if flag.startswith("--")]
    default, called = keyword(call, "default"), keyword(call, "dest")
    names = {flag.lstrip("-").replace("-", "_") for flag in flags}
    if isinstance(called, ast.Constant):
        names = {str(called.value)}
    typed = any(word.partition("=")[0] in flags for word in program.info.command)
    if default is not None and name in names and not typed:
        yield default


def _name(node: ast.expr) -> str:
    """The last name of what an expression reads: "lr" of `lr`, `args.lr`, `cfg["lr"]`, `cfg.get("lr")`, `float(lr)`."""
    if isinstance(node, ast.Subscript):
        node = node.slice
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    if isinstance(node, ast.Call) and node.args:
        if last_name(node.func) == "get" and isinstance(node.args[0], ast.Constant):
            return str(node.args[0].value)
        return _name(node.args[0]) if last_name(node.func) == "float" and len(node.args) == 1 else ""
    return last_name(node)
