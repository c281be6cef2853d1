"""Where activations are in the model's lines, hidden ones and the one that makes the output, and changes of them."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.model_code import ModelCode
from gradscope.patches.names import assigned, last_name
from gradscope.patches.program import Program
from gradscope.patches.source import FUNCTIONS, Code, Position, replaced

KINDS = (
    *("ReLU", "ReLU6", "LeakyReLU", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Softplus", "Softsign", "Tanh"),
    *("Hardtanh", "Hardswish", "Sigmoid", "Hardsigmoid", "LogSigmoid", "PReLU", "RReLU", "Tanhshrink", "Softmax"),
    *("LogSoftmax",),
)
# How an activation is called as a function, by the module's name; "log_softmax" is none's lower case.
_FUNCTIONS = {"LeakyReLU": "leaky_relu", "LogSigmoid": "logsigmoid", "LogSoftmax": "log_softmax"}
_CHANGES_NOTHING = (*("squeeze", "view", "reshape", "flatten", "to", "cuda", "cpu", "float", "contiguous"), "clamp")


def function_of(kind: str) -> str:
    """The function's name: "sigmoid" of "Sigmoid"."""
    return _FUNCTIONS.get(kind, kind.lower())


def called_as(code: Code, more: tuple[str, ...] = ()) -> str:
    """The activation that a call applies as a function or as a tensor's method: "Sigmoid"; "" for any other call.

    `more` are kinds that count as well, `("Exp",)` say.
    """
    node = code.node
    if not isinstance(node, ast.Call):
        return ""
    whole = code.source.resolve(node.func)
    name = last_name(node.func).removesuffix("_")
    kind = next((each for each in (*KINDS, *more) if function_of(each) == name), "")
    if whole in (f"torch.{name}", f"torch.nn.functional.{name}", f"torch.special.{name}", f"torch.{name}_"):
        return kind
    is_method = isinstance(node.func, ast.Attribute) and not whole and last_name(node.func.value) != "self"
    takes = 1 if "Softmax" in kind else 0
    return kind if is_method and len(node.args) <= takes else ""


def made_as(code: Code) -> str:
    """The activation that a call makes a module of: "Sigmoid" of `nn.Sigmoid()`; "" for any other."""
    node = code.node
    whole = code.source.resolve(node.func) if isinstance(node, ast.Call) else ""
    kind = whole.removeprefix("torch.nn.")
    return kind if kind in KINDS else ""


@dataclass(frozen=True)
class Final:
    """The activation that makes the model's output, in its line."""

    kind: str
    code: Code  # the call that applies it or makes the module
    is_module: bool

    def taken_off(self) -> list[Edit]:
        """The model without it."""
        node, source = self.code.node, self.code.source
        assert isinstance(node, ast.Call)
        says = f"take the {self.kind.lower()} off the output"
        if not self.is_module:
            whole = source.resolve(node.func)
            inner = node.args[0] if whole else node.func.value  # type: ignore[attr-defined]
            return self.code.become(Code(source, inner).text, says)
        parent = source.parents[node]
        siblings = parent.args if isinstance(parent, ast.Call) else parent.elts if isinstance(parent, ast.List) else []
        if len(siblings) > 1 and siblings[-1] is node:
            return replaced(source, [(source.end(siblings[-2]), source.end(node), "")], says)
        name = "torch.nn.Identity"
        return [*self.code.become(f"{source.spell(name)}()", says), *source.imported(name)]

    def replaced_by(self, kind: str) -> list[Edit]:
        """The model with another one."""
        node, source = self.code.node, self.code.source
        assert isinstance(node, ast.Call)
        says = f"{kind} instead of {self.kind} at the output"
        if not self.is_module and isinstance(node.func, ast.Attribute):
            end = source.end(node.func)
            name = function_of(kind)
            start = (end[0], end[1] - len(node.func.attr))
            return replaced(source, [(start, end, name)], says)
        name = f"torch.nn.{kind}" if self.is_module else f"torch.nn.functional.{function_of(kind)}"
        return [*Code(source, node.func).become(source.spell(name), says), *source.imported(name)]


