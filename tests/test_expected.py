"""What theory expects of fresh models, beside what is measured on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradscope.rules.handwritten import run
from gradscope.signals import Signals
from gradscope.signals.expected import expected
from gradscope.signals.gaussian import let_through, moments, shared
from gradscope.signals.mechanisms import WORKING_DECADES
from tests.theory import Residual, gauss, measure

WIDTH, SAMPLES = 256, 128
# Decades by which a layer of finite width differs from an infinitely wide one: the log of a norm wanders by about
# 1/√width a layer, and He's ReLU nets by the most.
WITHIN, A_LAYER = 0.06, 0.012


def fresh(model: nn.Module, folder: Path, inputs: Tensor) -> Signals:
    """One recorded step of a model, with a random gradient at its output."""
    return measure(folder / "run", model, draws=1, inputs=lambda: inputs)


def mlp(
    activation: Callable[[], nn.Module], depth: int = 10, init: Callable[[Tensor], object] | None = None
) -> nn.Sequential:
    """A chain of layers with torch's own initialization, or another."""
    torch.manual_seed(0)
    layers = [(nn.Linear(WIDTH, WIDTH), activation()) for _ in range(depth)]
    model = nn.Sequential(*itertools.chain(*layers), nn.Linear(WIDTH, WIDTH))
    for module in model:
        if init is not None and isinstance(module, nn.Linear):
            init(module.weight)
            nn.init.zeros_(module.bias)
    return model


def vectors() -> Tensor:
    """Inputs of variance 1."""
    return torch.randn(SAMPLES, WIDTH, generator=torch.Generator().manual_seed(1))


def he(weight: Tensor) -> Tensor:
    """He et al. 2015."""
    return nn.init.kaiming_normal_(weight)


def gaps(signals: Signals) -> tuple[np.ndarray, np.ndarray]:
    """Measured less expected decades of the layers, backward and forward."""
    found, layers = expected(signals), signals.layers
    with np.errstate(invalid="ignore", divide="ignore"):
        backward = np.log10(signals.unpooled_gain[layers, 0]) - found.backward[layers]
        forward = np.log10(signals.forward_gain[layers, 0]) - found.forward[layers]
    return backward, forward


