"""Ways to train: the plain loop, and loops that are themselves the fault or the peculiarity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tests.zoo.data import Task
from tests.zoo.program import Training

if TYPE_CHECKING:
    from tests.zoo.train import Session

Loop = Callable[[Training, "Session"], None]


def plain(training: Training, session: Session) -> None:
    """Zero, forward, backward, step; every now and then a look at held-out data."""
    for step in session.steps():
        _schedule(training, step)
        x, y = training.batch(step)
        for optimizer in training.optimizers:
            optimizer.zero_grad()
        session.loss(training.loss(training.model(x), y)).backward()
        for optimizer in training.optimizers:
            optimizer.step()


def never_zeroed(training: Training, session: Session) -> None:
    """The plain loop without its first line: gradients of all steps add up."""
    for step in session.steps():
        x, y = training.batch(step)
        session.loss(training.loss(training.model(x), y)).backward()
        training.optimizer.step()


def micro_batches(count: int, *, averaged: bool) -> Loop:
    """Several backward passes a step, whose gradients are averaged, or only added."""

    def loop(training: Training, session: Session) -> None:
        for step in session.steps():
            training.optimizer.zero_grad()
            for part in range(count):
                x, y = training.batch(step * count + part)
                loss = training.loss(training.model(x), y)
                session.loss(loss / count if averaged else loss).backward()
            training.optimizer.step()

    return loop


def clipped(norm: float) -> Loop:
    """The plain loop with the gradient's norm clipped."""

    def loop(training: Training, session: Session) -> None:
        for step in session.steps():
            _schedule(training, step)
            x, y = training.batch(step)
            training.optimizer.zero_grad()
            session.loss(training.loss(training.model(x), y)).backward()
            clip_grad_norm_(training.model.parameters(), norm)
            training.optimizer.step()

    return loop


def always_eval(training: Training, session: Session) -> None:
    """The plain loop after `model.eval()`, which nobody took back."""
    training.model.eval()
    plain(training, session)


def _schedule(training: Training, step: int) -> None:
    if training.schedule is None:
        return
    for optimizer in training.optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * training.schedule(step)


def training(
    task: Task,
    model: nn.Module,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    seed: int,
    *,
    size: int = 64,
    steps: int = 300,
    loop: Loop = plain,
    **more: Any,
) -> Training:
    """A training of one model with one optimizer on batches of `size`; `more` as in `Training`."""
    return Training(task, model, [optimizer(model)], loss, task.batches(size, seed), steps, loop, **more)
