"""What a closer look says of units, samples, features, groups and queries: closed forms, and that it changes nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.recorder.closer_slope import FORMULAS, of_node
from gradscope.records import QUANTITIES
from gradscope.signals import Signals


class Written(nn.Module):
    """A model whose forward is a function of its parts and the input."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self._written = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._written(self, x)


def identity(features: int) -> nn.Linear:
    """A Linear that gives what it is fed, so that the activation after it sees numbers that are known."""
    layer = nn.Linear(features, features)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(features))
        layer.bias.zero_()
    return layer


def look(model: nn.Module, *batches: Any, rate: float = 0.0, **options: Any) -> Signals:
    """What is recorded of a training over these batches, whose loss is the mean of the output."""
    folder = Path(options.pop("run_dir"))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with gradscope.watch(model, optimizer, run_dir=folder, every=1, **options) as scope:
        for batch in batches:
            scope.loss(model(batch).float().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert scope._recorder is not None
    assert scope._recorder.failure is None
    return Signals(gradscope.read_run(folder))


def at(signals: Signals, path: str, quantity: str, field: str = "rms", role: str = "output", step: int = 0) -> float:
    """One number of a site at a recorded step."""
    values = signals.rms(quantity) if field == "rms" else signals.values(quantity, field)
    return float(values[signals.site(path, role), step])


# slopes


def test_a_relu_that_is_half_active_has_slope_root_half_at_every_unit(tmp_path: Path) -> None:
    """Units that are positive for half of the samples: the rms of a derivative that is 1 or 0 is √½."""
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 1)
    signals = look(nn.Sequential(identity(2), nn.ReLU(), nn.Linear(2, 1)), x, run_dir=tmp_path)
    assert at(signals, "1", "slope", "minimum") == pytest.approx(math.sqrt(0.5))
    assert at(signals, "1", "slope", "maximum") == pytest.approx(math.sqrt(0.5))
    assert at(signals, "1", "slope", "count") == 2


def test_a_dead_unit_is_counted_exactly_and_one_that_lives_in_another_batch_is_not_dead(tmp_path: Path) -> None:
    """Unit 0 is always on, unit 1 never, unit 2 in the first batch only: `slope` sees a batch, `lasting_slope` several."""
    first, second = torch.tensor([[1.0, -1.0, 1.0]]).repeat(4, 1), torch.tensor([[1.0, -1.0, -1.0]]).repeat(4, 1)
    signals = look(
        nn.Sequential(identity(3), nn.ReLU(), nn.Linear(3, 1)), first, second, second, second, run_dir=tmp_path
    )
    zeros = [at(signals, "1", "slope", "zeros", step=step) for step in range(4)]
    lasting = [at(signals, "1", "lasting_slope", "zeros", step=step) for step in range(4)]
    assert zeros == [1, 2, 2, 2]
    assert lasting == [1, 1, 1, 1]


def test_a_unit_is_forgotten_after_eight_looks(tmp_path: Path) -> None:
    """`lasting_slope` remembers eight looks: the first 16 recorded steps and every fourth after them."""
    first, second = torch.ones(4, 1), -torch.ones(4, 1)
    batches = [first, *[second] * 32]
    signals = look(nn.Sequential(identity(1), nn.ReLU(), nn.Linear(1, 1)), *batches, run_dir=tmp_path)
    lasting = signals.values("lasting_slope", "zeros")[signals.site("1")]
    looked = [int(step) for step in signals.steps[np.isfinite(lasting)]]
    assert looked == [*range(16), 16, 20, 24, 28, 32]
    assert lasting[looked].tolist() == [0] * 8 + [1] * 13


