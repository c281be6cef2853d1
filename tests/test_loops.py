"""Any training loop: mixed precision, accumulation, clipping, closures, optimizers inside backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.errors import WatchError
from gradscope.recorder.parameters import gradient_norm
from gradscope.recorder.schedule import Schedule
from gradscope.records import Run
from gradscope.signals import Signals
from tests.trainings import adam, digits, he, mlp, sgd

CRITERION = nn.CrossEntropyLoss()


def small() -> nn.Sequential:
    """A He-initialised ReLU network of three layers, always the same."""
    torch.manual_seed(0)
    return mlp(2, nn.ReLU, he)


def gradients(model: nn.Module) -> list[float]:
    """The norms of the gradients that are there, in the order of `model.parameters()`."""
    return [float(parameter.grad.double().norm()) for parameter in model.parameters() if parameter.grad is not None]


def recorded(run: Run, quantity: str = "gradient") -> np.ndarray:
    """The norms of a quantity of all parameters, in the order of `model.parameters()`."""
    signals = Signals(run)
    sites = [i for i, site in enumerate(run.info.sites) if site.role == "parameter"]
    return signals.norm(quantity)[sites]


@contextmanager
def watched(model: nn.Module, optimizer: object, folder: Path, **options: object) -> Iterator[gradscope.Scope]:
    """A scope that records each step and must not have failed."""
    with gradscope.watch(model, optimizer, run_dir=folder, **{"every": 1, **options}) as scope:  # type: ignore[arg-type]
        yield scope
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure


# mixed precision

Make = Callable[[nn.Module], torch.optim.Optimizer]
PLAIN: Make = sgd(0.05)
FUSED: Make = lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)  # noqa: E731


def train_with_scaler(
    folder: Path | None, make: Make, *, steps: int = 6, known: bool = True, bad: tuple[int, ...] = (), **options: object
) -> tuple[Run | None, list[list[float]], nn.Module]:
    """Trains under a scaler of 1,024; also the true gradient norms of each step that was not skipped."""
    model, truth = small(), []
    optimizer, scaler = make(model), torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    images, labels = digits()
    scope = None
    if folder is not None:
        scope = gradscope.watch(
            model, optimizer, run_dir=folder, scaler=scaler if known else None, **{"every": 1, **options}
        )
    for step in range(steps):
        batch = images[step * 32 : step * 32 + 32]
        model.zero_grad()
        loss = CRITERION(model(batch * (torch.inf if step in bad else 1.0)), labels[:32])
        if scope is not None:
            scope.loss(loss)
        scaler.scale(loss).backward()
        truth.append([norm / scaler.get_scale() for norm in gradients(model)])
        scaler.step(optimizer)
        scaler.update()
    if scope is None or folder is None:
        return None, truth, model
    scope.close()
    assert scope._recorder is not None
    assert scope._recorder.failure is None, scope._recorder.failure
    return gradscope.read_run(folder), truth, model


@pytest.mark.parametrize("make", [PLAIN, FUSED], ids=["plain", "fused"])
@pytest.mark.parametrize("known", [True, False], ids=["scaler handed over", "scale read at the loss"])
def test_wandb_4369_9092_gradients_are_judged_after_unscaling(make: Make, known: bool, tmp_path: Path) -> None:
    """Under a gradient scaler every norm is that of the unscaled gradient, with and without
    `scaler=` (Lightning 11407, trackio 262 as well).
    """
    run, truth, _ = train_with_scaler(tmp_path / "run", make, known=known)
    assert run is not None
    assert recorded(run) == pytest.approx(np.array(truth).T, rel=1e-5)
    assert run.steps["scale"].tolist() == [1024.0] * 6
    assert run.steps["gradient_norm"] == pytest.approx(np.linalg.norm(truth, axis=1), rel=1e-5)
    assert run.steps["clipped_gradient_norm"] == pytest.approx(np.linalg.norm(truth, axis=1), rel=1e-5)
    signals = Signals(run)
    assert np.nanmax(np.abs(np.log10(signals.backward_gain[signals.modules]))) < 1
    assert signals.clipped_share == 0.0
    plain, _, _ = train_with_scaler(tmp_path / "plain", make, known=known)
    assert plain is not None
    assert gradscope.diagnose(run).verdict == "healthy"


def test_fused_adam_with_scaler(tmp_path: Path) -> None:
    """A fused optimizer is handed scaled gradients, and its hooks fire in a skipped step: neither is mistaken."""
    run, _, _ = train_with_scaler(tmp_path / "run", FUSED, bad=(2,))
    assert run is not None
    assert run.steps["skipped"].tolist() == [False, False, True, False, False, False]
    assert run.steps["scale"].tolist() == [1024.0] * 3 + [512.0] * 3
    finite = run.steps["gradient_norm"][~run.steps["skipped"]]
    assert (finite < 10).all()


def test_scaler_skip_without_step_hook(tmp_path: Path) -> None:
    """A step that the scaler skips, when no hook of the optimizer is called, is a skipped step, not a NaN."""
    run, _, _ = train_with_scaler(tmp_path / "run", PLAIN, bad=(2, 3))
    assert run is not None
    assert run.steps["skipped"].tolist() == [False, False, True, True, False, False]
    assert run.steps["forwards"].tolist() == [1] * 6
    assert np.isfinite(run.steps["gradient_norm"]).tolist() == [True, True, False, False, True, True]


@pytest.mark.parametrize("make", [PLAIN, FUSED], ids=["plain", "fused"])
def test_pytorch_40497_overflowing_gradients_are_reported_as_skipped(make: Make, tmp_path: Path) -> None:
    """Gradients that overflow now and then at a large loss scale get a note, and the verdict stays healthy."""
    model = small()
    optimizer = make(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=1000)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run", scaler=scaler) as scope:
        for step in range(20):
            batch = slice(step * 32, step * 32 + 32)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = scope.loss(CRITERION(model(images[batch]).float(), labels[batch]))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        diagnosis = scope.diagnose()
    run = gradscope.read_run(tmp_path / "run")
    skipped = int(run.steps["skipped"].sum())
    assert 3 <= skipped < 20
    assert diagnosis.verdict == "healthy"
    assert [(finding.rule, finding.severity) for finding in diagnosis.findings] == [("non-finite", "note")]
    assert f"skipped {skipped} of 20 steps" in diagnosis.findings[0].message


def test_a_nan_that_no_loss_scale_cures_is_an_error(tmp_path: Path) -> None:
    """When the scaler skips step after step, the NaN is real: lowering the scale did not help."""
    run, _, _ = train_with_scaler(tmp_path / "run", PLAIN, steps=16, bad=tuple(range(3, 16)))
    assert run is not None
    diagnosis = gradscope.diagnose(run)
    assert diagnosis.verdict == "broken"


def test_skipped_steps_between_recorded_ones_are_counted(tmp_path: Path) -> None:
    """Steps that are not recorded in full are known as skipped too."""
    run, _, _ = train_with_scaler(tmp_path / "run", PLAIN, steps=12, bad=(2, 7), every=5)
    assert run is not None
    assert np.flatnonzero(run.steps["skipped"]).tolist() == [2, 7]
    assert run.steps["has_loss"].all()


@pytest.mark.parametrize("make", [PLAIN, FUSED], ids=["plain", "fused"])
def test_a_scaled_training_is_left_alone(make: Make, tmp_path: Path) -> None:
    """The law holds under a gradient scaler, skipped steps included."""
    _, _, model = train_with_scaler(tmp_path / "run", make, bad=(3,))
    _, _, alone = train_with_scaler(None, make, bad=(3,))
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_unscaling_and_clipping_under_a_scaler(tmp_path: Path) -> None:
    """After `scaler.unscale_` and clipping, the norms before and after are both in the loss's own unit."""
    model = small()
    optimizer, scaler = sgd(0.05)(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    images, labels = digits()
    before, after = [], []
    with watched(model, optimizer, tmp_path / "run", scaler=scaler) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(scope.loss(CRITERION(model(images[:64]), labels[:64]))).backward()
            scaler.unscale_(optimizer)
            before.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.1)))
            after.append(float(np.linalg.norm(gradients(model))))
            scaler.step(optimizer)
            scaler.update()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["gradient_norm"] == pytest.approx(before, rel=1e-5)
    assert run.steps["clipped_gradient_norm"] == pytest.approx(after, rel=1e-5)
    assert Signals(run).clipped_share == 1.0


