"""precision-loss on real trainings in half precision, each beside the same training with the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Finding, Run
from tests.trainings import adam, digits, he, mlp, sgd

Make = Callable[[nn.Module], torch.optim.Optimizer]


def train(
    folder: Path,
    make: Make,
    *,
    weights: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
    scaled: bool = False,
    factor: float = 1.0,
    size: float = 1.0,
    steps: int = 40,
) -> Run:
    """Trains a network of five layers on digits; `factor` times the loss, `size` times the weights at the start."""
    torch.manual_seed(0)
    model = mlp(4, nn.ReLU, lambda weight: he(weight, size)).to(weights)
    optimizer = make(model)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=folder, every=2, scaler=scaler) as scope:
        for _ in range(steps):
            batch = torch.randint(0, len(images), (64,))
            with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
                output = model(images[batch].to(weights))
            loss = scope.loss(functional.cross_entropy(output.float(), labels[batch]) * factor)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return gradscope.read_run(folder)


def found(run: Run) -> list[Finding]:
    """What the rule says."""
    return [finding for finding in diagnose(run).findings if finding.rule == "precision-loss"]


@pytest.mark.parametrize(("factor", "severity"), [(1e-5, "warning"), (1e-7, "error")])
def test_a_small_loss_underflows_in_float16_without_a_scale(factor: float, severity: str, tmp_path: Path) -> None:
    """Gradients that float16 has no digits for are a warning, those of which nothing is left an error."""
    run = train(tmp_path / "run", sgd(0.1 / factor), autocast=torch.float16, factor=factor)
    (finding,) = found(run)
    assert (finding.severity, finding.first_step, finding.causes[0].id) == (severity, 0, "precision")
    assert "0" in finding.layers
    assert finding.suggestions[0].remedy == "loss-scaling"
    assert "GradScaler" in finding.suggestions[0].code


def test_the_same_loss_under_a_scaler_is_held(tmp_path: Path) -> None:
    """With a loss scale of 65,536 the same training learns and is left in peace."""
    run = train(tmp_path / "run", sgd(1e5), autocast=torch.float16, factor=1e-6, scaled=True)
    assert found(run) == []
    assert run.steps["loss"][-1] < 0.5 * run.steps["loss"][0]


@pytest.mark.parametrize("make", [adam(1e-5), sgd(1e-4)], ids=["Adam", "SGD"])
def test_updates_of_bfloat16_weights_are_lost(make: Make, tmp_path: Path) -> None:
    """Steps that are smaller than the spacing of bfloat16 move hardly a weight; kept in float32 they all move."""
    (finding,) = found(train(tmp_path / "sick", make, weights=torch.bfloat16))
    assert finding.severity == "warning"
    assert finding.message.startswith("Updates are lost to rounding: a step leaves 99")
    assert finding.causes[0].id == "precision"
    assert "model.float()" in finding.suggestions[0].code
    assert found(train(tmp_path / "cured", make, autocast=torch.bfloat16)) == []


@pytest.mark.parametrize("make", [adam(1e-3), sgd(0.1)], ids=["Adam", "SGD"])
def test_bfloat16_weights_that_learn_are_left_in_peace(make: Make, tmp_path: Path) -> None:
    """Half of the entries standing still at a step is what rounding to 8 bits does to a training that learns."""
    run = train(tmp_path / "run", make, weights=torch.bfloat16)
    assert found(run) == []
    assert run.steps["loss"][-1] < 0.5 * run.steps["loss"][0]


def test_adams_eps_is_zero_in_float16(tmp_path: Path) -> None:
    """Adam on float16 weights divides by 0 at the first step; with an eps that float16 has it does not."""
    run = train(tmp_path / "sick", adam(1e-3), weights=torch.float16, steps=6)
    first, *rest = [finding for finding in diagnose(run).findings if finding.rule in ("precision-loss", "non-finite")]
    assert {first.rule, *(finding.rule for finding in rest)} == {"precision-loss", "non-finite"}
    assert found(run)[0].message.startswith("Adam's eps of 1.00e-8 is 0 in float16")
    assert all(finding.causes[0].id == "precision" for finding in (first, *rest))
    large = lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-3)  # noqa: E731
    assert found(train(tmp_path / "cured", large, weights=torch.float16)) == []


def test_activations_near_the_end_of_float16(tmp_path: Path) -> None:
    """Activations that have come within a factor of 4 of 65,504 are named before they are infinite."""
    run = train(tmp_path / "run", sgd(1e-9), autocast=torch.float16, size=5.5, steps=12)
    (finding,) = found(run)
    assert finding.message.startswith("Activations come near float16's largest number: layer ")
    assert finding.layers == ("8",)
    assert found(train(tmp_path / "cured", sgd(1e-9), autocast=torch.bfloat16, size=5.5, steps=12)) == []


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_float32_is_never_judged(factor: float, tmp_path: Path) -> None:
    """Whatever the size of the loss."""
    assert found(train(tmp_path / "run", sgd(0.1 / factor), factor=factor)) == []


def test_a_long_training_under_a_scaler_is_left_in_peace(tmp_path: Path) -> None:
    """Long after convergence, when gradients are a thousandth of what they were."""
    run = train(tmp_path / "run", sgd(0.1), autocast=torch.float16, scaled=True, steps=600)
    assert run.steps["loss"][-20:].mean() < 0.02
    assert found(run) == []
