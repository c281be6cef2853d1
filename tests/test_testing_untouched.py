"""`check_model` and `assert_healthy` leave everything as it is: bit for bit, whatever the model does."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset

import gradscope
from gradscope.errors import CheckError, WatchError
from gradscope.testing import assert_healthy, check_model
from tests.trainings import digits

Ask = Callable[[nn.Module, Any], object]
IMAGES, LABELS = (part[:32] for part in digits())
LOSS = nn.CrossEntropyLoss()


def restless() -> nn.Module:
    """A model with buffers, dropout, modes of its own, and gradients from before."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.LSTM(16, 8),
        Last(),
        nn.Linear(8, 10),
    )
    LOSS(model(IMAGES), LABELS).backward()
    model[1].eval()
    return model


class Last(nn.Module):
    """Takes an LSTM's output."""

    def forward(self, outputs: tuple[Tensor, Any]) -> Tensor:
        return outputs[0]


def asked_of(optimizer: Any = None) -> dict[str, Ask]:
    """Both functions, with failures that are answers."""

    def assert_it(model: nn.Module, sample: Any) -> None:
        with suppress(AssertionError):
            assert_healthy(model, sample, LOSS, 5, optimizer=optimizer)

    return {
        "check_model": lambda model, sample: check_model(model, sample, criterion=LOSS, optimizer=optimizer, steps=10),
        "assert_healthy": assert_it,
    }


def state(model: nn.Module) -> list[Any]:
    """Everything about a model and the random numbers that may not change, tensors as lists with their versions."""
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    return [
        [(id(each), each._version, each.detach().clone().tolist()) for each in tensors],
        [(module.training, len(module._forward_hooks), sorted(vars(module))) for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    ]


@pytest.mark.parametrize("name", asked_of())
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_and_the_random_numbers_stay_as_they_are(name: str, mode: Callable[[], Any]) -> None:
    """Weights, buffers, gradients, modes, hooks and every generator are the same tensors with the same numbers."""
    model = restless()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    given = copy.deepcopy(optimizer.state_dict())
    before = state(model)
    with mode():
        inside = state(model)
        asked_of(optimizer)[name](model, (IMAGES, LABELS))
        assert state(model) == inside
    assert state(model) == before
    assert str(optimizer.state_dict()) == str(given)


@pytest.mark.parametrize("name", asked_of())
def test_the_data_stay_as_they_are(name: str) -> None:
    """A model that writes on what it is given writes on a copy."""

    class Scales(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    x, y = IMAGES.clone(), LABELS.clone()
    asked_of()[name](Scales(nn.Linear(64, 10)), (x, y))
    assert torch.equal(x, IMAGES)
    assert torch.equal(y, LABELS)


@pytest.mark.parametrize("name", asked_of())
def test_a_criterion_that_reads_the_original_leaves_no_gradient_on_it(name: str) -> None:
    """A penalty on the original's own weights sends gradients there, which are taken away again."""
    model = nn.Sequential(nn.Linear(64, 10))
    model[0].bias.grad = torch.arange(10.0)

    def penalised(output: Tensor, labels: Tensor) -> Tensor:
        return LOSS(output, labels) + sum(p.square().sum() for p in model.parameters())

    if name == "check_model":
        check_model(model, (IMAGES, LABELS), criterion=penalised, steps=5)
    else:
        assert_healthy(model, (IMAGES, LABELS), penalised, 5)
    assert model[0].weight.grad is None
    assert model[0].bias.grad.tolist() == list(range(10))


@pytest.mark.parametrize("own_batches", [False, True])
@pytest.mark.parametrize("name", asked_of())
def test_a_loader_goes_on_where_it_was(name: str, own_batches: bool) -> None:
    """A generator of the loader, or of its sampler, draws the next order as if nobody had looked."""

    def order(look: bool) -> list[int]:
        numbers = torch.Generator().manual_seed(7)
        data = TensorDataset(IMAGES, LABELS)
        loader = DataLoader(data, 8, shuffle=True, generator=numbers)
        if own_batches:
            sampler = BatchSampler(RandomSampler(data, generator=numbers), 8, drop_last=False)
            loader = DataLoader(data, batch_sampler=sampler)
        if look:
            asked_of()[name](nn.Linear(64, 10), loader)
        return [int(label) for _, labels in loader for label in labels]

    assert order(True) == order(False)


@pytest.mark.parametrize("name", asked_of())
def test_a_training_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Asked in the middle of a watched training with dropout, the training ends where it ends without."""

    def train(ask: bool) -> list[float]:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 10))
        optimizer = torch.optim.Adam(model.parameters())
        losses = []
        with gradscope.watch(model, optimizer, run_dir=tmp_path / f"asked {ask}", every=1) as scope:
            for step in range(6):
                if ask and step == 3:
                    asked_of(optimizer)[name](model, (IMAGES, LABELS))
                loss = scope.loss(LOSS(model(IMAGES), LABELS))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(float(loss.detach()))
        return losses

    assert train(True) == train(False)
    runs = [gradscope.read_run(tmp_path / f"asked {ask}") for ask in (True, False)]
    assert len(runs[0].steps) == len(runs[1].steps) == 6
    assert len(runs[0].summaries) == len(runs[1].summaries)


def test_nothing_is_said_and_nothing_is_left_behind(
    capfd: pytest.CaptureFixture[str], monkeypatch: Any, tmp_path: Path
) -> None:
    """No line on stdout or stderr, no file, no hook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for ask in asked_of().values():
        ask(nn.Linear(64, 10), (IMAGES, LABELS))
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    """A stream of samples."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from zip(IMAGES, LABELS, strict=True)


@pytest.mark.parametrize(
    "sample",
    [
        DataLoader(TensorDataset(IMAGES, LABELS), 16),
        DataLoader(Endless(), 16),
        [IMAGES, LABELS],
        (each for each in [(IMAGES, LABELS)] * 9),
    ],
    ids=["loader", "endless", "list", "generator"],
)
def test_batches_come_in_many_forms(sample: Any) -> None:
    """A loader, an endless one, a list and a generator of batches are all read."""
    torch.manual_seed(0)
    assert assert_healthy(nn.Linear(64, 10), sample, LOSS, 5).verdict == "healthy"


def test_a_compiled_model_is_asked_as_it_was_before() -> None:
    """The module behind `torch.compile` is copied; nothing is compiled for it."""
    model = nn.Linear(64, 10)
    check = check_model(torch.compile(model), (IMAGES, LABELS), criterion=LOSS, steps=10)  # type: ignore[arg-type]
    assert check.model == "Linear"
    assert check.passed


def test_a_lazy_model_takes_its_shape_in_the_copy() -> None:
    """Parameters without a shape get one where they are tried, and stay as they are in the original."""
    model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))
    assert check_model(model, (IMAGES, LABELS), criterion=LOSS).passed
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def test_an_optimizer_of_another_model_is_refused() -> None:
    """As `watch` does."""
    with pytest.raises(WatchError, match="updates none of the parameters of Linear"):
        check_model(
            nn.Linear(64, 10),
            (IMAGES, LABELS),
            criterion=LOSS,
            optimizer=torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1),
        )


def test_errors_are_of_one_tree() -> None:
    """Everything that these functions raise on purpose is one of ours."""
    with pytest.raises(CheckError):
        check_model(nn.Linear(64, 10), "no sample")
