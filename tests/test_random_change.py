"""The random change that a trial holds its candidates against."""

from __future__ import annotations

import json
import math
from collections import Counter
from random import Random
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gradscope.catalogue import remedies
from gradscope.errors import NotApplicable
from gradscope.remedies import Remedy
from gradscope.surgery import Applied
from gradscope.trials.random_change import draw
from tests.test_remedies_act_optimizer import GlobalHooks, kept, same, weights

ALL = [pytest.param(remedy, id=identity) for identity, remedy in remedies().items()]


def training() -> tuple[nn.Module, SGD]:
    """A network that many remedies can act on."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(4, 8), nn.Sigmoid(), nn.Dropout(0.9), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()),
        *(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)),
    )
    return model, SGD(list(model.parameters())[:-1], lr=0.1, momentum=0.9)


def test_nothing_is_left_of_a_draw() -> None:
    """Weights, modules, optimizer, hooks and every generator are as they were."""
    model, optimizer = training()
    before, numbers, modules = kept(optimizer), weights(model), list(model.named_modules())
    states = torch.get_rng_state(), Random().getstate()
    with GlobalHooks():
        for seed in range(12):
            drawn = draw(seed, model, [optimizer], count=3)
            assert len(drawn) == 3
    assert torch.equal(torch.get_rng_state(), states[0])
    assert kept(optimizer) == before
    assert same(weights(model), numbers)
    assert [(name, id(module)) for name, module in model.named_modules()] == [
        (name, id(module)) for name, module in modules
    ]
    assert all(not module._forward_pre_hooks and not module._forward_hooks for _, module in modules)


def test_a_seed_is_a_draw() -> None:
    """The same one in another training of the same kind; another one is another draw."""
    draws = []
    for _ in range(2):
        model, optimizer = training()
        draws.append([draw(seed, model, [optimizer], count=2) for seed in range(6)])
    assert draws[0] == draws[1]
    assert len({str(each) for each in draws[0]}) == 6


def test_what_is_drawn_can_be_applied_as_json() -> None:
    """In the order of the draw, on another training of the same kind."""
    for seed in range(10):
        model, optimizer = training()
        drawn = json.loads(json.dumps(draw(seed, model, [optimizer], count=2)))
        applied = [remedies()[identity].apply(model, optimizer, **dose) for identity, dose in drawn]
        assert all(each.changes for each in applied)
        for each in reversed(applied):
            each.undo()


def test_many_remedies_are_drawn_but_not_the_candidates_own() -> None:
    """Every one that can act here comes up in 200 draws, none of those to avoid."""
    model, optimizer = training()
    avoid = ("gradient-clipping", "batch-norm")
    seen = Counter(draw(seed, model, [optimizer], avoid)[0][0] for seed in range(200))
    assert not set(avoid) & set(seen)
    assert len(seen) >= 10
    assert max(seen.values()) < 60
    assert {"lower-learning-rate", "raise-learning-rate", "warmup", "optimizer-swap", "add-to-optimizer"} <= set(seen)


def test_a_candidate_of_two_is_held_against_two() -> None:
    """They differ from one another."""
    model, optimizer = training()
    for seed in range(10):
        drawn = draw(seed, model, [optimizer], count=2)
        assert len({identity for identity, _ in drawn}) == 2


def test_fewer_are_drawn_where_fewer_can_act() -> None:
    """Everything else is to be avoided: what is left is drawn."""
    model, optimizer = training()
    avoid = set(remedies()) - {"warmup"}
    assert [identity for identity, _ in draw(0, model, [optimizer], avoid, count=3)] == ["warmup"]
    assert draw(0, model, [optimizer], set(remedies())) == []


class Fails(Remedy):
    """Changes a weight and breaks."""

    id = "fails"
    title = "Fail"
    cures: dict[str, float] = {}
    sources = ()

    def why(self, finding: object, signals: object) -> str:
        return ""

    def code(self, finding: object, signals: object) -> str:
        return ""

    def act(self, applied: Applied, model: nn.Module, optimizers: list[torch.optim.Optimizer], **dose: Any) -> None:
        """Leaves nothing behind."""
        weight = model[0].weight  # type: ignore[index]
        applied.back(weight.data.div_, 2)
        weight.data.mul_(2)
        raise RuntimeError("this model is odd")


def test_a_remedy_that_breaks_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours must not cost the control, nor leave half a change."""
    monkeypatch.setattr("gradscope.trials.random_change.remedies", lambda: {"fails": Fails()})
    model, optimizer = training()
    before = weights(model)
    assert draw(0, model, [optimizer]) == []
    assert same(weights(model), before)


@pytest.mark.parametrize("remedy", ALL)
def test_a_random_dose_is_one_that_apply_takes(remedy: Remedy) -> None:
    """JSON can hold it, and `act` knows its names; the same generator gives the same one."""
    model, optimizer = training()
    for seed in range(5):
        dose = remedy.random_dose(Random(seed))
        assert dose == remedy.random_dose(Random(seed)) == json.loads(json.dumps(dose))
        try:
            remedy.apply(model, optimizer, **dose).undo()
        except NotApplicable:
            continue


@pytest.mark.parametrize(
    ("identity", "name", "low", "high"),
    [
        ("lower-learning-rate", "factor", 1e-2, 1.0),
        ("raise-learning-rate", "factor", 1.0, 1e2),
        ("gradient-clipping", "bound", 1e-2, 1e1),
        ("optimizer-swap", "rate", 1e-5, 1e-1),
    ],
)
def test_random_sizes_are_even_in_their_logarithm(identity: str, name: str, low: float, high: float) -> None:
    """From end to end: half of them lie below the geometric middle."""
    rng = Random(0)
    drawn = [remedies()[identity].random_dose(rng)[name] for _ in range(400)]
    assert low <= min(drawn) < 1.1 * low
    assert high / 1.1 < max(drawn) <= high
    assert sum(each < math.sqrt(low * high) for each in drawn) == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    ("identity", "name", "low", "high"), [("lower-dropout", "rate", 0, 0.6), ("warmup", "steps", 10, 200)]
)
def test_random_rates_and_lengths_are_even(identity: str, name: str, low: float, high: float) -> None:
    """From end to end."""
    rng = Random(0)
    drawn = [remedies()[identity].random_dose(rng)[name] for _ in range(400)]
    assert low <= min(drawn) < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < max(drawn) <= high
    assert sum(drawn) / 400 == pytest.approx((low + high) / 2, rel=0.1)
