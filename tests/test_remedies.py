"""What every remedy promises: causes that exist, a reason with this run's numbers, code that runs."""

from __future__ import annotations

import ast
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.catalogue import remedies, rules
from gradscope.errors import NotApplicable
from gradscope.records import Cause, Evidence, Finding, OptimizerInfo, Run
from gradscope.remedies import Remedy
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.test_rules import CAUSES, RULES

# The ids that the design promises.
REMEDIES = [
    *("gradient-clipping", "initialization", "skip-connection", "batch-norm", "layer-norm", "activation-swap"),
    *("lower-learning-rate", "raise-learning-rate", "warmup", "zero-grad", "standardize-inputs"),
    *("standardize-targets", "change-loss", "change-output-activation", "loss-scaling", "gated-recurrence"),
    *("optimizer-swap", "lower-dropout", "reattach", "add-to-optimizer", "residual-scaling", "larger-batch"),
    *("synchronise-ranks", "lower-weight-decay"),
]

CHAIN = {"a": 1e-5, "s": 1e-4, "b": 1e-2, "t": 1e-1, "c": 1.0}
SIGMOID = by_hand(CHAIN, kinds={"s": "Sigmoid", "t": "Sigmoid"}, loss=1.0)
RUNS = {
    "sigmoid": SIGMOID,
    "tanh": by_hand(CHAIN, kinds={"s": "Tanh", "t": "Tanh"}, optimizer="Adam", loss=1.0),
    "linear": by_hand({"a": 1e5, "b": 1.0}),
    "convolution": by_hand(CHAIN, kinds={"a": "Conv2d", "s": "ReLU", "b": "Conv2d", "t": "ReLU"}),
    "thrown": by_hand(CHAIN, update=dict.fromkeys(("a.weight", "b.weight", "c.weight"), 5.0), loss=[1.0, math.inf] * 4),
    "broken": by_hand(dict.fromkeys(CHAIN, math.nan), loss=math.nan, update={"a.weight": math.nan}),
    "nothing known": replace(
        by_hand({"a": 0.0, "c": 0.0}),
        learning_rates=np.full((8, 1), math.nan),
        info=replace(SIGMOID.info, optimizers=()),
    ),
}

ALL_REMEDIES = [pytest.param(remedy, id=identity) for identity, remedy in remedies().items()]


def finding_with(cause: str, evidence: float = 1e-5, rule: str = "vanishing-gradient") -> Finding:
    """A finding of one cause."""
    return Finding(
        rule,
        "error",
        ("a", "b"),
        0,
        7,
        "Gradients vanish",
        (Evidence("backward gain at a", evidence),),
        (Cause(cause, 0.9, ""),),
    )


def namespace() -> dict[str, object]:
    """What the user's script holds where the code is pasted."""
    torch.manual_seed(0)
    layers = [
        ("a", nn.Linear(4, 4)),
        ("s", nn.Sigmoid()),
        ("b", nn.Linear(4, 4)),
        ("t", nn.Tanh()),
        ("c", nn.Linear(4, 1)),
    ]
    model = nn.Sequential(OrderedDict(layers))
    x, y, criterion = torch.randn(8, 4), torch.randn(8, 1), nn.MSELoss()
    return {
        "torch": torch,
        "model": model,
        "optimizer": torch.optim.SGD(model[0].parameters(), lr=0.1),
        "loss": criterion(model(x), y),
        "criterion": criterion,
        "x": x,
        "y": y,
        "y_train": y,
        "n": 4,
        "c": 4,
    }


def test_a_remedy_is_suggested_only_where_it_can_be_applied() -> None:
    """Residual branches can be scaled in a model that has some; a plain chain has none."""
    chain = by_hand(CHAIN)
    link = chain.info.links[1]
    joined = replace(
        chain, info=replace(chain.info, links=(*chain.info.links, replace(link, operations=("AddBackward0",))))
    )
    scaling = remedies()["residual-scaling"]
    assert (scaling.possible(Signals(chain)), scaling.possible(Signals(joined))) == (False, True)