def final(program: Program, model: ModelCode | None = None) -> Final | None:
    """The activation at the output; None where the last thing that the lines say is no activation, or not clear."""
    model = model or ModelCode(program)
    forwards = model.forwards()
    if model.root is not None:
        value = Code(model.root.source, model.root.node.value)  # type: ignore[attr-defined]
        return _last(_unwrapped(value), model, 8)
    outer = [each for each in forwards if _class_of(each).name in (program.info.model,)]
    return _last_returned(outer[0], model, 8) if outer else None


def _class_of(method: Code) -> ast.ClassDef:
    return next(method.source.within(method.node, ast.ClassDef))


def _unwrapped(value: Code) -> Code:
    """Without `.to(device)`, `torch.compile(...)` and the like around it."""
    node = value.node
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
            node = node.func.value
        elif value.source.resolve(node.func) in ("torch.compile",) and node.args:
            node = node.args[0]
        else:
            break
    return Code(value.source, node)


def _last(value: Code, model: ModelCode, depth: int) -> Final | None:
    """The activation that an expression for a module ends in."""
    node, source = value.node, value.source
    if not depth or not isinstance(node, ast.Call):
        return None
    if made_as(value):
        return Final(made_as(value), value, True)
    if source.resolve(node.func) == "torch.nn.Sequential" and node.args:
        return _last_element(Code(source, node.args[-1]), model, depth)
    for piece in model.nodes():
        if isinstance(piece.node, (ast.ClassDef, *FUNCTIONS)) and piece.node.name == last_name(node.func):
            if isinstance(piece.node, FUNCTIONS):
                return _last_returned(piece, model, depth - 1)
            forward = next((each for each in model.forwards() if _class_of(each) is piece.node), None)
            return _last_returned(forward, model, depth - 1) if forward else _last_of_subclass(piece, model, depth)
    return None


def _last_of_subclass(piece: Code, model: ModelCode, depth: int) -> Final | None:
    """A Sequential by inheritance: `super().__init__(..., nn.Softmax(1))`."""
    for call in piece.inside(ast.Call):
        if last_name(call.func) == "__init__" and call.args:
            return _last_element(Code(piece.source, call.args[-1]), model, depth)
    return None