def test_an_unknown_loss_scale_is_said(tmp_path: Path) -> None:
    """A float16 autocast whose scale no source tells is listed; its ratios are still right."""
    model = small()
    optimizer = sgd(1e-6)(model)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run") as scope:
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                output = model(images[:32])
            (nn.functional.cross_entropy(output.float(), labels[:32]) * 1024).backward()
            optimizer.step()
        missing = scope.diagnose().not_observed
    assert any("loss scale of a float16 training is not known" in each.why for each in missing)


def test_bfloat16_autocast(tmp_path: Path) -> None:
    """Under bf16 autocast activations are measured in the type they are in, and nothing is unscaled."""
    model = small()
    optimizer = sgd(0.05)(model)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run") as scope:
        for _ in range(6):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = scope.loss(CRITERION(model(images[:64]), labels[:64]))
            loss.backward()
            optimizer.step()
        diagnosis = scope.diagnose()
    run = gradscope.read_run(tmp_path / "run")
    assert run.info.sites[Signals(run).site("0")].dtype == "bfloat16"
    assert run.steps["scale"].tolist() == [1.0] * 6
    assert diagnosis.verdict == "healthy"
    assert not diagnosis.not_observed


def test_something_else_than_a_scaler_is_refused(tmp_path: Path) -> None:
    """`scaler=` says what it expected."""
    with pytest.raises(WatchError, match=r"scaler= expected a torch.amp.GradScaler or None; it got float"):
        gradscope.watch(small(), scaler=2.0, run_dir=tmp_path / "run")


