"""Remedies that act on an optimizer and its steps: each on a real training, and back again."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer, lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import gradscope
from gradscope.catalogue import remedies
from gradscope.errors import NotApplicable
from gradscope.records import Cause, Evidence, Finding
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store import read_run
from gradscope.surgery import Applied
from gradscope.surgery.steps import scale_rates

ALL = {
    "gradient-clipping": {"bound": 0.01},
    "lower-learning-rate": {"factor": 0.1},
    "raise-learning-rate": {"factor": 3.0},
    "warmup": {"steps": 4},
    "optimizer-swap": {"rate": 1e-3},
    "zero-grad": {},
    "add-to-optimizer": {},
}


def network(seed: int = 0) -> nn.Sequential:
    """A small regression network."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four features and their sum."""
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return x, x.sum(1, keepdim=True)


def train(
    model: nn.Module,
    optimizer: Optimizer,
    steps: int = 6,
    scheduler: lr_scheduler.LRScheduler | None = None,
    zero: bool = True,
    scale: float = 1.0,
) -> list[float]:
    """A usual loop; its losses."""
    losses = []
    for step in range(steps):
        x, y = batch(step)
        if zero:
            optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y) * scale
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


def weights(model: nn.Module) -> list[torch.Tensor]:
    """Copies of the parameters."""
    return [each.detach().clone() for each in model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether they are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class GlobalHooks:
    """How many global hooks torch calls around a step: asked by their handles' dictionaries."""

    def __enter__(self) -> GlobalHooks:
        handle = register_optimizer_step_post_hook(lambda *_: None)
        self._post = handle.hooks_dict_ref()
        handle.remove()
        pre = register_optimizer_step_pre_hook(lambda *_: None)
        self._pre = pre.hooks_dict_ref()
        pre.remove()
        self.before = self.count()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.count() == self.before

    def count(self) -> tuple[int, int]:
        return len(self._pre), len(self._post)


def kept(optimizer: Optimizer) -> dict[str, Any]:
    """Everything that an optimizer is, by value; parameters by identity."""

    def plain(options: dict[str, Any]) -> dict[str, Any]:
        return {key: list(map(id, value)) if key == "params" else copy.copy(value) for key, value in options.items()}

    return {
        "class": type(optimizer),
        "attributes": {key: id(value) for key, value in vars(optimizer).items()},
        "defaults": plain(optimizer.defaults),
        "groups": [plain(group) for group in optimizer.param_groups],
        "state": {
            id(key): {name: copy.copy(each) for name, each in value.items()} for key, value in optimizer.state.items()
        },
    }


# undo


@pytest.mark.parametrize("scheduled", [False, True], ids=["plain", "scheduled"])
@pytest.mark.parametrize("identity", ALL)
def test_undo_is_exact(identity: str, scheduled: bool) -> None:
    """Class, attributes, options, state, weights and torch's global hooks are what they were, and the training too."""

    def make() -> tuple[nn.Module, Optimizer, lr_scheduler.LRScheduler | None]:
        model = network()
        optimizer = SGD(model[:4].parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        return model, optimizer, lr_scheduler.StepLR(optimizer, 2, 0.5) if scheduled else None

    model, optimizer, scheduler = make()
    before, numbers = kept(optimizer), weights(model)
    with GlobalHooks():
        applied = remedies()[identity].apply(model, optimizer, **ALL[identity])
        assert applied.changes
        applied.undo()
        applied.undo()
    assert kept(optimizer) == before
    assert same(weights(model), numbers)
    untouched, plain, its = make()
    assert train(model, optimizer, scheduler=scheduler) == train(untouched, plain, scheduler=its)


@pytest.mark.parametrize("identity", [*ALL])
def test_undo_after_steps_leaves_the_rest_of_the_training_to_the_user(identity: str) -> None:
    """After some steps the optimizer is of the old class with the old options; its schedule has gone on."""
    model = network()
    optimizer = SGD(model[:4].parameters(), lr=0.1, momentum=0.9)
    with GlobalHooks():
        applied = remedies()[identity].apply(model, optimizer, **ALL[identity])
        scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
        train(model, optimizer, 3, scheduler)
        applied.undo()
    assert type(optimizer) is SGD
    assert optimizer.param_groups[0]["lr"] == 0.0125
    assert set(optimizer.defaults) == set(SGD(model.parameters(), lr=1.0).defaults)
    assert len(optimizer.param_groups[0]["params"]) == 4
    before = weights(model[4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, 2, scheduler)
    assert same(weights(model[4]), before)
    assert all(set(each) == {"momentum_buffer"} for each in optimizer.state.values())


@pytest.mark.parametrize("identity", [*ALL])
def test_only_the_given_optimizers_are_changed(identity: str) -> None:
    """A GAN's other optimizer steps as if nothing had been done."""
    generator, discriminator = network(1), network(2)
    its = SGD(discriminator[:4].parameters(), lr=0.1)
    other, reference = SGD(generator.parameters(), lr=0.1), network(1)
    applied = remedies()[identity].apply(discriminator, [its], **ALL[identity])
    train(generator, other)
    train(reference, SGD(reference.parameters(), lr=0.1))
    assert same(weights(generator), weights(reference))
    assert type(other) is SGD
    applied.undo()


@pytest.mark.parametrize("identity", [*ALL])
def test_a_remedy_of_steps_needs_an_optimizer(identity: str) -> None:
    """Without one the reason is said."""
    with pytest.raises(NotApplicable, match=rf"^{identity}: no optimizer was given "):
        remedies()[identity].apply(network())


def test_an_optimizer_is_held_weakly() -> None:
    """A remedy around steps keeps no optimizer alive."""
    import gc
    import weakref

    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    reference = weakref.ref(optimizer)
    applied = [
        remedies()[identity].apply(model, optimizer) for identity in ("warmup", "gradient-clipping", "zero-grad")
    ]
    train(model, optimizer, 2)
    del optimizer
    gc.collect()
    assert reference() is None
    for each in applied:
        each.undo()


# learning rate


def test_a_factor_of_1_changes_no_bit() -> None:
    """Nor does a bound that is infinite."""
    model, reference = network(), network()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    applied = [
        remedies()["lower-learning-rate"].apply(model, optimizer, factor=1.0),
        remedies()["gradient-clipping"].apply(model, optimizer, bound=math.inf),
    ]
    train(model, optimizer)
    train(reference, SGD(reference.parameters(), lr=0.1, momentum=0.9))
    assert same(weights(model), weights(reference))
    for each in applied:
        each.undo()


@pytest.mark.parametrize("kind", [float, torch.tensor])
@pytest.mark.parametrize(("identity", "factor"), [("lower-learning-rate", 0.25), ("raise-learning-rate", 4.0)])
def test_a_factor_on_the_rate_is_that_rate_beside_a_scheduler(
    identity: str, factor: float, kind: Callable[[float], Any]
) -> None:
    """As if the rate had been that from the start; what the scheduler and the user see is theirs. Momentum goes on."""
    model, reference = network(), network()
    optimizer = SGD(model.parameters(), lr=kind(0.1), momentum=0.9)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 6)
    other = SGD(reference.parameters(), lr=kind(0.1) * factor, momentum=0.9)
    applied = remedies()[identity].apply(model, optimizer, factor=factor)
    mine = train(model, optimizer, 5, scheduler)
    assert mine == pytest.approx(train(reference, other, 5, lr_scheduler.CosineAnnealingLR(other, 6)), rel=1e-5)
    expected = 0.1 * (1 + math.cos(math.pi * 5 / 6)) / 2
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(expected, rel=1e-5)
    assert float(scheduler.get_last_lr()[0]) == pytest.approx(expected, rel=1e-5)
    applied.undo()


def test_factors_multiply_and_go_in_any_order() -> None:
    """Two remedies of the rate: each step has both; without the first one the second stays."""
    model = network()
    optimizer = SGD([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1.0}], lr=0.5)
    used: list[list[float]] = []
    optimizer.register_step_pre_hook(lambda each, *_: used.append([group["lr"] for group in each.param_groups]))
    first, second = Applied(), Applied()
    scale_rates(first, [optimizer], lambda step: 0.5)
    scale_rates(second, [optimizer], lambda step: 10.0**step)
    train(model, optimizer, 2)
    first.undo()
    train(model, optimizer, 1)
    second.undo()
    train(model, optimizer, 1)
    assert used == [[0.25, 0.5], [2.5, 5.0], [50.0, 100.0], [0.5, 1.0]]


def test_a_step_that_raises_does_not_leave_its_rate_behind() -> None:
    """The next step begins from the user's rate, not from the scaled one."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.5)
    applied = remedies()["lower-learning-rate"].apply(model, optimizer, factor=0.5)

    def fail() -> float:
        raise ValueError("no data")

    for _ in range(2):
        with pytest.raises(ValueError, match="no data"):
            optimizer.step(fail)
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda each, *_: used.append(each.param_groups[0]["lr"]))
    train(model, optimizer, 1)
    assert used == [0.25]
    applied.undo()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_rate_of_0_is_replaced_where_that_is_asked_for() -> None:
    """No factor makes something of 0."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.0)
    before = weights(model)
    applied = remedies()["raise-learning-rate"].apply(model, optimizer, factor=1.0, instead_of_zero=0.1)
    train(model, optimizer, 1)
    applied.undo()
    assert not same(weights(model), before)
    assert str(applied) == "every step takes 1 times the learning rate; where it is 0, 0.1"


def test_a_warm_up_is_torchs_own() -> None:
    """The rates are those of `LinearLR(start_factor=0.01)`, and then the user's, exactly."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.3)
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda each, *_: used.append(each.param_groups[0]["lr"]))
    applied = remedies()["warmup"].apply(model, optimizer, steps=4)
    train(model, optimizer)
    other = SGD(network().parameters(), lr=0.3)
    expected, scheduler = [], lr_scheduler.LinearLR(other, start_factor=0.01, total_iters=4)
    for _ in range(6):
        expected.append(other.param_groups[0]["lr"])
        other.step()
        scheduler.step()
    assert used == pytest.approx(expected)
    assert used[4:] == [0.3, 0.3]
    assert str(applied) == "the learning rate grows from 0.01 of itself over the first 4 steps"
    applied.undo()


def test_a_lower_rate_cures_a_training_that_diverges() -> None:
    """And the recorder notes the rate that was used, at every step."""
    sick, model = network(), network()
    sick_losses = train(sick, SGD(sick.parameters(), lr=5.0), 60)
    optimizer = SGD(model.parameters(), lr=5.0)
    applied = remedies()["lower-learning-rate"].apply(model, optimizer, factor=0.01)
    losses = train(model, optimizer, 60)
    applied.undo()
    assert not sick_losses[-1] < 3
    assert losses[-1] < 0.5


@pytest.mark.parametrize("every", [1, 1000])
def test_the_rate_that_is_recorded_is_the_one_that_was_used(tmp_path: Path, every: int) -> None:
    """Global hooks wrap the optimizer's own, through which the recorder reads the rate."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.5)
    applied = remedies()["warmup"].apply(model, optimizer, steps=4)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=every) as scope:
        train(model, optimizer)
    del scope
    applied.undo()
    rates = read_run(tmp_path / "run").learning_rates
    assert rates[:, 0].tolist() == pytest.approx([0.005, 0.12875, 0.2525, 0.37625, 0.5, 0.5])


