"""Norms put between layers, and ways around them, in the lines that build and call them."""

from __future__ import annotations

import ast

from gradscope.errors import NoPatch
from gradscope.patches.activations import called_as, final, made_as
from gradscope.patches.edit import Edit
from gradscope.patches.model_code import ModelCode
from gradscope.patches.names import assigned, keyword, last_name
from gradscope.patches.program import Program
from gradscope.patches.source import FUNCTIONS, Code, Position, Source, replaced

_NORMS = {"Linear": "BatchNorm1d", "Conv1d": "BatchNorm1d", "Conv2d": "BatchNorm2d", "Conv3d": "BatchNorm3d"}
_WIDTHS = {"Linear": ("in_features", "out_features")}
_CHANNELS = ("in_channels", "out_channels")
_NORM_NAMES = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "InstanceNorm2d", "RMSNorm")
Change = tuple[Position, Position, str]


def siblings(code: Code) -> list[ast.expr]:
    """The list of modules that a call stands in, as arguments of a Sequential or as a list or tuple; or none."""
    parent = code.source.parents[code.node]
    if isinstance(parent, ast.Call) and code.source.resolve(parent.func) == "torch.nn.Sequential":
        return parent.args
    if isinstance(parent, ast.Tuple) and isinstance(code.source.parents[parent], (ast.Assign, ast.Return)):
        return []  # `self.a, self.b = nn.Linear(4, 4), nn.ReLU()` is no list of modules
    return parent.elts if isinstance(parent, (ast.List, ast.Tuple)) else []


def _follower(code: Code) -> Code | None:
    """What stands behind a call in its list."""
    around = siblings(code)
    place = next((at for at, each in enumerate(around) if each is code.node), len(around))
    return Code(code.source, around[place + 1]) if place + 1 < len(around) else None


def _is_activation(code: Code | None) -> bool:
    if code is None or not isinstance(code.node, ast.Call):
        return False
    return bool(made_as(code)) or (
        not code.source.resolve(code.node.func) and "act" in last_name(code.node.func).lower()
    )


def widths(code: Code, kind: str) -> tuple[str, str]:
    """How the numbers of inputs and outputs of a layer are written; "" where they are not."""
    names = _WIDTHS.get(kind, _CHANNELS)
    found = [keyword(code.node, name, place) for place, name in enumerate(names)]  # type: ignore[arg-type]
    first, second = (Code(code.source, each).text if each is not None else "" for each in found)
    return first, second


def insert_norms(program: Program) -> list[Edit]:
    """A BatchNorm between every weight layer and the activation behind it."""
    model = ModelCode(program)
    last = final(program, model)
    outside = None if last is None else last.code.node  # the output's own activation is given what the head gives
    changes: dict[int, tuple[Source, list[Change]]] = {}
    edits: list[Edit] = []
    for code, kind in model.built(*_NORMS):
        width = widths(code, kind)[1]
        behind = _follower(code)
        if not width:
            continue
        norm = f"{code.source.spell(f'torch.nn.{_NORMS[kind]}')}({width})"
        held = changes.setdefault(id(code.source), (code.source, []))[1]
        if behind is not None and behind.node is outside:
            continue
        if _is_activation(behind):
            held.append((code.source.end(code.node), code.source.end(code.node), f",{_gap(code, behind)}{norm}"))
        elif _appended_activation(code) is not None:
            edits += code.statement.after([code.statement.text.replace(code.text, norm)], f"insert {norm}")
        elif _is_called_in_activation(code, model, outside):
            sequence = code.source.spell("torch.nn.Sequential")
            held.append((code.source.start(code.node), code.source.end(code.node), f"{sequence}({code.text}, {norm})"))
    for source, held in changes.values():
        edits += replaced(source, held, "insert a BatchNorm before each activation")
        edits += source.imported("torch.nn.BatchNorm1d")
    if not any(edit.removed or "BatchNorm" in "".join(edit.lines) for edit in edits):
        raise NoPatch("no weight layer with an activation right behind it is written in the lines that build the model")
    return edits


def _gap(code: Code, behind: Code | None) -> str:
    """What stands between two entries of a list: a space, or a new line where the next one has its own."""
    if behind is None or behind.line == code.source.end(code.node)[0]:
        return " "
    return f"\n{code.indent}" if behind.indent == code.indent else " "


