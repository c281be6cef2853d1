"""Series derived from a run: on runs written by hand, then on small real recordings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.records import QUANTITIES, STEP, SUMMARY_ROW, Run, RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Budget, Signals, budget, mechanism_totals
from gradscope.signals.budget import operation_kind, operation_mechanism
from gradscope.signals.loss import squared_error
from gradscope.signals.mechanisms import (
    WORKING_DECADES,
    Share,
    activations,
    longest_chain,
    sentence,
    shares,
    totals,
)

NAN = math.nan
CHAIN = {"a": 0.01, "b": 0.1, "c": 1.0}


def empty() -> Signals:
    """The signals of a run that recorded nothing."""
    return Signals(Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW)))


def change(run: Run, path: str, quantity: str, role: str = "output", **fields: float) -> Run:
    """A run with other numbers in the rows of one site."""
    site = Signals(run).site(path, role)
    rows = run.summaries.copy()
    for name, number in fields.items():
        rows[name][(rows["site"] == site) & (rows["quantity"] == QUANTITIES.index(quantity))] = number
    return replace(run, summaries=rows)


def record(model: nn.Module, inputs: torch.Tensor, folder: Path, steps: int = 2, *, reached: bool = False) -> Signals:
    """A few recorded steps with a random gradient at the output; `reached`: the data need a gradient too."""
    torch.manual_seed(1)
    with gradscope.watch(model, run_dir=folder, every=1) as scope:
        for _ in range(steps):
            model.zero_grad()
            output = model(inputs.clone().requires_grad_() * 1 if reached else inputs)
            output.backward(torch.randn_like(output))
            scope.step()
    return Signals(gradscope.read_run(folder))


# gains


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_backward_gain_is_the_gradient_over_the_heads(scale: float) -> None:
    """The backward gain is ‖∂L/∂h_i‖ / ‖∂L/∂h_out‖, whatever the scale of the loss."""
    signals = Signals(by_hand(CHAIN, scale=scale))
    np.testing.assert_allclose(signals.head_norm, scale)
    for path, gain in CHAIN.items():
        np.testing.assert_allclose(signals.backward_gain[signals.site(path)], gain)
    np.testing.assert_allclose(signals.backward_gain[signals.site("")], 1.0)  # its output is the head's


def test_the_gain_is_undefined_where_the_heads_gradient_is_zero() -> None:
    """Where ‖∂L/∂h_out‖ is exactly 0 the gain is NaN, never 0 and never infinite."""
    signals = Signals(by_hand(CHAIN, scale=[0.0, 1.0], steps=2))
    np.testing.assert_allclose(signals.backward_gain[signals.site("a")], [NAN, 0.01])


def test_the_gain_is_undefined_without_a_head() -> None:
    """Without a head, or without its gradient, nothing has a gain."""
    run = by_hand(CHAIN)
    assert np.isnan(Signals(replace(run, info=replace(run.info, heads=()))).backward_gain).all()
    rows = run.summaries[run.summaries["site"] != Signals(run).site("c")]
    assert np.isnan(Signals(replace(run, summaries=rows)).backward_gain).all()


def test_several_heads_count_together() -> None:
    """Heads join as the root of the sum of their squares."""
    run = by_hand({"a": 3.0, "b": 4.0, "c": 1.0})
    sites = Signals(run)
    heads = (sites.site("a"), sites.site("b"))
    np.testing.assert_allclose(Signals(replace(run, info=replace(run.info, heads=heads))).head_norm, 5.0)


def test_an_empty_run_has_empty_signals() -> None:
    """A run that recorded nothing has signals without columns, and no budget."""
    signals = empty()
    for series in (signals.backward_gain, signals.unpooled_gain, signals.forward_gain, signals.update_ratio):
        assert series.shape == (0, 0)
    assert budget(signals) is None
    assert squared_error(signals) is None
    assert signals.first_non_finite("gradient") is None
    assert longest_chain(signals) == 0
    assert activations(signals) == []


def test_forward_gain_is_over_what_the_model_was_fed(tmp_path: Path) -> None:
    """The forward gain is rms(h_i) over the rms of the data; over the first layer's output where data are unknown."""
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    for layer in model:
        layer.weight.data.copy_(2 * torch.eye(6))  # type: ignore[operator, union-attr]
    signals = record(model, torch.randn(8, 6) * 37, tmp_path / "run")
    np.testing.assert_allclose(signals.forward_gain[signals.site("0")], 2.0, rtol=1e-6)
    np.testing.assert_allclose(signals.forward_gain[signals.site("1")], 4.0, rtol=1e-6)
    handmade = Signals(by_hand(CHAIN, activation={"a": 2.0, "b": 6.0}))
    np.testing.assert_allclose(handmade.forward_gain[handmade.site("b")], 3.0)


