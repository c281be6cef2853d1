"""Modules of torch that become others, or are built with other arguments."""

from __future__ import annotations

import ast
import re

from gradscope.errors import NoPatch
from gradscope.patches.activations import KINDS
from gradscope.patches.edit import Edit
from gradscope.patches.loop import set_keyword
from gradscope.patches.model_code import ModelCode
from gradscope.patches.names import keyword, last_name
from gradscope.patches.program import Program
from gradscope.patches.source import Code, Position, Source, replaced
from gradscope.patches.written import number_of, written

Changes = dict[int, tuple[Source, list[tuple[Position, Position, str]]]]


def _note(changes: Changes, code: Code, text: str) -> None:
    """Notes that a piece of a file becomes another text."""
    change = (code.source.start(code.node), code.source.end(code.node), text)
    changes.setdefault(id(code.source), (code.source, []))[1].append(change)


def _replaced(changes: Changes, says: str) -> list[Edit]:
    return [edit for source, held in changes.values() for edit in replaced(source, held, says)]


def group_norms(program: Program, groups: int) -> list[Edit]:
    """GroupNorm instead of BatchNorm; one group after Linear layers, where a channel is one number."""
    changes: Changes = {}
    needed: list[Edit] = []
    for code, kind in ModelCode(program).built("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        width = keyword(code.node, "num_features", 0)  # type: ignore[arg-type]
        if width is not None:
            name = code.source.spell("torch.nn.GroupNorm")
            text = f"{name}({1 if kind == 'BatchNorm1d' else groups}, {Code(code.source, width).text})"
            _note(changes, code, text)
            needed += code.source.imported("torch.nn.GroupNorm")
    if not changes:
        raise NoPatch("no BatchNorm is written in the lines that build the model")
    return [*_replaced(changes, "GroupNorm instead of BatchNorm"), *needed]


def fewer_groups(program: Program, groups: int) -> list[Edit]:
    """Fewer groups, each of more channels, for every GroupNorm that has more than `groups` of them."""
    changes: Changes = {}
    for code, _ in ModelCode(program).built("GroupNorm"):
        given = keyword(code.node, "num_groups", 0)  # type: ignore[arg-type]
        is_number = isinstance(given, ast.Constant) and isinstance(given.value, int)
        if given is not None and (not is_number or given.value > groups):  # type: ignore[attr-defined]
            _note(changes, Code(code.source, given), str(groups))
    if not changes:
        raise NoPatch(f"no GroupNorm of more than {groups} groups is written in the lines that build the model")
    return _replaced(changes, f"{groups} groups of channels")


def norm_first(program: Program) -> list[Edit]:
    """Torch's transformer layers normalise before each block."""
    found = ModelCode(program).built("TransformerEncoderLayer", "TransformerDecoderLayer")
    if not found:
        raise NoPatch("the model is not built of torch's own transformer layers")
    return [edit for code, _ in found for edit in set_keyword(code, "norm_first", "True")]


def lower_dropout(program: Program, most: float) -> list[Edit]:
    """Every rate that is written as a number above `most` becomes it."""
    changes: Changes = {}
    for code in ModelCode(program).nodes():
        if not isinstance(code.node, ast.Call):
            continue
        name = code.source.resolve(code.node.func)
        if re.fullmatch(r"torch\.nn\.(Alpha|Feature\w*)?Dropout\d?d?", name):
            rate = keyword(code.node, "p", 0)
        elif name == "torch.nn.functional.dropout":
            rate = keyword(code.node, "p", 1)
        else:
            rate = keyword(code.node, "dropout") if name.startswith("torch.nn.") else None  # of a block of torch's
        if rate is None:
            continue
        known = Code(code.source, rate) if number_of(rate) > most else None
        known = known or written(program, rate, lambda number: most < number <= 1)
        if known is not None:
            _note(changes, known, f"{most:g}")
    if not changes:
        raise NoPatch(f"the lines do not show one number above {most:g} for a dropout rate of the model")
    return _replaced(changes, f"a rate of {most:g}")


def gate(program: Program, bias: float) -> list[Edit]:
    """An RNN becomes a GRU, which is called and gives as it did; the gates that keep a state begin open."""
    edits: list[Edit] = []
    for code, kind in ModelCode(program).built("RNN", "LSTM", "GRU"):
        statement, node = code.statement, code.node
        assert isinstance(node, ast.Call)
        if not isinstance(statement.node, ast.Assign) or statement.node.value is not node:
            continue
        name = ast.unparse(statement.node.targets[0])
        if kind == "RNN":
            if keyword(node, "nonlinearity") is None and keyword(node, "nonlinearity", 3) is not None:
                raise NoPatch("the RNN is given a nonlinearity by its position, which a GRU does not take")
            kept = [*node.args, *(each for each in node.keywords if each.arg != "nonlinearity")]
            if len(kept) == len(node.args) + len(node.keywords):
                edits += Code(code.source, node.func).become(code.source.spell("torch.nn.GRU"), "GRU instead of RNN")
            else:
                held = ", ".join(Code(code.source, each).text for each in sorted(kept, key=code.source.start))
                edits += code.become(f"{code.source.spell('torch.nn.GRU')}({held})", "GRU instead of RNN")
        size = f"{name}.hidden_size"
        lines = [
            f"for key, value in {name}.named_parameters():",
            '    if key.startswith("bias_ih"):',
            f"        {code.source.spell('torch.nn.init.constant_')}(value.data[{size} : 2 * {size}], {bias})  # open gates",
        ]
        edits += [*statement.after(lines, "open its gates"), *code.source.imported("torch.nn.init")]
    if not edits:
        raise NoPatch("no recurrent layer is built by itself in the model's lines")
    return edits


def register(program: Program) -> list[Edit]:
    """Lists of layers that are kept as attributes become ModuleLists."""
    edits: list[Edit] = []
    for piece in ModelCode(program).classes():
        for statement in piece.inside(ast.Assign):
            value, name = statement.value, ast.unparse(statement.targets[0])
            layers = [n for n in ast.walk(value) if isinstance(n, ast.Call) and _is_layer(piece.source, n)]
            if name.startswith("self.") and isinstance(value, (ast.List, ast.ListComp)) and layers:
                kind, held = "torch.nn.ModuleList", Code(piece.source, value)
                text = f"{piece.source.spell(kind)}({held.text})"
                edits += [*held.become(text, f"{name} as a ModuleList"), *piece.source.imported(kind)]
            elif name.startswith("self.") and ast.unparse(value) in ("[]", "list()") and _is_filled(piece, name):
                kind = "torch.nn.ModuleList"
                made = Code(piece.source, value).become(f"{piece.source.spell(kind)}()", f"{name} as a ModuleList")
                edits += [*made, *piece.source.imported(kind)]
    if not edits:
        raise NoPatch("no list of layers is kept as an attribute in the model's lines")
    return edits


def _is_filled(piece: Code, name: str) -> bool:
    """Whether layers, alone, are put into a list that begins empty: `self.hidden.append(nn.Linear(4, 4))`."""
    calls = [call for call in piece.inside(ast.Call) if isinstance(call.func, ast.Attribute)]
    puts = [call for call in calls if ast.unparse(call.func) in (f"{name}.append", f"{name}.insert")]
    made = [call.args[-1] for call in puts if call.args]
    return bool(made) and all(isinstance(each, ast.Call) and _is_module(piece, each) for each in made)


def _is_module(piece: Code, call: ast.Call) -> bool:
    """Whether a call makes a module: one of torch's, or of a class of the file that has a forward."""
    if piece.source.resolve(call.func).startswith("torch.nn."):
        return piece.source.resolve(call.func).count(".") == 2
    classes = [
        each for each in piece.source.nodes if isinstance(each, ast.ClassDef) and each.name == last_name(call.func)
    ]
    return any(getattr(each, "name", "") == "forward" for owner in classes for each in owner.body)


def _is_layer(source: Source, call: ast.Call) -> bool:
    whole = source.resolve(call.func)
    return whole.startswith("torch.nn.") and whole.count(".") == 2 and whole.split(".")[-1] not in KINDS
