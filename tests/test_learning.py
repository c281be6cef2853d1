"""The step in time: what is measured of optimizers and curvature, against closed forms, and the rules that read it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.catalogue import remedies, rules
from gradscope.recorder.schedule import FIRST_STEPS, Schedule
from gradscope.records import Finding, Run
from gradscope.signals import Signals
from gradscope.signals.adam import below_eps, largest_update, lone_spike, noise_update, normalised_rms
from gradscope.signals.curvature import Curvature
from gradscope.signals.decay import decay as measure_decay
from tests.trainings import Recurrent, ResNet, Training, Transformer, adam, digits, he, mlp, sgd, xavier

Gradient = Callable[[int], torch.Tensor]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Weight(nn.Module):
    """A vector of weights, times what is given: the gradient of the sum of its outputs is what was given."""

    def __init__(self, entries: int, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((entries,), start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def given(
    folder: Path,
    gradient: Gradient,
    optimizer: MakeOptimizer,
    steps: int,
    *,
    zero: bool = True,
    clip: float = 0.0,
    entries: int = 16,
) -> Signals:
    """A training whose gradient at each step is given."""
    model = Weight(entries)
    steps_with = optimizer([model.weight])
    with gradscope.watch(model, steps_with, run_dir=folder, every=1) as scope:
        for step in range(steps):
            scope.loss(model(gradient(step)).sum()).backward()
            if clip:
                nn.utils.clip_grad_norm_([model.weight], clip)
            steps_with.step()
            if zero:
                steps_with.zero_grad()
    return Signals(gradscope.read_run(folder))


def of_weight(signals: Signals, series: np.ndarray) -> np.ndarray:
    """The row of the only parameter."""
    row: np.ndarray = series[signals.parameters[0]]
    return row


class Quadratic(nn.Module):
    """½ Σ λ w²: gradient descent multiplies each w by 1 - ηλ."""

    def __init__(self, curvatures: list[float], start: float = 1.0) -> None:
        super().__init__()
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)
        self.weight = nn.Parameter(torch.full((len(curvatures),), start, dtype=torch.float64))

    def forward(self) -> torch.Tensor:
        return 0.5 * (self.curvatures * self.weight**2).sum()


def descend(
    folder: Path, curvatures: list[float], optimizer: MakeOptimizer, steps: int, every: int = 1
) -> tuple[Signals, Curvature]:
    """Goes down a quadratic."""
    model = Quadratic(curvatures)
    steps_with = optimizer([model.weight])
    with gradscope.watch(model, steps_with, run_dir=folder, every=every) as scope:
        for _ in range(steps):
            steps_with.zero_grad()
            scope.loss(model()).backward()
            steps_with.step()
    signals = Signals(gradscope.read_run(folder))
    return signals, Curvature(signals)


# theory


@pytest.mark.parametrize(("times", "loss"), [(2.0, 4.0), (255.0, 65025.0)])
def test_t19_curvature_grows_with_the_square_of_the_inputs(times: float, loss: float, tmp_path: Path) -> None:
    """T19: inputs c times as large have c² times the curvature, and a c² times smaller critical rate."""
    measured = []
    for number, scale in enumerate((1.0, times)):
        torch.manual_seed(0)
        model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
        x, y = scale * torch.randn(32, 3, dtype=torch.float64), torch.randn(32, 1, dtype=torch.float64)
        model.weight.data /= scale
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1 / scale**2)
        with gradscope.watch(model, optimizer, run_dir=tmp_path / str(number), every=1) as scope:
            for _ in range(3):
                optimizer.zero_grad()
                scope.loss(nn.MSELoss()(model(x), y)).backward()
                optimizer.step()
        measured.append(Curvature(Signals(gradscope.read_run(tmp_path / str(number)))))
    one, other = measured
    np.testing.assert_allclose(other.along_update[1:] / one.along_update[1:], loss, rtol=1e-5)
    np.testing.assert_allclose(one.critical_rate[1:] / other.critical_rate[1:], loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("curvature", "rate", "critical", "growth"),
    [(226.864, 0.01, 0.0088159, 1.26864), (3284.24, 0.5, 6.0897e-4, 1641.12)],
)
def test_t20_the_critical_rate_is_read_from_two_gradients(
    curvature: float, rate: float, critical: float, growth: float, tmp_path: Path
) -> None:
    """T20: beside flatter directions the steepest one's 2/λ is found within 10 %, and |1 - ηλ| is how a step grows."""
    steep = [curvature, 0.3 * curvature, 0.01 * curvature]
    signals, found = descend(tmp_path / "run", steep, lambda w: torch.optim.SGD(w, lr=rate), 6)
    assert found.critical_rate[-1] == pytest.approx(critical, rel=0.1)
    step = signals.norm("update")[signals.parameters[0]]
    assert step[-1] / step[-2] == pytest.approx(growth, rel=0.1)
    assert found.load[-1] == pytest.approx((1 + growth) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("options", "limit"),
    [({}, 2.0), ({"momentum": 0.9}, 3.8), ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8)],
    ids=["plain", "heavy ball", "Nesterov"],
)
@pytest.mark.parametrize("times", [0.97, 1.03])
def test_t20_the_critical_rate_is_where_a_quadratic_begins_to_grow(
    options: dict[str, float | bool], limit: float, times: float, tmp_path: Path
) -> None:
    """T20: 3 % above the reported critical rate the weights grow, 3 % below they shrink; the load says which."""
    rate = times * limit / 7.0

    def optimizer(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(weights, lr=rate, **options)  # type: ignore[arg-type]

    signals, found = descend(tmp_path / "run", [7.0], optimizer, 400)
    assert found.critical_rate[5] == pytest.approx(limit / 7.0, rel=1e-6)
    assert found.load[5] == pytest.approx(times, rel=1e-6)
    weight = of_weight(signals, signals.norm("weight"))
    assert (weight[-1] > weight[0]) == (times > 1)


@pytest.mark.parametrize("times", [0.9, 1.1])
def test_t20_adam_is_stable_up_to_38_over_the_rate(times: float, tmp_path: Path) -> None:
    """T20: with a second moment that hardly moves, the curvature over √v is critical at (2 + 2β1) / (1 - β1) / η."""

    def optimizer(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        made = torch.optim.Adam(weights, lr=times * 38 * 3.0 / 7.0, betas=(0.9, 1 - 1e-12), eps=1e-30)
        second = torch.full_like(weights[0], 9.0)
        made.state[weights[0]] = {"step": torch.tensor(1e15), "exp_avg": torch.zeros(1).double(), "exp_avg_sq": second}
        return made

    signals, found = descend(tmp_path / "run", [7.0], optimizer, 100)
    assert found.load[5] == pytest.approx(times, rel=1e-3)
    weight = of_weight(signals, signals.norm("weight"))
    assert (weight[20:].max() > 100 * weight[0]) == (times > 1)  # until v has grown as well


def test_noise_alone_is_half_of_the_critical_rate(tmp_path: Path) -> None:
    """Gradients that have nothing in common look like a curvature of 1 / η, below 2 / η; their cosine is 0."""
    torch.manual_seed(0)
    signals = given(
        tmp_path / "run", lambda _: torch.randn(1024), lambda w: torch.optim.SGD(w, lr=0.1), 8, entries=1024
    )
    found = Curvature(signals)
    np.testing.assert_allclose(found.load[1:], 0.5, atol=0.06)
    np.testing.assert_allclose(found.alignment[1:], 0.0, atol=0.12)


def adam_with() -> MakeOptimizer:
    """Makes Adam with a rate of 0.01 and an eps that never counts."""
    return lambda w: torch.optim.Adam(w, lr=0.01, eps=1e-30)


def test_t21_adams_first_step_and_a_constant_gradient_move_by_the_rate(tmp_path: Path) -> None:
    """T21: the update over the rate is 1 at the first step and at every one under a constant gradient."""
    signals = given(tmp_path / "run", lambda _: torch.full((16,), 3e-4), adam_with(), 20)
    np.testing.assert_allclose(of_weight(signals, signals.rms("update")) / 0.01, 1.0, rtol=1e-4)
    np.testing.assert_allclose(of_weight(signals, normalised_rms(signals))[1:], 1.0, rtol=1e-4)


def test_t21_noise_moves_adam_by_a_quarter_of_the_rate(tmp_path: Path) -> None:
    """T21: gradients without a mean give √((1 - β1) / (1 + β1)) = 0.229 of the rate."""
    torch.manual_seed(0)
    signals = given(tmp_path / "run", lambda _: torch.randn(1024), adam_with(), 400, entries=1024)
    late = of_weight(signals, signals.rms("update"))[-100:] / 0.01
    assert late.mean() == pytest.approx(noise_update(0.9), rel=0.03)


def test_t21_a_lone_spike_moves_adam_by_three_rates(tmp_path: Path) -> None:
    """T21: one gradient after many of 0 gives (1 - β1) / √(1 - β2) = 3.16; the supremum is 7.27, not that."""
    signals = given(
        tmp_path / "run",
        lambda step: torch.full((16,), 1.0 if step == 500 else 0.0),
        adam_with(),
        501,
    )
    bias = math.sqrt(1 - 0.999**501)  # of the second moment after so many steps; it is 1 after many more
    spike = of_weight(signals, signals.rms("update"))[-1] / 0.01
    assert spike == pytest.approx(bias * lone_spike(0.9, 0.999), rel=1e-3)
    assert largest_update(0.9, 0.999) == pytest.approx(7.2703, abs=1e-4)
    assert largest_update(0.9, 0.95) == pytest.approx(1.165, abs=1e-3)


def test_t22_a_constant_gradient_that_nobody_zeroes_grows_with_the_steps(tmp_path: Path) -> None:
    """T22: the t-th gradient is t times the first, the way gone is η g t (t + 1) / 2, the cosine is 1."""
    signals = given(
        tmp_path / "run", lambda _: torch.full((16,), 2.0), lambda w: torch.optim.SGD(w, lr=0.1), 10, zero=False
    )
    count = np.arange(1, 11)
    np.testing.assert_allclose(of_weight(signals, signals.rms("gradient")), 2.0 * count, rtol=1e-6)
    way = np.cumsum(of_weight(signals, signals.rms("update")))
    np.testing.assert_allclose(way, 0.1 * 2.0 * count * (count + 1) / 2, rtol=1e-5)
    np.testing.assert_allclose(Curvature(signals).alignment[1:], 1.0, rtol=1e-6)
    np.testing.assert_allclose(signals.run.steps["carried"], (count - 1) / count, rtol=1e-5)


def test_t22_noise_that_nobody_zeroes_grows_with_the_root_of_the_steps(tmp_path: Path) -> None:
    """T22: of noise the t-th gradient is √t times the first, and the cosine between two goes to 1 as √(t / (t + 1))."""
    torch.manual_seed(0)
    signals = given(
        tmp_path / "run",
        lambda _: torch.randn(1024),
        lambda w: torch.optim.SGD(w, lr=0.1),
        30,
        zero=False,
        entries=1024,
    )
    count = np.arange(1, 31)
    np.testing.assert_allclose(of_weight(signals, signals.rms("gradient")), np.sqrt(count), rtol=0.12)
    np.testing.assert_allclose(Curvature(signals).alignment[1:], np.sqrt(count[:-1] / count[1:]), atol=0.04)


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_t23_clipping_bounds_the_norm_and_keeps_the_direction(bound: float, tmp_path: Path) -> None:
    """T23: the norm after clipping is min(‖g‖, c), and the step is along -g: <g, Δw> = -‖g‖ ‖Δw‖."""
    signals = given(tmp_path / "run", lambda _: torch.arange(16.0), lambda w: torch.optim.SGD(w, lr=0.1), 3, clip=bound)
    norm = float(torch.arange(16.0).norm())
    np.testing.assert_allclose(signals.run.steps["gradient_norm"], norm, rtol=1e-6)
    np.testing.assert_allclose(signals.run.steps["clipped_gradient_norm"], min(norm, bound), rtol=1e-5)
    product = of_weight(signals, signals.values("update", "weight_dot"))
    np.testing.assert_allclose(product, -0.1 * min(norm, bound) ** 2, rtol=1e-4)


def test_t31_a_stale_second_moment_shows_at_the_step_before_the_update(tmp_path: Path) -> None:
    """T31: rms(g/√v) is 1 for gradients that stay as they are, and c where they become c times as large."""
    torch.manual_seed(0)
    signals = given(
        tmp_path / "run",
        lambda step: torch.randn(1024) * (8.0 if step >= 300 else 1.0),
        adam_with(),
        310,
        entries=1024,
    )
    rms = of_weight(signals, normalised_rms(signals))
    np.testing.assert_allclose(rms[200:300], 1.0, atol=0.12)
    assert rms[300] == pytest.approx(8.0, rel=0.1)


# what is recorded


def moments(folder: Path, optimizer: MakeOptimizer, steps: int = 3) -> tuple[Signals, list[dict[str, torch.Tensor]]]:
    """A training of one weight, and the optimizer's state before each step."""
    model = Weight(16)
    steps_with = optimizer([model.weight])
    before = []
    torch.manual_seed(0)
    with gradscope.watch(model, steps_with, run_dir=folder, every=1) as scope:
        for _ in range(steps):
            scope.loss(model(torch.randn(16)).sum()).backward()
            state = steps_with.state.get(model.weight, {})
            before.append({k: v.clone() for k, v in state.items() if isinstance(v, torch.Tensor)})
            steps_with.step()
            steps_with.zero_grad()
    return Signals(gradscope.read_run(folder)), before


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (lambda w: torch.optim.Adam(w), "exp_avg", "exp_avg_sq"),
        (lambda w: torch.optim.AdamW(w, foreach=True), "exp_avg", "exp_avg_sq"),
        (lambda w: torch.optim.Adam(w, fused=True), "exp_avg", "exp_avg_sq"),
        (lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9), "momentum_buffer", ""),
        (lambda w: torch.optim.RMSprop(w, momentum=0.9), "", "square_avg"),
        (lambda w: torch.optim.Adagrad(w), "", "sum"),
        (lambda w: torch.optim.SGD(w, lr=0.1), "", ""),
    ],
    ids=["Adam", "AdamW foreach", "Adam fused", "momentum", "RMSprop", "Adagrad", "SGD"],
)
def test_moments_are_those_of_before_the_step(make: MakeOptimizer, first: str, second: str, tmp_path: Path) -> None:
    """The optimizer's moments are recorded as they are before each step, and nothing where it has none."""
    signals, before = moments(tmp_path / "run", make)
    for quantity, name in (("first_moment", first), ("second_moment", second)):
        measured = of_weight(signals, signals.rms(quantity))
        expected = [float(state[name].square().mean().sqrt()) if name in state else math.nan for state in before]
        np.testing.assert_allclose(measured, expected, rtol=1e-5)