def _appended_activation(code: Code) -> Code | None:
    """`nn.ReLU()` of `layers.append(nn.ReLU())` right behind the statement `layers.append(nn.Linear(...))`."""
    parent, source, statement = code.source.parents[code.node], code.source, code.statement.node
    if not isinstance(parent, ast.Call) or last_name(parent.func) != "append":
        return None
    body = next((held for held in _bodies(source.parents[statement]) if statement in held), [])
    place = body.index(statement) + 1 if statement in body else len(body)
    if place >= len(body) or not isinstance(body[place], ast.Expr):
        return None
    call = body[place].value  # type: ignore[attr-defined]
    is_put = isinstance(call, ast.Call) and last_name(call.func) == "append" and len(call.args) == 1
    put = Code(source, call.args[0]) if is_put else None
    return put if _is_activation(put) else None


def _bodies(node: ast.AST) -> list[list[ast.stmt]]:
    return [held for name in ("body", "orelse", "finalbody") if isinstance(held := getattr(node, name, None), list)]


def _is_called_in_activation(code: Code, model: ModelCode, outside: ast.AST | None) -> bool:
    """`self.fc = nn.Linear(...)`, or a ModuleList of them, that forward calls right inside of an activation."""
    name = _attribute(code)
    calls = calls_of(name, code, model) if name else []
    around = [_around(call, model) for call in calls]
    fits = all(each is not None and each.node is not outside for each in around)
    return bool(calls) and fits and f"{name}.weight" not in code.source.text


def _attribute(code: Code) -> str:
    """What a layer is kept as, by itself or in a ModuleList: "self.fc"."""
    statement = code.statement.node
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return ""
    if statement.value is not code.node:
        value = statement.value
        if not isinstance(value, ast.Call) or code.source.resolve(value.func) != "torch.nn.ModuleList":
            return ""
    name = ast.unparse(statement.targets[0])
    return name if name.startswith("self.") else ""


def calls_of(name: str, code: Code, model: ModelCode) -> list[Code]:
    """Where forward calls the layers that are kept under a name, through a loop's variable too."""
    owner = next(code.source.within(code.node, ast.ClassDef), None)
    found: list[Code] = []
    for forward in model.forwards():
        if owner is None or owner not in list(forward.source.within(forward.node, ast.ClassDef)):
            continue
        names = {name}
        for loop in forward.inside(ast.For):
            if name in {ast.unparse(each) for each in ast.walk(loop.iter) if isinstance(each, ast.Attribute)}:
                names |= {each.id for each in ast.walk(loop.target) if isinstance(each, ast.Name)}
        found += [Code(forward.source, call) for call in forward.inside(ast.Call) if ast.unparse(call.func) in names]
    return found


def _around(call: Code, model: ModelCode) -> Code | None:
    """The activation that a call of a layer stands in, as a function, or as a module of the class; or none."""
    parent = call.source.parents[call.node]
    if isinstance(parent, ast.Attribute):
        parent = call.source.parents[parent]  # x.relu()
    if not isinstance(parent, ast.Call):
        return None
    code = Code(call.source, parent)
    if called_as(code):
        return code
    name = ast.unparse(parent.func)
    owner = next(call.source.within(call.node, ast.ClassDef), None)
    methods = [each for each in owner.body if isinstance(each, FUNCTIONS)] if owner is not None else []
    made = [each.value for method in methods for each in assigned(method, name) if each.value]
    is_module = (bool(made) and bool(made_as(Code(call.source, made[-1])))) or "act" in name.lower()
    return code if name.startswith("self.") and is_module else None


def add_skips(program: Program, scale: str) -> list[Edit]:
    """A way around every block of equal width: `x + scale * block(x)` in forward, or a Residual around it in a list."""
    model, factor = ModelCode(program), "" if scale == "1" else f"{scale} * "
    changes: dict[int, tuple[Source, list[Change]]] = {}
    wraps: list[Code] = []
    gone: list[Edit] = []
    for code, kind in model.built("Linear", "Conv1d", "Conv2d", "Conv3d"):
        before, after = widths(code, kind)
        if not before or before != after or (kind != "Linear" and not _keeps_size(code)):
            continue
        held = changes.setdefault(id(code.source), (code.source, []))[1]
        block, put = _block(code), _appended_activation(code)
        if block is not None:
            wraps.append(code)
            held.append(block)
        elif put is not None and put.statement.text.startswith(put.source.lines[put.line - 1].strip()):
            wraps.append(code)
            inner = f"{code.source.spell('torch.nn.Sequential')}({code.text}, {put.text})"
            held.append((code.source.start(code.node), code.source.end(code.node), f"Residual({inner})"))
            first, last = put.statement.line, put.source.end(put.statement.node)[0]
            gone.append(Edit(put.source.path, first, last - first + 1, (), "which holds the activation too"))
        elif name := _attribute(code):
            held += [
                change for call in calls_of(name, code, model) if (change := _sum(call, model, factor)) is not None
            ]
    edits = [
        edit for source, held in changes.values() for edit in replaced(source, held, "add the input to each block")
    ]
    if not edits:
        raise NoPatch("no block whose input and output are written with one width was found in the model's lines")
    return [*edits, *gone, *_residual_class(wraps, factor)]


