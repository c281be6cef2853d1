"""The law: with GradScope on, a training is bit for bit what it is without it."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

import gradscope
from tests.trainings import Recurrent, ResNet, Transformer, adam, digits, mlp, sgd


class FastPath(nn.Module):
    """A transformer whose eval forward takes torch's fused path (no norm_first, no gradients)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x.view(-1, 8, 8)).mean(1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "MLP": lambda: mlp(4, nn.Tanh),
    "CNN with in-place ReLU and BatchNorm": ResNet,
    "pre-norm transformer with dropout": lambda: Transformer(dropout=0.1),
    "LSTM with dropout": Recurrent,
    "transformer with the eval fast path": FastPath,
}


def _train(make: Callable[[], nn.Module], folder: Path | None, *, every: int | str = 1, fast: bool = False) -> list:
    """Everything that 20 steps leave behind: losses, eval outputs, weights, buffers, optimizer and RNG state."""
    torch.manual_seed(0)
    model = make()
    optimizer = (adam() if fast else sgd(0.05, 0.9))(model)
    images, labels = digits()
    criterion = nn.CrossEntropyLoss()
    scope = None if folder is None else gradscope.watch(model, optimizer, run_dir=folder, every=every)  # type: ignore[arg-type]
    trace: list = []
    for step in range(20):
        batch = slice(step * 32, step * 32 + 32)
        model.train()
        loss = criterion(model(images[batch]), labels[batch])
        if scope is not None:
            assert scope.loss(loss) is loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        trace.append(loss.detach().clone())
        if step % 7 == 0:
            model.eval()
            with torch.no_grad():
                trace.append(model(images[:16]))
    if scope is not None:
        assert scope.diagnose().verdict in ("healthy", "watch")
        scope.close()
        assert scope._recorder is not None
        assert scope._recorder.failure is None
        assert len(gradscope.read_run(folder).steps) == 20  # type: ignore[arg-type]
    trace += [value.clone() for value in model.state_dict().values()]
    trace += [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    return [*trace, torch.get_rng_state()]


@pytest.mark.parametrize("every", [1, "auto", 3])
@pytest.mark.parametrize("name", MODELS)
def test_training_is_bit_for_bit_the_same(name: str, every: int | str, tmp_path: Path) -> None:
    """Losses, eval outputs, weights, buffers, optimizer state and RNG state after 20 steps equal those without us."""
    without = _train(MODELS[name], None)
    watched = _train(MODELS[name], tmp_path / "run", every=every)
    assert len(without) == len(watched)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(watched, without, strict=True))


def test_eval_fast_path_is_untouched(tmp_path: Path) -> None:
    """A model in eval gives the very same output while watched: torch still takes its fused transformer path."""
    torch.manual_seed(0)
    model = FastPath().eval()
    with torch.no_grad():
        before = model(digits()[0][:16])
        scope = gradscope.watch(model, sgd(0.1)(model), run_dir=tmp_path / "run", every=1)
        during = model(digits()[0][:16])
    scope.close()
    assert torch.equal(before, during)


def test_rng_untouched(tmp_path: Path) -> None:
    """Watching, recording and diagnosing draw no random number."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    state = torch.get_rng_state()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            scope.loss(model(digits()[0][:300]).square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        scope.diagnose()
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_left_on_modules_and_parameters(tmp_path: Path) -> None:
    """While a model is watched nothing of ours is on its modules or parameters, and after close no hook is anywhere."""
    model = ResNet()
    optimizer = sgd(0.1)(model)
    names = {path: set(vars(module)) for path, module in model.named_modules()}
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        scope.loss(model(digits()[0][:8]).square().mean()).backward()
        for path, module in model.named_modules():
            assert set(vars(module)) == names[path]
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._backward_hooks
        for parameter in model.parameters():
            assert not parameter._backward_hooks
            assert not parameter._post_accumulate_grad_hooks
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_hooks_are_gone_after_an_exception(tmp_path: Path) -> None:
    """A training that raises inside the `with` block leaves no hook behind and its error passes through."""
    model = mlp(2, nn.ReLU)

    def train() -> None:
        with gradscope.watch(model, sgd(0.1)(model), run_dir=tmp_path / "run", every=1):
            model(digits()[0][:8])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert gradscope.read_run(tmp_path / "run").events[-1].data == {"reason": "ZeroDivisionError: "}


def test_a_watched_model_can_be_pickled_and_saved(tmp_path: Path) -> None:
    """`pickle`, `torch.save` and `deepcopy` of a watched model work in the middle of a step, gradients included."""
    model = ResNet()
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        output = model(digits()[0][:8])
        scope.loss(output.square().mean()).backward()
        again = pickle.loads(pickle.dumps(model))
        torch.save(model, tmp_path / "model.pt")
        loaded = torch.load(tmp_path / "model.pt", weights_only=False)
        copied = copy.deepcopy(model)
        copy.deepcopy(optimizer)
    for other in (again, loaded, copied):
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True))


def test_deepcopy_of_a_watched_model_is_not_recorded(tmp_path: Path) -> None:
    """A copy, an EMA's say, trains unseen: the run holds the steps and sites of the original alone."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            scope.loss(model(digits()[0][:8]).square().mean()).backward()
            other = copy.deepcopy(model)
            other(digits()[0][:64]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == [1, 1, 1]
    activations = run.summaries[run.summaries["quantity"] == 0]
    assert activations["count"].max() == 8 * 64  # the copy saw 64 samples


def test_a_model_that_is_collected_closes_its_run(tmp_path: Path) -> None:
    """Watching keeps no model alive: when its last reference goes, the run is closed."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    scope = gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1)
    scope.loss(model(digits()[0][:8]).square().mean()).backward()
    optimizer.step()
    model(digits()[0][:8])  # a forward without a backward
    del model, optimizer
    gc.collect()
    assert gradscope.read_run(tmp_path / "run").info.state == "ended"