def _last_element(element: Code, model: ModelCode, depth: int) -> Final | None:
    node, source = element.node, element.source
    if isinstance(node, ast.Starred):
        return _last_element(Code(source, node.value), model, depth - 1)
    if isinstance(node, (ast.List, ast.Tuple)) and node.elts:
        return _last_element(Code(source, node.elts[-1]), model, depth - 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _last_element(Code(source, node.right), model, depth - 1)
    if isinstance(node, ast.Name) and depth:
        return _last_element_of_name(element, node.id, model, depth)
    return _last(element, model, depth)


def _last_element_of_name(at: Code, name: str, model: ModelCode, depth: int) -> Final | None:
    """The last thing that was put into a list."""
    scope, before = at.source.scope(at.node), at.line
    puts: list[ast.expr] = []
    for node in sorted((each for each in ast.walk(scope) if isinstance(each, ast.stmt)), key=lambda each: each.lineno):
        if node.lineno >= before:
            break
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args:
            func = node.value.func
            if isinstance(func, ast.Attribute) and func.attr in ("append", "extend") and last_name(func.value) == name:
                puts.append(node.value.args[-1])
        elif isinstance(node, ast.AugAssign) and last_name(node.target) == name:
            puts.append(node.value)
    puts = puts or [each.value for each in assigned(scope, name, before) if each.value]
    return _last_element(Code(at.source, puts[-1]), model, depth - 1) if puts else None


def _last_returned(function: Code | None, model: ModelCode, depth: int) -> Final | None:
    """The activation that what a function returns ends in: a forward's output, or the module that a function builds."""
    if function is None:
        return None
    returns = [each for each in function.inside(ast.Return) if function.source.scope(each) is function.node]
    if not returns or returns[-1].value is None:
        return None
    value = returns[-1].value
    if isinstance(value, ast.Name) and (made := assigned(function.node, value.id)) and made[-1].value is not None:
        value = made[-1].value
    code = Code(function.source, value)
    if function.node.name != "forward":  # type: ignore[attr-defined]
        return _last(_unwrapped(code), model, depth)
    return _last_applied(code, model, depth)


def _last_applied(value: Code, model: ModelCode, depth: int) -> Final | None:
    """The activation that an expression for a tensor ends in."""
    node, source = value.node, value.source
    if not isinstance(node, ast.Call) or not depth:
        return None
    if called_as(value):
        return Final(called_as(value), value, False)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES_NOTHING:
        return _last_applied(Code(source, node.func.value), model, depth - 1)
    name = ast.unparse(node.func)
    owner = next(source.within(node, ast.ClassDef), None)
    if not name.startswith("self.") or owner is None:
        return None
    made = [
        each for method in owner.body if isinstance(method, FUNCTIONS) for each in assigned(method, name) if each.value
    ]
    return _last(Code(source, made[-1].value), model, depth - 1) if made else None  # type: ignore[arg-type]


def swap_activations(program: Program, kind: str, new: str, keep_last: bool) -> list[Edit]:
    """Hidden activations of one kind become another's.

    Args:
        program: the user's.
        kind: what goes: "Sigmoid".
        new: what comes, as a module: "ReLU()" or "LeakyReLU(0.01)".
        keep_last: the run says that the output is made by one of the kind, which stays, as it does where the lines say so.
    """
    model = ModelCode(program)
    kept = final(program, model)
    kept = kept if kept is not None and kept.kind == kind else None
    if keep_last and kept is None:
        raise NoPatch(f"nobody can say which {kind} of these lines makes the output, and has to stay")
    name, _, rest = new.partition("(")
    arguments = rest.removesuffix(")")
    files: dict[int, tuple[Code, list[tuple[Position, Position, str]]]] = {}
    needed: list[Edit] = []
    for code in model.nodes():
        if kept is not None and code.node is kept.code.node:
            continue
        change = _module_change(code, kind, name, arguments, kept) or _function_change(code, kind, name, arguments)
        if change is not None:
            files.setdefault(id(code.source), (code, []))[1].append(change[0])
            needed += code.source.imported(change[1])
    if not files:
        raise NoPatch(f"no {kind} is written in the lines that build the model")
    says = f"{name} instead of {kind}"
    return [edit for code, changes in files.values() for edit in replaced(code.source, changes, says)] + needed


Change = tuple[tuple[Position, Position, str], str]


def _module_change(code: Code, kind: str, name: str, arguments: str, kept: Final | None) -> Change | None:
    node, source = code.node, code.source
    if not isinstance(node, (ast.Name, ast.Attribute)) or source.resolve(node) != f"torch.nn.{kind}":
        return None
    if not isinstance(node.ctx, ast.Load) or (kept is not None and source.parents[node] is kept.code.node):
        return None
    whole, parent = f"torch.nn.{name}", source.parents[node]
    if isinstance(parent, ast.Call) and parent.func is node:
        return (source.start(parent), source.end(parent), f"{source.spell(whole)}({arguments})"), whole
    if isinstance(parent, ast.Call) and last_name(parent.func) in ("isinstance", "issubclass"):
        return None
    return (source.start(node), source.end(node), source.spell(whole)), whole  # a class that is called elsewhere


def _function_change(code: Code, kind: str, name: str, arguments: str) -> Change | None:
    node, source = code.node, code.source
    if called_as(code, (kind,)) != kind or not isinstance(node, ast.Call):
        return None
    function = function_of(name)
    is_method = name in ("ReLU", "Sigmoid", "Tanh")  # of tensors too
    whole = f"torch.{function}" if is_method else f"torch.nn.functional.{function}"
    inner = node.args[0] if source.resolve(node.func) else node.func.value  # type: ignore[attr-defined]
    more = f", {arguments}" if arguments else ""
    if source.resolve(node.func) and not arguments:
        return (source.start(node.func), source.end(node.func), source.spell(whole)), whole
    if arguments or not is_method:
        return (source.start(node), source.end(node), f"{source.spell(whole)}({Code(source, inner).text}{more})"), whole
    end = source.end(node.func)
    return ((end[0], end[1] - len(last_name(node.func))), end, function), whole