@pytest.mark.parametrize(
    ("activation", "z", "slope"),
    [
        (nn.Sigmoid(), 0.0, 0.25),
        (nn.Sigmoid(), 2.0, 0.1050),
        (nn.Sigmoid(), 4.0, 0.01766),
        (nn.Sigmoid(), 5.0, 0.00665),
        (nn.Sigmoid(), -10.0, 4.5e-5),
        (nn.Sigmoid(), -60.0, 8.756e-27),
        (nn.Tanh(), 0.0, 1.0),
        (nn.Tanh(), 2.0, 0.0707),
        (nn.Tanh(), 4.0, 1.34e-3),
        (nn.Tanh(), -5.0, 1.8e-4),
    ],
)
def test_saturated_activations_have_the_slopes_of_the_book(
    activation: nn.Module, z: float, slope: float, tmp_path: Path
) -> None:
    """The derivatives at a pre-activation z are those of THEORY T9."""
    signals = look(nn.Sequential(identity(4), activation, nn.Linear(4, 1)), torch.full((8, 4), z), run_dir=tmp_path)
    assert at(signals, "1", "slope") == pytest.approx(slope, rel=0.01)


ACTIVATIONS: list[nn.Module] = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.LeakyReLU(0.2),
    nn.LeakyReLU(0.2, inplace=True),
    nn.ELU(0.7),
    nn.ELU(0.7, inplace=True),
    nn.SELU(),
    nn.SELU(inplace=True),
    nn.CELU(1.3),
    nn.CELU(1.3, inplace=True),
    nn.GELU(),
    nn.SiLU(),
    nn.SiLU(inplace=True),
    nn.Mish(),
    nn.Softplus(2.0),
    nn.Softsign(),
    nn.Hardtanh(-0.5, 0.7),
    nn.Hardtanh(inplace=True),
    nn.ReLU6(),
    nn.Hardsigmoid(),
    nn.Hardswish(),
    nn.LogSigmoid(),
    nn.Threshold(0.3, 0.0),
    nn.Hardshrink(),
    nn.Softshrink(),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_the_slope_of_every_activation_is_its_derivative(activation: nn.Module, tmp_path: Path) -> None:
    """What is recorded equals the rms over the batch of the derivative that autograd computes in double precision."""
    torch.manual_seed(0)
    x = 2 * torch.randn(16, 6)
    wide = x.double().requires_grad_()
    (derivative,) = torch.autograd.grad(copy.deepcopy(activation)(wide.clone()).sum(), wide)
    expected = derivative.square().mean(0).sqrt()
    signals = look(nn.Sequential(identity(6), activation, nn.Linear(6, 1)), x, run_dir=tmp_path)
    assert at(signals, "1", "slope", "sum") == pytest.approx(float(expected.sum()), rel=1e-4)
    assert at(signals, "1", "slope", "maximum") == pytest.approx(float(expected.max()), rel=1e-4, abs=1e-6)
    assert at(signals, "1", "slope", "minimum") == pytest.approx(float(expected.min()), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("function", "module"),
    [
        (F.relu, nn.ReLU()),
        (lambda x: x.relu_(), nn.ReLU()),
        (lambda x: x.clamp(min=0), nn.ReLU()),
        (torch.tanh, nn.Tanh()),
        (torch.sigmoid, nn.Sigmoid()),
        (F.gelu, nn.GELU()),
        (F.silu, nn.SiLU()),
        (F.softplus, nn.Softplus()),
        (lambda x: F.leaky_relu(x, 0.1), nn.LeakyReLU(0.1)),
        (lambda x: F.elu_(x), nn.ELU()),
    ],
)
def test_a_function_has_the_slope_of_the_module(
    function: Callable[[torch.Tensor], torch.Tensor], module: nn.Module, tmp_path: Path
) -> None:
    """An activation called as a function gives the same numbers, at the output of the layer that it is applied to."""
    torch.manual_seed(0)
    x, parts = 2 * torch.randn(16, 6), {"fc1": identity(6), "fc2": nn.Linear(6, 1)}
    by_module = look(
        Written(lambda self, x: self.fc2(self.act(self.fc1(x))), **copy.deepcopy(parts), act=module),
        x,
        run_dir=tmp_path / "module",
    )
    by_function = look(
        Written(lambda self, x: self.fc2(function(self.fc1(x))), **parts), x, run_dir=tmp_path / "function"
    )
    for quantity in ("slope", "lasting_slope"):
        for field in ("sum", "minimum", "maximum", "zeros", "count"):
            ours, theirs = at(by_function, "fc1", quantity, field), at(by_module, "act", quantity, field)
            assert ours == pytest.approx(theirs, rel=1e-6)  # an in-place one's follows from what it gave


