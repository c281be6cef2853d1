"""`on_finding`: who is told what a training shows, when, and that the training is none the worse for it."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradscope
from gradscope.alerts import Alert, Callback, Handler, Log, Print, Stop, Webhook, handlers_of
from gradscope.errors import TrainingUnhealthy, WatchError
from gradscope.recorder.schedule import ALLOWANCE as RECORDERS_ALLOWANCE
from gradscope.recorder.schedule import FIRST_STEPS
from gradscope.records import Event, Finding
from gradscope.scope.lookout import SHARE, Lookout
from gradscope.scope.pace import ALLOWANCE, Pace
from gradscope.scope.seen import Seen, event_of
from gradscope.store import RunWriter
from gradscope.trials.processes import _environment
from tests.trainings import HEALTHY, SICK, Training, digits, he, mlp, sgd

Disturb = Callable[[int, torch.optim.Optimizer, torch.Tensor], None]


class Told:
    """A function for `on_finding` that notes what it was told, and in which step of the loop."""

    def __init__(self) -> None:
        self.step = -1
        self.findings: list[tuple[int, Finding]] = []

    def __call__(self, finding: Finding) -> None:
        self.findings.append((self.step, finding))

    def of(self, rule: str) -> list[tuple[int, Finding]]:
        """What was told of a rule."""
        return [each for each in self.findings if each[1].rule == rule]


def loop(
    training: Training,
    folder: Path,
    steps: int,
    on_finding: Any = None,
    *,
    told: Told | None = None,
    disturb: Disturb | None = None,
    **options: Any,
) -> tuple[gradscope.Scope, list[float], dict[str, torch.Tensor]]:
    """A training with GradScope; what it gives are the scope, which is closed, the losses and the weights."""
    torch.manual_seed(0)
    model = training.model()
    optimizer = training.optimizer(model)
    order = torch.Generator().manual_seed(0)
    images, labels = digits()
    losses: list[float] = []
    given = told if on_finding is None else on_finding
    criterion: nn.Module = nn.MSELoss() if training.regress else nn.CrossEntropyLoss()
    with gradscope.watch(model, optimizer, run_dir=folder, on_finding=given, **options) as scope:
        for step in range(steps):
            if told is not None:
                told.step = step
            batch = torch.randint(0, len(images), (128,), generator=order)
            inputs = images[batch]
            if disturb is not None:
                disturb(step, optimizer, inputs)
            target = (labels[batch].float()[:, None] - 4.5) / 2.9 if training.regress else labels[batch]
            loss = scope.loss(criterion(model(inputs), target))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return scope, losses, model.state_dict()


def nan_at(when: int) -> Disturb:
    """One batch holds a NaN."""

    def disturb(step: int, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
        if step == when:
            inputs[0, 0] = float("nan")

    return disturb


def leap_at(when: int) -> Disturb:
    """From one step on the learning rate is a thousand times what it was."""

    def disturb(step: int, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
        if step == when:
            optimizer.param_groups[0]["lr"] *= 1000

    return disturb


MLP = HEALTHY["He-ReLU 4, SGD"]


# when, and what


@pytest.mark.parametrize("name", [name for name in SICK if "targets" not in name])
def test_what_is_sick_from_the_first_step_is_told_by_the_fifth(name: str, tmp_path: Path) -> None:
    """Vanishing and exploding gradients are told as soon as the rules about initialization have spoken, and once."""
    told = Told()
    loop(SICK[name], tmp_path / "run", 40, told=told)
    first = [(step, finding) for step, finding in told.findings if finding.rule.endswith("ing-gradient")]
    assert len(first) >= 1
    assert first[0][0] <= 4
    seen = [(finding.rule, finding.layers[:1], finding.severity) for _, finding in told.findings]
    assert len(seen) == len(set(seen))


def test_a_nan_is_told_once_two_steps_after_it(tmp_path: Path) -> None:
    """The step after a NaN is recorded in full, and when it is closed the NaN is told with the step that it came in."""
    told = Told()
    loop(MLP, tmp_path / "run", 120, told=told, disturb=nan_at(77))
    assert [(step, finding.severity, finding.first_step) for step, finding in told.of("non-finite")] == [
        (78, "error", 77)
    ]


def test_a_learning_rate_that_becomes_too_high_is_told_within_a_few_steps(tmp_path: Path) -> None:
    """What comes in the middle of a training is told when its loss leaps, not at the next regular look."""
    told = Told()
    loop(MLP, tmp_path / "run", 120, told=told, disturb=leap_at(60))
    assert told.findings
    assert all(step >= 60 for step, _ in told.findings)
    assert min(step for step, _ in told.findings) <= 66


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_is_left_in_peace(name: str, tmp_path: Path) -> None:
    """Nobody is told anything of a healthy training, at whatever moment it is judged."""
    told = Told()
    loop(HEALTHY[name], tmp_path / "run", 200, told=told, overhead=1.0)
    assert [str(finding) for _, finding in told.findings] == []


def test_findings_are_events_of_the_run(tmp_path: Path) -> None:
    """The run says what was found and after which step, so that a page can show when it was first seen."""
    told = Told()
    loop(MLP, tmp_path / "run", 120, told=told, disturb=nan_at(77))
    events = [event for event in gradscope.read_run(tmp_path / "run").events if event.kind == "finding"]
    assert events[0].data["rule"] == "non-finite"
    assert (events[0].step, events[0].data["severity"], events[0].data["first_step"]) == (78, "error", 77)


def test_what_was_told_before_a_run_is_resumed_is_not_told_again(tmp_path: Path) -> None:
    """A training that starts again from its checkpoint does not tell its findings anew."""
    first, second = Told(), Told()
    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 20, told=first, resume=True)
    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 20, told=second, resume=True)
    assert first.of("vanishing-gradient")
    assert second.of("vanishing-gradient") == []
    events = [event for event in gradscope.read_run(tmp_path / "run").events if event.kind == "finding"]
    assert sum(event.data["rule"] == "vanishing-gradient" for event in events) == 1


def test_without_on_finding_nothing_is_judged_and_written(tmp_path: Path) -> None:
    """A run that nobody asked to be told of has no findings among its events."""
    SICK["sigmoid 20, SGD"].record(tmp_path / "run", 20)
    assert [event.kind for event in gradscope.read_run(tmp_path / "run").events] == ["ended"]


def finding(severity: Any = "warning", layers: tuple[str, ...] = ("a", "b"), rule: str = "dead-units") -> Finding:
    """One by hand."""
    return Finding(rule, severity, layers, 3, 9, "units are dead")


@pytest.mark.parametrize(
    ("then", "new"),
    [
        (finding(), False),
        (finding(layers=("b", "c")), False),  # another layer is the worst now
        (finding("note"), False),
        (finding("error"), True),
        (finding(layers=("c",)), True),
        (finding(layers=()), True),
        (finding(rule="loss-stalled"), True),
    ],
)
def test_a_finding_is_new_by_rule_layer_and_severity(then: Finding, new: bool) -> None:
    """A rule's finding is new where no layer is the same, and again when it has become more severe; also after events."""
    seen = Seen([])
    assert seen.fresh([finding()]) == [finding()]
    resumed = Seen([Event(4, 0.0, "value", {"name": "x"}), Event(4, 0.0, "finding", event_of(finding()))])
    assert [each.fresh([then]) == [then] for each in (seen, resumed)] == [new, new]


