"""`on_non_finite="locate"`: the operation and the line that made the first NaN or Inf, and no trace of the search."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.recorder.locate import _MOST_UNUSED
from tests.trainings import Recurrent, digits

Code = Callable[[torch.Tensor], torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
FAULTY_STEP = 3


class Block(nn.Module):
    """A layer with BatchNorm and dropout, and from the fourth forward pass on some code with a fault."""

    def __init__(self, code: Code, how: str = "") -> None:
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(0.2)
        self.code, self.how, self.passes = code, how, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        x = self.linear(x)
        return checkpoint(self.inside, x, use_reentrant=self.how == "reentrant") if self.how else self.inside(x)  # type: ignore[no-any-return]

    def inside(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(torch.relu(self.norm(x)))
        return self.code(x) if self.passes > FAULTY_STEP else x


def network(code: Code = lambda x: x, how: str = "") -> nn.Sequential:
    """A faulty block at `0` and a head."""
    torch.manual_seed(0)
    return nn.Sequential(Block(code, how), nn.Linear(32, 10))


def located(folder: Path) -> list[dict[str, Any]]:
    """What was located in a run, each with its step."""
    return [
        {"step": event.step, **event.data} for event in gradscope.read_run(folder).events if event.kind == "located"
    ]


def train(
    model: nn.Module,
    folder: Path | None,
    *,
    loss: Loss = functional.cross_entropy,
    steps: int = 8,
    skip: bool = False,
    poison: float | None = None,
    **options: Any,
) -> list[torch.Tensor]:
    """Everything that a training leaves behind; `skip`: as a careful loop does, it takes no step on a NaN or Inf."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, labels = digits()
    scope = None
    if folder is not None:
        options = {"every": 1, "on_non_finite": "locate", **options}
        scope = gradscope.watch(model, optimizer, run_dir=folder, **options)
    trace = []
    for step in range(steps):
        batch = images[step * 32 : step * 32 + 32].clone()
        if poison is not None and step == FAULTY_STEP:
            batch[5, 7] = poison
        value = loss(model(batch), labels[step * 32 : step * 32 + 32])
        if scope is not None:
            scope.loss(value)
        value.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        finite = torch.isfinite(value) and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        if finite or not skip:
            optimizer.step()
        optimizer.zero_grad()
        trace.append(value.detach().clone())
    if scope is not None:
        scope.close()
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
    return [*trace, *(value.clone() for value in model.state_dict().values()), torch.get_rng_state()]


def _log_of_zero(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x)


def _zero_norm(x: torch.Tensor) -> torch.Tensor:
    return x / (x * 0).norm(dim=1, keepdim=True)


def _root_at_zero(x: torch.Tensor) -> torch.Tensor:
    return x + (x * 0).sqrt()