def test_functions_inside_blocks_belong_to_the_layer_before_them(tmp_path: Path) -> None:
    """A pre-activation block's function belongs to what fed the block, the one inside it to its own layer."""
    block = Written(lambda self, x: x + self.two(F.relu(self.one(F.relu(x)))), one=identity(3), two=identity(3))
    model = Written(
        lambda self, x: self.head(self.block(self.stem(x))), stem=identity(3), block=block, head=identity(3)
    )
    signals = look(model, torch.tensor([[1.0, -1.0, -1.0]] * 4), run_dir=tmp_path)
    known = np.isfinite(signals.values("slope", "count")[:, 0])
    assert {signals.sites[i].path for i in np.flatnonzero(known)} == {"stem", "block.one"}
    assert at(signals, "stem", "slope", "zeros") == 2


def test_channels_are_units_of_a_convolution_and_features_those_of_a_linear(tmp_path: Path) -> None:
    """[N, C, H, W] has C units, [N, T, F] after a Linear F, [N, C, L] after a Conv1d C."""
    image = look(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()), torch.randn(4, 3, 9, 9), run_dir=tmp_path / "image")
    tokens = look(nn.Sequential(nn.Linear(3, 6), nn.ReLU()), torch.randn(4, 7, 3), run_dir=tmp_path / "tokens")
    waves = look(nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU()), torch.randn(4, 3, 9), run_dir=tmp_path / "waves")
    assert [at(signals, "1", "slope", "count") for signals in (image, tokens, waves)] == [5, 6, 5]


def test_a_dead_channel_is_found_among_many_positions(tmp_path: Path) -> None:
    """A channel whose bias holds it below zero is dead, a live one is not, however large the map is."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-1e3, 0.0, 0.0, 0.0]))  # type: ignore[union-attr]
    signals = look(model, torch.randn(8, 1, 64, 64), run_dir=tmp_path)
    assert at(signals, "1", "slope", "zeros") == 1


def test_what_is_changed_in_place_after_a_function_is_not_read(tmp_path: Path) -> None:
    """A residual that is added in place to what a SiLU was given leaves no slope, and no failure."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        h = self.fc1(x)
        y = F.silu(h)
        with torch.no_grad():
            h.add_(1.0)
        return self.fc2(y.detach() + self.fc1(x))

    signals = look(Written(forward, fc1=identity(3), fc2=identity(3)), torch.randn(4, 3), run_dir=tmp_path)
    assert np.isnan(signals.values("slope", "count")).all()


def test_a_module_called_twice_keeps_its_calls_apart(tmp_path: Path) -> None:
    """Unit 0 is on in the first call of a shared ReLU, unit 1 in the second: each is dead at one of the two calls."""
    model = Written(
        lambda self, x: self.act(self.one(x)) + self.act(self.two(-x)), one=identity(2), two=identity(2), act=nn.ReLU()
    )
    signals = look(model, torch.tensor([[1.0, -1.0]] * 4), torch.tensor([[1.0, -1.0]] * 4), run_dir=tmp_path)
    assert at(signals, "act", "lasting_slope", "count", step=1) == 4
    assert at(signals, "act", "lasting_slope", "zeros", step=1) == 2