def test_what_is_known_does_not_grow_with_the_run() -> None:
    """In a long training the layers of a finding change again and again."""
    seen, names = Seen([]), [str(number) for number in range(20)]
    seen.fresh([finding(layers=tuple(names)), finding("error", layers=tuple(names))])
    before = len(pickle.dumps(seen))
    for start in range(400):
        seen.fresh([finding(layers=tuple(names[start % 20 :] + names[: start % (start % 19 + 1)]))])
    assert len(pickle.dumps(seen)) < before + 1000


def test_looking_earns_its_time() -> None:
    """After the first time a run is judged again when the share of the time that has passed covers it."""
    pace = Pace(0.01, first=5, now=100.0)
    assert not pace.due(200.0, recorded=4)
    assert pace.due(100.1, recorded=5)
    pace.took(0.1, recorded=5)
    assert not pace.due(109.0, recorded=6)
    assert pace.due(111.0, recorded=6)
    assert not pace.due(111.0, recorded=5)  # nothing new
    pace.took(0.1, recorded=6)
    assert not pace.due(119.0, recorded=7)
    assert pace.due(121.0, recorded=7)


def test_alarms_may_take_a_little_more_but_not_for_ever() -> None:
    """Where something happens again and again, judging it ends with the allowance, until the time has earned it."""
    pace = Pace(0.01, first=5, now=0.0)
    pace.took(0.1, recorded=5)
    looks = 0
    while pace.affords_alarm(1.0):
        pace.took(0.1, recorded=6)
        looks += 1
    assert looks == pytest.approx(ALLOWANCE / 0.1, abs=1)
    assert not pace.due(10.0, recorded=7)
    assert pace.affords_alarm(20.0)


