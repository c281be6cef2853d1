"""`assert_healthy`: a short training of a copy, which has to be healthy."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradscope.catalogue import rules
from gradscope.errors import UnhealthyTraining, UnknownId, UnusableSample
from gradscope.records import SEVERITIES, Diagnosis, Severity
from gradscope.testing.sample import NOTHING, Batch, batch_of, batches, is_loader
from gradscope.testing.subject import Criterion, Loss, MakeOptimizer, Subject, original, untouched
from gradscope.testing.watching import is_off, train_watched
from gradscope.testing.words import as_text, at_least

FEWEST = 3  # steps from which a run can be called healthy


def assert_healthy(
    model: nn.Module,
    batch_or_loader: Any,
    criterion: Criterion | None = None,
    steps: int = 20,
    *,
    target: Any = NOTHING,
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    fail_on: Severity = "error",
    allow: Sequence[str] = (),
    run_dir: str | os.PathLike[str] | None = None,
) -> Diagnosis:
    """Trains a copy of the model for some steps and raises a diagnosis when it is sick.

    The model, its buffers, modes and gradients, the optimizer and the random numbers stay as they are, bit for bit.

    Args:
        model: any module that `copy.deepcopy` can copy.
        batch_or_loader: one batch, which is used at every step, or a loader of them: see `check_model`.
        criterion: the loss of output and target; None for a model that gives its loss itself.
        steps: how long it is trained, 3 or more. Every step is recorded in full.
        target, loss: see `check_model`.
        optimizer: the one that will train the model, or a function that makes one from parameters; by default Adam with
            a learning rate of 0.001.
        fail_on: the least severity that counts: "note", "warning" or "error".
        allow: rules whose findings do not count, nor what follows from them.
        run_dir: a new folder to keep the recorded run in, for `gradscope dashboard`.

    Returns:
        The diagnosis, when nothing in it counts.

    Raises:
        UnhealthyTraining: with the diagnosis as its text; it is an AssertionError.
        UnusableSample: the model cannot be copied, or not run on the batch.
        UnknownId: `allow` names something that is no rule.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> assert_healthy(model, (torch.randn(32, 4), torch.arange(32) % 3), nn.CrossEntropyLoss()).verdict
        'healthy'
    """
    __tracebackhide__ = True  # pytest shows the test's own line
    _check(model, steps, fail_on, allow)
    if is_off():
        warnings.warn("assert_healthy() looked at nothing: GRADSCOPE=off in the environment", stacklevel=2)
        return Diagnosis("not-enough-data", "GradScope is off (GRADSCOPE=off in the environment).")
    model = original(model)
    with untouched(model, batch_or_loader) as states:
        subject = Subject(model, criterion, loss, optimizer, states)
        given = _batches(subject, batch_or_loader, target)
        first = next(given)
        twin = subject.twin(first)
        if twin.optimizer is None:
            raise UnhealthyTraining(
                f"{subject.name} has no parameter that requires a gradient: nothing of it can learn."
            )
        folder = (
            tempfile.TemporaryDirectory(prefix="gradscope-") if run_dir is None else nullcontext(os.fspath(run_dir))
        )
        with folder as kept:
            place = Path(kept) / "run" if run_dir is None else Path(kept)
            diagnosis = train_watched(twin, _behind(first, given), steps, place).diagnosis
    counts = at_least(diagnosis.findings, fail_on, allow)
    if counts or diagnosis.verdict == "not-enough-data":
        raise UnhealthyTraining(_text(subject.name, steps, diagnosis, counts, run_dir))
    return diagnosis


def _check(model: object, steps: int, fail_on: str, allow: Sequence[str]) -> None:
    if not isinstance(model, nn.Module):
        raise UnusableSample(f"assert_healthy() expected a torch.nn.Module; it got {type(model).__name__}.")
    if steps < FEWEST:
        raise UnusableSample(
            f"steps= has to be {FEWEST} or more, for the rules to have something to look at; it is {steps}."
        )
    if fail_on not in SEVERITIES:
        raise UnusableSample(f"fail_on= is one of {', '.join(SEVERITIES)}; it is {fail_on!r}.")
    unknown = [name for name in allow if name not in rules()]
    if unknown:
        raise UnknownId(f"allow= expected ids of rules (`gradscope rules` lists them); it got {unknown[0]!r}.")


def _batches(subject: Subject, given: Any, target: Any) -> Iterator[Batch]:
    """The batches of the training, where the model is."""
    for sample in batches(given) if is_loader(given) else repeat(given):
        batch = batch_of(sample, target, has_criterion=subject.criterion is not None, whole=subject.loss is not None)
        yield batch if subject.device is None else batch.on(subject.device)


def _behind(first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from rest


def _text(name: str, steps: int, diagnosis: Diagnosis, counts: Sequence[Any], run_dir: object) -> str:
    """What the assertion says."""
    accepted = ", ".join(f'"{rule}"' for rule in dict.fromkeys(each.rule for each in counts if each.follows is None))
    end = [f"To accept it: allow=[{accepted}]"] if accepted else []
    if run_dir is not None:
        end.append(f"The run: gradscope dashboard {run_dir}")
    said = [f"{name}: {as_text(diagnosis, counts)}", "", f"A copy of it was trained for {steps} steps.", *end]
    return "\n".join(said)