@pytest.mark.parametrize("remedy", ALL_REMEDIES)
def test_a_remedy_cures_causes_that_exist(remedy: Remedy) -> None:
    """A remedy names causes of the design, each with how well it works from 0 to 1, and its sources."""
    assert remedy.id in REMEDIES
    assert type(remedy).__module__ == f"gradscope.remedies.{remedy.id.replace('-', '_')}"
    assert remedy.cures
    assert set(remedy.cures) <= set(CAUSES)
    assert all(0 < strength <= 1 for strength in remedy.cures.values())
    assert remedy.sources
    assert all(remedy.sources)
    assert remedy.title
    assert not remedy.title.endswith(".")


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("remedy", ALL_REMEDIES)
def test_advice_is_complete(remedy: Remedy, run: Run) -> None:
    """For each cause that it cures a remedy gives a reason in sentences and code that parses, whatever was recorded."""
    for cause in remedy.cures:
        suggestion = remedy.advice(finding_with(cause), Signals(run))
        assert (suggestion.remedy, suggestion.title) == (remedy.id, remedy.title)
        assert suggestion.trial is None
        assert suggestion.why.endswith(".")
        assert re.search(r"\d", suggestion.why) or len(suggestion.why.split()) >= 8
        assert ast.parse(suggestion.code).body
        assert not re.search(r"\b(nan|inf)\b", suggestion.why + suggestion.code, re.IGNORECASE)
        assert "None" not in suggestion.why
        assert max(map(len, suggestion.code.splitlines())) <= 120


@pytest.mark.parametrize("run", [RUNS["sigmoid"], RUNS["tanh"], RUNS["thrown"]], ids=["sigmoid", "tanh", "thrown"])
@pytest.mark.parametrize("remedy", ALL_REMEDIES)
def test_the_code_runs_where_it_is_pasted(remedy: Remedy, run: Run) -> None:
    """The code needs no more than `model`, `optimizer` and what a training loop holds."""
    for cause in remedy.cures:
        exec(remedy.advice(finding_with(cause), Signals(run)).code, namespace())


@pytest.mark.parametrize("remedy", ALL_REMEDIES)
def test_a_remedy_suits_what_it_cures(remedy: Remedy) -> None:
    """It fits a finding by the confidence of each cause times how well it cures that, summed; else not at all."""
    (first, strength), *_ = remedy.cures.items()
    rule = remedy.only_for.get(first, ("vanishing-gradient",))[0]
    other = next(cause for cause in CAUSES if cause not in remedy.cures)
    assert remedy.suits(finding_with(first, rule=rule)) == pytest.approx(0.9 * strength)
    assert remedy.suits(finding_with(other, rule=rule)) == 0
    causes = (Cause(first, 0.5, ""), Cause(first, 0.25, ""), Cause(other, 1.0, ""))
    assert remedy.suits(replace(finding_with(first, rule=rule), causes=causes)) == pytest.approx(0.75 * strength)


@pytest.mark.parametrize("remedy", ALL_REMEDIES)
def test_a_remedy_for_some_rules_is_for_no_other(remedy: Remedy) -> None:
    """A cause that many rules name is cured in the findings of those rules alone that the remedy is made for."""
    for cause, rules_ in remedy.only_for.items():
        assert cause in remedy.cures
        assert set(rules_) <= set(RULES)
        assert remedy.suits(finding_with(cause, rule="unequal-replicas")) == 0


def test_every_cause_that_a_rule_names_has_a_cure() -> None:
    """What the rules' own cases blame, some remedy works against; how a path died is for the user to see."""
    named = {
        cause.id
        for rule in rules().values()
        for case in rule.cases()
        if case.layers
        for finding in rule.check(Signals(case.run))
        for cause in finding.causes
    }
    cured = {cause for remedy in remedies().values() for cause in remedy.cures}
    assert named <= cured


# each by itself


def advice(remedy: str, cause: str, run: Run, evidence: float = 1e-5) -> tuple[str, str]:
    """What a remedy says: why and code."""
    suggestion = remedies()[remedy].advice(finding_with(cause, evidence), Signals(run))
    return suggestion.why, suggestion.code


@pytest.mark.parametrize(
    ("run", "scheme"), [("convolution", "kaiming_normal_"), ("tanh", "xavier_normal_"), ("linear", "kaiming_normal_")]
)
def test_initialization_follows_the_activation(run: str, scheme: str) -> None:
    """He for ReLU, Xavier for tanh, for the kinds of layers that the model has."""
    why, code = advice("initialization", "init-too-small", RUNS[run])
    assert scheme in code
    assert ("Conv2d" in code) == (run == "convolution")
    assert "pass on about 1" in why


def test_initialization_says_what_a_layer_passes_on_now() -> None:
    """The geometric mean over the depth: 1e-5 over two layers after the first is 0.003 each."""
    why, _ = advice("initialization", "init-too-small", RUNS["tanh"])
    assert why.startswith("A layer passes on 0.00316 of the gradient now. ")