def test_a_normalised_gradient_leaves_out_what_has_no_second_moment(tmp_path: Path) -> None:
    """Entries that never had a gradient are 0 in g/√v, and the first step has no row: never Inf, never NaN."""
    only = torch.zeros(16)
    only[:4] = 1.0
    signals = given(tmp_path / "run", lambda step: only if step < 3 else torch.ones(16), adam_with(), 4)
    rms = of_weight(signals, normalised_rms(signals))
    assert math.isnan(rms[0])
    np.testing.assert_allclose(rms[1:], 0.5, rtol=1e-3)
    assert not signals.non_finite("normalised_gradient").any()


def test_a_change_of_the_gradient_needs_the_step_before(tmp_path: Path) -> None:
    """With every second step recorded no two gradients follow one another, and curvature is not known."""
    signals, found = descend(tmp_path / "run", [1.0], lambda w: torch.optim.SGD(w, lr=0.1), 8, every=2)
    assert np.isnan(signals.values("gradient_change", "sum_squares")).all()
    assert np.isnan(found.along_update).all()


def test_auto_records_pairs_of_steps() -> None:
    """Once a training lasts, full recordings come in pairs, both paid for beforehand: no step is recorded alone any more."""
    schedule, recorded = Schedule("auto", 0.03), []
    for step in range(8_000):
        wanted = schedule.wants(step)
        recorded.append(wanted)
        schedule.spent(total=0.01 + 0.02 * wanted, recorder=0.02 * wanted, recorded=wanted)
    later = np.flatnonzero(recorded)
    later = later[later >= 4_000]
    assert len(later) > 10
    assert set(np.diff(later)[::2] if later[1] == later[0] + 1 else np.diff(later)[1::2]) == {1}
    assert 0.02 * sum(recorded) < 0.03 * 0.01 * 8_000 + 0.02 * FIRST_STEPS


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_a_loss_scale_changes_no_product(scale: float, tmp_path: Path) -> None:
    """Under a gradient scaler <g, Δw>, the change of the gradient and g/√v are what they are without."""
    model = Quadratic([2.0, 5.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1.0)
    with gradscope.watch(model, optimizer, scaler=scaler if scale != 1.0 else None, run_dir=tmp_path, every=1) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(scope.loss(model())).backward()
            scaler.step(optimizer)
            scaler.update()
    signals = Signals(gradscope.read_run(tmp_path))
    gradient = of_weight(signals, signals.norm("gradient"))
    np.testing.assert_allclose(
        of_weight(signals, signals.values("update", "weight_dot")), -0.1 * gradient**2, rtol=1e-5
    )
    assert 2.0 < Curvature(signals).along_update[1] < 5.0


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zeroed_gradients_carry_nothing(set_to_none: bool, tmp_path: Path) -> None:
    """However gradients are zeroed, and however many micro-batches a step has, nothing is carried into it."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(4):
            for _ in range(3):
                scope.loss(model(torch.randn(8, 4)).square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)
    assert gradscope.read_run(tmp_path).steps["carried"].tolist() == [0.0] * 4


def test_the_other_networks_gradients_are_not_carried(tmp_path: Path) -> None:
    """A generator's pass leaves gradients in the discriminator; zeroed before its own pass they are no part of it."""
    generator, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.01) for part in (critic, generator)]
    with gradscope.watch(nn.ModuleList([generator, critic]), optimizers, run_dir=tmp_path, every=1) as scope:
        for _ in range(5):
            fake = generator(torch.randn(8, 4))
            optimizers[0].zero_grad()
            scope.loss(critic(fake.detach()).square().mean()).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            scope.loss(-critic(fake).mean()).backward()
            optimizers[1].step()
    carried = gradscope.read_run(tmp_path).steps["carried"]
    assert carried[np.isfinite(carried)].tolist() == [0.0] * int(np.isfinite(carried).sum())


