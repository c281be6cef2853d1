"""`watch` and `Scope`: what a user does, right and wrong."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.errors import ForeignOptimizer, NothingToWatch, RunExists, RunNotWritable, WatchError
from gradscope.recorder.schedule import ALLOWANCE, Schedule
from gradscope.signals import Signals
from tests.trainings import digits, mlp, sgd


def train(scope: gradscope.Scope, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    """Some steps on digits."""
    images, labels = digits()
    for _ in range(steps):
        scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_model_without_parameters_is_refused(tmp_path: Path) -> None:
    """Nothing can be trained in a model without parameters, and the error says what to hand over."""
    with pytest.raises(NothingToWatch, match=r"ReLU has no parameters.*Hand watch\(\) the module"):
        gradscope.watch(nn.ReLU(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_on_the_meta_device_is_refused(tmp_path: Path) -> None:
    """Parameters without numbers are refused, and the error says how to give them some."""
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    with pytest.raises(NothingToWatch, match=r"meta device.*to_empty"):
        gradscope.watch(model, run_dir=tmp_path / "run")


def test_the_optimizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """An optimizer that updates none of the model's parameters is an error, not a silent hole."""
    with pytest.raises(ForeignOptimizer, match="SGD updates none of the parameters of Linear"):
        gradscope.watch(nn.Linear(4, 4), sgd(0.1)(nn.Linear(4, 4)), run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"every": 0}, "every= must be"),
        ({"every": "often"}, "every= must be"),
        ({"overhead": 0.0}, "overhead= is a share"),
        ({"on_non_finite": "raise"}, "on_non_finite= is"),
        ({"optimizer": 3}, "expected a torch optimizer"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, text: str, tmp_path: Path) -> None:
    """A wrong argument is named with what came."""
    with pytest.raises(WatchError, match=text):
        gradscope.watch(nn.Linear(4, 4), run_dir=tmp_path / "run", **arguments)


def test_watching_twice_closes_the_earlier_scope(tmp_path: Path) -> None:
    """A notebook cell run twice: the earlier run ends with a notice, the new one records alone."""
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.1)(model)
    first = gradscope.watch(model, optimizer, run_dir=tmp_path / "first", every=1)
    train(first, model, optimizer, 2)
    with pytest.warns(UserWarning, match="watched already; its earlier scope .* is closed now"):
        second = gradscope.watch(model, optimizer, run_dir=tmp_path / "second", every=1)
    train(second, model, optimizer, 3)
    second.close()
    assert gradscope.read_run(tmp_path / "first").info.state == "ended"
    assert len(gradscope.read_run(tmp_path / "first").steps) == 2
    assert len(gradscope.read_run(tmp_path / "second").steps) == 3


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    """A run_dir that holds a run is refused before anything is touched."""
    model = mlp(1, nn.ReLU)
    gradscope.watch(model, run_dir=tmp_path / "run").close()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir())
    with pytest.raises(RunExists, match=r"already holds a run.*never overwrites"):
        gradscope.watch(mlp(1, nn.ReLU), run_dir=tmp_path / "run")
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A run_dir below a file cannot be made; the error says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunNotWritable, match="cannot write a run to"):
        gradscope.watch(mlp(1, nn.ReLU), run_dir=tmp_path / "file" / "run")


def test_a_disk_that_fills_stops_recording_not_training(tmp_path: Path) -> None:
    """When the disk is full recording stops, training goes on, the diagnosis says so and the run stays readable."""
    script = textwrap.dedent(
        """
        import resource, signal, sys, torch, gradscope
        from torch import nn
        from tests.trainings import mlp, sgd, digits
        model = mlp(3, nn.ReLU); optimizer = sgd(0.1)(model); images, labels = digits()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an error, as on a full disk
        with gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1) as scope:
            for step in range(30):
                if step == 10:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
                loss = scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64]))
                loss.backward(); optimizer.step(); optimizer.zero_grad()
            diagnosis = scope.diagnose()
        print(f"loss {loss.item():.3f}")
        print(*diagnosis.not_observed, sep="\\n")
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "loss " in ran.stdout
    assert "recording stopped: OSError: [Errno 27] File too large" in ran.stdout
    assert 5 <= len(gradscope.read_run(tmp_path / "run").steps) <= 11
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # of this process, untouched


def test_gradscope_off_is_a_no_op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRADSCOPE=off makes every call do nothing, and no folder appears."""
    monkeypatch.setenv("GRADSCOPE", "off")
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run") as scope:
        train(scope, model, optimizer)
        scope.log("accuracy", 0.5)
        with scope.pause():
            pass
        scope.step()
        assert scope.diagnose().verdict == "not-enough-data"
    assert not (tmp_path / "run").exists()


def test_paused_forwards_are_not_seen(tmp_path: Path) -> None:
    """Inside `pause` nothing is recorded, a backward included."""
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.0)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        train(scope, model, optimizer, 2)
        with scope.pause():
            train(scope, model, optimizer, 5)
        train(scope, model, optimizer, 2)
    run = gradscope.read_run(tmp_path / "run")
    assert len(run.steps) == 4
    assert run.steps["forwards"].tolist() == [1, 1, 1, 1]