# the training is what it was


@pytest.mark.parametrize("on_finding", [print, "print", "log", "http://127.0.0.1:9/nobody", ["log", lambda _: None]])
@pytest.mark.parametrize("name", ["sigmoid 20, SGD", "ReLU 20, He x2, Adam"])
def test_not_a_bit_is_changed(name: str, on_finding: Any, tmp_path: Path) -> None:
    """Losses, weights and the state of the random numbers are bit for bit what they are without `on_finding`."""
    results = []
    for number, given in enumerate((None, on_finding)):
        _, losses, weights = loop(SICK[name], tmp_path / str(number), 40, given, every=2)
        results.append((losses, weights, torch.get_rng_state()))
    (losses, weights, state), (other_losses, other_weights, other_state) = results
    assert losses == other_losses
    assert all(torch.equal(weights[key], other_weights[key]) for key in weights)
    assert torch.equal(state, other_state)


def test_a_function_that_raises_is_said_once_and_the_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of a handler is said once, is in the diagnosis and in the run, and reaches no training."""

    def broken(finding: Finding) -> None:
        raise KeyError("oh no")

    scope, losses, _ = loop(SICK["ReLU 20, He x2, Adam"], tmp_path / "run", 40, broken)
    assert len(losses) == 40
    assert capsys.readouterr().err.count("broken raised KeyError: 'oh no'. The training goes on.") == 1
    assert [missing.why for missing in scope.diagnose().not_observed if "broken" in missing.what] == [
        "it raised KeyError: 'oh no'"
    ]
    warnings = [event.data["text"] for event in gradscope.read_run(tmp_path / "run").events if event.kind == "warning"]
    assert len(warnings) == 1
    assert warnings[0].endswith("broken raised KeyError: 'oh no'")


def test_a_slow_function_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A training waits for a function; that one took more than a second is said."""
    slow = Told()
    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 8, lambda finding: (slow(finding), time.sleep(1.1)))
    assert slow.findings
    assert "took 1.1 s, and the training waited for it" in capsys.readouterr().err


def test_what_a_function_does_with_the_model_is_not_recorded(tmp_path: Path) -> None:
    """A validation in a handler is no part of the training."""
    model = mlp(20, nn.Sigmoid)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    told = []

    def validate(finding: Finding) -> None:
        told.append(nn.CrossEntropyLoss()(model(images[:64]), labels[:64]).backward())
        model.zero_grad()

    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_finding=validate) as scope:
        for _ in range(8):
            scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert told
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["step"].tolist() == [*range(8)]
    assert run.steps["backwards"].tolist() == [1] * 8


