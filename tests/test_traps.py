"""What breaks tools like this one on today's torch; each test is named after its trap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.recorder.backward import BackwardHooks
from gradscope.recorder.forward import ForwardHooks
from gradscope.records import Run
from gradscope.signals import Signals, budget
from gradscope.stats import Collector, sample_positions
from tests.trainings import adam, digits, he, mlp, sgd


def record(
    model: nn.Module,
    folder: Path,
    *,
    steps: int = 4,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    **options: object,
) -> Run:
    """Trains on digits under GradScope, every step recorded, and reads the run."""
    images, labels = digits()
    optimizer = optimizer or sgd(0.01)(model)
    with gradscope.watch(model, optimizer, run_dir=folder, every=1, **options) as scope:  # type: ignore[arg-type]
        for _ in range(steps):
            loss = scope.loss((criterion or nn.CrossEntropyLoss())(model(images[:64]), labels[:64]))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
    return gradscope.read_run(folder)


def test_sigmoid_depth_30_is_vanishing_not_untrained(tmp_path: Path) -> None:
    """A gradient of 1e-26, whose float32 norm is 0, is measured and called vanishing, not exactly zero."""
    torch.manual_seed(0)
    model = mlp(30, nn.Sigmoid)
    run = record(model, tmp_path / "run")
    signals = Signals(run)
    images, labels = digits()
    model.double()
    gradient = torch.autograd.grad(nn.CrossEntropyLoss()(model(images[:64].double()), labels[:64]), model[2].weight)[0]
    measured = signals.norm("gradient")[signals.site("2.weight", "parameter"), -1]
    assert measured == pytest.approx(float(gradient.norm()), rel=0.05)  # one step earlier, float32 against float64
    assert 0 < signals.backward_gain[signals.site("0"), 0] < 1e-24
    findings = gradscope.diagnose(run).findings
    assert findings[0].rule == "vanishing-gradient"
    assert {finding.follows for finding in findings[1:]} <= {"vanishing-gradient"}
    assert "untrained-parameter" not in {finding.rule for finding in findings}
    assert findings[0].layers[0] == "0"


def test_softmax_inside_model_converged_is_healthy(tmp_path: Path) -> None:
    """The gain is measured against the logits, not the softmax after them, so a converged net stays healthy."""
    torch.manual_seed(0)
    model = nn.Sequential(mlp(2, nn.ReLU, he), nn.Softmax(dim=1))

    def negative_log(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.nll_loss(output.clamp_min(1e-12).log(), labels)

    run = record(model, tmp_path / "run", steps=120, criterion=negative_log, optimizer=adam(3e-3)(model))
    signals = Signals(run)
    assert run.steps["loss"][-1] < 0.02
    assert [run.info.sites[head].path for head in run.info.heads] == ["0.4"]
    assert np.nanmin(signals.backward_gain[signals.site("0.0")]) > 0.5
    squares = signals.values("activation_gradient", "sum_squares")
    against_softmax = np.sqrt(squares[signals.site("0.0"), -1] / squares[signals.site("1"), -1])
    assert against_softmax < 0.1  # what measuring against the model's output would have shown
    assert gradscope.diagnose(run).verdict == "healthy"


class ZeroInitBlock(nn.Module):
    """A residual block whose last BatchNorm starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.bn1, self.relu = nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()
        self.linear2, self.bn2 = nn.Linear(64, 64), nn.BatchNorm1d(64)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bn2(self.linear2(self.relu(self.bn1(self.linear1(x)))))


def test_zero_init_residual_has_no_infinite_gain(tmp_path: Path) -> None:
    """A branch that starts at zero is closed, its modules have no gain of +inf, and the model is healthy."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), ZeroInitBlock(), ZeroInitBlock(), nn.Linear(64, 10))
    run = record(model, tmp_path / "run", steps=6)
    signals = Signals(run)
    own = np.array([signals.own_gain(module) for module in signals.modules])
    assert not np.isposinf(own).any()
    tree = budget(signals)
    assert tree is not None
    assert tree.chain
    block = tree.parts[1]
    assert (block.mechanism, block.chain) == ("joins", False)
    assert block.decades[0] == pytest.approx(0.0, abs=1e-6)  # at step 0 the block is the identity
    first = next(part for part in block.parts if part.name == "1.linear1")
    assert not np.isfinite(first.decades[0])  # behind the closed branch nothing can be measured
    assert np.isfinite(first.decades[-1])
    assert gradscope.diagnose(run).verdict == "healthy"


def test_branch_gain_is_the_branch_s_part(tmp_path: Path) -> None:
    """Where a tensor is used twice, a module's δ_in is what came back through it, not the tensor's total."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), ZeroInitBlock(), nn.Linear(64, 10))
    nn.init.ones_(model[1].bn2.weight)
    parts: list[float] = []
    original = model[1].linear1.forward

    def through_a_copy(x: torch.Tensor) -> torch.Tensor:
        alias = x.view_as(x)
        alias.register_hook(lambda gradient: parts.append(float(gradient.norm())))
        return original(alias)

    images, labels = digits()
    model[1].linear1.forward = through_a_copy
    nn.CrossEntropyLoss()(model(images[:64]), labels[:64]).backward()
    model.zero_grad()
    del model[1].linear1.forward
    run = record(model, tmp_path / "run", steps=1)
    signals = Signals(run)
    measured = signals.norm("activation_gradient")[signals.site("1.linear1", "input"), 0]
    assert measured == pytest.approx(parts[0], rel=1e-5)
    total = signals.norm("activation_gradient")[signals.site("0"), 0]
    assert abs(total / measured - 1) > 0.05