def test_a_disabled_scaler_is_none(tmp_path: Path) -> None:
    """`GradScaler(enabled=False)`, as scripts have it for full precision, changes nothing."""
    model = small()
    optimizer, scaler = sgd(0.05)(model), torch.amp.GradScaler("cpu", enabled=False)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run", scaler=scaler) as scope:
        for _ in range(3):
            scaler.scale(scope.loss(CRITERION(model(images[:32]), labels[:32]))).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert (run.steps["scale"].tolist(), run.steps["skipped"].any()) == ([1.0] * 3, False)


# accumulation and clipping


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_wandb_10100_lightning_1923_gradient_accumulation(reduction: str, tmp_path: Path) -> None:
    """Four micro-batches make one step: its gradient is the accumulated one, its forwards are four."""
    model = small()
    optimizer = sgd(0.01)(model)
    images, labels = digits()
    truth = []
    with watched(model, optimizer, tmp_path / "run") as scope:
        for _ in range(3):
            for part in range(4):
                batch = slice(part * 16, part * 16 + 16)
                loss = scope.loss(CRITERION(model(images[batch]), labels[batch]))
                (loss / 4 if reduction == "mean" else loss).backward()
            truth.append(gradients(model))
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == run.steps["backwards"].tolist() == [4, 4, 4]
    assert recorded(run) == pytest.approx(np.array(truth).T, rel=1e-5)
    assert run.steps["scale"].tolist() == [1.0] * 3


def test_share_of_clipped_steps(tmp_path: Path) -> None:
    """The norm before and after clipping is kept for each step, and the share of steps that were clipped is known."""
    model = small()
    optimizer = sgd(0.01)(model)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run") as scope:
        for step in range(8):
            scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01 if step % 4 == 0 else 1e6)
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert Signals(run).clipped_share == 0.25
    assert run.steps["clipped_gradient_norm"][[0, 4]] == pytest.approx([0.01, 0.01], rel=1e-3)


def test_a_gradient_that_is_replaced_counts_as_clipped(tmp_path: Path) -> None:
    """`p.grad = p.grad * 0.5`, a new tensor, is seen like a change in place."""
    model = small()
    optimizer = sgd(0.01)(model)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run") as scope:
        for _ in range(2):
            scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
            for parameter in model.parameters():
                parameter.grad = parameter.grad * 0.5
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["clipped_gradient_norm"] == pytest.approx(run.steps["gradient_norm"] / 2)


# optimizers


def test_two_optimizers_are_one_step(tmp_path: Path) -> None:
    """Parameters split over two optimizers: the step closes when both have stepped, each clipped on its own."""
    model = small()
    first, second = sgd(0.01)(model[:2]), adam(1e-3)(model[2:])
    images, labels = digits()
    with watched(model, [first, second], tmp_path / "run") as scope:
        for _ in range(3):
            scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
            first.step()
            nn.utils.clip_grad_norm_(model[2:].parameters(), 1e-3)
            second.step()
            model.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    assert len(run.steps) == 3
    assert run.learning_rates.tolist() == [[0.01, 1e-3]] * 3
    untouched = signals.norm("gradient")[[signals.site(f"0.{name}", "parameter") for name in ("weight", "bias")]]
    expected = np.sqrt((untouched**2).sum(axis=0) + 1e-6)
    assert run.steps["clipped_gradient_norm"] == pytest.approx(expected, rel=1e-3)