class Chooses(SGD):
    """An optimizer without a learning rate in its groups."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.param_groups[0]["lr"] = None


@pytest.mark.parametrize("identity", ["lower-learning-rate", "raise-learning-rate", "warmup"])
def test_a_rate_that_is_not_there_cannot_be_scaled(identity: str) -> None:
    """Adafactor without a rate chooses one itself."""
    model = network()
    with pytest.raises(NotApplicable, match="Chooses has no learning rate in its groups; it chooses one itself"):
        remedies()[identity].apply(model, Chooses(model.parameters()))


# clipping


def test_clipping_is_torchs_own() -> None:
    """Bit for bit what `clip_grad_norm_` before the step does."""
    model, reference = network(), network()
    optimizer, other = (SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (model, reference))
    applied = remedies()["gradient-clipping"].apply(model, optimizer, bound=0.05)
    train(model, optimizer)
    applied.undo()
    for step in range(6):
        x, y = batch(step)
        other.zero_grad()
        nn.functional.mse_loss(reference(x), y).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        other.step()
    assert same(weights(model), weights(reference))
    assert str(applied) == "the gradient norm is bounded by 0.05 before each step"


def test_clipping_keeps_an_exploding_training_alive() -> None:
    """Targets in the thousands blow a plain SGD up; with bounded gradients it goes on."""
    losses = {}
    for bound in (math.inf, 1.0):
        model = network()
        optimizer = SGD(model.parameters(), lr=0.05)
        applied = remedies()["gradient-clipping"].apply(model, optimizer, bound=bound)
        losses[bound] = train(model, optimizer, 40, scale=1e5)
        applied.undo()
    assert not losses[math.inf][-1] < losses[math.inf][0]
    assert losses[1.0][-1] < 0.5 * losses[1.0][0]


def test_clipping_reaches_the_gradients_of_a_closure() -> None:
    """They are made inside of the step, and clipped before it uses them."""
    model = network()
    optimizer = SGD(model.parameters(), lr=1.0)
    before = weights(model)
    applied = remedies()["gradient-clipping"].apply(model, optimizer, bound=0.01)

    def closure() -> torch.Tensor:
        x, y = batch(0)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for call in (lambda: optimizer.step(closure), lambda: optimizer.step(closure=closure)):
        before = weights(model)
        assert isinstance(call(), torch.Tensor)
        moved = torch.cat([(a - b).flatten() for a, b in zip(weights(model), before, strict=True)])
        assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)
    applied.undo()


@pytest.mark.parametrize("fused", [False, True])
def test_clipping_bounds_what_a_scaler_has_unscaled(fused: bool) -> None:
    """Also where a fused optimizer unscales inside of its step."""
    model, reference = network(), network()
    optimizer, other = SGD(model.parameters(), lr=1.0, fused=fused), SGD(reference.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    applied = remedies()["gradient-clipping"].apply(model, optimizer, bound=0.01)
    for step in range(3):
        x, y = batch(step)
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        other.zero_grad()
        nn.functional.mse_loss(reference(x), y).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.01)
        other.step()
    applied.undo()
    for mine, its in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


def test_lbfgs_is_not_clipped() -> None:
    """It evaluates inside of its step."""
    model = network()
    with pytest.raises(NotApplicable, match="LBFGS evaluates the loss several times inside of a step"):
        remedies()["gradient-clipping"].apply(model, torch.optim.LBFGS(model.parameters()))


@pytest.mark.parametrize("identity", ["gradient-clipping", "optimizer-swap"])
def test_sparse_gradients_are_left_alone(identity: str) -> None:
    """Neither their norm nor Adam takes them."""
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 1))
    with pytest.raises(NotApplicable, match="an embedding has sparse gradients"):
        remedies()[identity].apply(model, SGD(model.parameters(), lr=0.1))


# another optimizer


SCHEDULERS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler] | None] = {
    "no scheduler": None,
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 8),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=20),
}


@pytest.mark.parametrize("late", [False, True], ids=["scheduler before", "scheduler after"])
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())
def test_a_swapped_optimizer_is_adam(
    scheduler: Callable[[Optimizer], lr_scheduler.LRScheduler] | None, late: bool
) -> None:
    """The same object steps as a new Adam would, under the schedule's shape, whose wrapper around `step` works."""
    model, reference = network(), network()
    optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9)
    other = Adam(reference.parameters(), lr=0.01)
    calls: Counter[str] = Counter()
    optimizer.register_step_post_hook(lambda *_: calls.update(["own"]))
    schedule = None if scheduler is None or late else scheduler(optimizer)
    applied = remedies()["optimizer-swap"].apply(model, optimizer, rate=0.01)
    if scheduler is not None and late:
        schedule = scheduler(optimizer)
    its = None if scheduler is None else scheduler(other)
    if isinstance(its, lr_scheduler.OneCycleLR):  # max_lr is not relative to the rate that was given
        its = lr_scheduler.OneCycleLR(other := Adam(reference.parameters()), 0.01, total_steps=20, cycle_momentum=late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # schedulers warn where `step` is not their wrapper
        mine = train(model, optimizer, 6, schedule)
    assert mine == pytest.approx(train(reference, other, 6, its), rel=1e-4)
    assert type(optimizer) is Adam
    assert calls == {"own": 6}
    assert str(applied) == "SGD became Adam: learning rate 0.01, was 1; eps 1e-08"
    applied.undo()
    assert type(optimizer) is SGD


def test_a_swap_keeps_groups_and_forgets_momentum() -> None:
    """Ratios of rates and weight decay stay; the state begins anew, and comes back with undo."""
    model = network()
    groups = [{"params": model[0].parameters(), "weight_decay": 0.5}, {"params": model[2].parameters(), "lr": 0.2}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    train(model, optimizer, 2)
    state = kept(optimizer)["state"]
    applied = remedies()["optimizer-swap"].apply(model, optimizer, rate=0.02)
    used: list[list[float]] = []
    optimizer.register_step_pre_hook(lambda each, *_: used.append([group["lr"] for group in each.param_groups]))
    assert not optimizer.state
    train(model, optimizer, 1)
    assert used[0] == pytest.approx([0.01, 0.02])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0]
    applied.undo()
    assert kept(optimizer)["state"].keys() == state.keys()
    assert all(set(each) == {"momentum_buffer"} for each in optimizer.state.values())


def test_a_swap_trains_where_the_gradient_is_tiny() -> None:
    """SGD's steps shrink with a loss of 1e-8 times the size; Adam's do not."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    still = train(model, optimizer, 40, scale=1e-8)
    applied = remedies()["optimizer-swap"].apply(model, optimizer, rate=0.01, eps=1e-12)
    moving = train(model, optimizer, 80, scale=1e-8)
    applied.undo()
    assert min(still[-4:]) > 0.5 * still[0]
    assert moving[-1] < 0.2 * moving[0]


def test_adam_gets_a_lower_eps_and_nothing_else() -> None:
    """Where it rescales already only its eps can be the matter."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, eps=1.0)
    before = kept(optimizer)
    applied = remedies()["optimizer-swap"].apply(model, optimizer, eps=1e-10)
    assert (type(optimizer), optimizer.param_groups[0]["eps"], optimizer.param_groups[0]["lr"]) == (
        torch.optim.AdamW,
        1e-10,
        0.1,
    )
    assert str(applied) == "AdamW's eps is 1e-10, was 1"
    applied.undo()
    assert kept(optimizer) == before
    with pytest.raises(NotApplicable, match="the optimizer rescales its gradients as Adam does already"):
        remedies()["optimizer-swap"].apply(model, Adam(model.parameters()))


class Mine(SGD):
    """Somebody's own."""


def _with_another_step(model: nn.Module) -> Optimizer:
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.step = lambda closure=None: None  # type: ignore[method-assign,assignment]
    return optimizer


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda model: torch.optim.LBFGS(model.parameters()), "LBFGS chooses the length of its steps itself"),
        (lambda model: Mine(model.parameters(), lr=0.1), "Mine is no optimizer of torch.optim"),
        (_with_another_step, "somebody has put another `step` on this SGD"),
        (lambda model: SGD(model.half().parameters(), lr=0.1), "the weights are in float16, in which Adam's eps is 0"),
    ],
    ids=["LBFGS", "subclass", "own step", "float16"],
)
def test_what_cannot_be_swapped_says_why(make: Callable[[nn.Module], Optimizer], why: str) -> None:
    """And is left as it was."""
    model = network()
    optimizer = make(model)
    before = kept(optimizer)
    with pytest.raises(NotApplicable, match=f"^optimizer-swap: {why}"):
        remedies()["optimizer-swap"].apply(model, optimizer)
    assert kept(optimizer) == before


