"""Gradients through time: read at the input of recurrent modules, or call by call in loops written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import gradscope
from gradscope.recorder.recurrent import MOST_BINS, spans
from gradscope.signals import Signals
from tests.specimens import Cell, Specimen, assert_same, batch, classified, train

LENGTHS = torch.tensor([8, 3, 5, 6, 8, 1, 2, 7])


class Reader(nn.Module):
    """A recurrent module that reads an image row by row, its last output or all of them classified."""

    def __init__(self, make: Callable[[], nn.Module], packed: bool = False, last: bool = False) -> None:
        super().__init__()
        self.recurrent = make()
        directions = 2 if self.recurrent.bidirectional else 1
        self.head = nn.Linear(directions * (self.recurrent.proj_size or self.recurrent.hidden_size), 10)
        self.packed, self.last = packed, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.recurrent.batch_first
        x = x.view(-1, 8, 8) if first else x.view(-1, 8, 8).transpose(0, 1)
        if not self.packed:
            outputs, _ = self.recurrent(x)
        else:
            rows = pack_padded_sequence(x, LENGTHS, batch_first=first, enforce_sorted=False)
            packed, _ = self.recurrent(rows)
            outputs, _ = pad_packed_sequence(packed, batch_first=first)
        time = 1 if first else 0
        return self.head(outputs.select(time, -1) if self.last else outputs.mean(time))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: nn.RNN(8, 16),
    "LSTM, batch first": lambda: nn.LSTM(8, 16, batch_first=True),
    "GRU, two layers, both directions": lambda: nn.GRU(8, 16, 2, bidirectional=True),
    "LSTM with dropout": lambda: nn.LSTM(8, 16, 3, dropout=0.3, batch_first=True),
}


def profile_by_torch(specimen: Specimen, *, first: bool, packed: bool) -> np.ndarray:
    """The gradient's norm at each time step of the recurrent module's input, by autograd at a leaf."""
    torch.manual_seed(0)
    model = specimen.make()
    leaves: list[torch.Tensor] = []

    def exchange(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        data = args[0].data if packed else args[0]
        leaves.append(data.detach().requires_grad_())
        return (args[0]._replace(data=leaves[0]) if packed else leaves[0], *args[1:])

    model.recurrent.register_forward_pre_hook(exchange)
    specimen.loss(model, 0).backward()
    gradient = leaves[0].grad
    assert gradient is not None
    if packed:
        sizes = [int((step < LENGTHS).sum()) for step in range(8)]
        return np.array([float(part.double().norm()) for part in gradient.split(sizes)])
    return np.array([float(part.double().norm()) for part in gradient.unbind(1 if first else 0)])


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", MODULES)
def test_the_profile_is_the_gradient_at_the_input(name: str, packed: bool, tmp_path: Path) -> None:
    """Each time step's norm is autograd's, and the training is bit for bit what it is without us."""
    specimen = Specimen(lambda: Reader(MODULES[name], packed), classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    assert run.info.not_observed == ()
    signals = Signals(run)
    profile = signals.time_profile(signals.site("recurrent"))
    assert profile.shape == (3, 8)
    expected = profile_by_torch(specimen, first="batch first" in name or "dropout" in name, packed=packed)
    assert profile[0] == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(signals.own_gain(signals.site("recurrent"))).all()


def test_the_profile_of_a_second_layer_is_read_where_it_is_fed(tmp_path: Path) -> None:
    """A recurrent module whose input has a gradient of its own is given that very input; the profile adds up to δ_in."""

    class Two(nn.Module):
        """The second GRU's input is used elsewhere too."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.GRU(8, 16, batch_first=True), nn.GRU(16, 16, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, _ = self.one(x.view(-1, 8, 8))
            return self.head((self.two(first)[0] + first).mean(1))

    specimen = Specimen(Two, classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    two = signals.site("two")
    (fed,) = signals.sites[two].inputs
    part = signals.norm("activation_gradient")[fed]
    assert np.sqrt(np.square(signals.time_profile(two)).sum(1)) == pytest.approx(part, rel=1e-5)
    whole = signals.norm("activation_gradient")[signals.site("one")]
    assert (np.abs(whole / part - 1) > 0.05).all()  # the skip's part is not the GRU's


def linear_rnn(factor: float) -> nn.Module:
    """An RNN that tiny inputs keep linear; its recurrent weights are `factor` times orthogonal."""
    rnn = nn.RNN(16, 16, bias=False)
    nn.init.orthogonal_(rnn.weight_ih_l0)
    nn.init.orthogonal_(rnn.weight_hh_l0)
    rnn.weight_hh_l0.data.mul_(factor)
    return rnn


@pytest.mark.parametrize("factor", [1.0, 0.5])
@pytest.mark.parametrize("length", [20, 100])
def test_t25_a_linear_rnn_multiplies_by_its_weights(factor: float, length: int, tmp_path: Path) -> None:
    """T25: with orthogonal recurrent weights the profile is flat; times one half it is 0.5^k, over float32's range too."""
    torch.manual_seed(0)
    model = linear_rnn(factor)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    pixels = torch.randn(length, 4, 16) * 1e-5
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        outputs, _ = model(pixels)
        scope.loss((outputs[-1] * torch.randn(4, 16)).sum()).backward()
        optimizer.step()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    profile = signals.time_profile(signals.site(""))[0]
    spans_of = spans(length)
    each = factor ** (length - 1 - np.arange(length, dtype=float))
    expected = np.array([np.sqrt(np.square(each[start:stop]).sum()) for start, stop in spans_of])
    last = np.sqrt(np.square(profile[-1]) / np.square(expected[-1]))
    assert len(profile) == len(spans_of) <= MOST_BINS
    assert profile / last == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, None], ids=["RNN", "GRU", "LSTM", "own"])
