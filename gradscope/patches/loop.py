"""Changes of the lines that make a step: clip, warm up, zero, scale, train()."""

from __future__ import annotations

import ast

from gradscope.errors import NoPatch
from gradscope.patches.edit import Edit
from gradscope.patches.names import assigned, keyword, last_name, visible
from gradscope.patches.program import Program, Step
from gradscope.patches.source import FUNCTIONS, Code, replaced

_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def clip(program: Program, bound: str) -> list[Edit]:
    """The gradient norm is bounded ahead of every step."""
    arguments, trainer = program.library_call("TrainingArguments"), program.library_call("Trainer")
    if arguments is not None:
        return set_keyword(arguments, "max_grad_norm", bound)
    if trainer is not None and "lightning" in trainer.source.resolve(trainer.node.func):  # type: ignore[attr-defined]
        return set_keyword(trainer, "gradient_clip_val", bound)
    edits: list[Edit] = []
    for step in program.steps:
        edits += _clip(program, step, bound)
    return edits


def _clip(program: Program, step: Step, bound: str) -> list[Edit]:
    source, held = step.call.source, program.parameters_at(step)
    accelerator = _made_by(step.call, "Accelerator", program)
    if accelerator:
        lines = [f"{accelerator}.clip_grad_norm_({held}, {bound})"]
        return step.statement.before(lines, f"insert before {step.call.text}")
    name = "torch.nn.utils.clip_grad_norm_"
    line = f"{source.spell(name)}({held}, max_norm={bound})"
    if step.closure:
        backward = program.backwards[0].statement
        model = program.model_at(backward)
        if not model:
            raise NoPatch("the model has no name inside of the closure")
        line = f"{backward.source.spell(name)}({model}.parameters(), max_norm={bound})"
        return [*backward.after([line], f"insert after {program.backwards[0].text}"), *backward.source.imported(name)]
    lines = [f"{step.scaler}.unscale_({step.optimizer})", line] if step.scaler else [line]
    return [*step.statement.before(lines, f"insert before {step.call.text}"), *source.imported(name)]


def _made_by(there: Code, kind: str, program: Program) -> str:
    """What an object of a class is called at a place; "" where there is none."""
    for source in program.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.Call) and last_name(node.func) == kind:
                statement = Code(source, node).statement
                if isinstance(statement.node, ast.Assign) and statement.node.value is node:
                    return visible(ast.unparse(statement.node.targets[0]), statement, there)
    return ""


def set_keyword(call: Code, name: str, value: str, position: int | None = None) -> list[Edit]:
    """An argument of a call gets another value, or is added."""
    node = call.node
    assert isinstance(node, ast.Call)
    function = last_name(node.func)
    given = keyword(node, name, position)
    if given is not None:
        old = Code(call.source, given)
        return old.become(value, f"{name}={value} instead of {old.text}")
    if any(each.arg is None for each in node.keywords):
        raise NoPatch(f"{function} is called with ** arguments")
    last = max([*node.args, *(each.value for each in node.keywords)], key=call.source.end, default=None)
    if last is None:
        start, end = call.source.start(node), call.source.end(node)
        place = (end[0], end[1] - 1)
        assert start < place
        return replaced(call.source, [(place, place, f"{name}={value}")], f"add {name}={value} to {function}")
    place = call.source.end(last)
    if isinstance(last, ast.GeneratorExp):
        raise NoPatch(f"{function} is called with a generator")
    return replaced(call.source, [(place, place, f", {name}={value}")], f"add {name}={value} to {function}")


def warm_up(program: Program, steps: int) -> list[Edit]:
    """The learning rate rises over the first steps."""
    arguments = program.library_call("TrainingArguments")
    if arguments is not None:
        return set_keyword(arguments, "warmup_steps", str(steps))
    refuse_schedules(program)
    built = program.optimizer
    if not built.name:
        raise NoPatch(f"line {built.call.line:,} gives the optimizer no name")
    kind, source = "torch.optim.lr_scheduler.LinearLR", built.call.source
    name = free(source.tree, "self.warmup" if built.name.startswith("self.") else "warmup")
    line = f"{name} = {source.spell(kind)}({built.name}, start_factor=0.01, total_iters={steps})"
    edits = built.statement.after([line], f"insert after {built.name} is built")
    for step in program.steps:
        called = visible(name, built.statement, step.statement)
        if not called:
            raise NoPatch("the optimizer is built in one function and steps in another, which a schedule cannot reach")
        edits += step.statement.after([f"{called}.step()"], f"insert after {step.call.text}")
    return [*edits, *source.imported(kind)]


def refuse_schedules(program: Program) -> None:
    """Raises `NoPatch` where a schedule sets the rate by itself, whatever the optimizer was given."""
    for source in program.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.Call) and last_name(node.func) in ("OneCycleLR", "CyclicLR"):
                raise NoPatch(f"{last_name(node.func)} in line {node.lineno:,} sets the learning rate by itself")


def zero(program: Program) -> list[Edit]:
    """The gradients are zeroed at every step."""
    edits: list[Edit] = []
    for step in program.steps:
        if step.closure:
            edits += program.backwards[0].statement.before([f"{step.optimizer}.zero_grad()"], "insert zero_grad")
            continue
        backward = _beside(program, step)
        if backward is not None:
            says = f"insert before {backward.text}"
            edits += backward.statement.before([f"{step.optimizer}.zero_grad()"], says)
        else:
            edits += step.statement.after([f"{step.optimizer}.zero_grad()"], f"insert after {step.call.text}")
    return edits


