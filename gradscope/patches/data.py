"""Inputs and targets brought to unit size, where the model and the loss are given them."""

from __future__ import annotations

import ast

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.loop import free, set_keyword
from gradscope.patches.losses import targets
from gradscope.patches.names import assigned, bound, keyword, last_name, own, visible
from gradscope.patches.program import Program
from gradscope.patches.source import Code, replaced


def standardize_inputs(program: Program, mean: str, deviation: str, images: bool) -> list[Edit]:
    """The model is given standardised inputs, in every call.

    Args:
        program: the user's.
        mean, deviation: of what the run was fed, used where the lines do not show one tensor of all inputs.
        images: one mean a channel, over a batch `[N, C, H, W]`.
    """
    given = _inputs(program)
    trains = program.backwards[0]
    whole = next((found for each in given if (found := _whole(each, trains)) is not None), None)
    if whole is not None:
        edits = _with_statistics(given, whole, images)
        if edits is not None:
            return edits
    return _divided(given, mean, deviation)


def standardize_targets(program: Program, mean: str, deviation: str) -> list[Edit]:
    """The loss is given standardised targets."""
    target = targets(program)
    whole = _whole(target, program.backwards[0])
    edits = _with_statistics([target], whole, False) if whole is not None else None
    return edits or _divided([target], mean, deviation)


def _inputs(program: Program) -> list[Code]:
    """What the model is given, wherever it is called by the name that it has there."""
    found: list[Code] = []
    for source in program.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.func, (ast.Name, ast.Attribute)):
                code = Code(source, node)
                name = program.model_at(code)
                if name and name != "self" and ast.unparse(node.func) == name:
                    found.append(Code(source, node.args[0]))
    if not found:
        raise NoPatch("no line calls the model by its name with one input")
    return sorted(found, key=lambda code: code.line)


def _whole(given: Code, trains: Code) -> Code | None:
    """The name, where it is made, of the tensor of all data that a batch is taken from; None where it is not seen."""
    source, scope = given.source, given.source.scope(given.node)
    if scope is not trains.source.scope(trains.node):
        return None
    node = given.node
    for _ in range(4):
        if isinstance(node, ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Name):
            loop = _loop_of(node.id, given)
            if loop is not None:
                node = _of_dataset(loop, node.id, given) or ast.Constant(None)
                continue
            made = assigned(scope, node.id, given.line) or _unpacked(scope, node.id, given.line)
            if not made and node.id not in bound(scope):
                made = assigned(source.tree, node.id) or _unpacked(source.tree, node.id, 10**9)
            if not made:
                return None
            value = _part(made[-1], node.id)
            if not isinstance(value, ast.Subscript):
                return Code(source, made[-1]) if _is_once(made[-1], node.id, given) else None
            node = value
        else:
            return None
    return None


def _is_once(made: ast.stmt, name: str, given: Code) -> bool:
    """Whether a tensor is made outside of every loop, so that it can be all of the data."""
    return not any(given.source.within(made, (ast.For, ast.While)))


def _unpacked(scope: ast.AST, name: str, before: int) -> list[ast.Assign]:
    """Assignments to a tuple with the name in it."""
    return [
        node
        for node in own(scope)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and node.lineno < before
        if name in {ast.unparse(each) for each in node.targets[0].elts}
    ]


def _part(made: ast.Assign | ast.AnnAssign, name: str) -> ast.expr | None:
    """What a name is assigned; of a tuple its own part."""
    target = made.targets[0] if isinstance(made, ast.Assign) else made.target
    if isinstance(target, ast.Tuple) and isinstance(made.value, ast.Tuple):
        pairs = zip(target.elts, made.value.elts, strict=False)
        return next((value for each, value in pairs if ast.unparse(each) == name), None)
    return made.value


def _loop_of(name: str, given: Code) -> ast.For | None:
    """The loop whose variable a name is."""
    for loop in given.source.within(given.node, ast.For):
        if name in {each.id for each in ast.walk(loop.target) if isinstance(each, ast.Name)}:
            return loop
    return None


