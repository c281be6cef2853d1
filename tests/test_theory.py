"""Rows T1 to T9 and T32: what one layer does, by its weights and its activation, to signal and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.theory import (
    WITHIN,
    at,
    backward_ratio,
    chain,
    contraction,
    draw,
    feed,
    fixed_point,
    gauss,
    measure,
    per_layer,
    slope,
    value,
    variance_after,
)


@pytest.mark.parametrize(
    ("init", "kept"),
    [
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), 1.0),
        (nn.init.xavier_normal_, 1 / 2),
        (lambda w: nn.init.xavier_normal_(w, gain=3.0), 9 / 2),
    ],
    ids=["He", "Glorot", "Glorot x3"],
)
def test_t1_a_relu_layer_keeps_half_the_weight_variance(
    init: Callable[[torch.Tensor], object], kept: float, tmp_path: Path
) -> None:
    """T1: with ReLU both ‖h‖² and the squared gradient change by σw²/2 a layer: He 1, Glorot 1/2, gain g: g²/2."""

    def redraw(model: nn.Module) -> None:
        draw(model, 1.0)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                init(module.weight)

    signals = measure(tmp_path / "run", chain(8, nn.ReLU), redraw)
    assert backward_ratio(signals, 0, 7) == pytest.approx(math.sqrt(kept), rel=WITHIN)
    assert per_layer(signals, signals.norm("activation"), 0, 7) == pytest.approx(math.sqrt(kept), rel=WITHIN)


def reset(model: nn.Module) -> None:
    """torch's default initialization."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()


def test_t2_torchs_default_passes_on_one_over_root_six_with_relu(tmp_path: Path) -> None:
    """T2: U(±1/√n) has variance 1/(3n), so a ReLU layer passes on 1/√6 of the gradient; 20 layers 1.65e-8."""
    signals = measure(tmp_path / "run", chain(20, nn.ReLU), reset)
    assert backward_ratio(signals, 0, 19) == pytest.approx(0.40825, rel=WITHIN)
    first = signals.backward_gain[signals.site("0.0")]
    assert np.exp(np.log(first).mean()) == pytest.approx(1.65e-8, rel=0.3)


def test_t2_torchs_default_passes_on_one_over_root_three_without_contraction(tmp_path: Path) -> None:
    """T2: where the activation is linear, so tanh of the tiny signals deep down, 1/√3 of the gradient is passed on."""
    signals = measure(tmp_path / "run", chain(8, nn.Identity), reset)
    assert backward_ratio(signals, 0, 7) == pytest.approx(1 / math.sqrt(3), rel=WITHIN)


@pytest.mark.parametrize(("width", "ratio", "draws"), [(5, 0.04564, 120), (64, 0.16330, 20), (128, 0.2309, 10)])
def test_t3_uniform_weights_of_fixed_range_depend_on_the_width(
    width: int, ratio: float, draws: int, tmp_path: Path
) -> None:
    """T3: Keras' RandomUniform(±.05) has variance .01/12 at any width n: a ReLU layer passes on √(n·.01/24)."""

    def redraw(model: nn.Module) -> None:
        draw(model, 0.0)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -0.05, 0.05)

    model = chain(3, nn.ReLU, width)
    signals = measure(tmp_path / "run", model, redraw, draws=draws, inputs=lambda: torch.randn(256, width))
    squares = (at(signals, signals.norm("activation_gradient"), "0.0", "3") ** 2).mean(1)  # narrow: no law for one draw
    assert math.sqrt(squares[0] / squares[1]) ** (1 / 3) == pytest.approx(ratio, rel=WITHIN)


def test_t4_half_of_all_relus_are_active_at_the_start(tmp_path: Path) -> None:
    """T4: symmetric weights without biases leave half of the ReLU outputs at exactly 0, and half of the slopes at 1."""
    signals = measure(tmp_path / "run", chain(4, nn.ReLU), lambda model: draw(model, 2.0), draws=5, exact=True)
    paths = [f"{layer}.1" for layer in range(4)]
    np.testing.assert_allclose(at(signals, signals.share("activation", "zeros"), *paths).mean(1), 0.5, atol=0.015)
    np.testing.assert_allclose(at(signals, signals.rms("slope"), *paths).mean(1) ** 2, 0.5, atol=0.015)


