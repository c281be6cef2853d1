"""Ignite: the handler on real engines."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from torch import nn

import gradscope
from gradscope.integrations.ignite import GradScopeHandler, attach
from tests.integrations.fits import assert_healthy, assert_sick, ended, everything, loader, net, recorded, values
from tests.specimens import assert_same


class Trains:
    """A model, its optimizer and the engine that trains it."""

    def __init__(self, kind: str = "healthy", **options: Any) -> None:
        self.model = net(kind)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.losses: list[float] = []
        self.engine = create_supervised_trainer(
            self.model, self.optimizer, nn.functional.cross_entropy, output_transform=self.keep, **options
        )

    def keep(self, x: Any, y: Any, y_pred: Any, loss: torch.Tensor) -> float:
        self.losses.append(loss.item())
        return self.losses[-1]

    def attach(self, **options: Any) -> GradScopeHandler:
        return attach(
            self.engine, self.model, self.optimizer, **{"every": 1, "run_dir": "run", "quiet": True, **options}
        )

    def run(self, batches: int = 8, epochs: int = 1) -> None:
        self.engine.run(loader(batches), max_epochs=epochs)


def autocast() -> dict[str, Any]:
    """bfloat16, as Ignite's own users write it."""

    def model_fn(model: nn.Module, x: torch.Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    return {"model_fn": model_fn, "model_transform": lambda output: output.float()}


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, autocast()], ids=["plain", "two", "bf16"])
def test_not_a_bit_is_changed(options: dict[str, Any]) -> None:
    """With and without the handler: the same weights, optimizer state, random numbers and losses."""
    left = []
    for watched in (False, True):
        training = Trains(**options)
        if watched:
            training.attach()
        training.run(epochs=2)
        left.append(everything(training.model, [training.optimizer], training.losses))
    assert_same(*left)


def test_a_healthy_training() -> None:
    """Every step has its loss, a functional one too; an evaluator's metrics are kept and its passes not seen."""
    training = Trains()
    evaluator = create_supervised_evaluator(training.model, {"nll": Loss(nn.functional.cross_entropy)})
    training.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(loader(2)))
    handler = training.attach(evaluators=evaluator)
    training.run(epochs=2)
    assert_healthy(handler, training.losses)
    run = recorded(handler)
    assert run.steps["forwards"].tolist() == [1] * 16
    assert values(handler, "validation nll")[-1] == pytest.approx(evaluator.state.metrics["nll"])
    assert len(values(handler, "validation nll")) == 2


def test_an_evaluator_that_trains_is_not_seen() -> None:
    """A validation that adapts the model with its optimizer, and puts it back, is none of the training's steps."""
    training = Trains()

    def evaluate(engine: Engine, batch: Any) -> None:
        before = copy.deepcopy(training.model.state_dict())
        nn.functional.cross_entropy(training.model(batch[0]), batch[1]).backward()
        training.optimizer.step()
        training.model.load_state_dict(before)
        training.optimizer.zero_grad()

    evaluator = Engine(evaluate)
    training.engine.add_event_handler(Events.ITERATION_COMPLETED(every=4), lambda: evaluator.run(loader(2)))
    handler = training.attach(evaluators={"adapted": evaluator})
    training.run()
    assert_healthy(handler, training.losses)


def test_an_evaluator_that_fails_hides_nothing() -> None:
    """Where the program goes on behind the error of an evaluator, so do we."""
    training = Trains()

    def fails(engine: Engine, batch: Any) -> None:
        raise ValueError("no labels")

    def evaluate() -> None:
        with contextlib.suppress(ValueError):
            evaluator.run(loader(2))

    evaluator = Engine(fails)
    training.engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), evaluate)
    handler = training.attach(evaluators=evaluator)
    training.run()
    assert_healthy(handler, training.losses)


@pytest.mark.parametrize("kind", ["vanishing", "exploding"])
def test_a_sick_training(kind: str) -> None:
    """The sickness of a deep net is found, in its first layers."""
    training = Trains(kind)
    handler = training.attach()
    training.run()
    assert_sick(handler, kind)


def test_accumulated_batches_are_one_step() -> None:
    """A step is the optimizer's; its loss is the mean of its batches'."""
    training = Trains(gradient_accumulation_steps=2)
    handler = training.attach()
    training.run()
    assert_healthy(handler, np.reshape(training.losses, (-1, 2)).mean(axis=1))


