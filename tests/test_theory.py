"""What GradScope measures, beside what theory says it must: THEORY.md, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Run
from gradscope.signals import Signals

WIDTH, INPUTS, DRAWS = 500, 64, 10
WITHIN = 0.02  # of a ratio: a wide-net law holds up to 1/√(width x inputs x draws)

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def gauss(function: Function, variance: float = 1.0) -> float:
    """E[f(z)] for z ~ N(0, variance), by quadrature on a grid fine enough for kinks."""
    z = np.linspace(-12, 12, 8_000)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(function(z * math.sqrt(variance)) * density, z))


def slope(activation: nn.Module) -> Function:
    """The derivative of an activation, from autograd."""

    def derivative(z: NDArray[np.float64]) -> NDArray[np.float64]:
        at = torch.from_numpy(z).requires_grad_()
        (slopes,) = torch.autograd.grad(activation(at).sum(), at)
        return slopes.numpy()

    return derivative


def value(activation: nn.Module) -> Function:
    """An activation as a function of numpy arrays."""
    return lambda z: activation(torch.from_numpy(z)).numpy()


def fixed_point(activation: nn.Module, weight_variance: float, bias_variance: float) -> tuple[float, float]:
    """Mean field: the variance q* of pre-activations that a deep network settles at, and χ1 = σw² E[φ'²] there."""
    q, phi = 1.0, value(activation)
    for _ in range(100):
        q = weight_variance * gauss(lambda z: phi(z) ** 2, q) + bias_variance
    return q, weight_variance * gauss(lambda z: slope(activation)(z) ** 2, q)


def draw(model: nn.Module, weight_variance: float, bias_variance: float = 0.0) -> None:
    """W ~ N(0, σw²/n_in), b ~ N(0, σb²), for every Linear of a model."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=math.sqrt(weight_variance / module.in_features))
            nn.init.normal_(module.bias, std=math.sqrt(bias_variance))


def measure(
    folder: Path,
    model: nn.Module,
    redraw: Callable[[nn.Module], object],
    *,
    draws: int = DRAWS,
    inputs: torch.Tensor | None = None,
) -> Signals:
    """One recorded step for each of several draws of the weights, with a random gradient at the output."""
    torch.manual_seed(0)
    with gradscope.watch(model, run_dir=folder, every=1) as scope:
        for _ in range(draws):
            redraw(model)
            fed = torch.randn(INPUTS, WIDTH) if inputs is None else inputs
            output = model(fed)
            output.backward(torch.randn_like(output))
            scope.step()
            model.zero_grad()
    return Signals(gradscope.read_run(folder))


def chain(depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """`depth` square layers, each followed by its activation."""
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(WIDTH, WIDTH), activation()) for _ in range(depth)), nn.Linear(WIDTH, WIDTH)
    )


def per_layer(signals: Signals, series: NDArray[np.float64], first: int, last: int) -> float:
    """The factor from one block's Linear to the next, as a geometric mean over draws and layers `first` to `last`."""
    ends = series[[signals.site(f"{first}.0"), signals.site(f"{last}.0")]]
    return float(np.exp(np.log(ends[1] / ends[0]).mean() / (last - first)))


def backward_ratio(signals: Signals, first: int, last: int) -> float:
    """ρ_b = ‖∂L/∂h_l‖ / ‖∂L/∂h_{l+1}‖."""
    return 1 / per_layer(signals, signals.backward_gain, first, last)


# T1, T2: ReLU


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


# T5, T8: mean field

TANH = [  # σw², σb², q*, χ1, √χ1 as published
    (1.0, 0.05, 0.1936, 0.7590, 0.8712),
    (1.3, 0.05, 0.3153, 0.8802, 0.9382),
    (2.0, 0.05, 0.7218, 1.0477, 1.0236),
    (4.0, 0.05, 2.195, 1.3424, 1.1586),
]


@pytest.mark.parametrize(("weight_variance", "bias_variance", "q", "chi", "ratio"), TANH)
def test_t5_deep_tanh_follows_mean_field(
    weight_variance: float, bias_variance: float, q: float, chi: float, ratio: float, tmp_path: Path
) -> None:
    """T5: pre-activations settle at q*, and each tanh layer passes on √χ1 of the gradient: order and chaos alike."""
    solved = fixed_point(nn.Tanh(), weight_variance, bias_variance)
    assert solved == pytest.approx((q, chi), rel=5e-4)
    assert math.sqrt(chi) == pytest.approx(ratio, abs=1e-4)
    signals = measure(tmp_path / "run", chain(12, nn.Tanh), lambda model: draw(model, weight_variance, bias_variance))
    assert backward_ratio(signals, 4, 11) == pytest.approx(ratio, rel=WITHIN)
    squares = signals.rms("activation")[[signals.site(f"{layer}.0") for layer in range(4, 12)]] ** 2
    assert squares.mean() == pytest.approx(q, rel=2 * WITHIN)


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
    signals = measure(tmp_path / "run", chain(8, nn.Sigmoid), lambda model: draw(model, weight_variance))
    assert backward_ratio(signals, 1, 7) == pytest.approx(ratio, rel=WITHIN)


# T10: BatchNorm


@pytest.mark.parametrize(
    ("activation", "ratio"),
    [(nn.ReLU, 1.21117), (nn.GELU, 1.1484), (nn.Tanh, 1.0853), (nn.Sigmoid, 1.0167), (nn.Identity, 1.0)],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_t10_batchnorm_stacks_grow_the_gradient(
    activation: Callable[[], nn.Module], ratio: float, tmp_path: Path
) -> None:
    """T10: Linear, BatchNorm, φ grows the gradient by √(E[φ'²]/Var φ) a layer: ReLU 1.21, identity 1."""
    phi = activation()
    mean = gauss(value(phi))
    variance = gauss(lambda z: (value(phi)(z) - mean) ** 2)
    solved = math.sqrt(gauss(lambda z: slope(phi)(z) ** 2) / variance)
    assert solved == pytest.approx(ratio, rel=5e-4)
    blocks = (nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), activation()) for _ in range(5))
    model = nn.Sequential(*blocks, nn.Linear(WIDTH, WIDTH))
    batch = torch.randn(1000, WIDTH, generator=torch.Generator().manual_seed(1))
    signals = measure(tmp_path / "run", model, lambda model: draw(model, 1.0), draws=3, inputs=batch)
    assert backward_ratio(signals, 1, 4) == pytest.approx(ratio, rel=WITHIN)