TANH = [  # σw², σb², q*, χ1, √χ1 and how deep a network may be, ξ = -1/ln χ1; the others are chaos
    (0.5, 0.05, 0.0876, 0.4320, 0.6573, 1.19),
    (1.0, 0.05, 0.1936, 0.7590, 0.8712, 3.63),
    (1.3, 0.05, 0.3153, 0.8802, 0.9382, 7.83),
    (1.7, 0.05, 0.5331, 0.9867, 0.9934, 74.9),
    (2.0, 0.05, 0.7218, 1.0477, 1.0236, math.inf),
    (2.5, 0.05, 1.064, 1.1335, 1.0647, math.inf),
    (4.0, 0.05, 2.195, 1.3424, 1.1586, math.inf),
    (1.5, 0.0, 0.2869, 1.0406, 1.0201, math.inf),
    (2.0, 0.0, 0.6180, 1.1055, 1.0514, math.inf),
    (4.0, 0.0, 2.121, 1.3627, 1.1673, math.inf),
]


@pytest.mark.parametrize(("weights", "biases", "q", "chi", "ratio", "length"), TANH)
def test_t5_deep_tanh_follows_mean_field(
    weights: float, biases: float, q: float, chi: float, ratio: float, length: float, tmp_path: Path
) -> None:
    """T5: pre-activations settle at q*, and each tanh layer passes on √χ1 of the gradient: order and chaos alike."""
    solved = fixed_point(nn.Tanh(), weights, biases)
    assert solved == pytest.approx((q, chi), rel=5e-4)
    assert math.sqrt(chi) == pytest.approx(ratio, abs=1e-4)
    assert (-1 / math.log(solved[1]) if chi < 1 else math.inf) == pytest.approx(length, rel=5e-3)
    start = math.sqrt((q - biases) / weights)  # inputs for which the first layer is at q* already
    signals = measure(
        tmp_path / "run",
        chain(10, nn.Tanh),
        lambda model: draw(model, weights, biases),
        draws=6,
        inputs=lambda: start * feed(),
    )
    assert backward_ratio(signals, 1, 9) == pytest.approx(ratio, rel=WITHIN)
    squares = at(signals, signals.rms("activation"), *(f"{layer}.0" for layer in range(10))) ** 2
    assert squares.mean() == pytest.approx(q, rel=2 * WITHIN)


def test_t6_between_order_and_chaos_the_gradient_is_kept(tmp_path: Path) -> None:
    """T6: with σb² = .05 tanh keeps the gradient's norm at σw² = 1.76, and nowhere else."""

    def solved(weights: float) -> float:
        return fixed_point(nn.Tanh(), weights, 0.05)[1]

    assert solved(1.76095) == pytest.approx(1, abs=1e-5)

    def growth(weights: float) -> float:
        folder = tmp_path / f"{weights}"
        return math.log(
            backward_ratio(measure(folder, chain(12, nn.Tanh), lambda model: draw(model, weights, 0.05)), 3, 11)
        )

    ordered, chaotic = growth(1.5), growth(2.0)
    assert ordered < 0 < chaotic
    assert 1.5 + 0.5 * ordered / (ordered - chaotic) == pytest.approx(1.76, rel=3 * WITHIN)


def test_t7_critical_tanh_loses_the_gradient_by_a_power_of_depth(tmp_path: Path) -> None:
    """T7: with σw = 1 and no biases q_l ≈ 1/(2l) and the squared gradient falls as 1/depth, not exponentially."""
    q = {0: 1.0}
    for layer in range(200):
        q[layer + 1] = variance_after(nn.Tanh(), 1.0, 0.0, q[layer])
    assert [2 * layer * q[layer] for layer in (20, 40, 200)] == pytest.approx([1.036, 1.025, 1.008], abs=1e-3)
    kept = {layer: contraction(nn.Tanh(), 1.0, q[layer]) for layer in range(8, 200)}
    for first, last in ((8, 32), (50, 200)):
        squared = math.prod(kept[layer] for layer in range(first, last))
        assert squared == pytest.approx(first / last, rel=0.06)

    width = 256
    signals = measure(
        tmp_path / "run",
        chain(32, nn.Tanh, width),
        lambda model: draw(model, 1.0),
        draws=24,
        inputs=lambda: torch.randn(16, width),
    )
    activations = (at(signals, signals.rms("activation"), "8.0", "16.0", "31.0") ** 2).mean(1)
    assert activations == pytest.approx([q[8], q[16], q[31]], rel=0.1)
    gradients = (at(signals, signals.norm("activation_gradient"), "8.0", "16.0", "31.0") ** 2).mean(1)
    # the head sees 32/33 of what a next layer would
    assert gradients[:2] / gradients[2] == pytest.approx([8 / 31, 16 / 31], rel=0.15)


