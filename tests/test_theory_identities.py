"""Rows T26 to T29 and T33: what holds exactly, at any width and at any moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Run
from gradscope.signals import Signals


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


def classifier() -> nn.Module:
    """A small network that treats each sample by itself."""
    torch.manual_seed(0)
    layers = (nn.Linear(8, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 3))
    return nn.Sequential(*layers).double()


def gradients(folder: Path, micro_batches: int, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Signals:
    """One step over the same 32 samples, in one piece or in several whose gradients add up."""
    model = classifier()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 8, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (32,), generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=folder, every=1):
        for x, y in zip(inputs.chunk(micro_batches), labels.chunk(micro_batches), strict=True):
            loss(model(x), y).backward()
        optimizer.step()
    return Signals(gradscope.read_run(folder))


FIELDS = ("sum_squares", "weight_dot", "sum", "minimum", "maximum")


def test_t27_micro_batches_average_to_the_whole_batch(tmp_path: Path) -> None:
    """T27: the mean of four micro-batches' mean gradients is the whole batch's gradient, number by number."""
    cross_entropy = nn.functional.cross_entropy
    whole = gradients(tmp_path / "whole", 1, cross_entropy)
    parts = gradients(tmp_path / "parts", 4, lambda output, labels: cross_entropy(output, labels) / 4)
    assert (whole.run.steps["backwards"][0], parts.run.steps["backwards"][0]) == (1, 4)
    for field in FIELDS:
        expected = whole.values("gradient", field)[whole.parameters, 0]
        np.testing.assert_allclose(
            parts.values("gradient", field)[parts.parameters, 0], expected, rtol=1e-9, atol=1e-15
        )


def test_t27_a_summed_loss_multiplies_the_gradient_by_the_batch(tmp_path: Path) -> None:
    """T27: summed instead of averaged, 32 samples give 32 times the gradient, and the same backward gains."""
    mean = gradients(tmp_path / "mean", 1, nn.functional.cross_entropy)
    total = gradients(tmp_path / "sum", 1, lambda o, y: nn.functional.cross_entropy(o, y, reduction="sum"))
    ratio = (total.norm("gradient") / mean.norm("gradient"))[mean.parameters, 0]
    np.testing.assert_allclose(ratio, 32, rtol=1e-9)
    np.testing.assert_allclose(total.backward_gain[total.modules], mean.backward_gain[mean.modules], rtol=1e-9)


@pytest.mark.parametrize(
    "norm", [lambda: nn.BatchNorm1d(12, eps=1e-30), lambda: nn.LayerNorm(12, eps=1e-30)], ids=["BatchNorm", "LayerNorm"]
)
def test_t28_weights_before_a_normalisation_have_no_scale(norm: Callable[[], nn.Module], tmp_path: Path) -> None:
    """T28: <w, ∂L/∂w> = 0 for weights that a normalisation follows, and w times c gets 1/c of the gradient."""
    norms, factors = [], [1.0, 3.0, 10.0]
    inputs = torch.randn(64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for factor in factors:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 12, bias=False), norm(), nn.ReLU(), nn.Linear(12, 3)).double()
        model[0].weight.data.mul_(factor)
        with gradscope.watch(model, run_dir=tmp_path / f"{factor}", every=1) as scope:
            nn.functional.cross_entropy(model(inputs), torch.arange(64) % 3).backward()
            scope.step()
        signals = Signals(gradscope.read_run(tmp_path / f"{factor}"))
        weight, other = (signals.site(path, "parameter") for path in ("0.weight", "3.weight"))
        norms.append(float(signals.norm("gradient")[weight, 0]))
        dot, size = signals.values("gradient", "weight_dot")[:, 0], signals.norm("weight")[:, 0]
        assert abs(dot[weight]) <= 1e-12 * size[weight] * norms[-1]
        assert abs(dot[other]) > 1e-3 * size[other] * signals.norm("gradient")[other, 0]
    assert np.array(norms) * factors == pytest.approx(norms[0], rel=1e-9)


def test_t28_weight_decay_and_normalisation_settle_at_a_turn_of_fixed_size(tmp_path: Path) -> None:
    """T28: ‖w‖² stands still where decay takes what the orthogonal step adds: then rms(Δw)/rms(w) = √(2ηλ)."""
    torch.manual_seed(0)
    rate, decay = 0.5, 0.04
    model = nn.Sequential(nn.Linear(8, 12, bias=False), nn.BatchNorm1d(12, affine=False), nn.ReLU(), nn.Linear(12, 3))
    model[3].requires_grad_(False)
    optimizer = torch.optim.SGD(model[0].parameters(), lr=rate, weight_decay=decay)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(200):
            optimizer.zero_grad()
            scope.loss(nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(3, (32,)))).backward()
            optimizer.step()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    turns = signals.update_ratio[signals.site("0.weight", "parameter"), 80:]
    assert math.sqrt((turns**2).mean()) == pytest.approx(math.sqrt(2 * rate * decay), rel=0.03)


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


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "random"])
def test_t33_units_that_start_alike_stay_alike(constant: bool, tmp_path: Path) -> None:
    """T33: with constant weights all units of a layer get the same gradient, at every step, and stay one unit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    if constant:
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.01)
    run = _train(model, torch.randn(48, 8, dtype=torch.float64), tmp_path / "run")
    signals = Signals(run)
    if constant:  # at first even nothing: equal weights times gradients that add up to 0 (T18)
        assert (signals.backward_gain[[signals.site("0"), signals.site("2")], 0] < 1e-14).all()
    for path in ("0.bias", "2.bias", "2.weight"):
        for quantity in ("gradient", "weight"):
            site = signals.site(path, "parameter")
            spread = (signals.values(quantity, "maximum") - signals.values(quantity, "minimum"))[site, 1:]
            assert ((spread <= 1e-6 * signals.rms(quantity)[site, 1:]) == constant).all()
    outputs = signals.site("4.bias", "parameter")
    assert (signals.values("gradient", "minimum") < signals.values("gradient", "maximum"))[outputs, 1:].all()
    first = [finding.causes[0].id for finding in diagnose(run).findings if finding.rule == "poor-initialization"]
    assert first == ["symmetric-init"] * constant