def test_a_function_that_holds_the_model_does_not_keep_it_alive(tmp_path: Path) -> None:
    """A model that nobody uses any more is gone, though its scope was never closed and a handler refers to it."""

    def begin() -> tuple[gradscope.Scope, weakref.ref[nn.Module]]:
        model = mlp(2, nn.ReLU)
        scope = gradscope.watch(model, sgd(0.1)(model), run_dir=tmp_path / "run", on_finding=lambda finding: model)
        return scope, weakref.ref(model)

    scope, gone = begin()
    gc.collect()
    assert gone() is None
    assert gradscope.read_run(tmp_path / "run").info.state == "ended"
    scope.close()


def test_a_failing_disk_does_not_stop_a_training_that_others_listen_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording that fails in an optimizer's hook leaves the other hooks of that step alone."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    heard = []
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_finding="print") as scope:
        optimizer.register_step_pre_hook(lambda *_: heard.append("before"))
        optimizer.register_step_post_hook(lambda *_: heard.append("after"))
        for step in range(6):
            if step == 3:

                def full(*_: object) -> None:
                    raise OSError("no space left on device")

                monkeypatch.setattr(RunWriter, "write_steps", full)
            scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            optimizer.step()
    assert heard == ["before", "after"] * 6
    assert "no space left" in str(scope.diagnose())


def test_a_handler_may_close_the_scope_where_others_listen_to_the_optimizer(tmp_path: Path) -> None:
    """Recording ends, and the step, the hooks of others and the training go on."""
    model = mlp(20, nn.Sigmoid)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    told, heard = [], []

    def close(finding: Finding) -> None:
        told.append(finding.rule)
        scope.close()

    scope = gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_finding=close)
    optimizer.register_step_post_hook(lambda *_: heard.append("after"))
    for _ in range(12):
        scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert "vanishing-gradient" in told
    assert heard == ["after"] * 12
    run = gradscope.read_run(tmp_path / "run")
    assert run.info.state == "ended"
    assert len(run.steps) < 12


def test_after_the_run_no_hook_is_left(tmp_path: Path) -> None:
    """A closed scope listens to no optimizer any more."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    scope = gradscope.watch(model, optimizer, run_dir=tmp_path / "run", on_finding=print)
    assert len(optimizer._optimizer_step_post_hooks) == 2
    scope.close()
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.alone
def test_judging_stays_within_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 short steps judging takes no more than its third of the overhead, its first time aside, and it is booked."""
    spent: list[float] = []
    judge = Lookout._judge

    def timed(*args: Any) -> bool:
        entered = time.perf_counter()
        try:
            return judge(*args)
        finally:
            spent.append(time.perf_counter() - entered)

    monkeypatch.setattr(Lookout, "_judge", timed)
    began = time.perf_counter()
    loop(MLP, tmp_path / "run", 1000, Told(), overhead=0.1)
    whole = time.perf_counter() - began
    inside = spent[:-1]  # the last is at the end of the run, where nobody waits for a next step
    assert len(inside) >= 2
    assert sum(inside[1:]) <= 1.2 * SHARE * 0.1 * whole
    assert inside[0] <= 0.1  # seconds; once
    booked = gradscope.read_run(tmp_path / "run").steps["recorder_seconds"][FIRST_STEPS:].sum()
    assert booked >= sum(inside)
    assert booked <= 1.2 * 0.1 * whole + inside[0] + RECORDERS_ALLOWANCE


# "raise"


def test_raise_ends_the_training_with_an_error_that_says_everything(tmp_path: Path) -> None:
    """The error comes out of the optimizer's step, two steps after the NaN, with what, where, since, why and what next."""
    steps = []

    def disturb(step: int, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
        steps.append(step)
        nan_at(30)(step, optimizer, inputs)

    with pytest.raises(TrainingUnhealthy) as raised:
        loop(MLP, tmp_path / "run", 120, "raise", disturb=disturb, every=1)
    assert steps[-1] <= 32
    text = str(raised.value)
    assert text.startswith('The training is sick, and on_finding="raise" ended it.\n  what   non-finite, error: ')
    assert "\n  where  " in text
    assert "\n  since  step 30; seen after step " in text
    assert "\n  why    " in text
    assert f"\n  run    {tmp_path / 'run'}\n  next   gradscope dashboard {tmp_path / 'run'}" in text
    assert raised.value.finding.rule == "non-finite"
    assert raised.value.finding in raised.value.diagnosis.findings
    run = gradscope.read_run(tmp_path / "run")
    assert run.info.state == "ended"
    assert run.events[-1].data["reason"] == 'on_finding="raise": non-finite'
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.finding) == (text, raised.value.finding)