def _beside(program: Program, step: Step) -> Code | None:
    """The backward pass that is in one block with a step, ahead of it."""
    parents = step.call.source.parents
    for backward in program.backwards:
        ahead = backward.source is step.call.source and backward.line <= step.call.line
        if ahead and parents[backward.statement.node] is parents[step.statement.node]:
            return backward
    return None


def train_mode(program: Program) -> list[Edit]:
    """The model is in training mode at every step: before the loop over the batches, or in it where a test is in it too."""
    backward = program.backwards[0]
    scope = backward.source.scope(backward.node)
    loops = [each for each in backward.source.within(backward.node, _LOOPS) if backward.source.scope(each) is scope]
    if not loops:
        raise NoPatch("no loop of the function that goes backward is seen")
    loop = Code(backward.source, loops[0])
    name = program.model_at(loop)
    if not name:
        raise NoPatch("the model's name is not seen in the training loop")
    if (len(loops) > 1 or isinstance(scope, FUNCTIONS)) and not _tests(program, loop, name):
        return loop.before([f"{name}.train()"], f"insert {name}.train() before the loop over the batches")
    body: list[ast.stmt] = getattr(loops[0], "body", [])
    first = Code(backward.source, body[0])
    return first.before([f"{name}.train()"], f"insert {name}.train() at the loop's beginning")


def _tests(program: Program, loop: Code, model: str, hops: int = 3) -> bool:
    """Whether a piece of the program may put the model into eval mode: it does, or it hands it to who may."""
    functions = {
        node.name: Code(source, node)
        for source in program.sources.values()
        for node in source.nodes
        if isinstance(node, FUNCTIONS)
    }
    for call in loop.inside(ast.Call):
        called = last_name(call.func)
        if called == "eval" or (called == "train" and call.args):
            return True
        if called in functions:
            if called != "forward" and hops and _tests(program, functions[called], model, hops - 1):
                return True
        elif model in map(ast.unparse, call.args):  # a function that is not seen
            return True
    return False


def scale_loss(program: Program) -> list[Edit]:
    """A gradient scaler around backward and step, where autocast is there already and the scaler is not."""
    built, step = program.optimizer, program.steps[0]
    text = "\n".join(source.text for source in program.sources.values())
    if ".half()" in text and not any(word in text for word in ("autocast", "float16", "GradScaler")):
        return _whole(program)
    if "autocast" not in text or "float16" not in text.replace("bfloat16", "") or "GradScaler" in text:
        raise NoPatch("weights, inputs and autocast must change together, and nobody can say all of those lines")
    if len(program.steps) > 1 or len(program.backwards) > 1 or step.closure or step.scaler:
        raise NoPatch("there is not one backward pass and one step")
    backward = program.backwards[0]
    loss = Code(backward.source, backward.node.func.value)  # type: ignore[attr-defined]
    name, kind = free(built.call.source.tree, "scaler"), "torch.amp.GradScaler"
    device = "cuda" if program.info.device.startswith("cuda") else program.info.device.split(":")[0]
    if visible(name, built.statement, step.statement) != name or built.name.startswith("self."):
        raise NoPatch("the optimizer is built in one function and steps in another, which a scaler cannot reach")
    source = built.call.source
    edits = loss.become(f"{name}.scale({loss.text})", f"scale {loss.text} before its backward pass")
    edits += built.statement.after([f'{name} = {source.spell(kind)}("{device}")'], "insert a scaler")
    edits += step.call.become(f"{name}.step({step.optimizer})", "step through the scaler")
    return [*edits, *step.statement.after([f"{name}.update()"], "update the scaler"), *source.imported(kind)]


def _whole(program: Program) -> list[Edit]:
    """The program without `.half()`, in all of its lines: weights, inputs and all that is computed stay float32."""
    edits: list[Edit] = []
    for source in program.sources.values():
        changes = [
            ((end[0], end[1] - len(".half()")), end, "")
            for call in source.calls.get("half", [])
            if isinstance(call.func, ast.Attribute)
            and source.segment((at := source.end(call.func.value)), source.end(call)) == ".half()"
            if (end := source.end(call)) > at
        ]
        edits += replaced(source, changes, "float32, without .half()")
    if not edits:
        raise NoPatch("half precision is asked for in a way that was not foreseen")
    return edits


def free(tree: ast.AST, name: str) -> str:
    """A name that the file does not use yet."""
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))}
    used |= {node.name for node in ast.walk(tree) if isinstance(node, (*FUNCTIONS, ast.ClassDef))}
    return next(each for each in (name, *(f"{name}_{number}" for number in range(2, 999))) if each not in used)


def outermost_loop(there: Code) -> Code:
    """The statement of the outermost loop around a place, in its own function; the statement itself without a loop."""
    scope = there.source.scope(there.node)
    loops = [each for each in there.source.within(there.node, _LOOPS) if there.source.scope(each) is scope]
    return Code(there.source, loops[-1]) if loops else there.statement


def constant(call: Code, given: ast.expr) -> Code:
    """Where the value of an argument is written: a name that is used once stands for the number it was given."""
    source = call.source
    if isinstance(given, ast.Name):
        made = [*assigned(source.tree, given.id), *assigned(source.scope(call.node), given.id)]
        uses = [each for each in source.nodes if isinstance(each, ast.Name) and each.id == given.id]
        if len(set(made)) == 1 and len(uses) == 2 and isinstance(made[0].value, ast.Constant):
            return Code(source, made[0].value)
    return Code(source, given)