def _of_dataset(loop: ast.For, name: str, given: Code) -> ast.expr | None:
    """The tensor of a `TensorDataset` that the loop's variable is taken from."""
    iterated, scope = loop.iter, given.source.scope(given.node)
    if isinstance(iterated, ast.Call) and last_name(iterated.func) == "enumerate" and iterated.args:
        iterated = iterated.args[0]
    names = [each.id for each in ast.walk(loop.target) if isinstance(each, ast.Name)]
    names = (
        [each for each in names if each != names[0]] if isinstance(loop.iter, ast.Call) and len(names) > 2 else names
    )
    for _ in range(3):
        sets = [n for n in ast.walk(iterated) if isinstance(n, ast.Call) and last_name(n.func) == "TensorDataset"]
        if sets:
            place = names.index(name) if name in names else len(names)
            return sets[0].args[place] if place < len(sets[0].args) else None
        inner = keyword(iterated, "dataset", 0) if isinstance(iterated, ast.Call) else iterated
        if not isinstance(inner, ast.Name):
            return None
        made = assigned(scope, inner.id, given.line) or assigned(given.source.tree, inner.id)
        if not made or made[-1].value is None:
            return None
        iterated = made[-1].value
    return None


def _with_statistics(given: list[Code], made: Code, images: bool) -> list[Edit] | None:
    """Mean and deviation taken right after all data are made, and used in each place; None where one is out of reach."""
    source, node = made.source, made.node
    tensor = _name_of_tensor(given, made)
    mean, std = free(source.tree, "mean"), free(source.tree, "std")
    if any(each.source is not source or visible(mean, made, each) != mean for each in given) or not tensor:
        return None
    axes = "(0, 2, 3), keepdim=True" if images else "0"
    line = f"{mean}, {std} = {tensor}.mean({axes}), {tensor}.std({axes}).clamp(min=1e-6)"
    changes = [(source.start(each.node), source.end(each.node), _scaled(each, mean, std)) for each in given]
    edits = Code(source, node).after([line], f"insert the mean and deviation of {tensor}")
    return [*edits, *replaced(source, changes, f"({tensor} - {mean}) / {std}")]


def _name_of_tensor(given: list[Code], made: Code) -> str:
    """Which name of an assignment holds the data: the only one, or the one that the places mention or a loop takes."""
    node = made.node
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[attr-defined]
    if not isinstance(target, ast.Tuple):
        return ast.unparse(target)
    names = {ast.unparse(each) for each in target.elts}
    mentioned = [n.id for each in given for n in ast.walk(each.node) if isinstance(n, ast.Name) and n.id in names]
    return mentioned[0] if mentioned else ""


def _scaled(given: Code, mean: str, deviation: str) -> str:
    simple = isinstance(given.node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call))
    return f"({given.text if simple else f'({given.text})'} - {mean}) / {deviation}"


def _divided(given: list[Code], mean: str, deviation: str) -> list[Edit]:
    if not mean:
        raise NoPatch("the run does not know the size of the data, and no line shows one tensor of all of them")
    edits: list[Edit] = []
    minus = f"+ {mean[1:]}" if mean.startswith("-") else f"- {mean}"
    for source in dict.fromkeys(each.source for each in given):
        changes = []
        for each in given:
            if each.source is source:
                simple = isinstance(each.node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call))
                text = each.text if simple else f"({each.text})"
                changes.append((source.start(each.node), source.end(each.node), f"({text} {minus}) / {deviation}"))
        edits += replaced(source, changes, f"subtract {mean}, divide by {deviation}: the run's mean and deviation")
    return edits


def set_batch_size(program: Program, fewest: int, times: int) -> list[Edit]:
    """Batches of more samples: `times` as many as are written, at least `fewest`."""
    arguments = program.library_call("TrainingArguments")
    found = [arguments] if arguments is not None else []
    for source in program.sources.values():
        for node in source.nodes if arguments is None else ():
            if isinstance(node, ast.Call) and last_name(node.func) == "DataLoader":
                found.append(Code(source, node))
    shuffled = [each for each in found if "shuffle" in each.text and "shuffle=False" not in each.text.replace(" ", "")]
    chosen = shuffled if len(found) > 1 and len(shuffled) == 1 else found
    if len(chosen) != 1 or chosen[0] is None:
        raise NoPatch(f"{len(chosen) or 'no'} lines build a DataLoader: one is clear")
    name = "batch_size" if arguments is None else "per_device_train_batch_size"
    given = keyword(chosen[0].node, name, 1 if arguments is None else None)  # type: ignore[arg-type]
    old = given.value if isinstance(given, ast.Constant) else 1 if given is None and arguments is None else None
    if not isinstance(old, int):
        raise NoPatch("the batch size is not written as a number")
    return set_keyword(chosen[0], name, str(max(fewest, old * times)), 1 if arguments is None else None)
