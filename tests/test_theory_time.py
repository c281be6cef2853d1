"""Rows T24 and T25: gradients through time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import gradscope
from gradscope.signals import Signals


def profile(model: nn.Module, inputs: torch.Tensor, folder: Path, path: str = "") -> NDArray[np.float64]:
    """The gradient's norm at each time step when the loss looks at the last output, over that at the last."""
    torch.manual_seed(1)
    with gradscope.watch(model, run_dir=folder, every=1) as scope:
        outputs = model(inputs)
        last = (outputs[0] if isinstance(outputs, tuple) else outputs)[-1]
        scope.loss((last * torch.randn_like(last)).sum()).backward()
        scope.step()
    signals = Signals(gradscope.read_run(folder))
    norms = signals.time_profile(signals.site(path))[0]
    return np.asarray(norms / norms[-1])


@pytest.mark.parametrize(
    ("bias", "kept"), [(0.0, 7.9e-31), (1.0, 2.48e-14), (2.0, 3.07e-6), (3.0, 7.76e-3), (5.0, 0.511)]
)
def test_t24_an_lstm_keeps_what_its_forget_gate_lets_through(bias: float, kept: float, tmp_path: Path) -> None:
    """T24: ∂c_T/∂c_0 is the product of the forget gates σ(b_f): over 100 steps 7.9e-31 with b_f = 0, half with 5."""
    assert (1 / (1 + math.exp(-bias))) ** 100 == pytest.approx(kept, rel=5e-3)
    width, steps = 4, 102  # bins of two time steps: the first and the last lie 100 apart
    lstm = nn.LSTM(3, width)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.weight_ih_l0[2 * width : 3 * width].normal_(std=1e-3)  # what is written into the cell: linear, so small
        lstm.bias_ih_l0[width : 2 * width] = bias
    through_time = profile(lstm, torch.randn(steps, 2, 3), tmp_path / "run")
    assert len(through_time) == steps // 2
    assert through_time[0] == pytest.approx(kept, rel=5e-3)


@pytest.mark.parametrize(("factor", "size"), [(1.0, 1e-6), (0.9, 1e-6), (0.9, 1.0), (1.1, 1e-6)])
def test_t25_a_tanh_rnn_multiplies_by_its_weights_at_most(factor: float, size: float, tmp_path: Path) -> None:
    """T25: ρ times an orthogonal W gives ρ^T where tanh is linear, else less: ρ < 1 is enough for vanishing."""
    torch.manual_seed(0)
    rnn = nn.RNN(16, 16, bias=False).double()
    for weight in rnn.parameters():
        nn.init.orthogonal_(weight)
    rnn.weight_hh_l0.data.mul_(factor)
    through_time = profile(rnn, size * torch.randn(50, 4, 16, dtype=torch.float64), tmp_path / "run")
    expected = factor ** np.arange(49, -1, -1)
    if size < 1:
        np.testing.assert_allclose(through_time, expected, rtol=1e-3)
    else:
        each = through_time[:-1] / through_time[1:]
        assert (each < factor).all()
        assert through_time[0] < 0.1 * expected[0]


class SigmoidCell(nn.Module):
    """h_t = σ(W h_{t-1} + b + x_t), with b so that units rest at ½, where σ' is ¼."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        nn.init.orthogonal_(self.hidden.weight).data.mul_(factor)
        self.hidden.bias.data = -self.hidden.weight.data.sum(1) / 2

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.hidden(h) + x)


class SigmoidRNN(nn.Module):
    """The cell in a loop."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.cell = SigmoidCell(width, factor)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        states = [torch.full_like(inputs[0], 0.5)]
        for x in inputs:
            states.append(self.cell(x, states[-1]))
        return torch.stack(states[1:])


@pytest.mark.parametrize(("factor", "each"), [(4.0, 1.0), (3.6, 0.9), (1.0, 0.25)])
def test_t25_a_sigmoid_rnn_vanishes_below_four(factor: float, each: float, tmp_path: Path) -> None:
    """T25: with γ = ¼ of the sigmoid the border is ρ = 4: each step passes on ρ/4 at most."""
    torch.manual_seed(0)
    model = SigmoidRNN(16, factor).double()
    through_time = profile(model, 1e-6 * torch.randn(30, 4, 16, dtype=torch.float64), tmp_path / "run", "cell")
    np.testing.assert_allclose(through_time, each ** np.arange(29, -1, -1), rtol=1e-3)