# rules on real trainings


def found(run: Run, *identities: str) -> list[Finding]:
    """What these rules find in a run."""
    signals = Signals(run)
    return [
        finding
        for identity in identities
        if rules()[identity].applies(signals) is None
        for finding in rules()[identity].check(signals)
    ]


MINE = ("learning-rate-too-high", "learning-rate-too-low", "accumulating-gradient", "gradient-spike")


def after(run: Run, steps: int) -> Run:
    """The run as it was after so many steps."""
    return Run(
        run.info,
        run.steps[:steps],
        run.learning_rates[:steps],
        run.summaries[run.summaries["step"] < steps],
    )


TOO_HIGH = {
    "Adam 0.1": Training(lambda: mlp(3, nn.ReLU, he), adam(0.1)),
    "Adam 1": Training(lambda: mlp(3, nn.ReLU, he), adam(1.0)),
    "SGD 3": Training(lambda: mlp(3, nn.ReLU, he), sgd(3.0)),
    "SGD 10": Training(lambda: mlp(3, nn.ReLU, he), sgd(10.0)),
    "regression, SGD 1": Training(lambda: mlp(3, nn.ReLU, he, outputs=1), sgd(1.0), regress=1.0),
    "transformer, Adam 0.1": Training(Transformer, adam(0.1)),
    "LSTM, Adam 0.1": Training(Recurrent, adam(0.1)),
    "ResNet, SGD 10": Training(ResNet, sgd(10.0, 0.9)),
}
TOO_LOW = {
    "Adam 1e-5": Training(lambda: mlp(3, nn.ReLU, he), adam(1e-5)),
    "Adam 1e-6": Training(lambda: mlp(3, nn.ReLU, he), adam(1e-6)),
    "SGD 1e-4": Training(lambda: mlp(3, nn.ReLU, he), sgd(1e-4)),
    "SGD 1e-5": Training(lambda: mlp(3, nn.ReLU, he), sgd(1e-5)),
    "SGD 0": Training(lambda: mlp(3, nn.ReLU, he), sgd(0.0)),
    "transformer, Adam 1e-6": Training(Transformer, adam(1e-6)),
}
FINE = {
    "SGD 0.1": Training(lambda: mlp(3, nn.ReLU, he), sgd(0.1)),
    "momentum": Training(lambda: mlp(3, nn.ReLU, he), sgd(0.05, 0.9)),
    "Adam 1e-3": Training(lambda: mlp(3, nn.ReLU, he), adam(1e-3)),
    "Adam 1e-4": Training(lambda: mlp(3, nn.ReLU, he), adam(1e-4)),
    "Adam 3e-3": Training(lambda: mlp(3, nn.ReLU, he), adam(3e-3)),
    "ResNet, SGD 0.1": Training(ResNet, sgd(0.1, 0.9)),
    "transformer": Training(Transformer, adam(1e-3)),
    "tanh, 20 layers": Training(lambda: mlp(20, nn.Tanh, xavier), sgd(0.02)),
}


