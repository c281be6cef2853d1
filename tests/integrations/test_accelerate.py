"""Accelerate: `watch` and the tracker in loops as its users write them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

import gradscope
from gradscope.integrations.accelerate import GradScopeTracker, watch
from gradscope.scope import Scope
from tests.integrations.fits import assert_healthy, assert_sick, ended, everything, loader, net, recorded, values
from tests.specimens import assert_same


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps its state for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


class Trains:
    """A model, its optimizer and a loop."""

    def __init__(self, kind: str = "healthy", *, scaler: bool = False, **options: Any) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(cpu=True, **options)
        model = net(kind)
        if scaler:  # Accelerate by itself gives GPUs only one
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        self.inner = torch.optim.Adam(model.parameters(), lr=1e-3)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, self.inner, loader())
        self.losses: list[float] = []

    def watch(self, **options: Any) -> Scope:
        return watch(self.accelerator, self.model, self.optimizer, **{"every": 1, "run_dir": "run", **options})

    def run(self, scope: Scope | None = None) -> None:
        for images, labels in self.loader:
            with self.accelerator.accumulate(self.model):
                loss = nn.functional.cross_entropy(self.model(images), labels)
                self.accelerator.backward(loss if scope is None else scope.loss(loss))
                self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.losses.append(loss.item())


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "bf16": {"mixed_precision": "bf16"},
    "scaled": {"scaler": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_not_a_bit_is_changed(options: dict[str, Any]) -> None:
    """With and without us: the same weights, optimizer state, random numbers and losses."""
    left = []
    for watched in (False, True):
        training = Trains(**options)
        if watched:
            with training.watch():
                training.run()
        else:
            training.run()
        left.append(everything(training.model, [training.inner], training.losses))
    assert_same(*left)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_healthy_training(name: str, by_hand: bool) -> None:
    """Every step has its loss once, without the loss scale, also where the program hands it over itself."""
    training = Trains(**OPTIONS[name])
    with training.watch() as scope:
        training.run(scope if by_hand else None)
    assert scope.run_dir is not None
    run = gradscope.read_run(scope.run_dir)
    expected = np.reshape(training.losses, (-1, 2 if name == "accumulated" else 1)).mean(axis=1)
    np.testing.assert_allclose(run.steps["loss"], expected, rtol=1e-5)
    assert scope.diagnose().verdict == "healthy"
    assert np.median(run.steps["gradient_norm"]) < 100
    assert run.info.optimizers[0].kind == "Adam"


def test_what_gradscope_watch_can_be_told() -> None:
    """The optimizer may be as it was before it was prepared; several come in a list."""
    training = Trains()
    with watch(training.accelerator, training.model, [training.inner], run_dir="run", every=2) as scope:
        training.run()
    assert scope.run_dir is not None
    assert gradscope.read_run(scope.run_dir).info.settings["every"] == 2


@pytest.mark.parametrize("kind", ["vanishing", "exploding"])
def test_a_sick_training(kind: str) -> None:
    """The sickness of a deep net is found, in its first layers, and said when the accelerator ends the training."""
    tracker = GradScopeTracker(run_dir="run", quiet=True)
    training = Trains(kind, log_with=tracker)
    training.accelerator.init_trackers("mine")
    tracker.watch(training.accelerator, training.model, training.optimizer)
    training.run()
    training.accelerator.end_training()
    assert_sick(tracker, kind)


def test_the_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged is written down; the end of the training closes the run and says the verdict."""
    tracker = GradScopeTracker(every=1, run_dir="run")
    training = Trains(log_with=tracker)
    training.accelerator.init_trackers("mine", config={"lr": 1e-3})
    scope = tracker.watch(training.accelerator, training.model, training.optimizer)
    training.run()
    training.accelerator.log({"val_loss": 0.5, "note": "good", "accuracy": torch.tensor(0.25)}, step=8)
    assert training.accelerator.get_tracker("gradscope", unwrap=True) is scope
    training.accelerator.end_training()
    assert_healthy(tracker, training.losses)
    assert (values(tracker, "val_loss"), values(tracker, "accuracy")) == ([0.5], [0.25])
    assert {event.data["name"] for event in recorded(tracker).events if event.kind == "value"} == {
        "val_loss",
        "accuracy",
    }
    assert (
        "gradscope: healthy: No sickness found in 8 steps. (all of it: gradscope report run)" in capsys.readouterr().err
    )


def test_an_exception_is_how_the_run_ended() -> None:
    """`with` tells the run of the exception that leaves it."""
    training = Trains()
    training.loader = iter([("no", "tensors")])
    with pytest.raises(TypeError, match="must be Tensor") as raised, training.watch():
        training.run()
    assert gradscope.read_run("run").events[-1].data["reason"] == f"TypeError: {raised.value}"


def test_a_scope_that_is_closed_hears_nothing() -> None:
    """After `close` torch is as it was, and the training goes on."""
    training = Trains()
    scope = training.watch()
    training.run()
    scope.close()
    training.run()
    assert len(gradscope.read_run("run").steps) == 8


def test_a_second_training_and_a_copied_tracker() -> None:
    """The same tracker can watch again; a copy of it knows and does not record."""
    tracker = GradScopeTracker(every=1, run_dir="run", quiet=True)
    for _ in range(2):
        training = Trains()
        tracker.watch(training.accelerator, training.model, training.optimizer)
        training.run()
        for twin in (copy.deepcopy(tracker), pickle.loads(pickle.dumps(tracker))):
            assert twin.scope is None
        tracker.finish()
        assert_healthy(tracker, training.losses)
    assert tracker.run_dir == Path("run-2").resolve()
    assert ended(tracker) == "closed"


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With GRADSCOPE=off nothing is recorded."""
    monkeypatch.setenv("GRADSCOPE", "off")
    training, tracker = Trains(), GradScopeTracker(run_dir="run")
    tracker.watch(training.accelerator, training.model, training.optimizer)
    with training.watch():
        training.run()
    tracker.finish()
    assert len(training.losses) == 8
    assert not Path("run").exists()
    assert "GRADSCOPE=off" in tracker.diagnosis.headline


def test_under_gradscope_run_it_is_recorded_once() -> None:
    """`gradscope run` leaves a training that is watched to its scope."""
    training = Trains()
    with gradscope.autowatch(run_dir="other") as session, training.watch():
        training.run()
    assert [scope.run_dir for scope in session.scopes] == [Path("run")]
    assert not Path("other").exists()
    run = gradscope.read_run("run")
    np.testing.assert_allclose(run.steps["loss"], training.losses, rtol=1e-5)
