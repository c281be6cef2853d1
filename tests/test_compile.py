"""torch.compile, before and after `watch`, at the boundary and inside: never a silent hole, never a recompile a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradscope
from gradscope.errors import WatchError
from gradscope.records import Run
from gradscope.signals import Signals
from tests.trainings import digits, he, mlp, sgd

# torch's compiler looks for `.grad` on whatever it is given, with GradScope or without
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

CRITERION = nn.CrossEntropyLoss()
STEPS = 6


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    """No test finds code that another one compiled."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Compiler:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, _: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


def train(
    folder: Path | None, when: str, *, mode: str = "boundary", every: int = 1, backend: Any = "eager"
) -> tuple[nn.Module, list[torch.Tensor]]:
    """Trains a network that is compiled before `watch`, after it, in place, or in a part; all weights at the end."""
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU, he)
    runs: nn.Module = model
    if when == "before":
        runs = model = torch.compile(model, backend=backend)  # type: ignore[assignment]
    optimizer = sgd(0.05)(model)
    options = {"run_dir": folder, "every": every, "compiled": mode}
    scope = None if folder is None else gradscope.watch(model, optimizer, **options)  # type: ignore[arg-type]
    if when == "after":
        runs = torch.compile(model, backend=backend)  # type: ignore[assignment]
    elif when == "in place":
        model.compile(backend=backend)
    elif when == "in part":
        model[2] = torch.compile(model[2], backend=backend)  # type: ignore[assignment, index, operator]
    images, labels = digits()
    for step in range(STEPS):
        loss = CRITERION(runs(images[step * 32 : step * 32 + 32]), labels[step * 32 : step * 32 + 32])
        if scope is not None:
            scope.loss(loss)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if scope is not None:
        scope.close()
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
    return model, [parameter.detach() for parameter in model.parameters()]


def eager(folder: Path) -> Run:
    """The same training without a compiler."""
    train(folder, "never")
    return gradscope.read_run(folder)


WHEN = ["before", "after", "in place", "in part"]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("mode", ["boundary", "full"])
def test_a_compiled_training_is_left_alone(when: str, mode: str, tmp_path: Path) -> None:
    """The law holds under torch.compile, whenever it is called and whatever is asked for."""
    _, ours = train(tmp_path / "run", when, mode=mode)
    _, theirs = train(None, when)
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("when", WHEN)
def test_parameters_are_exact_and_the_rest_is_said(when: str, tmp_path: Path) -> None:
    """At the boundary everything that needs no hook inside is what it is without a compiler; the inside is listed."""
    train(tmp_path / "run", when)
    run, plain = gradscope.read_run(tmp_path / "run"), eager(tmp_path / "plain")
    ours, theirs = Signals(run), Signals(plain)
    for site in theirs.parameters:
        path = plain.info.sites[site].path
        for quantity in ("gradient", "weight", "update"):
            mine = ours.norm(quantity)[ours.site(path, "parameter")]
            assert mine == pytest.approx(theirs.norm(quantity)[site], rel=1e-6)
    assert run.steps["loss"].tolist() == plain.steps["loss"].tolist()
    said = [missing for missing in run.info.not_observed if "inside a compiled region" in missing.why]
    assert [missing.what for missing in said] == ["2" if when == "in part" else "the model's inside"]
    assert len(run.info.not_observed) == (2 if when == "in place" else 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_boundary_is_seen(when: str, tmp_path: Path) -> None:
    """The compiled model's input and output, and the gradient at its output, are recorded."""
    train(tmp_path / "run", when)
    run, plain = gradscope.read_run(tmp_path / "run"), eager(tmp_path / "plain")
    ours, theirs = Signals(run), Signals(plain)
    for quantity, role in (("activation", "output"), ("activation", "input"), ("activation_gradient", "output")):
        mine, other = ours.norm(quantity)[ours.site("", role)], theirs.norm(quantity)[theirs.site("", role)]
        assert mine == pytest.approx(other, rel=1e-6)
    assert run.steps["forwards"].tolist() == [1] * STEPS


def test_a_compiled_part_is_seen_from_outside(tmp_path: Path) -> None:
    """A compiled layer in an eager model has its output and gains recorded under its own name."""
    train(tmp_path / "run", "in part")
    run, plain = gradscope.read_run(tmp_path / "run"), eager(tmp_path / "plain")
    ours, theirs = Signals(run), Signals(plain)
    for path in ("0", "1", "2", "3", "4"):
        assert ours.backward_gain[ours.site(path)] == pytest.approx(theirs.backward_gain[theirs.site(path)], rel=1e-5)


@pytest.mark.parametrize("when", WHEN)
def test_full_sees_inside(when: str, tmp_path: Path) -> None:
    """With `compiled="full"` every module's activation and gain is recorded, and the price is said."""
    train(tmp_path / "run", when, mode="full")
    run, plain = gradscope.read_run(tmp_path / "run"), eager(tmp_path / "plain")
    ours, theirs = Signals(run), Signals(plain)
    for site in theirs.modules:
        path = plain.info.sites[site].path
        gain = ours.backward_gain[ours.site(path)]
        assert gain == pytest.approx(theirs.backward_gain[site], rel=1e-5), path
    assert any("split wherever one is called" in missing.why for missing in run.info.not_observed)
    assert len(run.info.not_observed) == 1
    assert gradscope.diagnose(run).verdict == gradscope.diagnose(plain).verdict == "healthy"


def test_full_on_code_compiled_earlier_is_said(tmp_path: Path) -> None:
    """Hooks asked for after the first compiled call never fire: the diagnosis says so, and what to do."""
    model = torch.compile(mlp(2, nn.ReLU, he), backend="eager")
    optimizer = sgd(0.05)(model)
    images, labels = digits()
    CRITERION(model(images[:32]), labels[:32]).backward()
    model.zero_grad()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, compiled="full") as scope:
        for _ in range(3):
            scope.loss(CRITERION(model(images[:32]), labels[:32])).backward()
            optimizer.step()
            optimizer.zero_grad()
    said = gradscope.read_run(tmp_path / "run").info.not_observed
    assert any("compiled before watch(), without hooks; call watch() first" in missing.why for missing in said)


@pytest.mark.parametrize("when", ["before", "after", "in part"])
@pytest.mark.parametrize("mode", ["boundary", "full"])
def test_no_recompile_a_step(when: str, mode: str, tmp_path: Path) -> None:
    """Recording every second step compiles nothing again."""
    counts = []
    for every in (1, 2):
        compiler = Compiler()
        train(tmp_path / str(every), when, mode=mode, every=every, backend=compiler)
        counts.append(compiler.graphs)
        torch.compiler.reset()
    assert counts[0] == counts[1]
    if mode == "boundary":
        assert counts[1] == 1


def test_a_wrong_mode_is_refused(tmp_path: Path) -> None:
    """`compiled=` says what it can be."""
    with pytest.raises(WatchError, match=r'compiled= is "boundary" or "full"; it is \'inside\''):
        gradscope.watch(mlp(1, nn.ReLU), run_dir=tmp_path / "run", compiled="inside")  # type: ignore[arg-type]


def test_a_captured_graph_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a CUDA graph is captured nothing is queued, and the diagnosis says what a replay hides."""
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.05)(model)
    images, labels = digits()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        assert scope._recorder is not None
        monkeypatch.setattr(scope._recorder, "_device", "cuda")
        scope.loss(CRITERION(model(images[:32]), labels[:32])).backward()
        optimizer.step()
    run = gradscope.read_run(tmp_path / "run")
    assert any("replays call no hooks" in missing.why for missing in run.info.not_observed)
    assert not len(run.summaries)
