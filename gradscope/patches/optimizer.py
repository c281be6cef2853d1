"""Changes of the line that builds the optimizer."""

from __future__ import annotations

import ast
import math

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.loop import constant, outermost_loop, refuse_schedules, set_keyword
from gradscope.patches.names import keyword, last_name
from gradscope.patches.program import Program
from gradscope.patches.source import Code
from gradscope.patches.written import number_of, written

# where the learning rate stands, when it is not named
_POSITIONS = {"LBFGS": 1, "Adafactor": 1}
_ADAM_LIKE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")  # their steps need no other class, but another eps


def set_rate(program: Program, rate: str) -> list[Edit]:
    """The optimizer gets another learning rate."""
    refuse_schedules(program)
    arguments = program.library_call("TrainingArguments")
    if arguments is not None:
        given = keyword(arguments.node, "learning_rate")  # type: ignore[arg-type]
        known = None if given is None else _in_force(program, given, "lr")
        return _another(known, "learning_rate", rate) if known else set_keyword(arguments, "learning_rate", rate)
    call = program.optimizer.call
    assert isinstance(call.node, ast.Call)
    if '"lr":' in call.text.replace("'", '"'):
        raise NoPatch(f"line {call.line:,} gives parameter groups rates of their own")
    given = keyword(call.node, "lr", _POSITIONS.get(last_name(call.node.func), 1))
    if given is not None:
        return _another(_in_force(program, given, "lr") or constant(call, given), "lr", rate)
    options = next((each.value for each in call.node.keywords if each.arg is None), None)
    if options is None:
        return set_keyword(call, "lr", rate)
    known = _in_force(program, "lr", "lr")
    if known is not None:
        return _another(known, "lr", rate)
    old = Code(call.source, options)
    return old.become(f'{{**{old.text}, "lr": {rate}}}', f"lr={rate} instead of that of {old.text}")


def _another(old: Code, name: str, new: str) -> list[Edit]:
    return old.become(new, f"{name}={new} instead of {old.text}")


def _in_force(program: Program, given: ast.expr | str, option: str) -> Code | None:
    """Where the number is written that the run's optimizers had, by their option's name; None where nobody can say."""
    held = {float(value) for info in program.info.optimizers if (value := info.options.get(option)) is not None}
    if len(held) != 1 or isinstance(given, ast.Constant):
        return None
    value = held.pop()
    return written(program, given, lambda number: math.isclose(number, value, rel_tol=1e-6))


def swap_optimizer(program: Program, kind: str, options: str) -> list[Edit]:
    """Another optimizer of torch over the same parameters."""
    call = program.optimizer.call
    assert isinstance(call.node, ast.Call)
    given = keyword(call.node, "params", 0)
    if given is None:
        raise NoPatch(f"line {call.line:,} does not say which parameters the optimizer is given")
    if '"lr":' in call.text.replace("'", '"'):
        raise NoPatch(f"line {call.line:,} gives parameter groups rates of their own")
    if any(step.closure for step in program.steps):
        raise NoPatch("the optimizer is handed a closure, which another optimizer has no use for")
    if last_name(call.node.func) in _ADAM_LIKE:
        name, _, value = options.rpartition(", ")[2].partition("=")
        return set_keyword(call, name, value)
    name, source = f"torch.optim.{kind}", call.source
    text = f"{source.spell(name)}({Code(source, given).text}, {options})"
    return [*call.become(text, f"{kind} instead of {last_name(call.node.func)}"), *source.imported(name)]


def give_all_parameters(program: Program) -> list[Edit]:
    """The optimizer is given the parameters that it lacks: all of the model, or in a group of their own."""
    built, model = program.optimizer, program.model
    given = keyword(built.call.node, "params", 0)  # type: ignore[arg-type]
    whole = f"{model.name}.parameters()"
    if given is not None and _is_part(given, model.name):
        old = Code(built.call.source, given)
        return old.become(whole, f"{whole} instead of {old.text}")
    if not built.name:
        raise NoPatch(f"line {built.call.line:,} gives the optimizer no name")
    lines = [
        f'held = {{id(p) for group in {built.name}.param_groups for p in group["params"]}}',
        f'{built.name}.add_param_group({{"params": [p for p in {whole} if id(p) not in held]}})',
    ]
    loop = outermost_loop(program.steps[0].call)
    parents = built.call.source.parents
    if loop.source is built.call.source and parents[loop.node] is parents[built.statement.node]:
        return loop.before(lines, "insert before the training loop, when the model is final")
    return built.statement.after(lines, f"insert after {built.name} is built")


def set_weight_decay(program: Program, factor: float) -> list[Edit]:
    """The optimizer gets a weight decay that is `factor` times the one that is written there as a number."""
    call = program.optimizer.call
    assert isinstance(call.node, ast.Call)
    given = keyword(call.node, "weight_decay")
    is_hidden = given is None and any(each.arg is None for each in call.node.keywords)
    known = (
        _in_force(program, "weight_decay" if given is None else given, "weight_decay") if given or is_hidden else None
    )
    old = known or (None if given is None else constant(call, given))
    if old is None or math.isnan(number_of(old.node)):
        raise NoPatch("the weight decay is not written as a number where the optimizer is built")
    return _another(old, "weight_decay", f"{number_of(old.node) * factor:.2g}")


def build_later(program: Program) -> list[Edit]:
    """The optimizer is built right before the training loop, when the model is final."""
    built = program.optimizer
    loop = outermost_loop(program.steps[0].call)
    parents = built.call.source.parents
    if loop.source is not built.call.source or parents[loop.node] is not parents[built.statement.node]:
        raise NoPatch("the optimizer is not built in the function that trains")
    start, end = built.statement.line, built.call.source.end(built.statement.node)[0]
    between = [
        node
        for node in ast.walk(built.call.source.scope(built.call.node))
        if isinstance(node, (ast.Name, ast.Attribute))
        and end < node.lineno < loop.line
        and ast.unparse(node) == built.name
    ]
    if between or not built.name:
        raise NoPatch("the optimizer is used before the training loop, so that its line cannot move there")
    lines = built.statement.text.split("\n")
    if len(lines) > 1:
        raise NoPatch("the optimizer is built over several lines: move them to right before the training loop")
    return [
        *loop.before(lines, f"build {built.name} here, when the model is final"),
        Edit(built.call.source.path, start, end - start + 1, (), "take it away here"),
    ]


def _is_part(given: ast.expr, model: str) -> bool:
    """Whether the parameters are those of one part of the model: `net.head.parameters()`."""
    return (
        isinstance(given, ast.Call)
        and isinstance(given.func, ast.Attribute)
        and given.func.attr == "parameters"
        and ast.unparse(given.func.value).startswith(f"{model}.")
    )
