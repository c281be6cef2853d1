"""Rows T10 to T14 and T30: what happens over many blocks, with normalisation, skip connections and attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.signals import Signals
from tests.theory import (
    WIDTH,
    WITHIN,
    Residual,
    at,
    backward_ratio,
    draw,
    gauss,
    measure,
    per_layer,
    slope,
    value,
)


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
    signals = measure(tmp_path / "run", model, lambda model: draw(model, 1.0), draws=2, inputs=lambda: batch)
    assert backward_ratio(signals, 1, 4) == pytest.approx(ratio, rel=WITHIN)


def test_t10_the_first_batchnorm_layer_passes_on_root_half(tmp_path: Path) -> None:
    """T10: with inputs of mean zero the first BatchNorm-ReLU block passes on √½, because its Linear divides nothing."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    signals = measure(
        tmp_path / "run",
        model,
        lambda model: draw(model, 1.0),
        draws=1,
        inputs=lambda: torch.randn(1000, WIDTH, requires_grad=True) * 1.0,
    )
    block = sum(float(signals.own_gain(signals.site(path))[0]) for path in ("0", "1", "2"))
    assert 10**block == pytest.approx(math.sqrt(0.5), rel=WITHIN)


@pytest.mark.parametrize("layers", [1, 2], ids=["one layer a branch", "two"])
def test_t11_skip_connections_without_norm_double_the_variance(layers: int, tmp_path: Path) -> None:
    """T11: He-initialised branches keep the variance of what they are fed, so each x + F(x) doubles it: 2^l."""
    blocks = []
    for _ in range(8):
        parts = [module for _ in range(layers) for module in (nn.ReLU(), nn.Linear(WIDTH, WIDTH))]
        blocks.append(Residual(*parts))
    model = nn.Sequential(*blocks, nn.Linear(WIDTH, WIDTH))
    signals = measure(tmp_path / "run", model, lambda model: draw(model, 2.0), draws=6)
    assert per_layer(signals, signals.rms("activation") ** 2, 0, 7, "{}") == pytest.approx(2, rel=2 * WITHIN)
    assert per_layer(signals, signals.backward_gain, 0, 7, "{}") ** -2 == pytest.approx(2, rel=2 * WITHIN)