def test_raise_does_nothing_to_a_training_with_warnings_alone(tmp_path: Path) -> None:
    """A warning does not end a training; `Stop(least="warning")` does."""

    def without_the_first_layer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([*model.parameters()][2:], lr=0.1)

    training = Training(lambda: mlp(3, nn.ReLU, he), without_the_first_layer)
    told = Told()
    loop(training, tmp_path / "told", 40, told=told, every=2, overhead=1.0)
    assert [(finding.rule, finding.severity) for _, finding in told.findings] == [("untrained-parameter", "warning")]
    loop(training, tmp_path / "run", 40, "raise", every=2, overhead=1.0)
    with pytest.raises(TrainingUnhealthy, match="untrained-parameter, warning"):
        loop(training, tmp_path / "stopped", 40, Stop(least="warning"), every=2, overhead=1.0)


def test_after_raise_the_model_trains_on_unwatched(tmp_path: Path) -> None:
    """Who catches the error has the model, the optimizer and no hook of ours."""
    model = mlp(20, nn.Sigmoid)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    scope = gradscope.watch(model, optimizer, run_dir=tmp_path / "run", on_finding="raise")

    def train(steps: int) -> None:
        for _ in range(steps):
            scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()

    with pytest.raises(TrainingUnhealthy, match="vanishing-gradient"):
        train(10)
    assert not optimizer._optimizer_step_post_hooks
    train(1)
    assert len(gradscope.read_run(tmp_path / "run").steps) == 5


def test_raise_comes_from_scope_step_where_there_is_no_optimizer(tmp_path: Path) -> None:
    """A loop that updates by hand is ended by `scope.step()`."""
    model = mlp(20, nn.Sigmoid)
    images, labels = digits()
    steps = []

    def train() -> None:
        with gradscope.watch(model, run_dir=tmp_path / "run", on_finding="raise") as scope:
            for step in range(10):
                steps.append(step)
                scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()
                model.zero_grad()
                scope.step()

    with pytest.raises(TrainingUnhealthy, match="vanishing-gradient"):
        train()
    assert steps == [*range(5)]


def test_raise_comes_from_scope_loss_where_a_scaler_skips_every_step(tmp_path: Path) -> None:
    """Gradients that overflow for ever let no optimizer step: the next loss that is handed over ends the training."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    scaler = torch.amp.GradScaler("cpu")
    images, labels = digits()
    images = images[:64].clone()
    images[0, 0] = float("nan")
    passed = []

    def train() -> None:
        with gradscope.watch(model, optimizer, scaler=scaler, run_dir=tmp_path / "run", on_finding="raise") as scope:
            for _ in range(20):
                passed.append("forward")
                loss = scope.loss(nn.CrossEntropyLoss()(model(images), labels[:64]))
                passed.append("loss")
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

    with pytest.raises(TrainingUnhealthy, match="non-finite"):
        train()
    assert passed[-2:] == ["loss", "forward"]


def test_raise_comes_from_backward_where_optimizers_step_inside_of_it(tmp_path: Path) -> None:
    """An optimizer that steps in a hook of a parameter: the error waits until the backward pass is over."""
    model = mlp(20, nn.Sigmoid)
    optimizer = sgd(0.1)(model)
    images, labels = digits()
    left = [len([*model.parameters()])]
    passed = []

    def accumulated(parameter: nn.Parameter) -> None:
        left[0] -= 1
        if left[0] == 0:
            left[0] = len([*model.parameters()])
            optimizer.step()
            optimizer.zero_grad()
            passed.append("stepped")

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(accumulated)

    def train() -> None:
        with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", on_finding="raise") as scope:
            for _ in range(12):
                loss = scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64]))
                passed.append("backward")
                loss.backward()

    with pytest.raises(TrainingUnhealthy, match="vanishing-gradient"):
        train()
    assert passed[-2:] == ["backward", "stepped"]
    assert len(passed) <= 14


def test_what_is_found_at_the_end_is_said_and_raises_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that ends before it was ever judged is judged when it is closed; there is nothing left to end."""
    told = Told()
    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 4, ["raise", told])
    assert told.of("vanishing-gradient")
    assert "gradscope ▲ error step 0 vanishing-gradient: " in capsys.readouterr().err