def test_own_gain_is_what_a_module_did() -> None:
    """A module's own gain is log10(‖δ_in‖/‖δ_out‖); without a δ_in it is not measured."""
    signals = Signals(by_hand(CHAIN))
    np.testing.assert_allclose(signals.own_gain(signals.site("c")), -1.0)
    assert np.isnan(signals.own_gain(signals.site("a"))).all()


def test_a_closed_branch_is_minus_infinity_and_an_open_question_nan() -> None:
    """No gradient in front of a module that got some: -inf. None behind it: NaN."""
    signals = Signals(by_hand({"a": 0.0, "b": 1.0, "c": 1.0}))
    assert (signals.own_gain(signals.site("b")) == -math.inf).all()
    signals = Signals(by_hand({"a": 1.0, "b": 0.0, "c": 1.0}))
    assert np.isnan(signals.own_gain(signals.site("b"))).all()


# pooling


def test_what_pooling_takes_is_given_back() -> None:
    """The unpooled gain of everything before a pooling layer is without the L^-1/2 that it took."""
    signals = Signals(by_hand({"a": 0.02, "pool": 0.2, "b": 1.0}, kinds={"pool": "AdaptiveAvgPool2d"}))
    unpooled = signals.unpooled_gain
    np.testing.assert_allclose(unpooled[signals.site("a")], 0.2)  # the pool took a decade
    np.testing.assert_allclose(unpooled[signals.site("pool")], 0.2)
    np.testing.assert_allclose(unpooled[signals.site("")], 1.0)


def test_pooling_that_grows_the_gradient_is_not_corrected() -> None:
    """Only what was taken is given back."""
    signals = Signals(by_hand({"a": 2.0, "pool": 1.0, "b": 1.0}, kinds={"pool": "AdaptiveAvgPool2d"}))
    np.testing.assert_allclose(signals.unpooled_gain[signals.site("a")], 2.0)


