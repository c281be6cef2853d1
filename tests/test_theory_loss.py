"""Rows T15 to T18: what the loss hands to the model's output."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Run
from gradscope.signals import Signals
from tests.theory import INPUTS


def one_step(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, folder: Path) -> Run:
    """One recorded step of cross-entropy."""
    with gradscope.watch(model, run_dir=folder, every=1) as scope:
        scope.loss(nn.CrossEntropyLoss()(model(inputs), labels)).backward()
        scope.step()
    return gradscope.read_run(folder)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_t15_cross_entropy_at_the_start(classes: int, tmp_path: Path) -> None:
    """T15: with zero logits the loss is ln K, and each sample's gradient √((1-1/K)² + (K-1)/K²), over B for a mean."""
    model = nn.Linear(6, classes)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    run = one_step(model, torch.randn(INPUTS, 6), torch.randint(classes, (INPUTS,)), tmp_path / "run")
    sample = math.sqrt((1 - 1 / classes) ** 2 + (classes - 1) / classes**2)
    assert run.steps["loss"][0] == pytest.approx(math.log(classes), rel=1e-5)
    assert Signals(run).head_norm[0] == pytest.approx(sample / math.sqrt(INPUTS), rel=1e-5)


@pytest.mark.parametrize(("classes", "floor"), [(2, 0.31326), (10, 1.46115), (1000, 5.90947)])
def test_t16_two_softmaxes_have_a_floor(classes: int, floor: float, tmp_path: Path) -> None:
    """T16: cross-entropy of a softmax's output cannot fall below ln(e + K - 1) - 1, however right the logits are."""
    assert math.log(math.e + classes - 1) - 1 == pytest.approx(floor, abs=5e-6)
    model = nn.Sequential(nn.Linear(classes, classes, bias=False), nn.Softmax(1))
    labels = torch.arange(classes)
    for certainty, folder in ((200.0, "right"), (2.0, "nearly"), (-200.0, "wrong")):
        nn.init.eye_(model[0].weight).data.mul_(certainty)
        run = one_step(model, torch.eye(classes), labels, tmp_path / folder)
        if folder == "right":
            assert run.steps["loss"][0] == pytest.approx(floor, rel=1e-5)
        else:
            assert run.steps["loss"][0] > floor + 0.01


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
    found = {finding.rule: finding for finding in diagnosis.findings}
    assert set(found) == {"output-loss-mismatch", "untrained-parameter"}
    assert found["untrained-parameter"].layers == ("0", "2")
    for finding in found.values():
        assert (finding.severity, finding.causes[0].id) == ("error", "output-activation")


@pytest.mark.parametrize("classes", [3, 10])
def test_t18_the_last_biases_gradients_add_up_to_zero(classes: int, tmp_path: Path) -> None:
    """T18: Σ_k ∂CE/∂logit_k = 0, so what the biases of the output get sums to 0, and no one of them is 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)).double()
    inputs, labels = torch.randn(INPUTS, 6, dtype=torch.float64), torch.randint(classes, (INPUTS,))
    signals = Signals(one_step(model, inputs, labels, tmp_path / "run"))
    for site in (signals.site("2.bias", "parameter"), signals.site("2")):
        quantity = "gradient" if signals.sites[site].role == "parameter" else "activation_gradient"
        total, size = signals.values(quantity, "sum")[site, 0], signals.norm(quantity)[site, 0]
        assert abs(total) <= 1e-12 * size
        assert signals.values(quantity, "minimum")[site, 0] < 0 < signals.values(quantity, "maximum")[site, 0]