def test_softmax_is_no_elementwise_activation(tmp_path: Path) -> None:
    """A hidden softmax has no slope of single units."""
    signals = look(nn.Sequential(identity(3), nn.Softmax(dim=1), identity(3)), torch.randn(4, 3), run_dir=tmp_path)
    assert np.isnan(signals.values("slope", "count")).all()


# samples


def test_outputs_that_are_all_alike_have_spread_zero(tmp_path: Path) -> None:
    """A layer that has forgotten its input, whatever size its output has, is at exactly 0."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5), nn.Tanh())
    with torch.no_grad():
        model[1].weight.zero_()  # type: ignore[union-attr]
        model[1].bias.copy_(torch.tensor([0.1, 1e-20, 3e7, -0.7, 1e-3]))  # type: ignore[union-attr]
    signals = look(model, torch.randn(16, 3), run_dir=tmp_path)
    assert at(signals, "1", "sample_spread", "maximum") == 0
    assert at(signals, "2", "sample_spread", "maximum") == 0
    assert at(signals, "0", "sample_spread", "minimum") > 0.01


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_samples_that_cancel_have_spread_one(scale: float, tmp_path: Path) -> None:
    """With mean 0 every distance is the sample's own length, at any scale."""
    x = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]).repeat(4, 1)
    layer = identity(2)
    with torch.no_grad():
        layer.weight.mul_(scale)
    signals = look(nn.Sequential(layer), x, run_dir=tmp_path)
    assert at(signals, "0", "sample_spread") == pytest.approx(1.0)


def test_tokens_are_samples_too(tmp_path: Path) -> None:
    """In [N, T, F] rows are tokens: all tokens of a sequence alike and two sequences opposite is a spread of 1."""
    x = torch.tensor([[[1.0, 2.0]], [[-1.0, -2.0]]]).expand(2, 6, 2).contiguous()
    collapsed = torch.tensor([[[1.0, 2.0]]]).expand(2, 6, 2).contiguous()
    signals = look(nn.Sequential(identity(2)), x, collapsed, run_dir=tmp_path)
    assert at(signals, "0", "sample_spread") == pytest.approx(1.0)
    assert at(signals, "0", "sample_spread", "count") == 12
    assert at(signals, "0", "sample_spread", "maximum", step=1) == 0


# features


def test_feature_statistics_are_numpys(tmp_path: Path) -> None:
    """Mean and standard deviation of each feature, a constant one's deviation exactly 0."""
    torch.manual_seed(0)
    x = torch.randn(32, 5) * torch.tensor([1.0, 255.0, 1e-3, 1.0, 0.0]) + torch.tensor([0.0, 1e3, 0.0, -2.0, 0.1])
    signals = look(nn.Sequential(nn.Linear(5, 3)), x, run_dir=tmp_path)
    means, deviations = x.double().numpy().mean(0), x.double().numpy().std(0)
    for quantity, expected in (("feature_mean", means), ("feature_deviation", deviations)):
        assert at(signals, "", quantity, "sum", "input") == pytest.approx(expected.sum(), rel=1e-5)
        assert at(signals, "", quantity, "maximum", "input") == pytest.approx(expected.max(), rel=1e-5)
        assert at(signals, "", quantity, "minimum", "input") == pytest.approx(expected.min(), rel=1e-5, abs=1e-7)
        assert at(signals, "", quantity, "count", "input") == 5
    assert at(signals, "", "feature_deviation", "zeros", "input") == 1


