"""Loops in which nothing can be learned, and nothing of a step is seen: they are found by what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Diagnosis
from tests.trainings import adam, digits, mlp, sgd

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _made_anew(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.tensor(functional.cross_entropy(output, labels).item(), requires_grad=True)


def _of_the_argmax(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (output.argmax(1).float() - labels).square().mean().requires_grad_()


def trained(loss: Loss, folder: Path, *, steps: int = 30, stepping: bool = True) -> Diagnosis:
    """Trains on digits with the default schedule."""
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=folder) as scope:
        for _ in range(steps):
            optimizer.zero_grad()
            scope.loss(loss(model(images[:64]), labels[:64])).backward()
            if stepping:
                optimizer.step()
    return diagnose(gradscope.read_run(folder))


@pytest.mark.parametrize("loss", [_made_anew, _of_the_argmax])
def test_a_loss_that_no_parameter_has_a_part_in_is_found(loss: Loss, tmp_path: Path) -> None:
    """A loss that is made anew, or taken of an argmax, gives no parameter a gradient: that is an error, not silence."""
    finding = trained(loss, tmp_path / "run").findings[0]
    assert (finding.rule, finding.severity, finding.first_step) == ("untrained-parameter", "error", 0)
    assert finding.message == "The loss reaches no parameter: none had a gradient in 30 steps"
    assert finding.causes[0].id == "detached"
    assert finding.suggestions[0].remedy == "reattach"


def test_an_optimizer_that_never_steps_is_found(tmp_path: Path) -> None:
    """Backward passes alone are no training: they are counted, although each pass's gradients are zeroed."""
    finding = trained(functional.cross_entropy, tmp_path / "run", stepping=False).findings[0]
    assert finding.message == "The optimizer never stepped: 30 backward passes and no step"
    assert finding.causes[0].id == "not-in-optimizer"


@pytest.mark.parametrize("stepping", [True, False])
def test_a_few_passes_are_no_sickness(stepping: bool, tmp_path: Path) -> None:
    """A loop that ended after four passes, stepped or not, is not judged by that."""
    assert trained(functional.cross_entropy, tmp_path / "run", steps=4, stepping=stepping).findings == ()


def test_steps_that_close_late_are_recorded_all_the_same(tmp_path: Path) -> None:
    """Two optimizers in turns: a step closes when the next forward has begun, and step 8, 16 … is still recorded, if
    one later.
    """
    torch.manual_seed(0)
    model = nn.ModuleDict({"g": mlp(1, nn.ReLU), "d": mlp(1, nn.ReLU)})
    optimizers = [adam()(model["g"]), adam()(model["d"])]
    images, labels = digits()
    with gradscope.watch(model, optimizers, run_dir=tmp_path / "run") as scope:
        for _ in range(40):
            for name, optimizer in zip("gd", optimizers, strict=True):
                model.zero_grad()
                scope.loss(functional.cross_entropy(model[name](images[:64]), labels[:64])).backward()
                optimizer.step()
    recorded = [int(row["step"]) for row in gradscope.read_run(tmp_path / "run").steps if row["recorded"]]
    assert recorded[:5] == [0, 1, 2, 3, 4]
    assert len([step for step in recorded if step > 5]) >= 3
