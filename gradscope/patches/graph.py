"""Lines that keep the gradient from a part of the model, without what does."""

from __future__ import annotations

import ast

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.model_code import ModelCode
from gradscope.patches.names import last_name
from gradscope.patches.program import Program
from gradscope.patches.source import Code


def reconnect(program: Program) -> list[Edit]:
    """What cuts the graph in a forward is taken away, where there is one such place."""
    cuts: list[tuple[Code, str, str]] = []
    for forward in ModelCode(program).forwards():
        for node in forward.inside((ast.Call, ast.Attribute)):
            code = Code(forward.source, node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "detach":
                cuts.append((code, Code(forward.source, node.func.value).text, "without .detach()"))
            elif isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.ctx, ast.Load):
                cuts.append((code, Code(forward.source, node.value).text, "without .data"))
            elif isinstance(node, ast.Call) and forward.source.resolve(node.func) == "torch.no_grad":
                cuts.append((code, f"{forward.source.spell('torch.enable_grad')}()", "with gradients"))
    if len(cuts) != 1:
        raise NoPatch(
            f"{len(cuts) or 'no'} places in the forwards cut the graph by detach, .data or no_grad: one is clear"
        )
    code, text, says = cuts[0]
    return code.become(text, says)


def unfreeze(program: Program) -> list[Edit]:
    """The one line that switches gradients off switches them on."""
    places: list[Code] = []
    for source in program.sources.values():
        for node in source.nodes:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Attribute) and target.attr == "requires_grad":
                places.append(Code(source, node.value))  # type: ignore[attr-defined]
            elif isinstance(node, ast.Call) and last_name(node.func) == "requires_grad_" and node.args:
                places.append(Code(source, node.args[0]))
    off = [each for each in places if each.text == "False"]
    if len(off) != 1:
        raise NoPatch(f"{len(off) or 'no'} lines switch gradients off by requires_grad: one is clear")
    return off[0].become("True", "requires_grad True")