def test_the_first_weights_gradient_is_told_by_feature(tmp_path: Path) -> None:
    """The norm of a column of a Linear, also behind a flattening, or of an input channel of a (grouped) convolution."""
    for number, (make, shape, norms) in enumerate(
        [
            (lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)), (8, 4), lambda g: g.norm(dim=0)),
            (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3)), (8, 2, 4), lambda g: g.norm(dim=0)),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
                (8, 3, 5, 5),
                lambda g: g.transpose(0, 1).flatten(1).norm(dim=1),
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)),
                (8, 4, 5, 5),
                lambda g: torch.cat([half.transpose(0, 1).flatten(1).norm(dim=1) for half in g.chunk(2)]),
            ),
        ]
    ):
        torch.manual_seed(0)
        model, x = make(), torch.randn(*shape)
        twin = copy.deepcopy(model)
        twin(x).mean().backward()
        first = "1" if number == 1 else "0"
        expected = norms(twin.get_parameter(f"{first}.weight").grad)
        signals = look(model, x, run_dir=tmp_path / str(number))
        path = f"{first}.weight"
        assert at(signals, path, "feature_gradient", "count", "parameter") == len(expected)
        assert at(signals, path, "feature_gradient", "sum", "parameter") == pytest.approx(
            float(expected.sum()), rel=1e-5
        )


def test_the_loss_scale_is_taken_out_of_feature_gradients(tmp_path: Path) -> None:
    """Under a scaler the features' gradients are unscaled like all gradients."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(8, 4)
    plain = look(copy.deepcopy(model), x, run_dir=tmp_path / "plain")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradscope.watch(model, optimizer, scaler=scaler, run_dir=tmp_path / "scaled", every=1) as scope:
        loss = model(x).mean()
        scope.loss(loss)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    scaled = Signals(gradscope.read_run(tmp_path / "scaled"))
    sums = [at(signals, "0.weight", "feature_gradient", "sum", "parameter") for signals in (plain, scaled)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)


def test_indices_have_no_features(tmp_path: Path) -> None:
    """What an embedding is fed is not numbers."""
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 1))
    signals = look(model, torch.arange(5), run_dir=tmp_path)
    assert np.isnan(signals.values("feature_mean", "count")).all()


# normalisation


def test_the_share_of_a_batch_norms_variance_is_the_datas(tmp_path: Path) -> None:
    """Channels of variance 1, 1e-5 (as much as eps) and 0: 1/(1+1e-5), a half, and exactly 0."""
    column = torch.tensor([1.0, -1.0]).repeat(8)[:, None]
    x = column * torch.tensor([1.0, math.sqrt(1e-5), 0.0])
    signals = look(nn.Sequential(identity(3), nn.BatchNorm1d(3), nn.Linear(3, 1)), x, run_dir=tmp_path)
    assert at(signals, "1", "group_variance", "sum") == pytest.approx(1 / (1 + 1e-5) + 0.5, rel=1e-5)
    assert at(signals, "1", "group_variance", "zeros") == 1
    assert at(signals, "1", "group_variance", "count") == 3


@pytest.mark.parametrize(
    ("module", "shape", "entries"),
    [
        (nn.BatchNorm1d(6), (8, 6), 8),
        (nn.BatchNorm2d(6), (8, 6, 5, 5), 200),
        (nn.LayerNorm(6), (8, 7, 6), 6),
        (nn.RMSNorm(6), (8, 7, 6), 6),
        (nn.LayerNorm((6, 5)), (8, 6, 5), 30),
        (nn.GroupNorm(2, 6), (8, 6, 5, 5), 75),
        (nn.InstanceNorm2d(6), (8, 6, 5, 5), 25),
        (nn.InstanceNorm2d(6), (8, 6, 2, 1), 2),
        (nn.LayerNorm(1), (8, 1), 1),
        (nn.GroupNorm(6, 6), (8, 6), 1),
    ],
    ids=str,
)
def test_how_many_entries_are_normalised_together_follows_from_the_counts(
    module: nn.Module, shape: tuple[int, ...], entries: int, tmp_path: Path
) -> None:
    """The activation's count over that of `group_variance` is the size of a group; a group of one has no variance."""
    torch.manual_seed(0)
    signals = look(nn.Sequential(module, nn.Flatten(), nn.LazyLinear(1)), torch.randn(*shape), run_dir=tmp_path)
    groups = at(signals, "0", "group_variance", "count")
    assert at(signals, "0", "activation", "count") / groups == entries
    if entries == 1:
        assert at(signals, "0", "group_variance", "maximum") == 0
    else:
        assert at(signals, "0", "group_variance") > 0.99