def test_logged_values_are_events(tmp_path: Path) -> None:
    """`log` writes a value down beside the step it belongs to."""
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run") as scope:
        train(scope, model, optimizer, 2)
        scope.log("validation loss", torch.tensor(0.25))  # type: ignore[arg-type]
    event = gradscope.read_run(tmp_path / "run").events[0]
    assert (event.step, event.kind, event.data) == (2, "value", {"name": "validation loss", "value": 0.25})


@pytest.mark.parametrize(
    "value",
    ["good", None, torch.ones(2), torch.empty((), device="meta"), 10**400],
    ids=["text", "nothing", "two", "meta", "huge"],
)
def test_what_is_no_number_is_not_logged_and_harms_nobody(
    value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said; the training goes on."""
    model = mlp(1, nn.ReLU)
    with gradscope.watch(model, run_dir=tmp_path / "run") as scope:
        scope.log("accuracy", value)
    assert "gradscope: scope.log('accuracy') expected one number; it got" in capsys.readouterr().err
    assert not [event for event in gradscope.read_run(tmp_path / "run").events if event.kind == "value"]


def test_a_loop_without_an_optimizer_closes_its_steps_itself(tmp_path: Path) -> None:
    """`scope.step()` closes a step; without it each next training forward does."""
    images, _ = digits()
    for by_hand in (True, False):
        model = mlp(1, nn.Tanh)
        with gradscope.watch(model, run_dir=tmp_path / str(by_hand), every=1) as scope:
            for _ in range(3):
                scope.loss(model(images[:32]).square().mean()).backward()
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter -= 0.1 * parameter.grad
                        parameter.grad = None
                if by_hand:
                    scope.step()
        assert gradscope.read_run(tmp_path / str(by_hand)).steps["forwards"].tolist() == [1, 1, 1]


def test_include_and_exclude_choose_modules(tmp_path: Path) -> None:
    """Patterns on module paths leave modules and their parameters out."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, exclude=["0", "1"]) as scope:
        train(scope, model, optimizer)
    paths = {site.path for site in gradscope.read_run(tmp_path / "run").info.sites}
    assert {"2", "2.weight"} <= paths
    assert not {"0", "1", "0.weight"} & paths


def test_clipping_is_seen_before_and_after(tmp_path: Path) -> None:
    """The gradient norm is known before clipping and as the optimizer saw it."""
    images, labels = digits()
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    norms = []
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            scope.loss(100 * nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
            optimizer.step()
            optimizer.zero_grad()
    steps = gradscope.read_run(tmp_path / "run").steps
    assert steps["gradient_norm"] == pytest.approx(norms, rel=1e-5)
    assert steps["clipped_gradient_norm"] == pytest.approx([0.5] * 3, rel=1e-5)


def test_the_loss_is_found_where_a_loss_module_gives_it(tmp_path: Path) -> None:
    """Without `scope.loss` a torch loss module's output is the loss, on steps that are not recorded too."""
    images, labels = digits()
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    criterion = nn.CrossEntropyLoss()
    seen = []
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=3):
        for _ in range(6):
            loss = criterion(model(images[:64]), labels[:64])
            seen.append(loss.item())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["loss"] == pytest.approx(seen, rel=1e-6)
    assert run.steps["recorded"].tolist() == [True, False, False, True, False, False]
    assert run.info.criterion == "CrossEntropyLoss"


def test_a_loss_that_was_never_seen_is_said(tmp_path: Path) -> None:
    """Where no loss could be observed the diagnosis says so and what to do."""
    images, labels = digits()
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run") as scope:
        for _ in range(3):
            nn.functional.cross_entropy(model(images[:64]), labels[:64]).backward()
            optimizer.step()
            optimizer.zero_grad()
        missing = [str(item) for item in scope.diagnose().not_observed]
    assert missing == ["the loss: it was not handed over; call scope.loss(loss) before loss.backward()"]


def test_the_diagnosis_can_be_asked_at_any_time(tmp_path: Path) -> None:
    """Before the first step, in the middle and after close; the saved run says the same."""
    model = mlp(20, nn.Sigmoid)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        assert scope.diagnose().verdict == "not-enough-data"
        train(scope, model, optimizer, 5)
        during = scope.diagnose()
        assert during.verdict == "unhealthy"
        assert "vanish" in scope.report()
    after = scope.diagnose()
    assert after == during == gradscope.diagnose(gradscope.read_run(tmp_path / "run"))


def test_a_killed_training_leaves_a_readable_run(tmp_path: Path) -> None:
    """After SIGKILL everything but the step in flight is on disk, without the mark of an end."""
    script = textwrap.dedent(
        """
        import os, signal, sys, gradscope
        from torch import nn
        from tests.trainings import mlp, sgd, digits
        model = mlp(2, nn.ReLU); optimizer = sgd(0.1)(model); images, labels = digits()
        scope = gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1)
        for step in range(7):
            scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            optimizer.step(); optimizer.zero_grad()
        model(images[:64])
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, check=False)
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["step"].tolist() == list(range(7))
    assert run.info.state == "recording"
    assert np.unique(run.summaries["step"]).tolist() == list(range(7))


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    """A DataLoader worker forked while recording leaves the run alone, at its exit too."""
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.1)(model)
    scope = gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1)
    train(scope, model, optimizer, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is the point
        child = os.fork()
    if child == 0:
        scope.log("from the child", 1.0)
        scope.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    train(scope, model, optimizer, 2)
    scope.close()
    run = gradscope.read_run(tmp_path / "run")
    assert len(run.steps) == 4
    assert [event.kind for event in run.events] == ["ended"]


def test_runs_land_in_runs_and_latest_points_to_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without run_dir a run gets its own folder in `runs/`, which is printed, and `runs/latest` leads to it."""
    monkeypatch.chdir(tmp_path)
    first = gradscope.watch(mlp(1, nn.ReLU))
    second = gradscope.watch(mlp(1, nn.ReLU))
    assert f"recording to {second.run_dir}" in capsys.readouterr().err
    assert first.run_dir != second.run_dir
    assert (tmp_path / "runs" / "latest").resolve() == (tmp_path / second.run_dir).resolve()
    first.close()
    second.close()


def test_auto_records_the_first_steps_and_then_keeps_to_the_budget(tmp_path: Path) -> None:
    """The first five steps are recorded in full; over a longer training recording stays within its share."""
    model = mlp(6, nn.ReLU, width=256)
    optimizer = sgd(0.01)(model)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", overhead=0.02) as scope:
        for _ in range(150):
            scope.loss(nn.CrossEntropyLoss()(model(images), labels)).backward()
            optimizer.step()
            optimizer.zero_grad()
    steps = gradscope.read_run(tmp_path / "run").steps
    assert steps["recorded"][:5].all()
    assert steps["recorded"][5:].sum() < 145
    training = steps["seconds"].sum() - steps["recorder_seconds"].sum()
    assert steps["recorder_seconds"][5:].sum() < 0.04 * training + ALLOWANCE  # twice the share: machines are noisy


def test_an_alarm_records_the_next_step() -> None:
    """When the loss turns NaN or leaps far out of its usual range, the next step is recorded whatever it costs."""
    schedule = Schedule("auto", 0.001)
    schedule.spent(1.0, 0.9, recorded=True)
    assert not schedule.wants(100)
    for step in range(20):
        schedule.saw_loss(1.0 + 0.01 * (step % 3))
    assert not schedule.wants(120)
    schedule.saw_loss(9.0)
    assert schedule.wants(121)
    assert not schedule.wants(122)
    schedule.saw_loss(float("nan"))
    assert schedule.wants(123)
    schedule.saw_loss(float("nan"))
    assert not schedule.wants(124)


def test_a_step_with_two_optimizers_closes_when_both_have_stepped(tmp_path: Path) -> None:
    """Two optimizers over one model make one step; all parameters have an update in it."""
    images, labels = digits()
    model = mlp(1, nn.ReLU)
    optimizers = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters())]
    with gradscope.watch(model, optimizers, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(3):
            scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert len(run.steps) == 3
    signals = Signals(run)
    assert (signals.update_ratio[[signals.site(f"{i}.weight", "parameter") for i in (0, 2)]] > 0).all()
    assert run.learning_rates[0].tolist() == [0.1, 0.001]


def test_the_loss_is_what_was_handed_over(tmp_path: Path) -> None:
    """A loss that is scaled in place afterwards, for accumulation say, is recorded as it was."""
    images, labels = digits()
    model = mlp(1, nn.ReLU)
    optimizer = sgd(0.0)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for _ in range(2):
            loss = scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64]))
            before = loss.item()
            loss /= 4
            loss.backward()
            optimizer.step()
    assert gradscope.read_run(tmp_path / "run").steps["loss"] == pytest.approx([before] * 2, rel=1e-6)