def test_accelerates_wrapper_is_seen_through() -> None:
    """torch's hooks are called by the optimizer inside of it."""
    accelerate = pytest.importorskip("accelerate")
    model, reference = network(), network()
    accelerator = accelerate.Accelerator(cpu=True)
    wrapped = accelerator.prepare(SGD(model.parameters(), lr=0.1))
    applied = [
        remedies()["lower-learning-rate"].apply(model, wrapped, factor=0.5),
        remedies()["gradient-clipping"].apply(model, wrapped, bound=0.01),
    ]
    train(model, wrapped)
    for each in applied:
        each.undo()
    other = SGD(reference.parameters(), lr=0.05)
    applied = [remedies()["gradient-clipping"].apply(reference, other, bound=0.01)]
    train(reference, other)
    applied[0].undo()
    assert same(weights(model), weights(reference))


# gradients that pile up, parameters that were forgotten


def test_zeroing_makes_each_step_of_its_own_gradient() -> None:
    """A loop that never zeroes trains as one that does."""
    model, reference = network(), network()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    applied = remedies()["zero-grad"].apply(model, optimizer)
    mine = train(model, optimizer, zero=False)
    assert all(torch.equal(each.grad, torch.zeros_like(each)) for each in model.parameters() if each.grad is not None)
    applied.undo()
    assert mine == train(reference, SGD(reference.parameters(), lr=0.1, momentum=0.9))