def test_off_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With GRADSCOPE=off nobody is told and nothing is ended."""
    monkeypatch.setenv("GRADSCOPE", "off")
    told = Told()
    _, losses, _ = loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 10, ["raise", told])
    assert (len(losses), told.findings, [*tmp_path.iterdir()]) == (10, [], [])


def test_the_runs_of_a_trial_tell_nobody_and_are_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gradscope trial` runs a script with `on_finding=` in it many times: the environment that it gives them says off."""
    for name, value in _environment(1).items():
        monkeypatch.setenv(name, value)
    told = Told()
    _, losses, _ = loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 10, ["raise", told])
    assert (len(losses), told.findings) == (10, [])


# who


def test_log_uses_levels_by_severity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With "log" the logger "gradscope" is given each finding, an error as an error, with the finding in the record."""
    with caplog.at_level(logging.DEBUG, logger="gradscope"):
        loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 8, "log")
    record = next(each for each in caplog.records if "vanishing-gradient" in each.getMessage())
    assert (record.name, record.levelname) == ("gradscope", "ERROR")
    assert record.getMessage().startswith("gradscope ▲ error step 0 vanishing-gradient: Gradients vanish")
    assert vars(record)["finding"].rule == "vanishing-gradient"


def test_print_says_a_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With "print" one line is said for each finding, with what to type next, and nothing on stdout."""
    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 8, "print")
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "vanishing-gradient" in line]
    assert len(lines) == 1
    assert lines[0].startswith("gradscope ▲ error step 0 vanishing-gradient: Gradients vanish")
    assert lines[0].endswith(f" -> gradscope dashboard {tmp_path / 'run'}")
    assert out == ""


def test_hostile_names_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer's name that would steer a terminal is spelled out."""
    layers: dict[str, nn.Module] = {}
    for number in range(20):
        layers[f"\x1b[31m{number}\n"] = nn.Linear(64, 64)
        layers[f"sigmoid{number}"] = nn.Sigmoid()
    training = Training(lambda: _named({**layers, "head": nn.Linear(64, 10)}), sgd(0.1))
    with pytest.raises(TrainingUnhealthy) as raised:
        loop(training, tmp_path / "run", 8, ["print", "raise"])
    said = capsys.readouterr().err
    assert "vanishing-gradient" in said
    assert "\x1b" not in said + str(raised.value)
    assert "\\x1b[31m0\\n" in said


def _named(layers: dict[str, nn.Module]) -> nn.Sequential:
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def test_a_handler_of_ones_own_is_told_everything_it_wants(tmp_path: Path) -> None:
    """A class derived from `Handler` is given the alert: the finding, the diagnosis, the run, the words."""
    alerts: list[Alert] = []

    class Keep(Handler):
        def tell(self, alert: Alert) -> None:
            alerts.append(alert)

    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 8, Keep("note"))
    alert = next(each for each in alerts if each.finding.rule == "vanishing-gradient")
    assert alert.finding in alert.diagnosis.findings
    assert (alert.run_dir, alert.step) == (tmp_path / "run", 4)
    assert alert.document["finding"]["rule"] == "vanishing-gradient"
    assert alert.document["text"] == alert.line