def test_t12_batchnorm_in_the_branches_makes_the_variance_grow_by_one(tmp_path: Path) -> None:
    """T12: E x_l² = l + 1; of it 1 - 1/π a block is variance over the batch, by whose root BatchNorm divides a branch."""
    blocks = (Residual(nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(12))
    model = nn.Sequential(*blocks, nn.Linear(WIDTH, WIDTH))
    signals = measure(
        tmp_path / "run", model, lambda model: draw(model, 2.0), draws=4, inputs=lambda: torch.randn(256, WIDTH)
    )
    squares = (at(signals, signals.rms("activation"), *(str(block) for block in range(12))) ** 2).mean(1)
    depth = np.arange(1, 13)  # blocks behind each of these
    np.testing.assert_allclose(squares, 1 + depth, rtol=2 * WITHIN)
    assert np.polyfit(depth, squares, 1)[0] == pytest.approx(1, rel=2 * WITHIN)
    gains = [float(10 ** signals.own_gain(signals.site(f"{block}.branch.0")).mean()) for block in range(1, 12)]
    np.testing.assert_allclose(gains, (1 + (1 - 1 / math.pi) * depth[:-1]) ** -0.5, rtol=2 * WITHIN)


MODEL, TOKENS = 160, 16


def transformer(depth: int, *, pre: bool) -> nn.Sequential:
    """Blocks of single-head attention and a ReLU layer, with the normalisation before or after each."""
    blocks = (
        nn.TransformerEncoderLayer(MODEL, 1, MODEL, dropout=0.0, norm_first=pre, batch_first=True) for _ in range(depth)
    )
    return nn.Sequential(*blocks, *([nn.LayerNorm(MODEL)] if pre else []))


def uniform_attention(model: nn.Module) -> None:
    """The initialization of the theorem: zero queries and keys, all else N(0, 1/d)."""
    draw(model, 1.0)
    for block in model:
        if isinstance(block, nn.TransformerEncoderLayer):
            nn.init.zeros_(block.self_attn.in_proj_weight[: 2 * MODEL])
            nn.init.normal_(block.self_attn.in_proj_weight[2 * MODEL :], std=MODEL**-0.5)


def stream(depth: int) -> list[float]:
    """E‖x_l‖²/d of a pre-norm transformer at its start, l = 0 … depth, for independent tokens of variance 1."""
    square, shared, found = 1.0, 0.0, [1.0]  # E x_i² and E x_i x_j for two tokens
    for _ in range(depth):
        attended = 1 / TOKENS + (1 - 1 / TOKENS) * shared / square  # the mean over normalised tokens
        square, shared = square + attended, shared + attended
        angle = math.acos(min(1.0, shared / square))
        kernel = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi  # of ReLU features, Cho & Saul 2009
        square, shared = square + 1 / 2, shared + kernel / 2
        found.append(square)
    return found


def encode(folder: Path, depth: int, *, pre: bool) -> Signals:
    """A transformer of random weights, one step for each of 8 draws."""
    model = transformer(depth, pre=pre)
    return measure(folder, model, uniform_attention, draws=8, inputs=lambda: torch.randn(2, TOKENS, MODEL))


def test_t13_the_stream_of_a_pre_norm_transformer_grows_linearly(tmp_path: Path) -> None:
    """T13: (1 + l/2)d ≤ E‖x_l‖² ≤ (1 + 3l/2)d: a ReLU layer adds ½, attention between nothing and 1."""
    depth = 8
    signals = encode(tmp_path / "run", depth, pre=True)
    squares = (at(signals, signals.rms("activation"), *map(str, range(depth))) ** 2).mean(1)
    layers = np.arange(1, depth + 1)
    assert (1 + layers / 2 <= squares).all()
    assert (squares <= 1 + 3 * layers / 2).all()
    np.testing.assert_allclose(squares, stream(depth)[1:], rtol=0.08)


@pytest.mark.parametrize("pre", [True, False], ids=["pre-norm", "post-norm"])
def test_t13_the_last_layers_gradient_falls_with_depth_in_pre_norm_only(pre: bool, tmp_path: Path) -> None:
    """T13: pre-norm divides the gradient by the stream's size, 1/√L; post-norm's last layer gets the same at any depth."""
    shallow, deep = 2, 8
    norms = []
    for depth in (shallow, deep):
        signals = encode(tmp_path / f"{depth}", depth, pre=pre)
        weight = signals.site(f"{depth - 1}.linear2.weight", "parameter")
        norms.append(math.sqrt((signals.norm("gradient")[weight] ** 2).mean()))
    expected = math.sqrt(stream(shallow)[-1] / stream(deep)[-1]) if pre else 1.0
    assert norms[1] / norms[0] == pytest.approx(expected, rel=0.06)
    assert expected == pytest.approx(math.sqrt(shallow / deep), rel=0.2) or not pre


class Networks(nn.Module):
    """One layer of many independent networks: `[networks, inputs, width]` to the same."""

    def __init__(self, networks: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(networks, width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x, self.weight)


@pytest.mark.parametrize(
    ("width", "depth", "dead"), [(2, 10, 0.9437), (5, 8, 0.2243), (5, 15, 0.3789), (5, 17, 0.4171)]
)
def test_t14_narrow_deep_relu_networks_are_dead_paths(width: int, depth: int, dead: float, tmp_path: Path) -> None:
    """T14: a layer of N ReLUs is silent with chance 2^-N, and all after it then: 1 - (1 - 2^-N)^L for a given input."""
    assert 1 - (1 - 2.0**-width) ** depth == pytest.approx(dead, abs=5e-5)
    torch.manual_seed(0)
    networks, several = 8_000, 2
    layers = [module for _ in range(depth) for module in (Networks(networks, width), nn.ReLU())]
    model = nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1))  # the largest unit is 0 where all are
    given = measure(tmp_path / "given", model, draws=1, inputs=lambda: torch.randn(networks, 1, width), exact=True)
    zeros = given.share("activation", "zeros")
    assert zeros[given.site(str(2 * depth)), 0] == pytest.approx(dead, abs=0.015)
    alive = (1 - 2.0**-width) ** (depth - 1)  # then half of the next layer's units are active
    assert zeros[given.site(str(2 * depth - 1)), 0] == pytest.approx(1 - alive / 2, abs=0.015)
    born = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1))  # over all inputs of a network
    all_inputs = measure(
        tmp_path / "born", born, draws=1, inputs=lambda: torch.randn(networks, several, width), exact=True
    )
    assert all_inputs.share("activation", "zeros")[all_inputs.site(str(2 * depth)), 0] < dead