@pytest.mark.parametrize("name", TOO_HIGH)
@pytest.mark.parametrize("seed", [0, 1])
def test_rates_that_are_too_high_are_found(name: str, seed: int, tmp_path: Path) -> None:
    """The steps are said to be too long, the learning rate to be the cause, and a lower one to be the cure."""
    (finding,) = found(TOO_HIGH[name].record(tmp_path / "run", 200, seed=seed), "learning-rate-too-high")
    assert finding.severity in ("warning", "error")
    assert finding.causes[0].id == "learning-rate-too-high"
    assert finding.first_step <= 30 or finding.evidence[0].name == "rise of the loss"
    assert finding.layers
    best = max(remedies().values(), key=lambda remedy: remedy.suits(finding))
    assert best.id == "lower-learning-rate"


@pytest.mark.parametrize("name", TOO_LOW)
@pytest.mark.parametrize("seed", [0, 1])
def test_rates_that_are_too_low_are_found(name: str, seed: int, tmp_path: Path) -> None:
    """The steps are said to be too short, and a higher learning rate to be the cure; not before a hundred of them."""
    run = TOO_LOW[name].record(tmp_path / "run", 200, seed=seed)
    (finding,) = found(run, "learning-rate-too-low")
    assert finding.severity in ("warning", "error")
    assert finding.causes[0].id == "learning-rate-too-low"
    assert max(remedies().values(), key=lambda remedy: remedy.suits(finding)).id == "raise-learning-rate"
    assert found(after(run, 50), *MINE) == []


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("seed", [0, 1])
def test_healthy_trainings_are_left_alone(name: str, seed: int, tmp_path: Path) -> None:
    """At the start, in the middle and when all is learned, nothing is said of a training that works."""
    run = FINE[name].record(tmp_path / "run", 400, seed=seed)
    assert [found(after(run, steps), *MINE) for steps in (10, 100, 200, 400)] == [[]] * 4


