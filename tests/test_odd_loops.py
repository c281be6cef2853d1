"""Loops as people write them by mistake, or for good reasons of their own: nothing stops, nothing is silently wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.errors import WatchError
from gradscope.recorder.gather import MOST_PASSES
from tests.trainings import sgd


def small() -> nn.Sequential:
    """Three layers, always the same."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def loss_of(model: nn.Module, batch: int = 32) -> torch.Tensor:
    """A mean squared error on noise."""
    return (model(torch.randn(batch, 16)) - 1).square().mean()


def healthy(scope: gradscope.Scope) -> bool:
    """Whether the recorder works still."""
    assert scope._recorder is not None
    return scope._recorder.failure is None


def test_an_optimizer_that_was_replaced_is_said_and_takes_no_memory(tmp_path: Path) -> None:
    """When the watched optimizer never steps, recording gives up on the step and the diagnosis says what to look for."""
    model = small()
    with gradscope.watch(model, sgd(0.1)(model), run_dir=tmp_path / "run") as scope:
        other = sgd(0.1)(model)
        for _ in range(MOST_PASSES + 20):
            other.zero_grad()
            scope.loss(loss_of(model, 4)).backward()
            other.step()
        assert scope._recorder is not None
        assert scope._recorder._collector is None
        assert any("was it replaced" in missing.why for missing in scope.diagnose().not_observed)
        assert healthy(scope)


@pytest.mark.parametrize("every", [1, "auto"])
def test_optimizers_with_turns_of_their_own(every: int, tmp_path: Path) -> None:
    """When one of two optimizers steps every fifth time, each step has its own loss, recorded in full or not."""
    model = small()
    first, second = sgd(0.01)(model[0]), sgd(0.01)(model[2])
    truth = []
    with gradscope.watch(model, [first, second], run_dir=tmp_path / "run", every=every) as scope:
        for step in range(60):
            loss = scope.loss(loss_of(model))
            model.zero_grad()
            loss.backward()
            truth.append(loss.item())
            first.step()
            if step % 5 == 4:
                second.step()
    assert gradscope.read_run(tmp_path / "run").steps["loss"] == pytest.approx(truth)


def test_learning_rates_of_short_steps_are_their_own(tmp_path: Path) -> None:
    """Steps that are written together keep each its learning rate."""
    model = small()
    optimizer = sgd(1.0)(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1e5)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run") as scope:
        for _ in range(400):
            optimizer.zero_grad()
            scope.loss(loss_of(model)).backward()
            optimizer.step()
            schedule.step()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["step"].tolist() == list(range(400))
    assert run.learning_rates[:, 0] == pytest.approx((np.arange(400) + 1) / 1e5)


def test_a_nan_among_short_steps_turns_recording_on(tmp_path: Path) -> None:
    """Steps that are written together still raise the alarm: the step after a NaN is recorded in full, and all are kept."""
    model = small()
    optimizer = sgd(0.0)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run") as scope:
        for step in range(400):
            optimizer.zero_grad()
            scope.loss(loss_of(model) * (torch.nan if step == 300 else 1.0)).backward()
            optimizer.step()
            if step == 300:
                with torch.no_grad():  # SGD made the weights NaN
                    model.load_state_dict(small().state_dict())
    steps = gradscope.read_run(tmp_path / "run").steps
    assert steps["step"].tolist() == list(range(400))
    assert np.flatnonzero(np.isnan(steps["loss"])).tolist() == [300]
    assert steps["recorded"][301]


def test_closures_now_and_then(tmp_path: Path) -> None:
    """An optimizer that is given a closure in some steps only keeps its steps in order."""
    model = small()
    optimizer = torch.optim.Adam(model.parameters())
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run") as scope:

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = scope.loss(loss_of(model))
            loss.backward()
            return loss

        for step in range(300):
            if step % 3 == 2:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
    assert gradscope.read_run(tmp_path / "run").steps["step"].tolist() == list(range(300))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda loss: loss.item(), "a float"),
        (lambda loss: {"loss": loss}, "a dict"),
        (torch.detach, "without a gradient"),
    ],
)
def test_something_else_than_a_loss_is_said(wrong, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """What is no loss stops nothing: the rest is recorded, and the diagnosis says what came."""
    model = small()
    optimizer = sgd(0.01)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            loss = loss_of(model)
            scope.loss(wrong(loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scope.log("nothing", None)  # type: ignore[arg-type]
        assert any(said in missing.why for missing in scope.diagnose().not_observed)
        assert healthy(scope)
    assert gradscope.read_run(tmp_path / "run").steps["recorded"].tolist() == [True] * 3


def test_pauses_nest(tmp_path: Path) -> None:
    """Leaving an inner pause does not end the outer one."""
    model = small()
    optimizer = sgd(0.0)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            with scope.pause():
                with scope.pause():
                    model(torch.randn(4, 16))
                scope.loss(1000 * loss_of(model)).backward()
            optimizer.zero_grad()
            scope.loss(loss_of(model)).backward()
            optimizer.step()
    steps = gradscope.read_run(tmp_path / "run").steps
    assert steps["forwards"].tolist() == [1] * 3
    assert (steps["loss"] < 10).all()


def test_calls_on_other_threads_are_said(tmp_path: Path) -> None:
    """A thread that calls the model beside the training is not mixed in."""
    model = small()
    optimizer = sgd(0.01)(model)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: [loss_of(model) for _ in iter(ended.is_set, True)])
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for step in range(20):
            optimizer.zero_grad()
            scope.loss(loss_of(model)).backward()
            optimizer.step()
            if step == 0:
                thread.start()
        ended.set()
        thread.join()
        assert healthy(scope)
        assert any("other threads" in missing.what for missing in scope.diagnose().not_observed)
    assert gradscope.read_run(tmp_path / "run").steps["forwards"].tolist() == [1] * 20


def test_an_optimizer_that_cannot_be_listened_to_is_refused_first(tmp_path: Path) -> None:
    """A wrapper that skipped Optimizer's own beginning is refused before a run is begun."""

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner, self.param_groups, self.defaults = inner, inner.param_groups, inner.defaults

    model = small()
    with pytest.raises(WatchError, match=r"Hand watch\(\) the optimizer inside it"):
        gradscope.watch(model, Wrapper(sgd(0.1)(model)), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
