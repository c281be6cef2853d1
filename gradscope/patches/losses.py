"""Changes of the lines that make the loss."""

from __future__ import annotations

import ast

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.names import assigned, keyword, last_name
from gradscope.patches.program import Program
from gradscope.patches.source import Code

# The module and the function of each kind of loss, see recorder/loss_path.py.
LOSSES = {
    "cross-entropy": ("CrossEntropyLoss", "cross_entropy"),
    "nll": ("NLLLoss", "nll_loss"),
    "binary-cross-entropy": ("BCELoss", "binary_cross_entropy"),
    "binary-cross-entropy-with-logits": ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits"),
    "squared-error": ("MSELoss", "mse_loss"),
    "absolute-error": ("L1Loss", "l1_loss"),
    "huber": ("SmoothL1Loss", "smooth_l1_loss"),
    "kl-divergence": ("KLDivLoss", "kl_div"),
    "triplet": ("TripletMarginLoss", "triplet_margin_loss"),
}
_SAME_ARGUMENTS = (("nll", "cross-entropy"), ("binary-cross-entropy", "binary-cross-entropy-with-logits"))


def _made(program: Program, kind: str) -> tuple[Code, bool]:
    """The one call that makes a loss of a kind, and whether it makes a module."""
    found: list[tuple[Code, bool]] = []
    for source in program.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.Call):
                whole = source.resolve(node.func)
                if kind in LOSSES and whole == f"torch.nn.{LOSSES[kind][0]}":
                    found.append((Code(source, node), True))
                elif kind in LOSSES and whole == f"torch.nn.functional.{LOSSES[kind][1]}":
                    found.append((Code(source, node), False))
    if len(found) != 1:
        name = LOSSES[kind][0] if kind in LOSSES else "loss of torch"
        raise NoPatch(f"{len(found) or 'no'} lines of the program make a {name}: one is clear")
    return found[0]


def swap_loss(program: Program, kind: str, new: str) -> list[Edit]:
    """The loss of one kind becomes one of another."""
    code, is_module = _made(program, kind)
    node, source = code.node, code.source
    assert isinstance(node, ast.Call)
    name = f"torch.nn.{LOSSES[new][0]}" if is_module else f"torch.nn.functional.{LOSSES[new][1]}"
    says = f"{name.split('.')[-1]} instead of {last_name(node.func)}"
    if (kind, new) in _SAME_ARGUMENTS or not is_module:
        if not is_module and len(node.args) != 2:
            raise NoPatch(f"line {code.line:,} gives {last_name(node.func)} more than outputs and targets")
        return [*Code(source, node.func).become(source.spell(name), says), *source.imported(name)]
    return [*code.become(f"{source.spell(name)}()", says), *source.imported(name)]


def average(program: Program, kind: str) -> list[Edit]:
    """The loss is a mean, no sum."""
    value = loss_value(program)
    if value is not None and isinstance(value.node, ast.Call) and last_name(value.node.func) == "sum":
        assert isinstance(value.node.func, ast.Attribute)
        inner = Code(value.source, value.node.func.value)
        return value.become(f"{inner.text}.mean()", "mean() instead of sum()")
    code, _ = _made(program, kind)
    given = keyword(code.node, "reduction")  # type: ignore[arg-type]
    if given is None or ast.unparse(given) != "'sum'":
        raise NoPatch("no line says reduction='sum'")
    return Code(code.source, given).become('"mean"', 'reduction="mean" instead of "sum"')


def without_minus(program: Program) -> list[Edit]:
    """The loss without the minus before it."""
    value = loss_value(program)
    if value is None or not isinstance(value.node, ast.UnaryOp) or not isinstance(value.node.op, ast.USub):
        raise NoPatch("the loss is not made by a minus before an expression")
    return value.become(Code(value.source, value.node.operand).text, "without the minus")


def lower_number(program: Program, name: str, most: float) -> list[Edit]:
    """The one number above `most` that is called so: an argument of a call, a default, or a variable."""
    found: list[Code] = []
    for source in program.sources.values():
        for node in source.nodes:
            for value in _called(node, name):
                if isinstance(value, ast.Constant) and isinstance(value.value, (int, float)) and value.value > most:
                    found.append(Code(source, value))
    if len(found) != 1:
        raise NoPatch(f"{len(found) or 'no'} numbers above {most:g} are called {name}: one is clear")
    return found[0].become(f"{most:g}", f"{name}={most:g} instead of {found[0].text}")


def _called(node: ast.AST, name: str) -> list[ast.expr]:
    """The values that a node gives a name."""
    if isinstance(node, ast.keyword):
        return [node.value] if node.arg == name else []
    if isinstance(node, ast.Assign):
        return [node.value] if any(last_name(target).lower() == name for target in node.targets) else []
    if isinstance(node, ast.arguments):
        names = [*node.posonlyargs, *node.args]
        defaults = [*zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True)]
        defaults += [(each, value) for each, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value]
        return [value for each, value in defaults if each.arg == name]
    return []


def change_target(program: Program, text: str, says: str) -> list[Edit]:
    """What the loss compares with becomes another expression, in which "{}" is what it was."""
    target = targets(program)
    old = target.text
    simple = isinstance(target.node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call))
    return target.become(text.format(old if simple else f"({old})"), says)


def loss_value(program: Program) -> Code | None:
    """The expression that the backward pass starts from; None where it is not seen."""
    backward = program.backwards[0]
    assert isinstance(backward.node, ast.Call)
    node: ast.expr = backward.node.func.value  # type: ignore[attr-defined]
    if isinstance(node, ast.Call) and last_name(node.func) == "scale" and node.args:
        node = node.args[0]
    elif backward.node.args and backward.source.resolve(node) == "" and isinstance(backward.node.args[0], ast.Name):
        node = backward.node.args[0]  # accelerator.backward(loss)
    for _ in range(3):
        if not isinstance(node, ast.Name):
            break
        made = assigned(backward.source.scope(backward.node), node.id, backward.line + 1)
        if not made or made[-1].value is None:
            return None
        node = made[-1].value
    return Code(backward.source, node)


def targets(program: Program) -> Code:
    """What the loss compares the outputs with, as it is handed to it."""
    value = loss_value(program)
    found = [call for call in value.inside(ast.Call) if len(call.args) >= 2] if value is not None else []
    losses = [call for call in found if _is_loss(value.source, call)]  # type: ignore[union-attr]
    chosen = losses or found
    if len(chosen) != 1:
        raise NoPatch("no single call of a loss with outputs and targets was found before backward()")
    return Code(value.source, chosen[0].args[1])  # type: ignore[union-attr]


def _is_loss(source: object, call: ast.Call) -> bool:
    name = last_name(call.func).lower()
    return any(word in name for word in ("loss", "criterion", "entropy", "crit", "cost"))