def test_the_gap_between_a_batch_and_the_running_statistics(tmp_path: Path) -> None:
    """Mean 3 and deviation 2 against running 0 and 1: 3/2 + ln 2; against itself: 0."""
    x = torch.tensor([[1.0], [5.0], [3.0]]) - 3
    x = x / x.std() * 2 + 3
    module = nn.BatchNorm1d(1, eps=1e-12)
    told = nn.BatchNorm1d(1, eps=1e-12)
    told.running_mean.fill_(3.0)  # type: ignore[union-attr]
    told.running_var.fill_(4.0)  # type: ignore[union-attr]
    for part, gap in ((module, 1.5 + math.log(2)), (told, 0.0)):
        signals = look(nn.Sequential(part, nn.Linear(1, 1)), x, run_dir=tmp_path / f"{gap:.0f}")
        assert at(signals, "0", "running_gap") == pytest.approx(gap, abs=1e-5)


def test_a_batch_norm_in_eval_has_a_gap_and_no_groups(tmp_path: Path) -> None:
    """In eval the batch's own variance plays no part; that the statistics disagree matters the more."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    model[0].eval()
    signals = look(model, torch.randn(16, 2) + 5, run_dir=tmp_path)
    assert np.isnan(signals.values("group_variance", "count")).all()
    assert at(signals, "0", "running_gap") > 2
    assert [signals.sites[signals.site(path)].training for path in ("", "0", "1")] == [True, False, True]


# attention


class Attention(nn.Module):
    """One head, fused or written out, whose logits are those of its query and key layers times a factor."""

    def __init__(self, fused: bool, causal: bool = False, scale: float = 1.0, width: int = 4) -> None:
        super().__init__()
        self.fused, self.causal, self.scale = fused, causal, scale
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part(x)[:, None] for part in (self.query, self.key, self.value))
        q = q * self.scale
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)[:, 0]
        logits = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if self.causal:
            logits = logits.masked_fill(torch.ones(logits.shape[-2:]).tril() == 0, -math.inf)
        return (logits.softmax(-1) @ v)[:, 0]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_zero_logits_have_entropy_ln_n(fused: bool, causal: bool, tmp_path: Path) -> None:
    """THEORY T30: attention that looks at all keys alike has the entropy ln(keys), which is 1 of its most, masked or not."""
    model = nn.Sequential(Attention(fused, causal, scale=0.0))
    signals = look(model, torch.randn(3, 10, 4), run_dir=tmp_path)
    assert at(signals, "0", "attention_entropy", "minimum") == pytest.approx(1.0, rel=1e-5)
    assert at(signals, "0", "attention_logit", "maximum") == 0
    assert at(signals, "0", "attention_entropy", "count") == 30


@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_is_what_written_out_attention_is(causal: bool, tmp_path: Path) -> None:
    """Both ways to compute it give the same entropy, and the logits that stand in the formula."""
    torch.manual_seed(0)
    x, model = torch.randn(2, 4, 4), Attention(True, causal, scale=3.0)
    fused = look(nn.Sequential(copy.deepcopy(model)), x, run_dir=tmp_path / "fused")
    model.fused = False
    written = look(nn.Sequential(model), x, run_dir=tmp_path / "written")
    for field in ("sum", "minimum"):
        ours, theirs = (at(signals, "0", "attention_entropy", field) for signals in (fused, written))
        assert ours == pytest.approx(theirs, rel=1e-4)
    with torch.no_grad():
        logits = 3 * model.query(x) @ model.key(x).transpose(-2, -1) / 2
    assert at(written, "0", "attention_logit", "maximum") == pytest.approx(float(logits.abs().max()), rel=1e-5)
    if not causal:
        assert at(fused, "0", "attention_logit", "sum") == pytest.approx(float(logits.abs().amax(-1).sum()), rel=1e-5)


def test_attention_on_one_key_has_no_entropy(tmp_path: Path) -> None:
    """Huge logits put everything on one key: entropy 0, and the logits are said."""
    torch.manual_seed(0)
    signals = look(nn.Sequential(Attention(True, scale=1e6)), torch.randn(3, 10, 4), run_dir=tmp_path)
    assert at(signals, "0", "attention_entropy", "maximum") < 1e-3
    assert at(signals, "0", "attention_logit", "minimum") > 1e3


def test_torchs_own_attention_is_seen(tmp_path: Path) -> None:
    """In a TransformerEncoderLayer at its MultiheadAttention, with its function between the two Linears at the first."""
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    signals = look(model, torch.randn(3, 5, 8), run_dir=tmp_path)
    assert 0.5 < at(signals, "self_attn", "attention_entropy") <= 1
    assert at(signals, "linear1", "slope", "count") == 16


def test_a_router_is_no_attention(tmp_path: Path) -> None:
    """A softmax over what a Linear without bias gives is not taken for attention."""
    model = Written(
        lambda self, x: self.gate(x).softmax(-1) @ self.values(x).t(),
        gate=nn.Linear(4, 6, bias=False),
        values=nn.Linear(4, 6),
    )
    signals = look(model, torch.randn(5, 4), run_dir=tmp_path)
    assert np.isnan(signals.values("attention_entropy", "count")).all()


# what must not happen


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_model_trains_on(reentrant: bool, tmp_path: Path) -> None:
    """What checkpointing packed away is not read, the modules inside are seen all the same, gradients are the same."""
    block = Written(
        lambda self, x: F.silu(self.two(self.act(self.one(x)))), one=identity(4), two=identity(4), act=nn.ReLU()
    )
    model = Written(
        lambda self, x: self.head(checkpoint(self.block, self.stem(x), use_reentrant=reentrant)),
        stem=identity(4),
        block=block,
        head=identity(4),
    )
    twin, x = copy.deepcopy(model), torch.randn(8, 4)
    for _ in range(3):
        twin(x).mean().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(3):
            scope.loss(model(x).mean()).backward()
            optimizer.step()
    assert scope._recorder is not None
    assert scope._recorder.failure is None
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]
    signals = Signals(gradscope.read_run(tmp_path))
    assert at(signals, "block.act", "slope", "count") == 4
    functions = signals.values("slope", "count")[signals.site("block.two")]
    assert np.isnan(functions).all() != reentrant  # its recompute runs without packing


def test_what_is_offloaded_stays_there(tmp_path: Path) -> None:
    """Saved tensors that somebody's hooks have packed are not asked for."""
    unpacked = []
    model = Written(lambda self, x: self.two(F.silu(self.one(x))), one=identity(4), two=identity(4))

    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        unpacked.append(tensor)
        return tensor

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
            loss = scope.loss(model(torch.randn(8, 4)).mean())
        assert not unpacked
        loss.backward()
        optimizer.step()
    assert np.isnan(Signals(gradscope.read_run(tmp_path)).values("slope", "count")).all()