def _exponential(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(1000 * x)


def _masked_altogether(x: torch.Tensor) -> torch.Tensor:
    scores = torch.zeros(len(x), 8).masked_fill(torch.ones(8, dtype=torch.bool), -torch.inf)
    return x * scores.softmax(1).sum(1, keepdim=True)


def _in_place(x: torch.Tensor) -> torch.Tensor:
    return (x * 1.0).log_()


FAULTS: dict[str, tuple[Code, str, str, str]] = {
    "the logarithm of 0": (_log_of_zero, "forward", "log", "-Inf"),
    "0/0, by a norm of zero": (_zero_norm, "forward", "div", "NaN"),
    "the slope of a root at 0": (_root_at_zero, "backward", "sqrt", "Inf"),
    "an exponential that overflows": (_exponential, "forward", "exp", "Inf"),
    "a softmax over what is masked altogether": (_masked_altogether, "forward", "softmax", "NaN"),
    "an operation in place": (_in_place, "forward", "log", "-Inf"),
}


@pytest.mark.parametrize("how", ["", "not reentrant", "reentrant"], ids=["plain", "checkpointed", "reentrant"])
@pytest.mark.parametrize("name", FAULTS)
def test_the_operation_and_the_line_are_named(name: str, how: str, tmp_path: Path) -> None:
    """Of a fault inside a model with BatchNorm, dropout and checkpoints: direction, operation, kind, line, module, step."""
    code, direction, operation, kind = FAULTS[name]
    if how == "reentrant" and direction == "backward":
        pytest.skip("what a reentrant checkpoint recomputes has a graph of its own")
    train(network(code, how), tmp_path / "run")
    (found,) = located(tmp_path / "run")
    assert (found["step"], found["direction"], found["operation"], found["kind"]) == (
        FAULTY_STEP,
        direction,
        operation,
        kind,
    )
    line = code.__code__.co_firstlineno + (2 if code is _masked_altogether else 1)
    assert (found["file"], found["line"]) == (__file__, line)
    assert found["code"] == Path(__file__).read_text(encoding="utf-8").splitlines()[line - 1].strip()
    assert (found["module"], found["dtype"], found["said"]) == ("0", "float32", "")


def test_the_largest_input_is_said(tmp_path: Path) -> None:
    """How large the numbers were that an exponential was given, its thousandfold input."""
    model = network(_exponential)
    inputs: list[float] = []
    model[0].dropout.register_forward_hook(
        lambda module, args, output: inputs.append(float(output.detach().abs().max()))
    )
    train(model, tmp_path / "run", steps=4)
    assert located(tmp_path / "run")[0]["largest_input"] == pytest.approx(1000 * inputs[FAULTY_STEP])
    assert len(inputs) == 4  # the user's hook was not called once more


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("how", ["", "not reentrant", "reentrant"], ids=["plain", "checkpointed", "reentrant"])
def test_the_search_leaves_no_trace(name: str, how: str, tmp_path: Path) -> None:
    """Losses, weights, buffers and the RNG after a step that was located and skipped are those of a run without."""
    code = FAULTS[name][0]
    once = lambda x: code(x) if torch.is_grad_enabled() else x  # noqa: E731
    without = train(network(once, how), None, skip=True)
    watched = train(network(once, how), tmp_path / "run", skip=True)
    assert len(located(tmp_path / "run")) == 1
    assert len(without) == len(watched)
    assert all(
        torch.equal(ours, theirs) or bool(ours.isnan().all()) for ours, theirs in zip(watched, without, strict=True)
    )


def test_what_a_module_counts_and_collects_stays(tmp_path: Path) -> None:
    """Attributes that a forward pass changes, lists among them, are as if it had not run once more."""

    class Counting(Block):
        def __init__(self) -> None:
            super().__init__(_log_of_zero)
            self.seen: list[int] = []
            self.kept: dict[str, torch.Tensor] = {}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append(self.passes)
            self.kept["x"] = x
            return super().forward(x)

    torch.manual_seed(0)
    block = Counting()
    train(nn.Sequential(block, nn.Linear(32, 10)), tmp_path / "run", steps=6)
    assert located(tmp_path / "run")[0]["operation"] == "log"
    assert block.seen == list(range(6))
    assert block.passes == 6
    assert torch.equal(block.kept["x"], digits()[0][5 * 32 : 6 * 32])


def _log_of_softmax(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return -torch.log(torch.softmax(1e4 * outputs, 1)).gather(1, labels[:, None]).mean()


def _divided(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, labels) / (outputs * 0).sum()


def _unknown_target(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(outputs, torch.full_like(outputs, torch.nan))


def _root_in_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, labels) + (outputs * 0).square().sum(1).sqrt().mean()


LOSSES: dict[str, tuple[Loss, str, str]] = {
    "the logarithm of a softmax that is 0": (_log_of_softmax, "loss", "log"),
    "division by 0": (_divided, "loss", "div"),
    "a target that is NaN": (_unknown_target, "target", "mse_loss"),
    "the slope of a root at 0": (_root_in_loss, "loss", "sqrt"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_fault_in_the_loss_is_told_from_one_in_the_model(name: str, tmp_path: Path) -> None:
    """When all that the model gives is finite, the operation of the loss is named, and the line that computes it."""
    loss, direction, operation = LOSSES[name]
    train(network(), tmp_path / "run", loss=loss, steps=3)
    (found,) = located(tmp_path / "run")
    assert (found["step"], found["direction"], found["operation"], found["module"]) == (0, direction, operation, "")
    assert found["code"] == "scope.loss(value)"


@pytest.mark.parametrize(("poison", "kind"), [(torch.nan, "NaN"), (torch.inf, "NaN")])
def test_bad_data_are_told_from_a_bad_model(poison: float, kind: str, tmp_path: Path) -> None:
    """A NaN that the model is fed is the input's; an Inf becomes one in the first layer."""
    train(network(), tmp_path / "run", poison=poison)
    (found,) = located(tmp_path / "run")
    assert (found["step"], found["kind"]) == (FAULTY_STEP, kind)
    assert found["direction"] == ("input" if poison != torch.inf else "forward")


def test_a_weight_that_is_nan_is_named(tmp_path: Path) -> None:
    """When a weight is NaN before the forward pass, the weight is the origin."""
    model = network()
    with torch.no_grad():
        model[1].weight[3, 4] = torch.nan
    train(model, tmp_path / "run", steps=2)
    (found,) = located(tmp_path / "run")
    assert (found["direction"], found["operation"], found["module"]) == ("weight", "1.weight", "1")


def _where(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, torch.log(x), x)


def test_what_is_dropped_again_is_no_origin(tmp_path: Path) -> None:
    """A mask of -Inf and the other branch of a `where` hold Inf and harm nothing: the backward pass of the branch does."""
    train(network(_where), tmp_path / "run")
    (found,) = located(tmp_path / "run")
    assert (found["direction"], found["operation"], found["kind"]) == ("backward", "log", "NaN")


def test_a_healthy_training_is_the_same_and_locates_nothing(tmp_path: Path) -> None:
    """With masks of -Inf in its attention, and bit for bit what it is without."""

    def masked(x: torch.Tensor) -> torch.Tensor:
        scores = (x[:, :8] * 1.0).masked_fill(torch.arange(8) > 3, -torch.inf)
        return x * scores.softmax(1).sum(1, keepdim=True)

    without = train(network(masked), None)
    watched = train(network(masked), tmp_path / "run")
    assert located(tmp_path / "run") == []
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(watched, without, strict=True))


def half_precision(folder: Path, dtype: torch.dtype) -> list[dict[str, Any]]:
    """What is located in a training under autocast whose activations are 1e30 in the end."""
    model = network(lambda x: x * 1e5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=folder, every=1, on_non_finite="locate") as scope:
        for step in range(5):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype):
                output = model(images[step * 32 : step * 32 + 32])
            scope.loss(functional.cross_entropy(output.float(), labels[step * 32 : step * 32 + 32])).backward()
            optimizer.step()
    return located(folder)


def test_a_number_formats_overflow_is_located_under_autocast(tmp_path: Path) -> None:
    """What overflows float16 is located with its format; bfloat16 holds it."""
    (found,) = half_precision(tmp_path / "float16", torch.float16)
    assert (found["direction"], found["kind"], found["dtype"]) == ("forward", "Inf", "float16")
    assert half_precision(tmp_path / "bfloat16", torch.bfloat16) == []


def with_scaler(folder: Path, bad: range, steps: int = 16) -> list[dict[str, Any]]:
    """What is located under a gradient scaler whose gradients overflow at some steps."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=folder, every=1, scaler=scaler, on_non_finite="locate") as scope:
        for step in range(steps):
            optimizer.zero_grad()
            output = model(images[:32])
            if step in bad:  # finite itself, its gradient is not
                output = output + 0 * (output - output.detach()).abs().sqrt()
            scaler.scale(scope.loss(functional.cross_entropy(output, labels[:32]))).backward()
            scaler.step(optimizer)
            scaler.update()
    return located(folder)


def test_steps_that_a_scaler_skips_are_its_own_work(tmp_path: Path) -> None:
    """Gradients that overflow are skipped, and nothing is located, until ten in a row say that it is no overflow."""
    assert with_scaler(tmp_path / "few", range(2, 6)) == []
    (found,) = with_scaler(tmp_path / "many", range(2, 16))
    assert (found["step"], found["direction"]) == (12, "loss")


def test_the_forward_of_several_that_has_it_is_found(tmp_path: Path) -> None:
    """Of four micro-batches that make one step the third one holds the fault."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_non_finite="locate") as scope:
        for step in range(3):
            for part in range(4):
                batch = images[part * 16 : part * 16 + 16].clone()
                if (step, part) == (1, 2):
                    batch[0, 0] = torch.nan
                scope.loss(functional.cross_entropy(model(batch), labels[part * 16 : part * 16 + 16]) / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
    (found,) = located(tmp_path / "run")
    assert (found["step"], found["direction"]) == (1, "input")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_models_with_ways_of_their_own_are_run_again(tmp_path: Path) -> None:
    """An LSTM, whose weights lie in one piece, and weight norm by torch's old hooks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), Recurrent(), Late())
    without = [model, train(model, None, skip=True)][1]
    torch.manual_seed(0)
    again = nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), Recurrent(), Late())
    watched = train(again, tmp_path / "run", skip=True)
    assert located(tmp_path / "run")[0]["operation"] == "log"
    assert located(tmp_path / "run")[0]["module"] == "2"
    assert all(
        torch.equal(ours, theirs) or bool(ours.isnan().all()) for ours, theirs in zip(watched, without, strict=True)
    )


class Late(nn.Module):
    """Takes the logarithm of what is negative in the fourth forward pass alone."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return torch.log(x) if self.passes == FAULTY_STEP + 1 else x


def test_what_does_not_come_again_is_said(tmp_path: Path) -> None:
    """A pass that depends on more than its inputs, weights and random numbers does not show it again, which is said."""
    passes = iter(range(100))
    train(network(lambda x: torch.log(x) if next(passes) == 0 else x), tmp_path / "run")
    (found,) = located(tmp_path / "run")
    assert found["said"] == "running the step again does not show it: it is not reproducible"


def test_an_error_in_the_search_does_not_end_the_training(tmp_path: Path) -> None:
    """A forward pass that raises when it runs once more is left alone; the training and its recording go on."""
    passes = iter(range(100))

    def once(x: torch.Tensor) -> torch.Tensor:
        if next(passes) == 1:
            raise ZeroDivisionError("by hand")
        return torch.log(x)

    train(network(once), tmp_path / "run", steps=6)
    (found,) = located(tmp_path / "run")
    assert found["said"] == "the step could not be run again: ZeroDivisionError: by hand"
    assert len(gradscope.read_run(tmp_path / "run").steps) == 6


def test_nothing_is_kept_after_the_step(tmp_path: Path) -> None:
    """What the model was given is let go of when the step closes."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_non_finite="locate") as scope:
        assert scope._recorder is not None
        locator = scope._recorder._locator
        scope.loss(functional.cross_entropy(model(images[:32]), labels[:32])).backward()
        assert len(locator._forwards) == 1
        optimizer.step()
        assert len(locator._forwards) == 0
        assert locator._loss == []
        assert locator._step_handles == []


class Outside(nn.Module):
    """Computes with weights that are not its own: of a layer in a plain list, one that is tied, and a prompt."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.linear, self.how = nn.Linear(4, 4), how
        self.layers, self.tied = [nn.Linear(4, 4)], [nn.Linear(4, 4).weight]
        prompt = nn.Parameter(torch.randn(4))
        self.foreign = [prompt, *self.layers[0].parameters(), *self.tied]
        self.calls: list[str] = []
        prompt.register_hook(lambda gradient: self.calls.append("gradient"))
        prompt.register_post_accumulate_grad_hook(lambda weight: self.calls.append("accumulated"))
        self.with_prompt = lambda x: self.linear(x) + prompt

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.with_prompt, x, use_reentrant=True) if self.how == "reentrant" else self.with_prompt(x)
        return functional.linear(self.layers[0](x), self.tied[0]) + torch.sqrt(self.linear.bias * 0).sum()


def _with_weights_outside(folder: Path | None, how: str) -> tuple[list[str], list[torch.Tensor]]:
    """The hooks that were called and every gradient and weight after a step whose backward pass makes a NaN."""
    torch.manual_seed(0)
    model = Outside(how)
    if how == "without a gradient":
        model.foreign[-1].requires_grad_(False)
    weights = [*model.parameters(), *model.foreign]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    scope = None
    if folder is not None:
        scope = gradscope.watch(model, optimizer, run_dir=folder, every=1, on_non_finite="locate")
    value = model(torch.randn(8, 4, requires_grad=True)).square().mean()
    if scope is not None:
        scope.loss(value)
    value.backward()
    gradients = [torch.zeros(()) if each.grad is None else each.grad.clone() for each in weights]
    optimizer.step()
    if scope is not None:
        scope.close()
    return model.calls, [*gradients, *(each.detach() for each in weights)]


@pytest.mark.parametrize("how", ["", "reentrant", "without a gradient"])
def test_the_search_touches_no_gradient_outside_of_the_model(how: str, tmp_path: Path) -> None:
    """Weights that a model computes with and does not own are not added to, and their hooks are not called again."""
    calls, without = _with_weights_outside(None, how)
    again, watched = _with_weights_outside(tmp_path / "run", how)
    (found,) = located(tmp_path / "run")
    if how == "reentrant":  # it would run a backward pass of its own
        assert found["said"].endswith("a reentrant checkpoint computes with weights that are not the model's")
    else:
        assert (found["direction"], found["operation"]) == ("backward", "sqrt")
    assert again == calls
    assert all(torch.allclose(a, b, 0, 0, equal_nan=True) for a, b in zip(watched, without, strict=True))


def test_a_reentrant_checkpoint_of_the_models_own_weights_is_run_again(tmp_path: Path) -> None:
    """A backward pass that runs another one inside is followed when all weights are the model's."""
    model = Outside("reentrant")
    model.with_prompt = lambda x: model.linear(x)
    model.layers, model.tied = [nn.Linear(4, 4)], [model.linear.weight]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_non_finite="locate") as scope:
        scope.loss(model(torch.randn(8, 4, requires_grad=True)).square().mean()).backward()
    (found,) = located(tmp_path / "run")
    assert (found["direction"], found["operation"]) == ("backward", "sqrt")


class Holding(nn.Module):
    """Writes on tensors that are neither weights nor buffers, and on a BatchNorm that torch does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.held = torch.zeros(()), {"a": [torch.zeros(2)], "b": (torch.zeros(()),)}
        self.layers = [nn.BatchNorm1d(32)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for each in (self.seen, self.held["a"][0], self.held["b"][0]):
            each.add_(1)
        x = self.layers[0](x)
        return torch.log(x) if self.seen == FAULTY_STEP + 1 else x


def test_plain_tensors_of_modules_are_written_once(tmp_path: Path) -> None:
    """What a forward pass writes on tensors in attributes, lists, tuples and dicts is not written once more."""
    states = []
    for folder in (None, tmp_path / "run"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), Holding(), nn.Linear(32, 10))
        train(model, folder, skip=True)
        held = model[1]
        states.append([held.seen, held.held["a"][0], held.held["b"][0], *held.layers[0].state_dict().values()])
    assert located(tmp_path / "run")[0]["operation"] == "log"  # they were what they had been, too
    assert float(states[0][0]) == 8
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*states, strict=True))


def test_forwards_without_a_backward_keep_no_graph(tmp_path: Path) -> None:
    """Of forward passes in gradient mode that no backward pass follows, a few are remembered, and no graph is kept."""
    made: list[weakref.ref[torch.Tensor]] = []

    def noted(x: torch.Tensor) -> torch.Tensor:
        made.append(weakref.ref(x))
        return x * 2

    model = network(noted)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_non_finite="locate") as scope:
        for _ in range(FAULTY_STEP + 100):
            model(images[:8])
        assert scope._recorder is not None
        locator = scope._recorder._locator
        gc.collect()
        assert len(made) == 100
        assert [each for each in made if each() is not None] == []
        assert len(locator._forwards) <= _MOST_UNUSED + 1
        assert len(locator._step_handles) <= 2
        scope.loss(functional.cross_entropy(model(images[:8]), labels[:8])).backward()
        optimizer.step()
    assert located(tmp_path / "run") == []


def test_micro_batches_do_not_add_up(tmp_path: Path) -> None:
    """However many backward passes make a step, what is kept of losses is that of the latest one."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_non_finite="locate") as scope:
        assert scope._recorder is not None
        locator = scope._recorder._locator
        sizes: list[tuple[int, int]] = []
        for _ in range(30):
            scope.loss(functional.cross_entropy(model(images[:8]), labels[:8]) / 30).backward()
            sizes.append((len(locator._loss), len(locator._step_handles)))
        assert len(set(sizes[1:])) == 1, sizes
        assert len(locator._forwards) == 30
        optimizer.step()
    assert located(tmp_path / "run") == []