def classify(
    folder: Path,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    steps: int = 200,
    *,
    zero: bool = True,
    micro_batches: int = 1,
    divided: bool = True,
    batch: int = 64,
    schedule: Callable[[int], float] | None = None,
) -> Run:
    """A training on the digits with a loop of its own."""
    torch.manual_seed(0)
    model = mlp(3, nn.ReLU, he)
    steps_with, (images, labels) = optimizer(model), digits()
    rates = None if schedule is None else torch.optim.lr_scheduler.LambdaLR(steps_with, schedule)
    with gradscope.watch(model, steps_with, run_dir=folder) as scope:
        for _ in range(steps):
            if zero:
                steps_with.zero_grad()
            for _ in range(micro_batches):
                chosen = torch.randint(0, len(images), (batch,))
                loss = scope.loss(nn.CrossEntropyLoss()(model(images[chosen]), labels[chosen]))
                (loss / micro_batches if divided else loss).backward()
            steps_with.step()
            if rates is not None:
                rates.step()
    return gradscope.read_run(folder)


@pytest.mark.parametrize("optimizer", [sgd(0.1), sgd(0.01, 0.9), adam()], ids=["SGD", "momentum", "Adam"])
def test_gradients_that_nobody_zeroes_are_found(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path
) -> None:
    """They are found from the second step on, and are all that is said: what the loss does follows from them."""
    run = classify(tmp_path / "run", optimizer, zero=False)
    for steps in (10, 200):
        (finding,) = found(after(run, steps), *MINE)
        assert finding.rule == "accumulating-gradient"
        assert finding.first_step == 1
        assert finding.causes[0].id == "gradient-not-zeroed"
        assert max(remedies().values(), key=lambda remedy: remedy.suits(finding)).id == "zero-grad"