def test_an_optimizer_that_takes_every_second_step(tmp_path: Path) -> None:
    """When one of two optimizers sits a step out, the step closes at the next forward."""
    model = small()
    first, second = sgd(0.01)(model[:2]), sgd(0.01)(model[2:])
    images, labels = digits()
    with watched(model, [first, second], tmp_path / "run") as scope:
        for step in range(6):
            scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
            first.step()
            if step % 2:
                second.step()
            model.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == [1] * 6
    moved = Signals(run).norm("update")[Signals(run).site("4.weight", "parameter")]
    assert (moved > 0).tolist() == [False, True] * 3


def test_lbfgs_gradient_is_first_closure(tmp_path: Path) -> None:
    """Of LBFGS' closure evaluations the first gives the step's gradient and loss; how many there were is counted."""
    model = small()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
    images, labels = digits()
    evaluations: list[list[list[float]]] = []
    losses: list[float] = []
    with watched(model, optimizer, tmp_path / "run") as scope:

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = scope.loss(CRITERION(model(images[:64]), labels[:64]))
            loss.backward()
            evaluations[-1].append(gradients(model))
            losses.append(float(loss.detach()))
            return loss

        for _ in range(3):
            evaluations.append([])
            optimizer.step(closure)
    run = gradscope.read_run(tmp_path / "run")
    starts = np.cumsum([0, *map(len, evaluations)])[:3]
    assert recorded(run) == pytest.approx(np.array([step[0] for step in evaluations]).T, rel=1e-5)
    assert run.steps["loss"] == pytest.approx(np.array(losses)[starts])
    assert run.steps["backwards"].tolist() == [len(step) for step in evaluations]
    assert max(map(len, evaluations)) > 1
    assert (recorded(run, "update") > 0).all()


@pytest.mark.parametrize("every", [1, 2])
def test_optimizers_that_step_inside_backward(every: int, tmp_path: Path) -> None:
    """One optimizer a parameter, stepping as soon as its gradient is there: one row a step, every gradient seen."""

    def train(folder: Path | None) -> tuple[list[torch.Tensor], np.ndarray]:
        model = small()
        optimizers = {p: torch.optim.SGD([p], lr=0.01) for p in model.parameters()}
        truth: list[dict[torch.Tensor, float]] = []

        def step_now(parameter: torch.Tensor) -> None:
            truth[-1][parameter] = float(parameter.grad.norm())  # type: ignore[union-attr]
            optimizers[parameter].step()  # type: ignore[index]
            optimizers[parameter].zero_grad()  # type: ignore[index]

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step_now)
        images, labels = digits()
        scope = (
            None if folder is None else gradscope.watch(model, list(optimizers.values()), run_dir=folder, every=every)
        )
        for _ in range(4):
            truth.append({})
            loss = CRITERION(model(images[:64]), labels[:64])
            if scope is not None:
                scope.loss(loss)
            loss.backward()
        if scope is not None:
            scope.close()
            assert scope._recorder is not None
            assert scope._recorder.failure is None, scope._recorder.failure
        norms = np.array([[step[p] for p in model.parameters()] for step in truth]).T
        return [p.detach() for p in model.parameters()], norms

    ours, norms = train(tmp_path / "run")
    theirs, _ = train(None)
    assert all(map(torch.equal, ours, theirs))
    run = gradscope.read_run(tmp_path / "run")
    assert len(run.steps) == 4
    assert recorded(run) == pytest.approx(norms[:, ::every], rel=1e-5)
    assert run.steps["forwards"].tolist() == [1 if step % every == 0 else 0 for step in range(4)]
    assert (recorded(run, "update") > 0).all()


