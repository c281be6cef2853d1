"""The ways to watch a training, each as its own documentation has it, each taken off again when its turn is over."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import gradscope
from tests.bench.trainings import Training

BINS = 64  # of a plain histogram; as many as wandb takes
Every = int | Literal["auto"]
Watch = Callable[[Training, Path], AbstractContextManager[None]]


@contextmanager
def nobody(training: Training, folder: Path) -> Iterator[None]:
    """The training alone."""
    yield


@contextmanager
def with_gradscope(
    training: Training, folder: Path, *, every: Every, exact: bool = False, **options: Any
) -> Iterator[None]:
    """One line around the loop and one for the loss."""
    with contextlib.redirect_stderr(io.StringIO()):  # it says where it records to, each turn
        scope = gradscope.watch(training.model, training.optimizer, run_dir=folder, every=every, exact=exact, **options)
    with scope:
        training.loss = scope.loss
        yield
    failure = [missing for missing in gradscope.read_run(folder).info.not_observed if "stopped" in missing.why]
    if failure:
        raise RuntimeError(f"GradScope stopped recording, so this measures nothing: {failure[0]}")


@contextmanager
def with_wandb(training: Training, folder: Path) -> Iterator[None]:
    """`wandb.watch` with everything, every step; nothing is sent anywhere, no machine statistics, no console."""
    import wandb

    quiet = wandb.Settings(console="off", disable_git=True, save_code=False, silent=True, x_disable_stats=True)
    folder.mkdir()
    run = wandb.init(mode="offline", dir=folder, settings=quiet)
    try:
        wandb.watch(training.model, log="all", log_freq=1)
        training.stepped = lambda loss: run.log({"loss": loss.item()})
        yield
        wandb.unwatch(training.model)
    finally:
        run.finish()


@contextmanager
def with_torchexplorer(training: Training, folder: Path) -> Iterator[None]:
    """`torchexplorer.watch` every step, without a page or a file: its hooks go with the model that they are on."""
    import torchexplorer

    torchexplorer.watch(
        training.model,
        log_freq=1,
        disable_inplace=True,  # it asks for this where activations are in-place
        backend="none",
        verbose=False,
    )
    yield


@contextmanager
def with_histograms(training: Training, folder: Path) -> Iterator[None]:
    """What one writes by hand: norm and histogram of each output, its gradient, each weight and its gradient."""
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def describe(tensor: torch.Tensor) -> None:
        values = tensor.detach()
        kept.append((torch.linalg.vector_norm(values), torch.histc(values, BINS)))

    def after(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            describe(output)
            if output.requires_grad:
                output.register_hook(describe)

    def before_update(optimizer: object, args: object, kwargs: object) -> None:
        for parameter in training.model.parameters():
            describe(parameter)
            if parameter.grad is not None:
                describe(parameter.grad)
        kept.clear()

    with _hooks(training, after, before_update):
        yield


@contextmanager
def with_empty_hooks(training: Training, folder: Path) -> Iterator[None]:
    """Hooks in the same places that do nothing: the floor of everything that listens to modules and tensors."""

    def ignore(*_: object) -> None:
        return

    def after(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(ignore)

    with _hooks(training, after, ignore):
        yield


@contextmanager
def _hooks(
    training: Training, after: Callable[..., None], before_update: Callable[[object, object, object], None]
) -> Iterator[None]:
    handles = [module.register_forward_hook(after) for module in training.model.modules()]
    handles.append(training.optimizer.register_step_pre_hook(before_update))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        goals: the ratio that each training is to stay under, in the order of the columns; none: nothing is promised.
        steady: it records some steps and not others, so that only whole cycles, after its first steps, count.
        needs: the package that it is, when it is not ours.
    """

    title: str
    watch: Watch
    goals: Sequence[float] = ()
    steady: bool = False
    needs: str = ""


PLAIN = Contender("nothing", nobody)
CONTENDERS = (
    Contender("nothing, a second time (the noise)", nobody),
    Contender("hooks that do nothing", with_empty_hooks),
    Contender(
        'GradScope, as it comes (`every="auto"`)', functools.partial(with_gradscope, every="auto"), [1.03] * 3, True
    ),
    Contender(
        "GradScope, between recorded steps", functools.partial(with_gradscope, every=10**9), [1.005] * 3
    ),  # step 0 is the only one it records
    Contender("GradScope, every step (`every=1`)", functools.partial(with_gradscope, every=1), [1.10, 1.15, 1.30]),
    Contender("GradScope, every step and entry (`exact=True`)", functools.partial(with_gradscope, every=1, exact=True)),
    Contender("a norm and a histogram per tensor, by hand", with_histograms),
    Contender("torchexplorer, every step", with_torchexplorer, needs="torchexplorer"),
    Contender('wandb.watch(log="all", log_freq=1)', with_wandb, needs="wandb"),
)