def test_micro_batches_are_no_sickness_unless_they_are_summed(tmp_path: Path) -> None:
    """H27: eight micro-batches a step are healthy; 64 that nobody divides make steps too long, and are the cause."""
    assert found(classify(tmp_path / "mean", sgd(0.1), 100, micro_batches=8, batch=16), *MINE) == []
    run = classify(tmp_path / "sum", sgd(0.1), 60, micro_batches=64, divided=False, batch=16)
    (finding,) = found(run, *MINE)
    assert (finding.rule, finding.causes[0].id) == ("learning-rate-too-high", "loss-reduction")


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (sgd(0.1), lambda step: min(1.0, (step + 1) / 300)),
        (sgd(0.1), lambda step: 0.5 * (1 + math.cos(math.pi * min(step / 300, 1.0)))),
        (sgd(0.2), lambda step: 0.05 + 0.95 * abs(step % 100 - 50) / 50),
        (adam(), lambda step: min(1.0, (step + 1) / 300)),
    ],
    ids=["warm-up", "cosine", "cyclic", "Adam, warm-up"],
)
def test_schedules_are_left_alone(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer], schedule: Callable[[int], float], tmp_path: Path
) -> None:
    """H26: neither the tiny steps of a warm-up nor those at a schedule's end are said to be too short."""
    run = classify(tmp_path / "run", optimizer, 300, schedule=schedule)
    assert [found(after(run, steps), *MINE) for steps in (10, 150, 300)] == [[]] * 3