def test_initialization_does_not_promise_what_it_cannot_keep() -> None:
    """No initialization makes up for a sigmoid (THEORY T8), and the advice says so."""
    why, _ = advice("initialization", "init-too-small", RUNS["sigmoid"])
    assert "cannot make up for Sigmoid, which passes on 0.21" in why


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh"])
def test_activation_swap_replaces_what_lets_least_through(name: str) -> None:
    """The code swaps the contracting activation for ReLU, draws for it, and leaves the others."""
    _, code = advice("activation-swap", "activation-contracts", RUNS[name.lower()])
    scope = namespace()
    exec(code, scope)
    model = scope["model"]
    assert isinstance(model, nn.Sequential)
    expected = ["Linear", "Sigmoid", "Linear", "Tanh", "Linear"]
    expected[expected.index(name)] = "ReLU"
    assert [type(module).__name__ for module in model] == expected


def functions(function: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    """A run whose activations are functions between modules."""
    node = {torch.sigmoid: "SigmoidBackward0", torch.tanh: "TanhBackward0"}[function]
    run = by_hand({"a": 1e-5, "b": 1e-2, "c": 1.0})
    links = tuple(replace(link, operations=(node,)) if link.target is not None else link for link in run.info.links)
    return replace(run, info=replace(run.info, links=links))


def test_advice_sees_functions_as_it_sees_modules() -> None:
    """torch.sigmoid in a forward is an activation too: it is named, and replaced where it is written."""
    why, code = advice("activation-swap", "activation-contracts", functions(torch.sigmoid))
    assert why.startswith("A Sigmoid ")
    assert code.startswith("# in forward: torch.relu(...) instead of sigmoid(...)")
    assert "xavier_normal_" in advice("initialization", "init-too-large", functions(torch.tanh))[1]
    assert "torch.nn.Tanh()" in advice("batch-norm", "init-too-large", functions(torch.tanh))[1]


def test_the_forgotten_parameters_are_handed_over() -> None:
    """Exactly what requires a gradient and no group holds, so that torch does not refuse a parameter that it has."""
    scope = namespace()
    model, optimizer = scope["model"], scope["optimizer"]
    assert isinstance(model, nn.Sequential)
    assert isinstance(optimizer, torch.optim.Optimizer)
    model[2].bias.requires_grad_(False)
    exec(advice("add-to-optimizer", "not-in-optimizer", SIGMOID)[1], scope)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters() if parameter is not model[2].bias}


@pytest.mark.parametrize(("norm", "bound"), [(0.3, 0.3), (500.0, 1.0), (1e-6, 1.0), (math.nan, 1.0)])
def test_the_bound_of_clipping_is_the_runs_own_norm_where_that_is_moderate(norm: float, bound: float) -> None:
    """The median norm of the run, or 1, the usual choice."""
    steps = SIGMOID.steps.copy()
    steps["gradient_norm"] = norm
    _, code = advice("gradient-clipping", "no-clipping", replace(SIGMOID, steps=steps))
    assert f"max_norm={bound:.2g})" in code


def test_the_learning_rate_is_lowered_by_what_is_too_much() -> None:
    """Steps of 5 times the weights' size want a five-hundredth of the learning rate: 0.01 becomes 2e-5."""
    why, code = advice("lower-learning-rate", "learning-rate-too-high", RUNS["thrown"])
    assert why.startswith("A step moves the weights by 5.00 times their size")
    assert code == "optimizer = torch.optim.SGD(model.parameters(), lr=2e-05)"