def test_a_handler_of_ones_own_that_is_half_made_harms_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One without our `__init__` tells from warnings on; one whose `wants` fails hides nothing from the others."""

    class Bare(Handler):
        def __init__(self) -> None:
            self.told = 0

        def tell(self, alert: Alert) -> None:
            self.told += 1

    class Broken(Handler):
        def wants(self, finding: Finding) -> bool:
            raise RuntimeError("no idea")

    bare = Bare()
    scope, _, _ = loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 8, [Broken(), bare])
    assert bare.told > 0
    assert capsys.readouterr().err.count("on_finding: Broken raised RuntimeError: no idea. The training goes on.") == 1
    assert "whether Broken was told all findings" in {each.what for each in scope.diagnose().not_observed}


@pytest.mark.parametrize(
    ("least", "wanted"),
    [("note", ["note", "warning", "error"]), ("warning", ["warning", "error"]), ("error", ["error"])],
)
def test_a_handler_wants_what_is_severe_enough(least: Any, wanted: list[str]) -> None:
    """`least` is the least severity that is told."""
    handler = Callback(print, least=least)
    assert [each for each in ("note", "warning", "error") if handler.wants(finding(each))] == wanted


def test_what_can_be_given() -> None:
    """Words, an address, a function, a handler, and lists of them."""
    own = Log("mine", least="error")
    given = handlers_of([print, ("log", "print"), "raise", "https://example.org/x", own])
    assert [type(each) for each in given] == [Callback, Log, Print, Stop, Webhook, Log]
    assert given[-1] is own
    assert handlers_of(None) == ()


async def _later(finding: Finding) -> None:
    """Nobody would wait for it."""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("shout", r"on_finding= expected \"raise\", \"log\", \"print\", an http.*it got 'shout'"),
        (42, "it got 42"),
        (Webhook, "it got the class Webhook"),
        (_later, "expected a plain function of one finding; it got a coroutine function"),
        ("https://", "address looks like https://example.org/path; it got 'https://'"),
        ("http://host:port/x", "address looks like"),
        (["log", None, 1.5], "it got 1.5"),
    ],
)
def test_what_cannot_be_told_is_refused(given: Any, text: str, tmp_path: Path) -> None:
    """The error says what is possible and what came, and no run is begun."""
    for watch in (
        lambda: gradscope.watch(nn.Linear(4, 4), run_dir=tmp_path / "run", on_finding=given),
        lambda: gradscope.autowatch(run_dir=tmp_path / "run", on_finding=given),
    ):
        with pytest.raises(WatchError, match=text):
            watch()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [lambda: Callback(print, least="bad"), lambda: Stop("warn"), lambda: Print("")])  # type: ignore[arg-type]
def test_a_severity_that_is_none_is_refused(make: Callable[[], Handler]) -> None:
    """The error names the three that there are."""
    with pytest.raises(WatchError, match='least= expected "note", "warning" or "error"; it got'):
        make()


# other ways to be watched


def test_autowatch_tells_and_ends(tmp_path: Path) -> None:
    """A loop that knows nothing of GradScope is ended in its optimizer's step; others are told too."""
    images, labels = digits()
    told = Told()

    def train() -> None:
        model = mlp(20, nn.Sigmoid)
        optimizer = sgd(0.1)(model)
        for told.step in range(10):
            nn.CrossEntropyLoss()(model(images[:64]), labels[:64]).backward()
            optimizer.step()
            optimizer.zero_grad()

    with gradscope.autowatch(run_dir=tmp_path / "told", on_finding=told):
        train()
    assert told.of("vanishing-gradient")[0][0] == 4
    with (
        pytest.raises(TrainingUnhealthy, match="vanishing-gradient"),
        gradscope.autowatch(run_dir=tmp_path / "run", on_finding="raise"),
    ):
        train()
    assert told.step == 4
    assert gradscope.read_run(tmp_path / "run").info.state == "ended"