def test_tiny_batches_are_left_alone(tmp_path: Path) -> None:
    """H40: the noise of batches of four is no oscillation."""
    run = classify(tmp_path / "run", sgd(0.01), 600, batch=4)
    assert [found(after(run, steps), *MINE) for steps in (10, 300, 600)] == [[]] * 3


def test_an_eps_above_the_second_moment_is_said_to_be_the_reason(tmp_path: Path) -> None:
    """Adam with an eps of 1 works as SGD; the share of entries that it rules is measured, and the cure is another eps."""
    run = classify(tmp_path / "run", lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, eps=1.0), 450)
    signals = Signals(run)
    share = below_eps(signals)
    assert np.nanmin(share[1:]) > 0.95
    (finding,) = found(run, *MINE)
    assert finding.rule == "learning-rate-too-low"
    assert "eps 1.00 is larger than √v" in finding.causes[0].explanation
    best = max(remedies().values(), key=lambda remedy: remedy.suits(finding))
    assert best.id == "optimizer-swap"
    assert "eps=1e-8" in best.advice(finding, signals).code


def test_the_usual_eps_rules_nothing(tmp_path: Path) -> None:
    """With an eps of 1e-8 hardly an entry's √v lies below it."""
    share = below_eps(Signals(classify(tmp_path / "run", adam(), 20)))
    assert np.nanmax(share) < 0.05


