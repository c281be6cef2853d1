"""What users of other tools complain about, models' side; each test carries the number of its row."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.signals import Signals
from tests.specimens import (
    OUTPUTS,
    Box,
    Cell,
    Checkpointed,
    Emits,
    Keywords,
    Specimen,
    assert_same,
    batch,
    classified,
    gradients_by_torch,
    next_token,
    tokens,
    train,
)
from tests.trainings import Recurrent, ResidualBlock, ResNet, mlp


def images(model: nn.Module, step: int) -> torch.Tensor:
    """A step on images."""
    pixels, labels = batch(step, 16)
    return nn.functional.cross_entropy(model(pixels.view(-1, 1, 8, 8)), labels)


def test_complaint_1_in_place_relu_does_not_raise(tmp_path: Path) -> None:
    """A ResNet with `inplace=True` trains and is measured on both sides of each ReLU (pytorch#61519, vision#4164)."""
    specimen = Specimen(ResNet, images)
    assert any(isinstance(module, nn.ReLU) and module.inplace for module in ResNet().modules())
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    norms = signals.norm("activation_gradient")
    told = gradients_by_torch(specimen)
    assert {"bn", "relu", "blocks.0.bn1", "blocks.0.relu", "blocks.0"} <= set(told)
    for path, expected in told.items():
        assert norms[signals.site(path)] == pytest.approx(expected, rel=1e-4), path


@pytest.mark.parametrize("name", OUTPUTS)
def test_complaint_2_no_output_is_silent(name: str, tmp_path: Path) -> None:
    """Gradients of outputs in lists, dicts and dataclasses are recorded (pytorch#87540)."""
    train(Specimen(lambda: Emits(*OUTPUTS[name]), classified), tmp_path / "run")
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    assert np.isfinite(signals.norm("activation_gradient")[signals.site("inner")]).all()
    assert run.info.not_observed == ()


def test_complaint_2_an_unseen_type_is_said(tmp_path: Path) -> None:
    """An output of a class that is not looked into is named, never passed over (pytorch#87540)."""
    train(Specimen(lambda: Emits(Box, lambda box: box.tensor), classified), tmp_path / "run")
    said = [str(missing) for missing in gradscope.read_run(tmp_path / "run").info.not_observed]
    assert said == ["inner: its output of type Box was not looked into"]


class Alias(nn.Module):
    """Whose training depends on who is whose tensor: an in-place addition to a layer's own input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same, self.head = nn.Linear(64, 32), nn.Identity(), nn.Linear(32, 10)
        self.kept: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        z = self.same(y)
        self.kept.append(z is y)
        z += 1
        return self.head(torch.tanh(y)) + self.head(y.relu_())


def test_complaint_3_no_tensor_is_replaced(tmp_path: Path) -> None:
    """Modules hand on the very tensors that they hand on without us, and training is the same bit for bit
    (pytorch#61446).
    """
    made: list[Alias] = []

    def make() -> Alias:
        made.append(Alias())
        return made[-1]

    specimen = Specimen(make, classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    assert made[0].kept == made[1].kept == [True] * 3


class SharedInCheckpoint(nn.Module):
    """One layer that is used twice, each time inside a checkpoint."""

    def __init__(self, how: bool | None) -> None:
        super().__init__()
        self.stem, self.shared, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.stem(x))
        for _ in range(2):
            x = torch.tanh(self.shared(x) if self.how is None else checkpoint(self.shared, x, use_reentrant=self.how))
        return self.head(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_complaint_4_shared_parameters_in_checkpoints_count_once(reentrant: bool, tmp_path: Path) -> None:
    """A shared layer in checkpoints has the gradients, calls and counts that it has without them (pytorch#81296)."""
    runs = []
    for number, how in enumerate((None, reentrant)):
        specimen = Specimen(lambda how=how: SharedInCheckpoint(how), classified)
        assert_same(train(specimen, tmp_path / f"{number}"), train(specimen, None))
        runs.append(Signals(gradscope.read_run(tmp_path / f"{number}")))
    kept, again = runs
    assert again.run.steps["backwards"].tolist() == [1, 1, 1]
    for quantity in ("activation", "activation_gradient"):
        for field in ("count", "sum_squares"):
            one, two = (s.values(quantity, field)[s.site("shared")] for s in (kept, again))
            assert two == pytest.approx(one, rel=1e-5)
    weight = [s.norm("gradient")[s.site("shared.weight", "parameter")] for s in (kept, again)]
    assert weight[1] == pytest.approx(weight[0], rel=1e-5)


class Normalised(nn.Module):
    """A layer of each kind of normalisation."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 8, 3), norm(), nn.Linear(288, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


def keywords(model: nn.Module, step: int) -> torch.Tensor:
    """A step of a model called with keyword arguments, as Transformers are."""
    pixels, labels = batch(step)
    return nn.functional.cross_entropy(model(pixels=pixels, scale=0.5), labels)


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, int], torch.Tensor], str]] = {
    "LSTM": (Recurrent, classified, "lstm"),
    "GRU cell": (lambda: Cell(nn.GRUCell), classified, "cell"),
    "keyword arguments": (Keywords, keywords, "first"),
    "BatchNorm": (lambda: Normalised(lambda: nn.BatchNorm2d(8)), images, "norm"),
    "LayerNorm": (lambda: Normalised(lambda: nn.LayerNorm([8, 6, 6])), images, "norm"),
    "GroupNorm": (lambda: Normalised(lambda: nn.GroupNorm(2, 8)), images, "norm"),
    "InstanceNorm": (lambda: Normalised(lambda: nn.InstanceNorm2d(8, affine=True)), images, "norm"),
}


@pytest.mark.parametrize("name", ZOO)
def test_complaint_19_every_layer_is_supported(name: str, tmp_path: Path) -> None:
    """LSTMs, keyword arguments and every normalisation are measured, parameters too (fastai#2398, torchexplorer#53)."""
    make, loss, path = ZOO[name]
    specimen = Specimen(make, loss)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    site = signals.site(path)
    assert run.info.not_observed == ()
    assert np.isfinite(signals.norm("activation")[site]).all()
    assert signals.norm("activation_gradient")[site] == pytest.approx(gradients_by_torch(specimen)[path], rel=1e-4)
    assert signals.parameters_of(site)
    assert np.isfinite(signals.norm("gradient")[signals.parameters_of(site)]).all()


@pytest.mark.parametrize("make", [lambda: mlp(2, nn.Tanh), Recurrent, lambda: Checkpointed("reentrant")])
def test_complaint_20_watched_models_can_be_saved(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """`pickle`, `torch.save` and `deepcopy` work in the middle of a recorded step (wandb#5573, #2588)."""
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        scope.loss(classified(model, 0)).backward()
        torch.save(model, tmp_path / "model.pt")
        copies = [
            pickle.loads(pickle.dumps(model)),
            torch.load(tmp_path / "model.pt", weights_only=False),
            copy.deepcopy(model),
        ]
        optimizer.step()
        for other in copies:
            classified(other, 1).backward()  # trains as a model, unseen
    for other in copies:
        assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert gradscope.read_run(tmp_path / "run").steps["forwards"].tolist() == [1]


@pytest.mark.parametrize("every", [1, 2])
def test_complaint_24_parameters_unfrozen_later_are_found(every: int, tmp_path: Path) -> None:
    """A backbone that is unfrozen in the middle of training is recorded from the next recorded step (wandb#2625)."""
    torch.manual_seed(0)
    model = nn.Sequential(ResidualBlock(1, 8), nn.Flatten(), nn.Linear(512, 10))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.01)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=every) as scope:
        for step in range(6):
            if step == 2:
                model[0].requires_grad_(True)
                optimizer.add_param_group({"params": list(model[0].parameters())})
            scope.loss(images(model, step)).backward()
            optimizer.step()
            optimizer.zero_grad()
        run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    backbone = [i for i in signals.parameters if signals.sites[i].path.startswith("0.")]
    assert len(backbone) == 7
    known = np.isfinite(signals.norm("gradient")[backbone])
    assert (known == (signals.steps >= 2)).all()
    assert all(signals.sites[i].trainable and signals.sites[i].optimized for i in backbone)
    assert np.isfinite(signals.update_ratio[backbone][:, signals.steps >= 2]).any(axis=0).all()


def test_complaint_24_words_that_came_late_are_found(tmp_path: Path) -> None:
    """An embedding that is exchanged for a larger one goes on being recorded under its name (wandb#2625)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for step in range(4):
            if step == 2:
                model[0] = nn.Embedding(30, 8)
                optimizer.add_param_group({"params": list(model[0].parameters())})
            scope.loss(next_token(model, step)).backward()
            optimizer.step()
            optimizer.zero_grad()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    count = signals.values("weight", "count")[signals.site("0.weight", "parameter")]
    assert count.tolist() == [160.0, 160.0, 240.0, 240.0]
    assert tokens(0).max() < 20