def test_hooks_after_compile_are_reported_missing(tmp_path: Path) -> None:
    """A model that was compiled before is recorded at its boundary, and its inside is listed as not observed."""
    torch.manual_seed(0)
    model = torch.compile(mlp(2, nn.ReLU), backend="eager")
    images, labels = digits()
    nn.CrossEntropyLoss()(model(images[:64]), labels[:64]).backward()
    model.zero_grad()
    run = record(model, tmp_path / "run")
    assert any("compiled" in missing.why for missing in run.info.not_observed)
    signals = Signals(run)
    assert np.isfinite(signals.norm("gradient")[signals.parameters]).all()
    assert np.isfinite(signals.update_ratio[signals.parameters]).all()
    assert any("compiled" in str(missing) for missing in gradscope.diagnose(run).not_observed)


def test_compiled_after_watch_is_said(tmp_path: Path) -> None:
    """A model compiled after `watch` is recorded at its boundary, and its inside is listed as not observed."""
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        compiled = torch.compile(model, backend="eager")
        for _ in range(3):
            scope.loss(nn.CrossEntropyLoss()(compiled(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    assert run.steps["recorded"].all()
    assert np.isfinite(signals.norm("gradient")[signals.parameters]).all()
    assert np.isfinite(signals.norm("activation")[signals.site("")]).all()
    assert [missing.what for missing in run.info.not_observed] == ["the model's inside"]


def test_statistics_carry_no_graph(tmp_path: Path) -> None:
    """No summary holds on to the autograd graph, not even in a backward with create_graph."""
    kept: list[torch.Tensor] = []
    add = Collector.add

    def spy(self: Collector, tensor: torch.Tensor) -> int:
        row = add(self, tensor)
        kept.extend(part for part in (self._samples[row], self._squares.get(row)) if isinstance(part, torch.Tensor))
        return row

    model = mlp(2, nn.Tanh, width=64)
    optimizer = sgd(0.1)(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collector, "add", spy)
        with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
            x = digits()[0][:64].clone().requires_grad_()
            loss = scope.loss(model(x).square().mean())
            (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
            (loss + gradient.square().sum()).backward()
            optimizer.step()
            assert scope._recorder is not None
            assert scope._recorder.failure is None
    assert not any(tensor.requires_grad for tensor in kept)
    assert gradscope.read_run(tmp_path / "run").steps["recorded"].all()


@pytest.mark.parametrize("where", ["arrived", "forward", "optimizer"])
def test_error_in_tensor_hook_does_not_stop_backward(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours inside a hook ends recording, never the training, and the diagnosis says so."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    if where == "arrived":
        monkeypatch.setattr(BackwardHooks, "_add", broken)
    elif where == "forward":
        monkeypatch.setattr(ForwardHooks, "_take_outputs", broken)
    else:
        monkeypatch.setattr("gradscope.recorder.parameters.ParameterReader.before_update", broken)
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    before = model[0].weight.detach().clone()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()
        diagnosis = scope.diagnose()
    assert not torch.equal(before, model[0].weight)
    assert any("a bug of ours" in missing.why for missing in diagnosis.not_observed)
    assert gradscope.read_run(tmp_path / "run").info.state == "stopped"


@pytest.mark.parametrize("shape", [(256, 256), (64, 128, 8, 8), (32, 512), (512, 4, 4), (1024, 32, 16, 16)])
def test_stride_sees_every_channel(shape: tuple[int, ...]) -> None:
    """The fixed sample meets every index of every dimension up to its own size."""
    coordinates = np.unravel_index(sample_positions(shape), shape)
    for size, met in zip(shape, coordinates, strict=True):
        assert len(np.unique(met)) == min(size, 512)


class ReturnsItsParameter(nn.Module):
    """A module whose output is a leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(64))

    def forward(self) -> torch.Tensor:
        return self.offset


class WithIdentities(nn.Module):
    """Identity hands its own input on; `offset` returns a leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.linear, self.between, self.head = (
            nn.Identity(),
            nn.Linear(64, 64),
            nn.Identity(),
            nn.Linear(64, 10),
        )
        self.offset = ReturnsItsParameter()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.between(self.linear(self.before(x)) + self.offset()))


def test_identity_and_leaf_outputs(tmp_path: Path) -> None:
    """A module that returns its input or a leaf is recorded without a hook on the leaf, and has gain 1 or none."""
    torch.manual_seed(0)
    model = WithIdentities()
    run = record(model, tmp_path / "run")
    signals = Signals(run)
    assert model.offset.offset._backward_hooks is None
    assert signals.own_gain(signals.site("between"))[0] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(signals.backward_gain[signals.site("before")]).all()  # the data need no gradient
    assert np.isfinite(signals.backward_gain[signals.site("linear")]).all()
    assert np.isfinite(signals.norm("gradient")[signals.site("offset.offset", "parameter")]).all()
    assert gradscope.diagnose(run).verdict == "healthy"


def test_inplace_overwrites_deferred_read(tmp_path: Path) -> None:
    """An in-place ReLU overwrites its input; both sides' activations and gradients are still those of their moment."""
    torch.manual_seed(0)
    plain, inplace = (
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(inplace=flag), nn.Linear(64, 10)) for flag in (False, True)
    )
    inplace.load_state_dict(plain.state_dict())
    one, two = (Signals(record(net, tmp_path / str(i), steps=2)) for i, net in enumerate((plain, inplace)))
    for quantity in ("activation", "activation_gradient", "gradient"):
        assert np.array_equal(one.norm(quantity), two.norm(quantity), equal_nan=True)
    assert np.array_equal(one.own_gain(one.site("1")), two.own_gain(two.site("1")))


def test_use_deterministic_algorithms(tmp_path: Path) -> None:
    """Nothing that GradScope computes is refused where only deterministic algorithms are allowed."""
    torch.use_deterministic_algorithms(True)
    try:
        run = record(mlp(2, nn.ReLU), tmp_path / "run", steps=2)
    finally:
        torch.use_deterministic_algorithms(False)
    assert run.steps["recorded"].all()
    assert not run.info.not_observed


def test_user_hook_replaces_output(tmp_path: Path) -> None:
    """A forward hook of the user that replaces an output is respected; the module's own output is what is recorded."""
    model = mlp(1, nn.ReLU)
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    run = record(model, tmp_path / "run", steps=2)
    assert np.isfinite(Signals(run).backward_gain[Signals(run).site("0")]).all()


def test_forwards_without_a_backward_are_dropped(tmp_path: Path) -> None:
    """Validation, abandoned forwards and `autograd.grad` leave no trace in the rows of a step."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.0)(model)
    images, labels = digits()
    criterion = nn.CrossEntropyLoss()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for noisy in (False, True):
            if noisy:
                with torch.no_grad():
                    model(images[:500])
                model(images[:500])
                torch.autograd.grad(model(images[:500]).sum(), model[0].weight)
            scope.loss(criterion(model(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == [1, 1]
    assert run.steps["backwards"].tolist() == [1, 1]
    signals = Signals(run)
    for quantity in ("activation", "activation_gradient", "gradient"):
        assert np.array_equal(signals.norm(quantity)[:, 0], signals.norm(quantity)[:, 1], equal_nan=True)


def test_micro_batches_merge_into_one_step(tmp_path: Path) -> None:
    """Two micro-batches with a halved loss record the activations, gradients and loss of the whole batch."""
    images, labels = digits()
    runs = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = mlp(2, nn.Tanh)
        optimizer = sgd(0.1)(model)
        with gradscope.watch(model, optimizer, run_dir=tmp_path / str(parts), every=1) as scope:
            for chunk, target in zip(images[:64].chunk(parts), labels[:64].chunk(parts), strict=True):
                loss = nn.CrossEntropyLoss()(model(chunk), target)
                scope.loss(loss)
                (loss / parts).backward()
            optimizer.step()
        runs.append(Signals(gradscope.read_run(tmp_path / str(parts))))
    whole, halves = runs
    assert halves.run.steps["forwards"][0] == 2
    for quantity in ("activation", "activation_gradient", "gradient"):
        assert halves.norm(quantity) == pytest.approx(whole.norm(quantity), rel=1e-5, nan_ok=True)
    assert halves.run.steps["loss"] == pytest.approx(whole.run.steps["loss"], rel=1e-6)


def test_lazy_modules_are_seen_from_their_first_step(tmp_path: Path) -> None:
    """Parameters that the first forward makes are recorded from that step on."""
    model = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(10))
    run = record(model, tmp_path / "run", optimizer=sgd(0.01)(model))
    signals = Signals(run)
    assert len(signals.parameters) == 4
    assert np.isfinite(signals.norm("gradient")[signals.parameters]).all()


def test_a_cell_that_feeds_itself_is_its_own_head(tmp_path: Path) -> None:
    """A recurrent cell called in a loop from outside is still the model's output."""
    model = nn.RNNCell(64, 16)
    optimizer = sgd(0.01)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            hidden = torch.zeros(8, 16)
            for _ in range(5):
                hidden = model(digits()[0][:8], hidden)
            scope.loss(hidden.square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert [run.info.sites[head].path for head in run.info.heads] == [""]
    assert run.steps["forwards"].tolist() == [5, 5, 5]
    assert gradscope.diagnose(run).verdict == "healthy"