def assert_close(signals: Signals, times: float = 1.0) -> None:
    """No layer is farther from theory than its distance from where the gain is 1 allows."""
    backward, forward = gaps(signals)
    away = np.arange(len(backward))
    allowed = times * (WITHIN + A_LAYER * away)
    assert (np.abs(forward) <= allowed).all(), np.round(forward, 3)
    assert (np.abs(backward) <= allowed[::-1]).all(), np.round(backward, 3)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tanh, Xavier": lambda: mlp(nn.Tanh, init=nn.init.xavier_normal_),
    "ReLU, He": lambda: mlp(nn.ReLU, init=he),
    "sigmoid, torch's own": lambda: mlp(nn.Sigmoid),
    "ReLU, torch's own": lambda: mlp(nn.ReLU),
    "LeakyReLU, torch's own": lambda: mlp(lambda: nn.LeakyReLU(0.3)),
    "GELU, torch's own": lambda: mlp(nn.GELU),
    "SELU, LeCun": lambda: mlp(nn.SELU, init=lambda weight: nn.init.normal_(weight, std=WIDTH**-0.5)),
    "ReLU, 50 times too large": lambda: mlp(nn.ReLU, init=lambda weight: nn.init.normal_(weight, std=1.0)),
    "sigmoid, too large": lambda: mlp(nn.Sigmoid, init=lambda weight: nn.init.normal_(weight, std=1.0)),
    "dropout": lambda: mlp(lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.3))),
    "BatchNorm": lambda: mlp(lambda: nn.Sequential(nn.BatchNorm1d(WIDTH), nn.ReLU())),
    "LayerNorm": lambda: mlp(lambda: nn.Sequential(nn.LayerNorm(WIDTH), nn.Tanh())),
    "LayerNorm behind ReLU": lambda: mlp(lambda: nn.Sequential(nn.ReLU(), nn.LayerNorm(WIDTH))),
    "RMSNorm": lambda: mlp(lambda: nn.Sequential(nn.RMSNorm(WIDTH), nn.SiLU())),
    "skip connections": lambda: nn.Sequential(
        nn.Linear(WIDTH, WIDTH),
        *(Residual(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(6)),
        nn.Linear(WIDTH, WIDTH),
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_fresh_models_are_as_theory_expects(model: Callable[[], nn.Module], tmp_path: Path) -> None:
    """The expected gains of every layer are the measured ones, within 0.06 decades and 0.012 more a layer on the way."""
    torch.manual_seed(0)
    signals = fresh(model(), tmp_path, vectors())
    assert expected(signals).missing == ""
    assert_close(signals)


def test_activations_that_are_functions_count(tmp_path: Path) -> None:
    """A model that calls torch.tanh and reshapes between its layers is expected like one of modules."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.first(x)).unsqueeze(1)
            out: Tensor = self.last(torch.sigmoid(self.second(x.squeeze(1))))
            return out

    torch.manual_seed(0)
    signals = fresh(Net(), tmp_path, vectors())
    assert expected(signals).missing == ""
    assert_close(signals)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_takes_zeros_from_beyond_the_edges(stride: int, tmp_path: Path) -> None:
    """Padding makes a convolution pass on less than fan_in · E[w²], the more the smaller the image is."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(64, 64, 3, stride=stride if n == 1 else 1, padding=1) for n in range(4)]
    chain = itertools.chain(*((layer, nn.ReLU()) for layer in layers))
    size = 8 // stride
    model = nn.Sequential(*chain, nn.Flatten(), nn.Linear(64 * size * size, 64))
    signals = fresh(model, tmp_path, torch.randn(64, 64, 8, 8))
    assert expected(signals).missing == ""
    assert_close(signals)


def test_where_no_closed_form_is_known_there_are_gaps(tmp_path: Path) -> None:
    """Attention is not expected: the layers before it have no backward gain, those behind it no forward gain."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(32, 32), nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), nn.Tanh(), nn.Linear(32, 8)
    )
    signals = fresh(model, tmp_path, torch.randn(8, 5, 32))
    found = expected(signals)
    first, last = signals.site("0"), signals.site("3")
    assert found.missing == "no closed form is known for layer 1"
    assert np.isnan(found.backward[first])
    assert np.isnan(found.forward[last])
    assert found.backward[last] == 0
    assert np.isfinite(found.forward[first])


def test_behind_a_normalisation_the_signal_is_known_again(tmp_path: Path) -> None:
    """Whatever a pooling gives, LayerNorm makes it one of size 1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.AvgPool1d(2), nn.LayerNorm(128), nn.Linear(128, 64))
    signals = fresh(model, tmp_path, torch.randn(64, 64))
    found, layers = expected(signals), signals.layers
    assert np.isnan(found.forward[layers]).tolist() == [False, True, False, False]
    assert np.isnan(found.backward[layers]).tolist() == [True, True, False, False]


def test_without_the_fresh_weights_nothing_is_expected() -> None:
    """A run that was not recorded from step 0, an empty one and one without numbers get a reason."""
    hand = Signals(run({"a": 1.0, "b": 1.0}, steps=3))
    assert expected(hand).missing == "no closed form is known for a"  # its weights have no fan-in
    hand.steps = hand.steps + 5
    assert "first step was not recorded" in expected(hand).missing
    nan = float("nan")
    assert np.isnan(expected(Signals(run({"a": nan, "b": nan}))).forward).all()


@pytest.mark.parametrize("kind", WORKING_DECADES)
def test_what_activations_let_through(kind: str) -> None:
    """At variance 1 the quadrature gives the known constants, from which the budget's verdicts are made."""
    assert np.log10(let_through(kind, "", 1.0)) / 2 == pytest.approx(WORKING_DECADES[kind], abs=6e-4)


@pytest.mark.parametrize("variance", [1e-8, 1e-2, 30.0, 1e6])
@pytest.mark.parametrize("kind", ["Tanh", "Sigmoid", "GELU", "SELU"])
def test_moments_are_those_of_a_fine_grid(kind: str, variance: float) -> None:
    """E[φ], E[φ²] and E[φφ'] agree with torch's activation on 8,000 points, for tiny and for huge numbers."""
    phi = getattr(nn, kind)()

    def value(z: np.ndarray) -> np.ndarray:
        found: np.ndarray = phi(torch.from_numpy(z)).numpy()
        return found

    mean, square = moments(kind, "", variance)
    size = np.sqrt(square)
    assert mean == pytest.approx(gauss(value, variance), abs=2e-3 * size)
    assert square == pytest.approx(gauss(lambda z: value(z) ** 2, variance), rel=5e-3)
    assert shared(kind, "", variance, variance) == pytest.approx(square, rel=5e-3)
    assert shared(kind, "", variance, 0.0) == pytest.approx(mean**2, abs=5e-3 * square)


def test_numbers_that_are_none_give_none() -> None:
    """An unknown activation, no variance and an infinite one are NaN, never an error."""
    for kind, variance in (("Softmax", 1.0), ("Tanh", 0.0), ("Tanh", float("nan")), ("Tanh", float("inf"))):
        assert np.isnan(let_through(kind, "", variance))
        assert np.isnan(moments(kind, "", variance)).all()
        assert np.isnan(shared(kind, "", variance, 0.0))