def test_gathering_gradients_before_a_step_stays() -> None:
    """Two backward passes before one step are both of it."""
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    applied = remedies()["zero-grad"].apply(model, optimizer)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(model[4].bias.grad.item()))  # type: ignore[union-attr]
    for _ in range(2):
        for _ in range(2):
            (model(torch.zeros(1, 4)).sum() * 0 + model[4].bias.sum()).backward()
        optimizer.step()
    applied.undo()
    assert seen == [2.0, 2.0]


def test_lbfgs_is_zeroed_before_each_evaluation() -> None:
    """Its closure runs several times inside of one step."""
    losses = []
    for forgets in (False, True):
        model = network()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
        applied = remedies()["zero-grad"].apply(model, optimizer) if forgets else Applied()

        def closure(
            model: nn.Module = model, optimizer: Optimizer = optimizer, forgets: bool = forgets
        ) -> torch.Tensor:
            x, y = batch(0)
            if not forgets:
                optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        losses.append([float(optimizer.step(closure).detach()) for _ in range(4)])  # type: ignore[arg-type,attr-defined]
        applied.undo()
    assert losses[0] == losses[1]


def test_forgotten_parameters_join_the_largest_group() -> None:
    """With its options; frozen ones do not."""
    model = network()
    model[4].bias.requires_grad_(False)
    groups = [{"params": [model[0].bias], "lr": 9.0}, {"params": [model[0].weight], "lr": 0.1}]
    optimizer = SGD(groups, lr=1.0, momentum=0.9)
    before = kept(optimizer)
    applied = remedies()["add-to-optimizer"].apply(model, optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 4]
    frozen = model[4].bias.detach().clone()
    numbers = weights(model[2])
    train(model, optimizer, 2)
    assert not same(weights(model[2]), numbers)
    assert torch.equal(model[4].bias, frozen)
    assert str(applied) == "3 parameters (80 numbers) are updated by SGD too"
    applied.undo()
    assert kept(optimizer)["groups"] == before["groups"]
    assert set(optimizer.state) == {model[0].weight, model[0].bias}


