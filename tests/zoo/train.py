"""Trains one program in one seed under GradScope and keeps what was recorded: the run, the outcome, the peers' trace."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import gradscope
from tests.zoo.program import Program, Training
from tests.zoo.trace import Trace

LOOKS = 20  # at held-out data, and as many at what the peers read
BROKEN = 60  # losses in a row that are NaN


@dataclass(frozen=True)
class Outcome:
    """How a training went.

    Attributes:
        error: on data that it was trained on, 0 when all is right, 1 as good as the best constant; 1 when it broke.
        held_error: the same on held-out data.
        first_loss: of its first tenth.
        last_loss: of its last tenth.
        broke: the exception that ended it, or "".
    """

    error: float
    held_error: float
    first_loss: float
    last_loss: float
    steps: int
    seconds: float  # of CPU
    broke: str = ""


class Session:
    """What a loop tells about the training while it runs; GradScope and the trace listen."""

    def __init__(self, training: Training, scope: gradscope.Scope, trace: Trace) -> None:
        self.training, self.scope, self.trace = training, scope, trace
        self.losses: list[float] = []
        self.taken = 0
        self._every = max(training.steps // LOOKS, 1)

    def loss(self, loss: Tensor) -> Tensor:
        """Takes the loss and hands it back."""
        self.losses.append(float(loss.detach()))
        return self.scope.loss(loss)

    def steps(self) -> Iterator[int]:
        """The numbers of the steps; after each one it is noted, and now and then tested on held-out data.

        A training whose loss has long been no number ends early.
        """
        for step in range(self.training.steps):
            yield step
            self.taken = step + 1
            if (step + 1) % self._every == 0:
                self._epoch(step)
            if len(self.losses) > BROKEN and all(math.isnan(loss) for loss in self.losses[-BROKEN:]):
                return

    def _epoch(self, step: int) -> None:
        errors = {"error": math.nan, "held_error": math.nan, "held_loss": math.nan}
        if self.training.validates:
            errors = self._validate()
        self.trace.epoch(step, self.losses[-self._every :], errors)

    def _validate(self) -> dict[str, float]:
        training = self.training
        with _in_eval(training.model), torch.no_grad():
            x, y = training.task.held_x[:256], training.task.held_y[:256]
            outputs = training.model(x)
            held_loss = float(training.loss(outputs, y))
            held_error = training.task.error(outputs, y)
        self.scope.log("held-out loss", held_loss)
        with _in_eval(training.model), self.scope.pause():  # the peers ask for it, few loops do it
            error = training.task.examine(training.model)
        return {"error": error, "held_error": held_error, "held_loss": held_loss}


@contextmanager
def _in_eval(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def train(
    program: Program,
    seed: int,
    folder: Path,
    every: int | Literal["auto"] = "auto",
    treat: Callable[[nn.Module, list[torch.optim.Optimizer]], None] = lambda model, optimizers: None,
) -> Outcome:
    """Trains and writes `folder/run`, `folder/trace.json` and `folder/outcome.json`. `treat` is called just before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    training = program.build(seed)
    treat(training.model, list(training.optimizers))
    start, broke = time.process_time(), ""
    with contextlib.redirect_stderr(io.StringIO()):  # it says where it records to
        scope = gradscope.watch(
            training.model, training.optimizers or None, run_dir=folder / "run", every=every, **training.options
        )
    trace = Trace(training)
    with scope, trace:
        session = Session(training, scope, trace)
        try:
            training.loop(training, session)
        except (RuntimeError, ValueError, ArithmeticError) as error:  # NaN reached a check of torch, or of the loss
            broke = f"{type(error).__name__}: {error}"[:300]
    outcome = _outcome(training, session, time.process_time() - start, broke)
    (folder / "trace.json").write_text(json.dumps(trace.kept()), encoding="utf-8")
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return outcome


def _outcome(training: Training, session: Session, seconds: float, broke: str) -> Outcome:
    losses = session.losses or [math.nan]
    tenth = max(len(losses) // 10, 1)
    error = held = math.nan
    if not broke:
        with _in_eval(training.model):
            if training.examine is not None:
                error = training.examine(training.model)
            else:
                error, held = (training.task.examine(training.model, held=held) for held in (False, True))
    return Outcome(
        1.0 if broke else error,
        held,
        sum(losses[:tenth]) / tenth,
        sum(losses[-tenth:]) / tenth,
        session.taken,
        seconds,
        broke,
    )


def kept(folder: Path) -> Outcome:
    """The outcome of a kept training."""
    outcome: dict[str, object] = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    return Outcome(**outcome)  # type: ignore[arg-type]