class Squeeze(nn.Module):
    """Squeeze and excitation: each channel is scaled by what its average says."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        gate = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.gate = nn.Sequential(*gate) if nested else nn.ModuleList(gate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = scale = self.relu(self.conv(x))
        for layer in [self.gate] if isinstance(self.gate, nn.Sequential) else self.gate:
            scale = layer(scale)
        return x * scale


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "in a container"])
def test_pooling_with_a_way_around_takes_nothing(nested: bool, tmp_path: Path) -> None:
    """In squeeze and excitation the gradient passes beside the pooling: only the last one, on the way, is given back."""
    torch.manual_seed(0)
    ending = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Squeeze(nested), Squeeze(nested), *ending)
    signals = record(model, torch.randn(5, 1, 8, 8), tmp_path / "run")
    taken = signals.own_gain(signals.site("3"))
    np.testing.assert_allclose(10**taken, 1 / 8, rtol=1e-6)  # 8 x 8 entries share one gradient: 64 of a 64th each
    for path in ("0", "1", "1.conv", "2.relu", "2"):
        site = signals.site(path)
        np.testing.assert_allclose(signals.unpooled_gain[site], 8 * signals.backward_gain[site], rtol=1e-6)
    np.testing.assert_allclose(signals.unpooled_gain[signals.site("")], 1.0, rtol=1e-6)


# the budget


def parts_of(tree: Budget) -> dict[str, Budget]:
    """The direct parts of a budget by name."""
    return {part.name: part for part in tree.parts}


def test_the_budget_of_a_chain_adds_up() -> None:
    """Layers that follow one another: their decades add up to the whole, the first layer having none."""
    tree = budget(Signals(by_hand(CHAIN)))
    assert tree is not None
    assert tree.chain
    np.testing.assert_allclose(tree.decades, -2.0)
    assert [part.name for part in tree.parts] == ["a", "b", "c"]
    np.testing.assert_allclose([part.decades[0] for part in tree.parts], [NAN, -1.0, -1.0])
    assert {name: float(values[0]) for name, values in mechanism_totals(tree).items()} == {"weights": pytest.approx(-2)}


class Functional(nn.Module):
    """Functions between modules: torch.tanh twice, and a factor of two at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Skip(nn.Module):
    """x + gate * f(x)."""

    def __init__(self, gate: float = 1.0) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gate * self.f(x)


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "modules": lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.Tanh()),
    "nested": lambda: nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(8, 8)))),
    "functions": Functional,
    "residual blocks": lambda: nn.Sequential(nn.Linear(8, 8), Skip(), nn.ReLU(), Skip(), nn.Linear(8, 2)),
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_a_measured_chain_adds_up_exactly(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """The decades of the parts, functions between modules included, add up to what was measured end to end."""
    torch.manual_seed(0)
    signals = record(make(), torch.randn(16, 8), tmp_path / "run", reached=True)
    tree = budget(signals)
    assert tree is not None
    assert tree.chain
    fed = signals.norm("activation_gradient")[signals.site("", "input")]
    end_to_end = np.log10(fed / signals.norm("activation_gradient")[signals.site("")])
    np.testing.assert_allclose(tree.decades, end_to_end, atol=1e-6)
    np.testing.assert_allclose(sum(part.decades for part in tree.parts), end_to_end, atol=1e-6)
    np.testing.assert_allclose(sum(mechanism_totals(tree).values()), end_to_end, atol=1e-6)


def test_code_between_modules_is_named_by_its_ends(tmp_path: Path) -> None:
    """A function between two modules is "between A and B", with the mechanism of what it does."""
    signals = record(Functional(), torch.randn(16, 8), tmp_path / "run", reached=True)
    tree = budget(signals)
    assert tree is not None
    assert [(part.name, part.mechanism, part.kind) for part in tree.parts] == [
        ("a", "weights", "Linear"),
        ("between a and b", "activation", "Tanh"),
        ("b", "weights", "Linear"),
        ("between b and c", "activation", "Tanh"),
        ("c", "weights", "Linear"),
        ("between c and the output", "functional", "Mul"),
    ]
    np.testing.assert_allclose(tree.parts[-1].decades, math.log10(2), atol=1e-6)


def test_blocks_that_branch_and_join_count_once(tmp_path: Path) -> None:
    """A residual block is one measured part, under "joins", with its branch shown under it and not added."""
    signals = record(
        nn.Sequential(nn.Linear(8, 8), Skip(), nn.Linear(8, 2)), torch.randn(16, 8), tmp_path / "run", reached=True
    )
    tree = budget(signals)
    assert tree is not None
    block = parts_of(tree)["1"]
    assert (block.mechanism, block.chain) == ("joins", False)
    (branch,) = block.parts
    assert (branch.name, branch.chain, len(branch.parts)) == ("1.f", True, 3)
    np.testing.assert_allclose(sum(part.decades for part in branch.parts), branch.decades, atol=1e-6)
    assert (branch.decades < block.decades).all()
    assert set(mechanism_totals(tree)) == {"weights", "joins"}


def test_a_branch_that_starts_at_zero_takes_nothing_from_its_block(tmp_path: Path) -> None:
    """ReZero at step 0: the block passes on everything, and the branch, which got nothing, counts nothing."""
    signals = record(
        nn.Sequential(nn.Linear(8, 8), Skip(0.0), nn.Linear(8, 2)), torch.randn(16, 8), tmp_path / "run", reached=True
    )
    tree = budget(signals)
    assert tree is not None
    block = parts_of(tree)["1"]
    np.testing.assert_allclose(block.decades, 0.0, atol=1e-7)
    assert not np.isinf(block.parts[0].decades).any()


def test_a_dead_branch_is_closed(tmp_path: Path) -> None:
    """A ReLU that never fires closes its branch: -inf there, and the block goes on by its skip connection."""
    block = Skip()
    block.f[0].bias.data.fill_(-100.0)  # type: ignore[operator, union-attr]
    signals = record(
        nn.Sequential(nn.Linear(8, 8), block, nn.Linear(8, 2)), torch.randn(16, 8), tmp_path / "run", reached=True
    )
    assert (signals.own_gain(signals.site("1.f.1")) == -math.inf).all()
    tree = budget(signals)
    assert tree is not None
    np.testing.assert_allclose(parts_of(tree)["1"].decades, 0.0, atol=1e-7)
    assert np.isfinite(list(mechanism_totals(tree).values())).all()


@pytest.mark.parametrize(
    ("operations", "mechanism", "kind"),
    [
        (("TanhBackward0",), "activation", "Tanh"),
        (("ViewBackward0", "ReluBackward0"), "activation", "ReLU"),
        (("MulBackward0", "SigmoidBackward0"), "activation", "Mul, Sigmoid"),
        (("MeanBackward1",), "pooling", "Mean"),
        (("NativeLayerNormBackward0",), "normalisation", "NativeLayerNorm"),
        (("AddBackward0",), "joins", "Add"),
        (("ViewBackward0",), "functional", "View"),
        (("MulBackward0",), "functional", "Mul"),
    ],
)
def test_operations_have_a_mechanism_and_a_kind(operations: tuple[str, ...], mechanism: str, kind: str) -> None:
    """Autograd nodes are told by their names; x * sigmoid(x) is no sigmoid."""
    assert (operation_mechanism(operations), operation_kind(operations)) == (mechanism, kind)


# who took it


@pytest.mark.parametrize("kind", WORKING_DECADES)
def test_what_an_activation_lets_through_when_it_works(kind: str) -> None:
    """WORKING_DECADES is log10 √E[φ'(z)²] for z ~ N(0, 1), by integration of autograd's derivative."""
    z = torch.linspace(-12, 12, 24_000, dtype=torch.float64, requires_grad=True)  # no point on a kink
    (slope,) = torch.autograd.grad(getattr(nn, kind)()(z).sum(), z)
    density = torch.exp(-(z.detach() ** 2) / 2) / math.sqrt(2 * math.pi)
    integral = float(torch.trapezoid(slope**2 * density, z.detach()))
    assert math.log10(integral) / 2 == pytest.approx(WORKING_DECADES[kind], abs=6e-4)


def test_shares_add_up_by_kind() -> None:
    """All modules of a kind share one line: how many were measured, what they did, what they should have done."""
    gains = {"a": 1e-3, "s": 1e-2, "b": 1e-1, "t": 1.0, "c": 1.0}
    signals = Signals(by_hand(gains, kinds={"s": "Sigmoid", "t": "Sigmoid"}))
    assert shares(signals, 0) == [
        Share("Sigmoid", "activation", 2, pytest.approx(-2.0), 2 * WORKING_DECADES["Sigmoid"]),
        Share("Linear", "weights", 2, pytest.approx(-1.0), None),
    ]
    assert sentence(signals, 0) == "−3.0 decades = 2 Sigmoid × −1.00 + 2 Linear × −0.50"
    assert totals(signals, 0) == {"activation": pytest.approx(-2.0), "weights": pytest.approx(-1.0)}


def test_functions_count_like_modules(tmp_path: Path) -> None:
    """torch.tanh between modules has its share and is among the activations, as nn.Tanh would be."""
    signals = record(Functional(), torch.randn(16, 8), tmp_path / "run")
    assert activations(signals) == ["Tanh", "Tanh"]
    found = {share.kind: share for share in shares(signals, 0)}
    assert found["Tanh"].count == 2
    assert found["Tanh"].working == pytest.approx(2 * WORKING_DECADES["Tanh"])
    assert "Mul" not in found  # it comes after the head


def test_a_final_activation_is_on_the_loss_side(tmp_path: Path) -> None:
    """What follows the head took nothing of a gain that is measured from the head on."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    signals = record(model, torch.randn(16, 8), tmp_path / "run")
    assert activations(signals) == ["ReLU"]
    assert [share.kind for share in shares(signals, 0)] in (["Linear", "ReLU"], ["ReLU", "Linear"])


def test_the_longest_chain_ends_at_a_skip_connection(tmp_path: Path) -> None:
    """Layers with weights in a row are counted between blocks that have a way around."""
    plain = record(nn.Sequential(*[nn.Linear(8, 8) for _ in range(5)]), torch.randn(4, 8), tmp_path / "plain")
    assert longest_chain(plain) == 5
    layers = (nn.Linear(8, 8), Skip(), nn.Linear(8, 8), nn.Linear(8, 8), Skip())
    assert longest_chain(record(nn.Sequential(*layers), torch.randn(4, 8), tmp_path / "skips")) == 2


# the loss


def squared_error_of(folder: Path, criterion: nn.Module, targets: torch.Tensor, **options: bool) -> Signals:
    """One recorded step of a regression."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, targets.shape[1]))
    with gradscope.watch(model, run_dir=folder, every=1) as scope:
        scope.loss(criterion(model(torch.randn(len(targets), 4)), targets)).backward()
        scope.step()
    return Signals(gradscope.read_run(folder))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_a_mean_squared_error_is_recognised(outputs: int, factor: float, tmp_path: Path) -> None:
    """‖∂L/∂h_out‖² = 4 L / N says that the loss is a mean squared error; its root is the distance from the targets."""
    targets = torch.randn(20, outputs) * factor
    signals = squared_error_of(tmp_path / "run", nn.MSELoss(), targets)
    error = squared_error(signals)
    assert error is not None
    np.testing.assert_allclose(error.root, np.sqrt(signals.run.steps["loss"]), rtol=1e-6)
    rms = signals.rms("activation")
    np.testing.assert_allclose(error.size, max(rms[signals.site("2")], rms[signals.site("1")]))
    np.testing.assert_allclose(error.ratio, error.root / error.size)


@pytest.mark.parametrize("criterion", [nn.L1Loss(), nn.MSELoss(reduction="sum"), nn.CrossEntropyLoss()], ids=str)
def test_other_losses_are_not_taken_for_one(criterion: nn.Module, tmp_path: Path) -> None:
    """An absolute error, a sum of squares and a cross-entropy are no mean squared error."""
    assert squared_error(squared_error_of(tmp_path / "run", criterion, torch.rand(20, 3))) is None


def test_no_loss_no_squared_error() -> None:
    """Without an observed loss, or with several heads, nothing is recognised."""
    assert squared_error(Signals(by_hand(CHAIN))) is None
    run = by_hand(CHAIN, loss=1.0)
    assert squared_error(Signals(replace(run, info=replace(run.info, heads=(1, 2))))) is None


# plain readings


def test_updates_are_judged_beside_their_weights() -> None:
    """The update ratio is rms(Δw) / rms(w), and undefined where all weights are 0."""
    run = by_hand(CHAIN, update={"a.weight": 0.02, "b.weight": 0.05})
    signals = Signals(change(run, "b.weight", "weight", "parameter", sum_squares=0.0))
    ratio = signals.update_ratio
    np.testing.assert_allclose(ratio[signals.site("a.weight", "parameter")], 0.02)
    assert np.isnan(ratio[signals.site("b.weight", "parameter")]).all()
    assert np.isnan(ratio[signals.site("a")]).all()


def test_exactly_zero_is_said_from_exact_counts_only() -> None:
    """A sample of zeros is no proof; all entries counted are."""
    run = by_hand(CHAIN, gradient={"a.weight": 0.0})
    weight = Signals(run).site("a.weight", "parameter")
    assert Signals(run).exactly_zero("gradient")[weight].all()
    sampled = change(run, "a.weight", "gradient", "parameter", sample_size=512.0)
    assert not Signals(sampled).exactly_zero("gradient")[weight].any()
    assert not Signals(run).exactly_zero("first_moment").any()


def test_norm_rms_and_shares() -> None:
    """Plain readings: L2 norm, root mean square, a count as a share."""
    signals = Signals(by_hand(CHAIN, activation={"a": 0.5}, zeros=0.25))
    site = signals.site("a")
    np.testing.assert_allclose(signals.norm("activation")[site], 0.5 * math.sqrt(1000))
    np.testing.assert_allclose(signals.rms("activation")[site], 0.5)
    np.testing.assert_allclose(signals.share("activation_gradient", "zeros")[site], 0.25)


def test_the_first_non_finite_step_names_its_sites_in_order() -> None:
    """The first recorded step with NaN or Inf and where, in execution order, a shared tensor once."""
    broken = [1.0, 1.0, NAN, NAN]
    signals = Signals(by_hand(CHAIN, activation={"c": broken, "b": [1.0, 1.0, 1.0, math.inf]}, steps=4))
    assert signals.first_non_finite("activation") == (2, [signals.site("c")])  # not the model's, which is the same
    signals = Signals(by_hand(CHAIN, activation={"c": broken, "a": broken}, steps=4))
    assert signals.first_non_finite("activation") == (2, [signals.site("a"), signals.site("c")])
    assert signals.first_non_finite("weight") is None
    assert signals.non_finite("activation")[signals.site("a")].tolist() == [False, False, True, True]


def test_only_recorded_steps_have_columns() -> None:
    """Columns follow the recorded steps, and a site without a row there is NaN."""
    run = by_hand(CHAIN)
    rows = run.summaries[np.isin(run.summaries["step"], (0, 5, 7))]
    rows = rows[(rows["site"] != 1) | (rows["step"] != 5)]
    signals = Signals(replace(run, summaries=rows))
    assert signals.steps.tolist() == [0, 5, 7]
    assert np.isnan(signals.norm("activation")[1]).tolist() == [False, True, False]


def test_sites_are_found_by_path_and_role() -> None:
    """Layers are the modules that hold no other; parameters come in the order of their modules, and have an owner."""
    signals = Signals(by_hand(CHAIN))
    names = [signals.sites[i].path for i in signals.layers]
    assert names == ["a", "b", "c"]
    assert [signals.sites[i].path for i in signals.modules] == ["", *names]
    assert [signals.sites[i].path for i in signals.parameters] == ["a.weight", "b.weight", "c.weight"]
    weight = signals.site("b.weight", "parameter")
    assert signals.parameters_of(signals.site("b")) == [weight]
    assert signals.owner(weight) == signals.site("b")
    with pytest.raises(KeyError, match="no input site 'b' in this run"):
        signals.site("b", "input")


def test_infinite_gradients_are_read_without_a_warning() -> None:
    """A run full of Inf and NaN has signals too."""
    signals = Signals(by_hand({"a": math.inf, "b": NAN, "c": math.inf}, update={"a.weight": math.inf}, loss=math.inf))
    for series in (signals.backward_gain, signals.unpooled_gain):
        assert not np.isfinite(series).any()
    assert (signals.update_ratio[signals.site("a.weight", "parameter")] == math.inf).all()
    tree = budget(signals)
    assert tree is not None
    assert mechanism_totals(tree) == totals(signals, 0) == {}
    assert (shares(signals, 0), squared_error(signals)) == ([], None)