def test_names_of_parameters_go_with_them() -> None:
    """An optimizer that was built with names keeps them in step."""
    model = network()
    optimizer = SGD(list(model.named_parameters())[:2], lr=0.1)
    applied = remedies()["add-to-optimizer"].apply(model, optimizer)
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    optimizer.load_state_dict(optimizer.state_dict())
    applied.undo()
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "0.bias"]
    assert len(optimizer.param_groups[0]["params"]) == 2


def test_the_optimizer_that_updates_most_takes_them_in() -> None:
    """Of several; where nothing was forgotten there is nothing to do."""
    model = network()
    small, large = SGD(model[4].parameters(), lr=0.1), SGD(model[0].parameters(), lr=0.1)
    applied = remedies()["add-to-optimizer"].apply(model, [small, large])
    assert (len(small.param_groups[0]["params"]), len(large.param_groups[0]["params"])) == (2, 4)
    with pytest.raises(NotApplicable, match="the optimizer has every trainable parameter of the model"):
        remedies()["add-to-optimizer"].apply(model, [small, large])
    applied.undo()


# precision


class Recurrent(nn.Module):
    """What is given is a dictionary; with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 1)

    def forward(self, given: dict[str, torch.Tensor], *, scale: torch.Tensor) -> torch.Tensor:
        """One number a sequence."""
        output: torch.Tensor = self.head(self.norm(self.lstm(given["x"])[0][:, -1]))
        return output * scale


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_become_float32_and_come_back(dtype: torch.dtype) -> None:
    """The same objects, whatever the model is given; undo rounds to the very same numbers."""
    torch.manual_seed(0)
    model = Recurrent().to(dtype)
    optimizer = SGD(model.parameters(), lr=0.1)
    objects, before, buffers = list(model.parameters()), weights(model), [each.clone() for each in model.buffers()]
    hooks = len(model._forward_pre_hooks)
    applied = remedies()["loss-scaling"].apply(model, optimizer)
    assert {each.dtype for each in [*model.parameters(), *model.buffers()]} == {torch.float32, torch.int64}
    x, scale = torch.randn(3, 5, 4, dtype=dtype), torch.ones((), dtype=dtype)
    output = model({"x": x}, scale=scale)
    assert (output.dtype, x.dtype) == (torch.float32, dtype)
    applied.undo()
    assert all(one is other for one, other in zip(objects, model.parameters(), strict=True))
    assert {each.dtype for each in model.parameters()} == {dtype}
    assert same(weights(model), before)
    assert [each.dtype for each in model.buffers()] == [each.dtype for each in buffers]
    assert len(model._forward_pre_hooks) == hooks
    assert (
        str(applied)
        == f"{len(objects)} parameters, the buffers and the inputs are in float32, were in {str(dtype)[6:]}"
    )


def test_small_updates_are_kept_in_float32() -> None:
    """In bfloat16 a step of a thousandth of the weight is rounded away; the loop itself stays as it is."""
    ends = []
    for cured in (False, True):
        model = nn.Linear(1, 1, bias=False).bfloat16()
        nn.init.ones_(model.weight)
        optimizer = SGD(model.parameters(), lr=5e-4)
        applied = remedies()["loss-scaling"].apply(model, optimizer) if cured else Applied()
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(torch.ones(1, 1).bfloat16()), torch.zeros(1, 1).bfloat16()).backward()
            optimizer.step()
        ends.append(model.weight.item())
        applied.undo()
    assert ends[0] == 1.0
    assert ends[1] == pytest.approx(0.999**100, rel=1e-3)


def test_a_loss_under_autocast_is_not_scaled() -> None:
    """It would have to be scaled where the user calls backward."""
    with pytest.raises(NotApplicable, match=r"no weight is held in half precision; .*torch.amp.GradScaler"):
        remedies()["loss-scaling"].apply(network())


# doses


def finding(*evidence: Evidence) -> Finding:
    """Of steps that are too long."""
    return Finding(
        "learning-rate-too-high", "error", ("a",), 3, 7, "", evidence, (Cause("learning-rate-too-high", 0.9, ""),)
    )


def test_doses_are_what_the_code_says() -> None:
    """The tried number is the advised one."""
    run = by_hand({"a": 1e-5, "b": 1.0}, update={"a.weight": 5.0, "b.weight": 5.0}, loss=1.0)
    signals = Signals(run)
    doses = {identity: remedies()[identity].dose(finding(), signals) for identity in ALL}
    assert doses == {
        "gradient-clipping": {"bound": 1.0},
        "lower-learning-rate": {"factor": 0.002},
        "raise-learning-rate": {"factor": 10.0},
        "warmup": {"steps": 10},
        "optimizer-swap": {"rate": 0.03, "eps": 1e-8},  # all weights have rms 1
        "zero-grad": {},
        "add-to-optimizer": {},
    }
    assert "lr=2e-05" in remedies()["lower-learning-rate"].code(finding(), signals)
    still = replace(run, learning_rates=np.zeros_like(run.learning_rates))
    assert remedies()["raise-learning-rate"].dose(finding(), Signals(still)) == {"factor": 1.0, "instead_of_zero": 0.01}


@pytest.mark.parametrize(("steps", "warm"), [(8, 10), (90, 30), (3000, 100)])
def test_a_short_training_is_warmed_up_for_a_third_of_it(steps: int, warm: int) -> None:
    """100 steps at most."""
    run = by_hand({"a": 1.0}, steps=steps)
    assert remedies()["warmup"].dose(finding(), Signals(run)) == {"steps": warm}


def test_eps_is_chosen_below_what_adam_divides_by(tmp_path: Path) -> None:
    """Tiny gradients under Adam's usual eps: a lower one is found, and makes it learn."""
    losses, eps = [], 1e-8
    for number in range(2):
        model = network()
        optimizer = Adam(model.parameters(), lr=0.01, eps=eps)
        with gradscope.watch(model, optimizer, run_dir=tmp_path / str(number), every=1) as scope:
            losses.append(train(model, optimizer, 40, scale=1e-11))
        if not number:
            eps = remedies()["optimizer-swap"].dose(finding(), Signals(read_run(tmp_path / "0")))["eps"]
            assert 1e-16 <= eps <= 1e-12
        del scope
    assert losses[0][-1] > 0.5 * losses[0][0]
    assert losses[1][-1] < 0.5 * losses[1][0]


def test_an_optimizer_is_not_swapped_in_the_middle_of_its_step() -> None:
    """Where the forward runs in a closure of `step`, as in Lightning, the rest of that step would be another class's."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> float:
        with pytest.raises(NotApplicable, match="its step is running, as with a closure or in Lightning"):
            remedies()["optimizer-swap"].apply(model, optimizer)
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    assert type(optimizer) is torch.optim.SGD
    remedies()["optimizer-swap"].apply(model, optimizer).undo()