def test_an_unknown_learning_rate_is_lowered_too() -> None:
    """Where neither the rate nor the optimizer is known the code multiplies what is there."""
    _, code = advice("lower-learning-rate", "learning-rate-too-high", RUNS["nothing known"])
    scope = namespace()
    exec(code, scope)
    optimizer = scope["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_skip_connections_go_around_blocks() -> None:
    """The class in the code adds a block's input to its output."""
    scope = namespace()
    exec(advice("skip-connection", "depth-without-skip", SIGMOID)[1], scope)
    block = scope["Residual"](nn.Identity())  # type: ignore[operator]
    assert block(torch.ones(2)).tolist() == [2, 2]


def test_a_unit_that_died_gets_a_slope_on_its_closed_side() -> None:
    """Against dead units the swap is for LeakyReLU, and leaves every other layer as it is."""
    finding = finding_with("dead-path", rule="dead-units")
    scope = namespace()
    model = scope["model"]
    assert isinstance(model, nn.Sequential)
    model[1] = nn.ReLU()
    exec(remedies()["activation-swap"].advice(finding, Signals(RUNS["convolution"])).code, scope)
    assert [type(module).__name__ for module in model] == ["Linear", "LeakyReLU", "Linear", "Tanh", "Linear"]


def test_normalisation_of_a_batch_becomes_one_of_groups_of_channels() -> None:
    """Each BatchNorm is replaced by a GroupNorm that its channels can be divided among."""
    scope = namespace()
    scope["model"] = model = nn.Sequential(nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.Sequential(nn.BatchNorm2d(7)))
    finding = finding_with("dead-path", rule="normalization-fault")
    exec(remedies()["layer-norm"].advice(finding, Signals(SIGMOID)).code, scope)
    assert [(module.num_groups, module.num_channels) for module in (model[1], model[2][0])] == [(1, 12), (1, 7)]  # type: ignore[union-attr]


def test_gates_start_open() -> None:
    """The update gate's third of a GRU's input bias is 3, the rest as torch drew it."""
    scope = namespace()
    exec(advice("gated-recurrence", "long-backprop-chain", SIGMOID)[1], scope)
    rnn = scope["rnn"]
    assert isinstance(rnn, nn.GRU)
    bias = rnn.bias_ih_l0
    assert isinstance(bias, torch.Tensor)
    assert bias[4:8].tolist() == [3.0] * 4
    assert bias[:4].abs().max() < 1
    assert bias[8:].abs().max() < 1


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_gates_that_are_there_are_opened(kind: str) -> None:
    """A model of gated layers keeps them: the code sets the second part of their biases, as the remedy does."""
    run = by_hand({"a": 1e-5, "b": 1.0}, kinds={"a": kind})
    why, code = advice("gated-recurrence", "long-backprop-chain", run)
    assert why.startswith("A bias of 3 lets 0.953 of the state pass at each time step")
    scope = namespace()
    scope["model"] = model = getattr(nn, kind)(4, 4)
    exec(code, scope)
    acted = getattr(nn, kind)(4, 4)
    remedies()["gated-recurrence"].apply(nn.ModuleList([acted]), bias=3.0)
    assert model.bias_ih_l0[4:8].tolist() == acted.bias_ih_l0[4:8].tolist() == [3.0] * 4


@pytest.mark.parametrize(("name", "activation"), [("ReLU", nn.ReLU), ("Tanh", nn.Tanh)])
def test_the_code_draws_what_the_remedy_draws(name: str, activation: type[nn.Module]) -> None:
    """Layer by layer weights of one size, orthogonal where they are square, biases of 0: pasted, or applied by a trial."""
    layers = {"0": (30, 64), "2": (64, 64), "4": (64, 5)}
    labels = {path: f"Linear(in_features={n}, out_features={m}, bias=True)" for path, (n, m) in layers.items()}
    chain, kinds = {"0": 1e-5, "1": 1e-4, "2": 1e-2, "3": 1e-1, "4": 1.0}, {"1": name, "3": name}
    run = by_hand(chain, kinds=kinds)
    sites = tuple(replace(site, label=labels.get(site.path, site.label)) for site in run.info.sites)
    run = replace(run, info=replace(run.info, sites=sites))
    pasted, applied = (
        nn.Sequential(nn.Linear(30, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 5)) for _ in "ab"
    )
    scope = namespace()
    scope["model"] = pasted
    exec(advice("initialization", "init-too-small", run)[1], scope)
    dose = remedies()["initialization"].dose(finding_with("init-too-small"), Signals(run))
    remedies()["initialization"].apply(applied, **dose)
    for one, other in zip(pasted, applied, strict=True):
        if isinstance(one, nn.Linear) and isinstance(other, nn.Linear):
            assert one.weight.std().item() == pytest.approx(other.weight.std().item(), rel=0.15)
            assert one.bias.tolist() == other.bias.tolist() == [0.0] * len(one.bias)
    square = pasted[2].weight
    assert isinstance(square, torch.Tensor)
    assert torch.allclose(square @ square.T, torch.eye(64) * (2 if name == "ReLU" else 1), atol=1e-4)


def test_skips_are_scaled_as_the_remedy_scales_them() -> None:
    """1/√(number of blocks) stands in the code, too."""
    run = by_hand({"a": 1e-5, "b": 1e-2, "c": 1e-1, "d": 1.0})
    label = "Linear(in_features=8, out_features=8, bias=True)"
    sites = tuple(replace(site, label=label) if site.path in ("a", "b", "c", "d") else site for site in run.info.sites)
    _, code = advice("skip-connection", "depth-without-skip", replace(run, info=replace(run.info, sites=sites)))
    assert "return x + 0.5 * self.block(x)  # 1/√(number of blocks)" in code


@pytest.mark.parametrize(
    ("kind", "eps", "possible"), [("SGD", 1e-8, True), ("Adam", 1e-8, False), ("Adam", 1e-3, True)]
)
def test_an_adam_is_not_told_to_become_one(kind: str, eps: float, possible: bool) -> None:
    """Unless its eps is what keeps its steps short."""
    held = (OptimizerInfo(kind, {"lr": 1e-6, "eps": eps}),)
    run = replace(SIGMOID, info=replace(SIGMOID.info, optimizers=held))
    assert remedies()["optimizer-swap"].possible(Signals(run)) is possible


def test_dropout_that_is_off_in_training_is_called_by_its_cure() -> None:
    """It is the mode that is wrong, not the rate."""
    remedy, finding = remedies()["lower-dropout"], finding_with("frozen", rule="dropout-fault")
    assert remedy.advice(finding, Signals(SIGMOID)).title == "Put the model into training mode"
    tests = replace(finding, evidence=(Evidence("forwards without gradients in training mode", 0.9),))
    assert remedy.advice(tests, Signals(SIGMOID)).title == "Put the model into eval mode for tests"


def test_dropout_is_lowered_never_raised() -> None:
    """0.9 becomes 0.2; 0.1 stays."""
    scope = namespace()
    scope["model"] = model = nn.Sequential(nn.Dropout(0.9), nn.Dropout2d(0.1))
    finding = finding_with("dead-path", rule="dropout-fault")
    exec(remedies()["lower-dropout"].advice(finding, Signals(SIGMOID)).code, scope)
    assert [module.p for module in model] == [0.2, 0.1]


def test_a_scaled_residual_starts_as_the_identity() -> None:
    """x + 0 · F(x)."""
    scope = namespace()
    exec(advice("residual-scaling", "norm-at-init", SIGMOID)[1], scope)
    block = scope["ScaledResidual"](nn.Linear(2, 2))  # type: ignore[operator]
    assert block(torch.ones(2)).tolist() == [1, 1]


def test_residual_scaling_suits_what_grew_through_sums() -> None:
    """The evidence decides, not the cause, which a plain stack of layers shares."""
    plain = finding_with("init-too-large", rule="poor-initialization")
    summed = replace(plain, evidence=(Evidence("growth through residual sums", 4e3),))
    remedy = remedies()["residual-scaling"]
    assert (remedy.suits(plain), remedy.suits(summed)) == (0, 1)


def test_weight_decay_is_lowered_to_a_hundredth_of_what_the_data_do() -> None:
    """A decay of 0.2 on weights of 1 beside gradients of 0.1 pulls twice as hard as the data: 0.005 of it is left."""
    small = {"a.weight": 0.1, "b.weight": 0.1}
    run = by_hand({"a": 1.0, "b": 1.0}, gradient=small, loss=1.0)
    run = replace(run, info=replace(run.info, optimizers=(OptimizerInfo("SGD", {"weight_decay": 0.2}),)))
    why, code = advice("lower-weight-decay", "regularization-too-strong", run)
    assert why.startswith("A decay of 0.200 leaves the data 33.3 % of what moves the weights; 0.00500 times as much")
    assert code == 'for group in optimizer.param_groups:\n    group["weight_decay"] *= 0.005'
    finding = finding_with("regularization-too-strong")
    assert remedies()["lower-weight-decay"].dose(finding, Signals(run)) == {"factor": 0.005}


def test_lowered_weight_decay_is_put_back() -> None:
    """Groups that decay get the factor, others stay at 0; undone, all are as they were."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups: list[dict[str, Any]] = [
        {"params": model[0].parameters(), "weight_decay": 0.2},
        {"params": model[1].parameters()},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    applied = remedies()["lower-weight-decay"].apply(model, optimizer, factor=0.01)
    assert applied.changes == ["weight decay is 0.002, was 0.2"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2 * 0.01, 0]
    applied.undo()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0]


def test_a_penalty_in_the_loss_is_out_of_a_remedys_reach() -> None:
    """Without weight decay in the optimizer the remedy says where the penalty can be lowered."""
    model = nn.Linear(2, 2)
    with pytest.raises(
        NotApplicable,
        match="lower-weight-decay: the optimizer has no weight decay; a penalty that the program adds to the loss is "
        "lowered there",
    ):
        remedies()["lower-weight-decay"].apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