def test_a_lower_rate_is_taken_from_what_was_measured_before_the_leap(tmp_path: Path) -> None:
    """The rate that is advised is that of the steps until the trouble began, and below the critical one."""
    run = TOO_HIGH["SGD 10"].record(tmp_path / "run", 100)
    (finding,) = found(run, "learning-rate-too-high")
    evidence = {each.name.split(",")[0]: each.value for each in finding.evidence}
    assert evidence["learning rate over the critical one"] > 1
    code = remedies()["lower-learning-rate"].advice(finding, Signals(run)).code
    rate = float(code.rpartition("lr=")[2].rstrip(")"))
    assert 0.001 < rate < min(1.0, evidence["critical learning rate"])


@pytest.mark.parametrize("every", [1, "auto"])
@pytest.mark.parametrize("times", [1, 4])
def test_spikes_that_cost_what_was_learned_are_found(every: int | str, times: int, tmp_path: Path) -> None:
    """Inputs that are 100 times too large throw the weights: four such batches are found, one that is made good is not."""
    torch.manual_seed(0)
    model, (images, labels) = mlp(3, nn.ReLU, he), digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=every) as scope:  # type: ignore[arg-type]
        for step in range(600):
            chosen = torch.randint(0, len(images), (64,))
            size = 100.0 if step in range(150, 150 + 100 * times, 100) else 1.0
            optimizer.zero_grad()
            loss = scope.loss(nn.CrossEntropyLoss()(model(size * images[chosen]), labels[chosen]))
            loss.backward()
            optimizer.step()
    findings = found(gradscope.read_run(tmp_path), "gradient-spike")
    assert len(findings) == (times > 1)
    for finding in findings:
        assert finding.causes[0].id == "no-clipping"
        assert 145 <= finding.first_step <= 155


# weight decay


@pytest.mark.parametrize("by", ["optimizer", "loss"])
@pytest.mark.parametrize("strength", [0.4, 5e-4])
def test_a_decay_that_holds_the_weights_small_is_found(by: str, strength: float, tmp_path: Path) -> None:
    """Where weights shrink and the loss stays high a decay is blamed, SGD's or the loss's own; a usual one is not."""
    torch.manual_seed(0)
    model, (images, labels) = mlp(2, nn.ReLU, he), digits()
    decay = strength if by == "optimizer" else 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
    with gradscope.watch(model, optimizer, run_dir=tmp_path) as scope:
        for _ in range(250):
            chosen = torch.randint(0, len(images), (64,))
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(model(images[chosen]), labels[chosen])
            if by == "loss":
                loss = loss + strength / 2 * sum(each.square().sum() for each in model.parameters())
            scope.loss(loss).backward()
            optimizer.step()
    run = gradscope.read_run(tmp_path)
    findings = found(run, "loss-stalled")
    assert len(findings) == (strength > 0.1)
    for finding in findings:
        assert finding.causes[0].id == "regularization-too-strong"
    if strength > 0.1:
        measured = measure_decay(Signals(run))
        assert measured is not None
        assert measured.by == by
        assert measured.strength == pytest.approx(strength, rel=0.1)


def test_decay_beside_what_the_data_do(tmp_path: Path) -> None:
    """16 weights of 1 at λ = 0.1 are pulled as hard as gradients of ±0.1 push: a share of one half, λ/2 · 16 of penalty."""
    model = nn.Linear(16, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, weight_decay=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            scope.loss(model(torch.tensor([0.1, -0.1]).repeat(8)[None]).sum()).backward()
            optimizer.step()
    measured = measure_decay(Signals(gradscope.read_run(tmp_path)))
    assert measured is not None
    assert (measured.by, measured.strength) == ("optimizer", 0.1)
    assert measured.share == pytest.approx(0.5)
    assert measured.left == pytest.approx(1.0)
    assert measured.penalty == pytest.approx(0.1 / 2 * 16)