def _keeps_size(code: Code) -> bool:
    """A convolution of kernel 3 with padding 1, or the like."""
    node = code.node
    assert isinstance(node, ast.Call)
    kernel, padding, stride = keyword(node, "kernel_size", 2), keyword(node, "padding", 4), keyword(node, "stride", 3)
    if stride is not None and ast.unparse(stride) != "1":
        return False
    if padding is not None and ast.unparse(padding).strip("'\"") == "same":
        return True
    known = [each.value if isinstance(each, ast.Constant) else None for each in (kernel, padding)]
    return isinstance(known[0], int) and isinstance(known[1], int) and known[0] == 2 * known[1] + 1


def _block(code: Code) -> Change | None:
    """A layer in a list, with the norm and the activation behind it, wrapped."""
    around, source = siblings(code), code.source
    if not around:
        return None
    place = around.index(code.node)  # type: ignore[arg-type]
    last = place
    for position in range(place + 1, len(around)):
        behind = Code(source, around[position])
        name = source.resolve(behind.node.func).split(".")[-1] if isinstance(behind.node, ast.Call) else ""
        if not (_is_activation(behind) or name in _NORM_NAMES):
            break
        last = position
    if last == place or not _is_activation(Code(source, around[last])):
        return None
    start, end = source.start(code.node), source.end(around[last])
    inner = f"{source.spell('torch.nn.Sequential')}({source.segment(start, end)})"
    one = "," if len(around) == last - place + 1 and isinstance(source.parents[code.node], ast.Tuple) else ""
    return start, end, f"Residual({inner}){one}"


def _sum(call: Code, model: ModelCode, factor: str) -> Change | None:
    """`x = torch.relu(self.fc(x))` as `x = x + torch.relu(self.fc(x))`."""
    statement, source = call.statement.node, call.source
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return None
    name, node = statement.targets[0].id, call.node
    outer = _around(call, model) or call
    given = node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 else None
    if statement.value is not outer.node or not isinstance(given, ast.Name) or given.id != name:
        return None
    start = source.start(statement.value)
    return start, start, f"{name} + {factor}"


def _residual_class(wraps: list[Code], factor: str) -> list[Edit]:
    """The class that `_block` names, before the first thing on the module's level that needs it."""
    edits: list[Edit] = []
    for source in dict.fromkeys(code.source for code in wraps):
        if any(isinstance(node, ast.ClassDef) and node.name == "Residual" for node in ast.walk(source.tree)):
            raise NoPatch("the program has a class Residual of its own")
        lines = [code.line for code in wraps if code.source is source]
        tops = [node for node in source.tree.body if node.lineno <= min(lines)]
        top = Code(source, tops[-1])
        above = source.lines[top.line - 2].strip() if top.line > 1 else ""
        text = [
            *(("", "") if above else ()),
            f"class Residual({source.spell('torch.nn.Module')}):",
            "    def __init__(self, block):",
            "        super().__init__()",
            "        self.block = block",
            "",
            "    def forward(self, x):",
            f"        return x + {factor}self.block(x)",
            *("", ""),
        ]
        edits += [*top.before(text, "the class of the blocks"), *source.imported("torch.nn.Module")]
    return edits


def scale_branches(program: Program, factor: str) -> list[Edit]:
    """Every `x + block(x)` of the forwards becomes `x + factor * block(x)`."""
    model, edits = ModelCode(program), []
    changes: dict[int, tuple[Source, list[Change]]] = {}
    for forward in model.forwards():
        for node in forward.inside(ast.BinOp):
            sides = (node.left, node.right)
            branch = next((each for each in sides[::-1] if isinstance(each, ast.Call)), None)
            way = next((each for each in sides if isinstance(each, ast.Name)), None)
            if (
                isinstance(node.op, ast.Add)
                and branch is not None
                and way is not None
                and way.id in ast.unparse(branch)
            ):
                at = forward.source.start(branch)
                changes.setdefault(id(forward.source), (forward.source, []))[1].append((at, at, f"{factor} * "))
        for added in forward.inside(ast.AugAssign):
            if isinstance(added.op, ast.Add) and isinstance(added.value, ast.Call):
                at = forward.source.start(added.value)
                changes.setdefault(id(forward.source), (forward.source, []))[1].append((at, at, f"{factor} * "))
    for source, held in changes.values():
        edits += replaced(source, held, f"scale each branch by {factor}")
    if not edits:
        raise NoPatch("no forward of the program adds a block's output to its input")
    return edits