def test_a_closer_look_changes_nothing(tmp_path: Path) -> None:
    """A training with every part that is looked at ends bit for bit as without us, the generator included."""

    def train(folder: Path | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Written(
            lambda self, x: self.head(F.gelu(self.norm(self.attend(F.dropout(self.stem(x).relu_(), 0.1))))).mean(1),
            stem=nn.Sequential(
                nn.Linear(4, 4), nn.Unflatten(0, (-1, 1)), nn.BatchNorm2d(1), nn.Flatten(0, 1), nn.SiLU(True)
            ),
            attend=Attention(True, causal=True),
            norm=nn.LayerNorm(4),
            head=nn.Linear(4, 1),
        )
        optimizer = torch.optim.Adam(model.parameters())
        scope = None if folder is None else gradscope.watch(model, optimizer, run_dir=folder, every=1)
        for _ in range(6):
            loss = model(torch.randn(8, 5, 4)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if scope is not None:
            scope.close()
            assert scope._recorder is not None
            assert scope._recorder.failure is None
        return [*(value.clone() for value in model.state_dict().values()), torch.get_rng_state()]

    ours, theirs = train(tmp_path), train(None)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    seen = set(gradscope.read_run(tmp_path).summaries["quantity"].tolist())
    looked = ("slope", "lasting_slope", "sample_spread", "feature_mean", "feature_gradient", "group_variance")
    assert {QUANTITIES.index(name) for name in (*looked, "running_gap", "attention_entropy")} <= seen


def test_passes_that_did_not_train_do_not_count(tmp_path: Path) -> None:
    """A forward without a backward leaves no slope and does not keep a unit alive."""
    model = nn.Sequential(identity(1), nn.ReLU(), nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(2):
            model(torch.ones(4, 1))
            scope.loss(model(-torch.ones(4, 1)).mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
    signals = Signals(gradscope.read_run(tmp_path))
    assert at(signals, "1", "slope", "count") == 1
    assert at(signals, "1", "lasting_slope", "zeros", step=1) == 1


def test_every_formula_belongs_to_a_node_that_torch_makes() -> None:
    """Each name in the table is met when its activation runs: a renamed node would go unseen."""
    x = torch.randn(4, 3, requires_grad=True)
    made = [copy.deepcopy(activation)(x * 1).grad_fn for activation in ACTIVATIONS]
    made += [x.clamp(min=0).grad_fn, torch.clamp_min(x, 0).grad_fn]
    assert set(FORMULAS) <= {node.name() for node in made if node is not None}
    assert all(of_node(node) is not None for node in made if node is not None and node.name() in FORMULAS)


# facts


def test_a_layer_that_is_created_in_the_forward_is_named(tmp_path: Path) -> None:
    """A Linear made anew in every forward belongs to nobody; one in a plain list that the optimizer knows does."""
    hidden = [nn.Linear(3, 3)]

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.head(hidden[0](nn.Linear(3, 3, bias=False)(x)))

    model = Written(forward, head=nn.Linear(3, 1))
    optimizer = torch.optim.SGD([*model.parameters(), *hidden[0].parameters()], lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(3):
            scope.loss(model(torch.randn(4, 3)).mean()).backward()
            optimizer.step()
    assert gradscope.read_run(tmp_path).info.unregistered == ("Linear(in_features=3, out_features=3, bias=False)",)


def test_what_include_leaves_out_is_not_unregistered(tmp_path: Path) -> None:
    """Modules that are not wanted are the model's all the same."""
    signals = look(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)), torch.randn(4, 3), run_dir=tmp_path, exclude=["0"])
    assert signals.run.info.unregistered == ()


@pytest.mark.parametrize(("part", "counted"), [(nn.Dropout(0.1), True), (nn.Dropout(0.0), False), (nn.ReLU(), False)])
def test_tests_are_counted_by_mode_where_that_matters(part: nn.Module, counted: bool, tmp_path: Path) -> None:
    """Forwards without gradients count as tests, by the `training` flag, of models with dropout or batch normalisation."""
    model = nn.Sequential(nn.Linear(3, 3), part, nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(2):
            scope.loss(model(torch.randn(4, 3)).mean()).backward()
            optimizer.step()
            with torch.no_grad():
                model(torch.randn(4, 3))
                model.eval()(torch.randn(4, 3))
                model(torch.randn(4, 3))
            model.train()
    info = gradscope.read_run(tmp_path).info
    assert (info.tested_in_training_mode, info.tested_in_eval_mode) == ((2, 4) if counted else (0, 0))