def test_schedulers_and_parameter_groups(tmp_path: Path) -> None:
    """Each group's learning rate is kept for each step, as a scheduler sets it."""
    model = small()
    optimizer = torch.optim.SGD(
        [{"params": model[:2].parameters(), "lr": 0.1}, {"params": model[2:].parameters()}], 0.01
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run") as scope:
        for _ in range(3):
            scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    rates = gradscope.read_run(tmp_path / "run").learning_rates
    assert rates == pytest.approx(np.outer([1, 0.5, 0.25], [0.1, 0.01]))


def test_evaluation_between_steps_is_not_mixed_in(tmp_path: Path) -> None:
    """Validation in eval mode, with and without gradients, changes no number of the training's steps."""
    runs = []
    for validates in (False, True):
        model = small()
        optimizer = sgd(0.01)(model)
        images, labels = digits()
        with watched(model, optimizer, tmp_path / str(validates)) as scope:
            for _ in range(3):
                scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
                if validates:
                    model.eval()
                    CRITERION(model(images[64:128]), labels[64:128])
                    with torch.inference_mode():
                        model(images[64:128])
                    model.train()
                optimizer.step()
                optimizer.zero_grad()
        runs.append(gradscope.read_run(tmp_path / str(validates)))
    for name in ("count", "sum_squares", "sum", "histogram"):
        assert np.array_equal(runs[0].summaries[name], runs[1].summaries[name])
    assert runs[0].steps["loss"].tolist() == runs[1].steps["loss"].tolist()


def test_averaged_copies_are_not_recorded(tmp_path: Path) -> None:
    """An EMA copy (torch's AveragedModel) of a watched model runs and is updated without being recorded."""
    model = small()
    optimizer = sgd(0.01)(model)
    images, labels = digits()
    with watched(model, optimizer, tmp_path / "run") as scope:
        average = torch.optim.swa_utils.AveragedModel(model)
        for _ in range(3):
            scope.loss(CRITERION(model(images[:64]), labels[:64])).backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(model)
            average(images[:64]).sum().backward()
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == [1, 1, 1]
    assert set(run.summaries["count"][run.summaries["quantity"] == 0]) <= {64 * 64, 64 * 10, 64}  # and the labels


# between recorded steps


def test_gradient_norms_between_recorded_steps(tmp_path: Path) -> None:
    """Where the budget allows, a step that is not recorded in full has its gradient's norm all the same."""
    model = mlp(2, nn.ReLU, he, width=256)
    optimizer = sgd(1e-3)(model)
    images, labels = digits()
    truth = []
    with watched(model, optimizer, tmp_path / "run", every="auto", overhead=0.2) as scope:
        for _ in range(60):
            scope.loss(CRITERION(model(images), labels)).backward()
            truth.append(float(np.linalg.norm(gradients(model))))
            optimizer.step()
            optimizer.zero_grad()
    steps = gradscope.read_run(tmp_path / "run").steps
    light = ~steps["recorded"] & np.isfinite(steps["clipped_gradient_norm"])
    assert light.sum() > 5
    assert np.isnan(steps["gradient_norm"][light]).all()  # nobody has seen it before the optimizer
    assert steps["clipped_gradient_norm"][light] == pytest.approx(np.array(truth)[light], rel=1e-4)


@pytest.mark.parametrize(("size", "norm"), [(1e20, 8e21), (1e-23, 8e-22), (0.0, 0.0), (float("inf"), float("inf"))])
def test_the_light_norm_has_the_whole_range(size: float, norm: float) -> None:
    """The norm of finite gradients is finite, and that of tiny ones is not 0."""
    model = nn.Linear(80, 80, bias=False)
    model.weight.grad = torch.full((80, 80), size)
    measured = gradient_norm(sgd(0.1)(model), {id(model.weight)})
    assert measured is not None
    assert float(measured) == pytest.approx(norm, rel=1e-5, abs=0.0)


def test_a_leap_of_the_gradient_is_recorded() -> None:
    """When the gradient's norm leaps out of its usual range, the next step is recorded whatever it costs."""
    schedule = Schedule("auto", 0.001)
    schedule.spent(1.0, 0.9, recorded=True)
    for step in range(20):
        schedule.saw_norm(1.0 + 0.01 * (step % 3))
    assert not schedule.wants(100)
    schedule.saw_norm(30.0)
    assert schedule.wants(101)
    assert not schedule.wants(102)


def test_a_short_training_is_seen_at_steps_that_double() -> None:
    """Steps 8, 16, 32 … are recorded for a tenth of a second in all, whatever the budget says."""
    schedule = Schedule("auto", 0.03)
    recorded = []
    for step in range(200):
        if schedule.wants(step):
            recorded.append(step)
        schedule.spent(0.05 if step in recorded else 0.001, 0.04 if step in recorded else 0.0, step in recorded)
    assert recorded == [*range(5), 8, 16]
    assert not schedule.is_milestone(32)
    assert not Schedule("auto", 0.03, allowance=0.0).is_milestone(8)
    assert not Schedule(3, 0.03).is_milestone(8)


def test_norms_and_full_recordings_have_their_own_shares() -> None:
    """Dear full recordings at the start do not keep norms, which are a third of the budget, from being taken."""
    schedule = Schedule("auto", 0.03)
    schedule.spent(1.0, 0.5, recorded=True)
    schedule.spent(10.0, 0.01, recorded=False, norm=0.01)
    assert not schedule.wants(100)
    assert schedule.wants_norm()
    schedule.spent(0.1, 0.1, recorded=False, norm=0.1)
    assert not schedule.wants_norm()
    assert not Schedule(3, 0.03).wants_norm()  # every third step is what was asked for