@pytest.mark.parametrize(
    ("weight_variance", "q", "chi", "ratio"), [(2.0, 0.5553, 0.10098, 0.3178), (1.0, None, 0.05572, 0.2361)]
)
def test_t8_deep_sigmoid_contracts(
    weight_variance: float, q: float | None, chi: float, ratio: float, tmp_path: Path
) -> None:
    """T8: He-initialised sigmoids pass on 0.318 of the gradient, Glorot's 0.236: 11 layers leave 3.3e-6 of it."""
    solved_q, solved_chi = fixed_point(nn.Sigmoid(), weight_variance, 0.0)
    assert solved_q == pytest.approx(q or solved_q, rel=5e-4)
    assert solved_chi == pytest.approx(chi, rel=5e-4)
    signals = measure(tmp_path / "run", chain(8, nn.Sigmoid), lambda model: draw(model, weight_variance), draws=6)
    assert backward_ratio(signals, 1, 7) == pytest.approx(ratio, rel=WITHIN)


@pytest.mark.parametrize(
    ("activation", "z", "derivative"),
    [
        *((nn.Sigmoid, z, d) for z, d in ((0, 0.25), (2, 0.1050), (4, 0.01766), (5, 0.00665), (10, 4.54e-5))),
        *((nn.Tanh, z, d) for z, d in ((0, 1.0), (2, 0.07065), (4, 1.341e-3), (5, 1.816e-4))),
    ],
)
def test_t9_an_activation_passes_on_its_derivative(
    activation: Callable[[], nn.Module], z: float, derivative: float, tmp_path: Path
) -> None:
    """T9: fed the same z everywhere, an activation passes on φ'(z) of the gradient, its own gain and its units' slope."""
    (exact,) = slope(activation())(np.array([float(z)]))
    assert exact == pytest.approx(derivative, rel=1e-3)
    model = nn.Sequential(nn.Linear(6, 7), activation(), nn.Linear(7, 5)).double()
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[0].bias, z)
    signals = measure(tmp_path / "run", model, draws=1, inputs=lambda: torch.randn(8, 6, dtype=torch.float64))
    assert 10 ** signals.own_gain(signals.site("1"))[0] == pytest.approx(exact, rel=1e-9)
    assert signals.rms("slope")[signals.site("1"), 0] == pytest.approx(exact, rel=1e-5)


def test_t32_selu_holds_its_fixed_point(tmp_path: Path) -> None:
    """T32: with σw² = 1 SELU keeps mean 0 and E y² = 1; E φ'² = λ²(½ + α²e²Φ(-2)) = 1.0716, a slight growth."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    growth = scale**2 * (0.5 + alpha**2 * math.exp(2) * math.erfc(math.sqrt(2)) / 2)
    assert growth == pytest.approx(1.0716, abs=5e-5)
    assert gauss(lambda z: slope(nn.SELU())(z) ** 2) == pytest.approx(growth, rel=2e-3)  # its kink costs the grid this
    assert gauss(lambda z: value(nn.SELU())(z)) == pytest.approx(0, abs=1e-6)
    assert fixed_point(nn.SELU(), 1.0, 0.0)[0] == pytest.approx(1, rel=1e-6)

    signals = measure(tmp_path / "run", chain(10, nn.SELU), lambda model: draw(model, 1.0), draws=6)
    paths = [f"{layer}.1" for layer in range(10)]
    assert at(signals, signals.share("activation", "sum"), *paths).mean() == pytest.approx(0, abs=0.02)
    assert (at(signals, signals.rms("activation"), *paths) ** 2).mean() == pytest.approx(1, rel=2 * WITHIN)
    assert backward_ratio(signals, 0, 9) == pytest.approx(math.sqrt(growth), rel=WITHIN)