def test_a_cell_in_a_loop_has_its_hidden_states_gradients(kind: type[nn.Module] | None, tmp_path: Path) -> None:
    """Call by call, the gradient at what the cell hands to its next call, state tensors joined, is autograd's."""
    specimen = Specimen(lambda: Cell(kind), classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    profile = signals.time_profile(signals.site("cell"))
    torch.manual_seed(0)
    model = specimen.make()
    squares = [0.0] * 8
    calls = iter(range(8))

    def after(_: nn.Module, __: Any, output: Any) -> None:
        call = next(calls)

        def add(gradient: torch.Tensor) -> None:
            squares[call] += float(gradient.double().square().sum())

        for state in output if isinstance(output, tuple) else (output,):
            state.register_hook(add)

    model.cell.register_forward_hook(after)
    classified(model, 0).backward()
    assert profile[0] == pytest.approx(np.sqrt(squares), rel=1e-4)


def test_a_loop_around_the_model_has_a_profile_too(tmp_path: Path) -> None:
    """A cell that is the model, called in the user's own loop, is followed from pass to pass; sequences merge."""
    torch.manual_seed(0)
    model = nn.RNNCell(8, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rows = batch(0)[0].view(-1, 8, 8).unbind(1)
    total = np.zeros(8)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for half in (slice(0, 4), slice(4, 8)):
            states = [model(rows[0][half])]
            for row in rows[1:]:
                states.append(model(row[half], states[-1]))
            for state in states:
                state.retain_grad()
            scope.loss(states[-1].square().sum()).backward()
            total += np.square([float(state.grad.norm()) for state in states])
        optimizer.step()
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    assert run.steps["forwards"].tolist() == [16]
    assert signals.time_profile(signals.site(""))[0] == pytest.approx(np.sqrt(total), rel=1e-4)


def test_sequences_of_different_lengths_share_bins(tmp_path: Path) -> None:
    """A step with 30 and one with 100 time steps are shown in bins of one width; what a step did not reach is not known."""
    torch.manual_seed(0)
    model = nn.GRU(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for length in (30, 100):
            scope.loss(model(torch.randn(length, 2, 4))[0].square().sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    profile = signals.time_profile(signals.site(""))
    assert profile.shape == (2, 50)
    assert np.isfinite(profile).sum(1).tolist() == [15, 50]
    site = signals.sites[signals.site("")].inputs
    whole = np.sqrt(np.nansum(np.square(profile), axis=1))
    assert whole == pytest.approx(signals.norm("activation_gradient")[list(site)][0], rel=1e-5)


def test_a_frozen_recurrent_module_is_left_alone(tmp_path: Path) -> None:
    """Where no weight asks for a gradient, neither does the input nor the output."""
    model = nn.Sequential(nn.GRU(8, 16, batch_first=True).requires_grad_(False), Last(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        pixels, labels = batch(0)
        scope.loss(nn.functional.cross_entropy(model(pixels.view(-1, 8, 8)), labels)).backward()
        assert not model[1].seen
        optimizer.step()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    assert signals.time_profile(signals.site("0")).shape == (1, 0)


class Last(nn.Module):
    """Takes the last output of a recurrent module, and notes whether it asks for a gradient."""

    seen = True

    def forward(self, outputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        self.seen = outputs[0].requires_grad
        return outputs[0][:, -1]


def test_the_users_input_stays_the_users(tmp_path: Path) -> None:
    """The tensor that was fed gets no gradient and no flag of ours."""
    pixels = torch.randn(5, 2, 4)
    packed = pack_padded_sequence(torch.randn(5, 2, 4), torch.tensor([5, 3]))
    model = nn.LSTM(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for fed in (pixels, packed):
            output = model(fed)[0]
            scope.loss((output.data if isinstance(output, PackedSequence) else output).sum()).backward()
        optimizer.step()
    for tensor in (pixels, packed.data):
        assert not tensor.requires_grad
        assert tensor.grad is None
        assert tensor.grad_fn is None


def test_a_keyword_input_has_no_profile_and_it_is_said(tmp_path: Path) -> None:
    """What comes as a keyword argument is not exchanged; the diagnosis says that the profile is missing."""

    class Named(nn.Module):
        """Feeds its RNN by keyword."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(8, 16, batch_first=True), nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(input=x.view(-1, 8, 8))[0][:, -1])

    specimen = Specimen(Named, classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    assert [missing.what for missing in run.info.not_observed] == ["the time profile of rnn"]


@pytest.mark.parametrize(("length", "bins", "width"), [(1, 1, 1), (64, 64, 1), (65, 33, 2), (1000, 63, 16)])
def test_bins_are_powers_of_two(length: int, bins: int, width: int) -> None:
    """At most 64 bins of one width cover a sequence of any length."""
    found = spans(length)
    assert (len(found), found[0]) == (bins, (0, width))
    assert found[-1][0] < length <= found[-1][1]