def test_autowatch_ends_a_training_whose_steps_a_scaler_skips(tmp_path: Path) -> None:
    """Where no optimizer steps any more, the call of `backward` ends the training."""
    images, labels = digits()
    images = images[:64].clone()
    images[0, 0] = float("nan")

    def train() -> None:
        model = mlp(2, nn.ReLU)
        optimizer = sgd(0.1)(model)
        scaler = torch.amp.GradScaler("cpu")
        for _ in range(500):  # short steps are written ten times a second
            scaler.scale(nn.CrossEntropyLoss()(model(images), labels[:64])).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    with (
        pytest.raises(TrainingUnhealthy, match="non-finite"),
        gradscope.autowatch(run_dir=tmp_path / "run", on_finding="raise"),
    ):
        train()


SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(*[part for _ in range(20) for part in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
for step in range(20):
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
print("trained to the end")
"""


def run_command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`gradscope run` with a sick script."""
    (folder / "train.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "gradscope", "run", *options, "train.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_prints_findings(tmp_path: Path) -> None:
    """`gradscope run --on-finding print --on-finding log` says the finding twice; the program runs to its end."""
    done = run_command(tmp_path, "--on-finding", "print", "--on-finding", "log")
    assert (done.returncode, done.stdout) == (0, "trained to the end\n")
    assert done.stderr.count("▲ error step 0 vanishing-gradient: ") == 2


def test_the_command_ends_the_program_as_an_error_would(tmp_path: Path) -> None:
    """With `--on-finding raise` it ends with the program's own lines, no line of ours, the words, and exit code 1."""
    done = run_command(tmp_path, "--on-finding", "raise")
    assert (done.returncode, done.stdout) == (1, "")
    trace = done.stderr[done.stderr.index("Traceback") : done.stderr.index("TrainingUnhealthy")]
    assert 'train.py", line 11' in trace
    assert f"{os.sep}gradscope{os.sep}" not in trace.replace(str(tmp_path), "")
    assert "TrainingUnhealthy: The training is sick" in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--every", "x"), "argument --every: expected auto or a whole number of steps of 1 or more, got x"),
        (("--every", "0"), "argument --every: expected auto or a whole number of steps of 1 or more, got 0"),
        (("--overhead", "much"), "argument --overhead: expected a share of the training's time above 0 and up to 1"),
        (("--on-finding", "shout"), "argument --on-finding: expected print, log, raise, or an address like https://"),
    ],
)
def test_wrong_options_are_said_in_words(
    options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is said without names of ours, with exit code 2."""
    from gradscope.cli import main

    try:
        code = main(["run", *options, "train.py"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    assert text in capsys.readouterr().err


def test_two_processes_tell_once_and_raise_is_refused(tmp_path: Path) -> None:
    """Of two ranks the first tells, and no rank waits; "raise" is refused on both, with what to do instead."""
    (tmp_path / "train.py").write_text(
        textwrap.dedent(
            """
            import os
            import torch, torch.distributed as dist
            from torch import nn
            from torch.nn.parallel import DistributedDataParallel
            import gradscope
            from gradscope.errors import WatchError

            dist.init_process_group("gloo")
            rank = dist.get_rank()
            torch.manual_seed(0)
            layers = [part for _ in range(20) for part in (nn.Linear(16, 16), nn.Sigmoid())]
            model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(16, 4)))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            said = []
            try:
                gradscope.watch(model, optimizer, run_dir="refused", on_finding="raise")
            except WatchError as error:
                said.append(str(error))
            told = []
            with gradscope.watch(model, optimizer, run_dir="run", on_finding=lambda f: told.append(f.rule)) as scope:
                for _ in range(12):
                    x, y = torch.randn(32, 16), torch.randint(0, 4, (32,))
                    scope.loss(nn.functional.cross_entropy(model(x), y)).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                dist.barrier()
            open(f"said-{rank}", "w").write("\\n".join([*said, *told]))
            dist.destroy_process_group()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ((tmp_path / f"said-{rank}").read_text().splitlines() for rank in (0, 1))
    for said in (first, second):
        assert said[0].startswith('on_finding="raise" ends a training in one process; 2 train here together')
    assert first[1:].count("vanishing-gradient") == 1
    assert second[1:] == []
    assert not (tmp_path / "refused").exists()