def test_t10_the_first_batchnorm_layer_passes_on_root_half(tmp_path: Path) -> None:
    """T10: with inputs of mean zero the first BatchNorm-ReLU block passes on √½, because its Linear divides nothing."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    batch = torch.randn(1000, WIDTH, requires_grad=True) * 1.0
    signals = measure(tmp_path / "run", model, lambda model: draw(model, 1.0), draws=1, inputs=batch)
    block = sum(float(signals.own_gain(signals.site(path))[0]) for path in ("0", "1", "2"))
    assert 10**block == pytest.approx(math.sqrt(0.5), rel=WITHIN)


# T15, T17: the loss side


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_t15_cross_entropy_at_the_start(classes: int, tmp_path: Path) -> None:
    """T15: with zero logits the loss is ln K, and each sample's gradient √((1-1/K)² + (K-1)/K²), over B for a mean."""
    model, criterion = nn.Linear(6, classes), nn.CrossEntropyLoss()
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    with gradscope.watch(model, run_dir=tmp_path / "run", every=1) as scope:
        scope.loss(criterion(model(torch.randn(INPUTS, 6)), torch.randint(classes, (INPUTS,)))).backward()
        scope.step()
    run = gradscope.read_run(tmp_path / "run")
    sample = math.sqrt((1 - 1 / classes) ** 2 + (classes - 1) / classes**2)
    assert run.steps["loss"][0] == pytest.approx(math.log(classes), rel=1e-5)
    assert Signals(run).head_norm[0] == pytest.approx(sample / math.sqrt(INPUTS), rel=1e-5)