def test_a_scaler() -> None:
    """Under a gradient scaler losses and gradients are without its scale."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler, losses = torch.amp.GradScaler("cpu", init_scale=1024.0), []

    def update(engine: Engine, batch: Any) -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())

    trainer = Engine(update)
    handler = attach(trainer, model, optimizer, scaler=scaler, every=1, run_dir="run", quiet=True)
    trainer.run(loader())
    assert_healthy(handler, losses)
    assert np.median(recorded(handler).steps["gradient_norm"]) < 100


def test_each_model_of_a_gan_has_its_own_losses() -> None:
    """Two handlers on one engine: each model is given the losses that reach it, and its steps have them."""
    generator, judge = net(), nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    makes, judges = (torch.optim.Adam(model.parameters(), lr=1e-3) for model in (generator, judge))
    made: list[float] = []
    judged: list[float] = []

    def update(engine: Engine, batch: Any) -> None:
        fake = generator(batch[0])
        judges.zero_grad()
        loss = nn.functional.softplus(judge(fake.detach())).mean()
        loss.backward()
        judges.step()
        judged.append(loss.item())
        makes.zero_grad()
        loss = nn.functional.softplus(-judge(fake)).mean()
        loss.backward()
        makes.step()
        made.append(loss.item())

    trainer = Engine(update)
    handlers = [
        attach(trainer, model, optimizer, every=1, run_dir=name, quiet=True)
        for model, optimizer, name in ((generator, makes, "makes"), (judge, judges, "judges"))
    ]
    trainer.run(loader())
    for handler, losses in zip(handlers, (made, judged), strict=True):
        assert recorded(handler).steps["loss"].tolist() == pytest.approx(losses, rel=1e-5)
    assert recorded(handlers[0]).steps["backwards"].tolist() == [1] * 8


def failing() -> Trains:
    """A training whose fourth batch fails."""
    training = Trains()

    @training.engine.on(Events.ITERATION_STARTED(once=4))
    def fail() -> None:
        raise RuntimeError("the disk is full")

    return training


def test_an_exception_is_how_the_run_ended() -> None:
    """An exception passes as it would without us, and the run says which."""
    training = failing()
    handler = training.attach()
    with pytest.raises(RuntimeError, match="the disk is full"):
        training.run()
    assert ended(handler) == "RuntimeError: the disk is full"
    assert len(recorded(handler).steps) == 3


def test_an_exception_passes_two_handlers_of_ours() -> None:
    """Two models that are watched on one engine do not take each other for a program that handles exceptions."""
    training, other = failing(), net()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    handlers = [training.attach(run_dir="one"), attach(training.engine, other, optimizer, run_dir="two", quiet=True)]
    with pytest.raises(RuntimeError, match="the disk is full"):
        training.run()
    assert [ended(handler) for handler in handlers] == ["RuntimeError: the disk is full"] * 2


def test_an_exception_that_the_program_handles_stays_handled() -> None:
    """Where the program has a handler for exceptions, it alone decides whether they pass."""
    training, seen = failing(), []
    handler = training.attach()
    training.engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: seen.append(str(error)))
    training.run()
    assert seen == ["the disk is full"]
    assert ended(handler) == "RuntimeError: the disk is full"


@pytest.mark.parametrize("skip", [False, True])
def test_termination(skip: bool) -> None:
    """A training that is terminated has ended, also when nobody is to be told."""
    training = Trains()
    handler = training.attach()
    training.engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=5), lambda engine: engine.terminate(skip_completed=skip)
    )
    training.run()
    assert (ended(handler), len(recorded(handler).steps)) == ("closed", 5)


def test_a_run_of_the_engine_that_goes_on_goes_on() -> None:
    """The same model and optimizer go on with their recorded run; another optimizer begins another."""
    training = Trains()
    handler = training.attach()
    training.run(epochs=1)
    training.run(epochs=2)
    assert recorded(handler).steps["step"].tolist() == list(range(16))
    assert_healthy(handler, training.losses)
    assert training.engine.state.epoch == 2
    handler.optimizers = [torch.optim.SGD(training.model.parameters(), lr=0.1)]
    training.run(epochs=3)
    assert handler.run_dir == Path("run-2").resolve()


def test_a_copy_knows_and_does_not_record() -> None:
    """A copy of the handler holds no scope and knows the diagnosis."""
    training = Trains("vanishing")
    handler = training.attach()
    training.run()
    twin = copy.deepcopy(handler)
    assert twin.scope is None
    assert twin.diagnosis.headline == handler.diagnosis.headline


def test_several_optimizers_are_one_training() -> None:
    """A step has closed when all have stepped."""
    model = net()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.05) for part in (model[:2], model[2:])]

    def update(engine: Engine, batch: Any) -> None:
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    trainer = Engine(update)
    handler = attach(trainer, model, optimizers, every=1, run_dir="run", quiet=True)
    trainer.run(loader())
    assert len(recorded(handler).steps) == 8
    assert recorded(handler).steps["has_loss"].all()


def test_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With GRADSCOPE=off nothing is recorded or said."""
    monkeypatch.setenv("GRADSCOPE", "off")
    training = Trains()
    handler = training.attach(quiet=False)
    training.run()
    assert not Path("run").exists()
    assert "GRADSCOPE=off" in handler.diagnosis.headline
    assert "gradscope" not in capsys.readouterr().err


def test_under_gradscope_run_it_is_recorded_once() -> None:
    """`gradscope run` leaves a training that has the handler to it."""
    training = Trains()
    handler = training.attach()
    with gradscope.autowatch(run_dir="other") as session:
        training.run()
    assert [scope.run_dir for scope in session.scopes] == [Path("run")]
    assert not Path("other").exists()
    assert_healthy(handler, training.losses)