class Attention(nn.Module):
    """Pure attention of one head whose scores and whose tokens' distance from their mean are modules of their own."""

    def __init__(self, width: int, depth: int = 1) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth)) for _ in range(3)
        )
        self.scores = nn.ModuleList(nn.Identity() for _ in range(depth))
        self.residual = nn.ModuleList(nn.Identity() for _ in range(depth + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._split(0, x)
        for layer, named in enumerate(self.scores):
            scores = named(self.query[layer](x) @ self.key[layer](x).transpose(1, 2) / math.sqrt(x.shape[-1]))
            x = self._split(layer + 1, scores.softmax(-1) @ self.value[layer](x))
        return x

    def _split(self, number: int, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        return mean + self.residual[number](x - mean)


def test_t30_scores_of_unit_queries_and_keys_have_variance_one(tmp_path: Path) -> None:
    """T30: after 1/√d the logits of unit-variance queries and keys have variance 1."""
    signals = measure(
        tmp_path / "run", Attention(256), lambda model: draw(model, 1.0), inputs=lambda: torch.randn(4, 32, 256)
    )
    assert signals.rms("activation")[signals.site("scores.0")].mean() == pytest.approx(1, rel=WITHIN)


def test_t30_pure_attention_loses_its_rank_doubly_exponentially(tmp_path: Path) -> None:
    """T30: without skips what tells tokens apart is cubed in every layer: ‖res X_L‖ is of order ‖res X‖^(3^L)."""
    common = torch.randn(4, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    norms = []
    for distance in (0.1, 0.05):
        tokens = torch.randn(4, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        signals = measure(
            tmp_path / f"{distance}",
            Attention(16, 2).double(),
            lambda model: draw(model, 1.0),
            draws=1,
            inputs=lambda: common + distance * tokens,  # noqa: B023
        )
        norms.append([float(signals.norm("activation")[signals.site(f"residual.{n}"), 0]) for n in range(3)])
    orders = np.log2(np.array(norms[0]) / np.array(norms[1]))
    assert orders == pytest.approx([1, 3, 9], rel=0.05)
    assert all(after < before for before, after in pairwise(norms[0]))


@pytest.mark.parametrize(("spread", "share"), [(0.0, 1.0), (1.0, 1 - 0.5 / math.log(256))], ids=["zero", "variance 1"])
def test_t30_attention_without_preference_has_the_entropy_of_its_keys(
    spread: float, share: float, tmp_path: Path
) -> None:
    """T30: equal logits have entropy ln n, in shares of it 1; those of variance s² lose s²/2 nats; the largest follows."""
    tokens, width = 256, 64

    def redraw(model: nn.Module) -> None:
        nn.init.normal_(model.in_proj_weight, std=math.sqrt(spread / width))

    class Self(nn.MultiheadAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x, x, x, need_weights=False)[0]

    signals = measure(
        tmp_path / "run",
        Self(width, 1, batch_first=True),
        redraw,
        draws=2,
        inputs=lambda: torch.randn(2, tokens, width),
    )
    entropy = signals.share("attention_entropy", "sum")[signals.site("")]
    assert entropy.mean() == pytest.approx(share, rel=WITHIN)
    z = np.linspace(0, 8, 8_000)
    largest = float(np.trapezoid(1 - np.array([math.erf(x / math.sqrt(2)) for x in z]) ** tokens, z))  # of n |N(0, 1)|
    logit = signals.share("attention_logit", "sum")[signals.site("")]
    assert logit.mean() == pytest.approx(spread * largest, rel=4 * WITHIN)