def test_t17_a_softmax_over_one_unit_learns_nothing(tmp_path: Path) -> None:
    """T17: a one-unit softmax is 1 whatever it is fed: all gradients are exactly 0, and the gain is undefined, not 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1), nn.Softmax(dim=1))
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), nn.BCELoss()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(5):
            optimizer.zero_grad()
            scope.loss(criterion(model(torch.randn(16, 5)), torch.randint(2, (16, 1)).float())).backward()
            optimizer.step()
    run = gradscope.read_run(tmp_path / "run")
    signals, diagnosis = Signals(run), diagnose(run)
    assert signals.exactly_zero("gradient")[signals.parameters].all()
    assert (signals.head_norm == 0).all()
    assert np.isnan(signals.backward_gain[signals.modules[:-1]]).all()
    assert [missing.what for missing in diagnosis.not_observed] == ["backward gains"]
    (finding,) = diagnosis.findings
    assert (finding.rule, finding.severity) == ("untrained-parameter", "error")
    assert finding.layers == ("0", "2")
    assert finding.causes[0].id == "output-activation"


# T26: the best single test of hooks


@pytest.mark.parametrize("width", [10, 100], ids=["read whole", "sampled"])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_t26_weight_dot_gradient_is_the_same_in_every_layer(
    width: int, dtype: torch.dtype, within: float, tmp_path: Path
) -> None:
    """T26: in a ReLU network without biases <W_l, ∂L/∂W_l> = <f, ∂L/∂f> for every layer l."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU()) for _ in range(5)]
    model = nn.Sequential(*layers, nn.Linear(width, 3, bias=False)).to(dtype)
    with gradscope.watch(model, run_dir=tmp_path / "run", every=1) as scope:
        output = model(torch.randn(32, width, dtype=dtype))
        gradient = output.detach().clone()  # so that the product is no sum of numbers that cancel
        output.backward(gradient)
        scope.step()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    products = signals.values("gradient", "weight_dot")[signals.parameters, 0]
    expected = float((output.detach().double() * gradient.double()).sum())
    np.testing.assert_allclose(products, np.full(6, expected), rtol=within)


# T29: gradients that are zero by arithmetic


class KeyBias(nn.Module):
    """Attention of one head, with a bias for its keys."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        return self.head((scores.softmax(-1) @ self.value(x)).mean(1))


def _train(model: nn.Module, inputs: torch.Tensor, folder: Path) -> Run:
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.05), nn.CrossEntropyLoss()
    labels = torch.arange(len(inputs)) % 3
    with gradscope.watch(model, optimizer, run_dir=folder, every=1) as scope:
        for _ in range(6):
            optimizer.zero_grad()
            scope.loss(criterion(model(inputs), labels)).backward()
            optimizer.step()
    return gradscope.read_run(folder)


@pytest.mark.parametrize("case", ["a bias before BatchNorm", "the key bias of attention"])
def test_t29_what_arithmetic_cancels_is_no_sickness(case: str, tmp_path: Path) -> None:
    """T29: a bias before BatchNorm and the key bias of attention have gradient 0 up to rounding: nothing to flag."""
    torch.manual_seed(0)
    if case == "a bias before BatchNorm":
        model: nn.Module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        inputs, bias = torch.randn(48, 8, dtype=torch.float64), "0.bias"
    else:
        model, inputs, bias = KeyBias(), torch.randn(48, 5, 8, dtype=torch.float64), "key.bias"
    run = _train(model.double(), inputs, tmp_path / "run")
    signals = Signals(run)
    norm = signals.norm("gradient")
    weight = norm[signals.site(bias.replace("bias", "weight"), "parameter")]
    assert (norm[signals.site(bias, "parameter")] <= 1e-7 * weight).all()
    diagnosis = diagnose(run)
    assert (diagnosis.verdict, diagnosis.findings) == ("healthy", ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_t29_holds_in_packed_attention_too(dtype: torch.dtype, tmp_path: Path) -> None:
    """T29: torch's own attention, whose three biases are one parameter, is not flagged either."""
    torch.manual_seed(0)

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

    run = _train(Packed().to(dtype), torch.randn(48, 5, 8, dtype=dtype), tmp_path / "run")
    assert diagnose(run).findings == ()
