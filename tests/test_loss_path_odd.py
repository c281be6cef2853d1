"""Losses put together in ways of which little is sure: weights, padding, small and empty batches, many terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradscope.recorder.loss_walk import Walk
from gradscope.recorder.passes import Node
from tests.test_loss import WEIGHTS, B, Q, R, Y, path_of, watched

PADDED = torch.where(torch.arange(120) % 4 == 0, torch.arange(120) // 4 % 3, -100)  # 30 of three classes count
EACH = torch.rand(120, 4, generator=torch.Generator().manual_seed(4)) + 0.5
ONE_HOT = F.one_hot(Y, 4).float()
UNKNOWN = math.nan


def best(loss: Callable[[Tensor], Tensor]) -> float:
    """The loss of the best constant output, searched for."""
    constant = torch.zeros(4, requires_grad=True)
    search = torch.optim.LBFGS([constant], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12)

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(constant.expand(120, 4))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for _ in range(3):
        search.step(closure)  # type: ignore[no-untyped-call]
    return float(closure().detach())


def trivial_of(loss: Callable[[Tensor], Tensor], folder: Path) -> float:
    """The best constant output's loss as it was recorded."""
    return float(watched(loss, folder).steps["trivial_loss"][-1])


def by_hand(output: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
    """A binary cross-entropy in logarithms, entry by entry."""
    probability = torch.sigmoid(output)
    return -(ones * torch.log(probability) + zeros * torch.log(1 - probability))


@pytest.mark.parametrize(
    "loss",
    [
        lambda o: -(Q[: len(o)] * o.log_softmax(1)).sum(1).mean(),
        lambda o: by_hand(o, B[: len(o)], 1 - B[: len(o)]).mean(),
    ],
    ids=["cross-entropy", "binary cross-entropy"],
)
def test_an_empty_batch_is_read(loss: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    """A batch of no samples has a kind of loss, and no constant guess costs anything in it."""
    run = watched(lambda o: loss(o[:0]), tmp_path)
    assert path_of(run).kind.endswith("cross-entropy")
    assert math.isnan(run.steps["trivial_loss"][-1])


PADDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda o: F.cross_entropy(o, PADDED, reduction="sum"),
    "sum over those that count": lambda o: F.cross_entropy(o, PADDED, reduction="sum") / 30,
    "none, then sum over those that count": lambda o: F.cross_entropy(o, PADDED, reduction="none").sum() / 30,
    "none, then mean": lambda o: F.cross_entropy(o, PADDED, reduction="none").mean(),
    "mean": lambda o: F.cross_entropy(o, PADDED),
}


@pytest.mark.parametrize("name", PADDINGS, ids=PADDINGS.keys())
def test_ignored_entries_cost_a_constant_guess_nothing(name: str, tmp_path: Path) -> None:
    """Entries dropped by `ignore_index` do not count, however the loss is put together from its entries."""
    assert trivial_of(PADDINGS[name], tmp_path) == pytest.approx(best(PADDINGS[name]), rel=1e-4)


WEIGHTED: dict[str, Callable[[Tensor], Tensor]] = {
    "none, then mean": lambda o: F.cross_entropy(o, Y, WEIGHTS, reduction="none").mean(),
    "sum over N": lambda o: F.cross_entropy(o, Y, WEIGHTS, reduction="sum") / 120,
    "sum": lambda o: F.cross_entropy(o, Y, WEIGHTS, reduction="sum"),
    "mean": lambda o: F.cross_entropy(o, Y, WEIGHTS),
    "padded": lambda o: F.cross_entropy(o, PADDED, WEIGHTS, reduction="none").mean(),
    "class probabilities": lambda o: F.cross_entropy(o, Q, WEIGHTS),
    "class probabilities, none": lambda o: F.cross_entropy(o, Q, WEIGHTS, reduction="none").mean(),
    "weights in the targets": lambda o: -(EACH * Q * o.log_softmax(1)).sum(1).mean(),
    "log-sum-exp of probabilities": lambda o: (torch.logsumexp(o, 1) - (Q * o).sum(1)).mean(),
    "ones of a binary": lambda o: F.binary_cross_entropy_with_logits(o, B, pos_weight=WEIGHTS),
}


@pytest.mark.parametrize("name", WEIGHTED, ids=WEIGHTED.keys())
def test_class_weights_count_as_they_do_in_the_loss(name: str, tmp_path: Path) -> None:
    """Weights of classes are in a constant guess's loss as they are in the network's."""
    assert trivial_of(WEIGHTED[name], tmp_path) == pytest.approx(best(WEIGHTED[name]), rel=1e-4)


UNSURE: dict[str, Callable[[Tensor], Tensor]] = {
    "binary with logits": lambda o: F.binary_cross_entropy_with_logits(o, B, weight=EACH),
    "binary": lambda o: F.binary_cross_entropy(torch.sigmoid(o), B, weight=EACH),
    "binary by hand": lambda o: (EACH * by_hand(o, B, 1 - B)).mean(),
    "ones of a binary by hand": lambda o: by_hand(o, 0.3 * B, 1 - B).mean(),
    "class probabilities": lambda o: -(EACH * (Q * o.log_softmax(1))).sum(1).mean(),
    "samples of class probabilities": lambda o: -(EACH[:, 0] * (Q * o.log_softmax(1)).sum(1)).mean(),
    "samples": lambda o: (F.cross_entropy(o, Y, reduction="none") * EACH[:, 0]).mean(),
    "logarithms, then chosen": lambda o: -(WEIGHTS[None] * o.log_softmax(1)).gather(1, Y[:, None]).mean(),
}


@pytest.mark.parametrize("name", UNSURE, ids=UNSURE.keys())
def test_weights_of_single_entries_leave_the_guess_unknown(name: str, tmp_path: Path) -> None:
    """What a constant guess costs is not said where entries are weighted one by one."""
    assert math.isnan(trivial_of(UNSURE[name], tmp_path))


@pytest.mark.parametrize(
    "loss",
    [
        lambda o: (F.cross_entropy(o, Y, reduction="none") * EACH[:, 0]).mean(),
        lambda o: F.cross_entropy(o, Y, reduction="none")[Y > 0].mean(),
    ],
    ids=["weighted", "chosen"],
)
def test_a_weighted_cross_entropy_is_one(loss: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    """Its logarithm is seen through what entries are multiplied with, and the targets are the labels."""
    path = path_of(watched(loss, tmp_path))
    assert (path.kind, path.classes, path.target_dtype, path.target_shape) == ("cross-entropy", 4, "int64", (120,))


@pytest.mark.parametrize("batch", [2, 4, 120])
@pytest.mark.parametrize("divided", [True, False])
def test_a_sum_over_a_small_batch_is_a_mean(batch: int, divided: bool, tmp_path: Path) -> None:
    """A sum divided by the samples is a mean, however few they are; one that is not is a sum."""

    class First(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:batch])

    def loss(output: Tensor) -> Tensor:
        total = ((output - R[:batch]) ** 2).sum()
        return total / len(output) if divided else total

    run = watched(loss, tmp_path, model=First(6, 4))
    assert path_of(run).reduction == ("mean" if divided else "sum")


def test_a_loss_of_many_terms_is_read_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a loss of hundreds of terms no more is looked at than of one of dozens."""
    asked = 0
    original = Walk.before

    def counted(self: Walk, *nodes: Node) -> list[Node]:
        nonlocal asked
        asked += 1
        return original(self, *nodes)

    monkeypatch.setattr(Walk, "before", counted)

    def summed(output: Tensor, terms: int) -> Tensor:
        rows = output.repeat(5, 1)[:terms]
        return sum((F.mse_loss(row, row.detach() + 1) for row in rows), torch.zeros(()))

    def looks(terms: int) -> int:
        nonlocal asked
        asked = 0
        run = watched(lambda o: summed(o, terms), tmp_path / str(terms), 1)
        assert path_of(run).kind == "squared-error"
        return asked

    assert looks(600) == looks(60) < 300
