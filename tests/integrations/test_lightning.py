"""Lightning: the callback in real Trainers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

import gradscope
from gradscope.errors import TrainingUnhealthy
from gradscope.integrations.lightning import GradScopeCallback
from tests.integrations.fits import (
    assert_healthy,
    assert_sick,
    ended,
    everything,
    loader,
    net,
    recorded,
    values,
)
from tests.specimens import assert_same

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
]


class Digits(L.LightningModule):
    """Classifies digits."""

    def __init__(self, kind: str = "healthy", *, fails_at: int = -1) -> None:
        super().__init__()
        self.net = net(kind)
        self.fails_at = fails_at
        self.losses: list[float] = []
        self.validation_losses: list[float] = []

    def loss(self, batch: Any) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        if self.global_step == self.fails_at:
            raise RuntimeError("the disk is full")
        loss = self.loss(batch)
        self.losses.append(loss.item())
        self.log("train_loss", loss)
        self.log("epoch_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.validation_losses.clear()

    def validation_step(self, batch: Any, number: int) -> None:
        loss = self.loss(batch)
        self.validation_losses.append(loss.item())
        self.log("val_loss", loss)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Manual(Digits):
    """Optimizes by hand, the first layer and the others each with an optimizer and a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, number: int) -> None:  # type: ignore[override]
        first, others = self.optimizers()
        parts = []
        for share in (0.25, 0.75):
            loss = self.loss(batch) * share
            self.manual_backward(loss)
            parts.append(loss.item())
        for optimizer in (first, others):
            optimizer.step()
            optimizer.zero_grad()
        self.losses.append(sum(parts))

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.net[:1].parameters(), lr=0.05, momentum=0.9),
            torch.optim.Adam(self.net[1:].parameters(), lr=1e-3),
        ]


def trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    """A Trainer that says and writes nothing by itself."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "barebones": False}
    options = {"enable_checkpointing": False, "max_epochs": 1, "accelerator": "cpu", **quiet, **options}
    return L.Trainer(callbacks=list(callbacks), **options)


def fit(model: Digits, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    """Fits it."""
    fitting = trainer(*callbacks, **options)
    fitting.fit(model, loader(), loader(2))
    return fitting


def scaled() -> MixedPrecision:
    """Float16 with a gradient scaler, which Lightning by itself gives GPUs only."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Digits, {}),
        (Digits, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5, "max_epochs": 2}),
        (Digits, {"precision": "bf16-mixed"}),
        (Digits, {"plugins": "scaled"}),
        (Manual, {}),
    ],
    ids=["plain", "accumulated, clipped, validated twice", "bf16", "float16 with a scaler", "manual"],
)
def test_not_a_bit_is_changed(kind: type[Digits], options: dict[str, Any]) -> None:
    """With and without the callback: the same weights, optimizer states, random numbers and logged losses."""
    left = []
    for callbacks in ([], [GradScopeCallback(every=1, run_dir="run", quiet=True)]):
        model = kind()
        chosen = {**options, "plugins": scaled()} if "plugins" in options else options
        fitting = fit(model, *callbacks, **chosen)
        logged = [float(value) for _, value in sorted(fitting.callback_metrics.items())]
        left.append(everything(model, fitting.optimizers, [*model.losses, *logged]))
    assert_same(*left)


def test_a_healthy_training() -> None:
    """Every step has its loss; validation, also the sanity check before, is none of it and its losses are kept."""
    callback, model = GradScopeCallback(every=1, run_dir="run"), Digits()
    fit(model, callback, max_epochs=2)
    assert_healthy(callback, model.losses)
    run = recorded(callback)
    assert (run.info.model, run.info.optimizers[0].kind, len(run.steps)) == ("Digits", "Adam", 16)
    assert run.steps["forwards"].tolist() == [1] * 16
    assert values(callback, "val_loss")[-1] == pytest.approx(np.mean(model.validation_losses))
    assert len(values(callback, "val_loss")) == 2
    assert {event.data["name"] for event in run.events if event.kind == "value"} == {"val_loss"}
    assert callback.scope is not None
    assert callback.scope.diagnose().verdict == "healthy"


@pytest.mark.parametrize("kind", ["vanishing", "exploding"])
def test_a_sick_training(kind: str) -> None:
    """The sickness of a deep net is found, in its first layers."""
    callback = GradScopeCallback(run_dir="run", quiet=True)
    fit(Digits(kind), callback)
    assert_sick(callback, kind, "net.")


@pytest.mark.parametrize("precision", ["full", "scaled"])
def test_accumulated_batches_are_one_step(precision: str) -> None:
    """A step is the optimizer's; its loss is the mean of its batches', and without the loss scale."""
    callback, model = GradScopeCallback(every=1, run_dir="run", quiet=True), Digits()
    plugins = [scaled()] if precision == "scaled" else None
    fit(model, callback, accumulate_grad_batches=2, plugins=plugins)
    assert_healthy(callback, np.reshape(model.losses, (-1, 2)).mean(axis=1))
    assert recorded(callback).steps["backwards"].tolist() == [2] * 4
    assert np.median(recorded(callback).steps["gradient_norm"]) < 100  # not 1,024 times as much


def test_gradscope_run_knows_accumulated_batches_too() -> None:
    """Without the callback: the last batch's loss comes in a closure of the optimizer's, those before it do not."""
    model = Digits()
    with gradscope.autowatch(run_dir="run", every=1):
        fit(model, accumulate_grad_batches=2)
    losses = gradscope.read_run("run").steps["loss"].tolist()
    assert losses == pytest.approx(np.reshape(model.losses, (-1, 2)).mean(axis=1), rel=1e-5)


def test_manual_optimization_with_two_optimizers() -> None:
    """A step has closed when both have stepped; its loss is the sum of all that `manual_backward` was called on."""
    callback, model = GradScopeCallback(every=1, run_dir="run", quiet=True), Manual()
    fit(model, callback)
    assert_healthy(callback, model.losses)
    assert [optimizer.kind for optimizer in recorded(callback).info.optimizers] == ["SGD", "Adam"]


def test_lbfgs_evaluates_its_closure_often() -> None:
    """The loss of a step is that of the closure's first evaluation."""

    class Slow(Digits):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    callback, model = GradScopeCallback(every=1, run_dir="run", quiet=True), Slow()
    fit(model, callback)
    assert recorded(callback).steps["loss"].tolist() == pytest.approx(model.losses[::3], rel=1e-5)


def test_a_module_that_is_compiled() -> None:
    """Lightning compiles `training_step`, whose layers then cannot be seen: gradients, updates and losses are."""

    class Plain(Digits):
        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            return self.loss(batch)

    callback = GradScopeCallback(every=1, run_dir="run", quiet=True)
    trainer(callback).fit(torch.compile(Plain(), backend="eager"), loader())
    run = recorded(callback)
    assert callback.diagnosis.verdict == "healthy"
    assert run.steps["recorded"].all()
    assert run.steps["has_loss"].all()
    assert (run.steps["gradient_norm"] > 0).all()
    assert [missing.what for missing in run.info.not_observed] == ["activations and their gradients"]


def test_an_exception_is_how_the_run_ended() -> None:
    """An exception passes, and the run says which."""
    callback = GradScopeCallback(run_dir="run", quiet=True)
    with pytest.raises(RuntimeError, match="the disk is full"):
        fit(Digits(fails_at=3), callback)
    assert ended(callback) == "RuntimeError: the disk is full"
    assert len(recorded(callback).steps) == 3


def test_an_exception_in_validation_ends_the_pause_too() -> None:
    """The callback is as good as new for the next fit."""

    class Fails(Digits):
        def validation_step(self, batch: Any, number: int) -> None:
            if not self.trainer.sanity_checking:
                raise KeyError("label")

    callback = GradScopeCallback(every=1, run_dir="run", quiet=True)
    with pytest.raises(KeyError):
        fit(Fails(), callback)
    assert ended(callback) == "KeyError: 'label'"
    model = Digits()
    fit(model, callback)
    assert_healthy(callback, model.losses)


def test_on_finding_raise_ends_the_training() -> None:
    """The error leaves `fit`, and the run says why it ended."""
    callback = GradScopeCallback(run_dir="run", quiet=True, on_finding="raise")
    with pytest.raises(TrainingUnhealthy, match="vanish"):
        fit(Digits("vanishing"), callback, max_epochs=20)
    assert ended(callback) == 'on_finding="raise": vanishing-gradient'


def test_early_stopping() -> None:
    """A training that is stopped early has ended."""
    callback = GradScopeCallback(run_dir="run", quiet=True)
    stop = EarlyStopping("val_loss", patience=0, min_delta=10.0, verbose=False)
    fitting = fit(Digits(), callback, stop, max_epochs=9)
    assert fitting.current_epoch == 2
    assert ended(callback) == "closed"
    assert len(recorded(callback).steps) == 16


def test_every_fit_has_its_run() -> None:
    """A second fit, whose optimizers are new, is recorded beside the first; a copy of the Trainer sees the diagnosis."""
    callback, model = GradScopeCallback(every=1, run_dir="runs/a", quiet=True), Digits()
    fitting = fit(model, callback)
    first = callback.run_dir
    fitting.fit_loop.max_epochs = 2
    fitting.fit(model, loader(4))
    assert (first, callback.run_dir) == (Path("runs/a").resolve(), Path("runs/a-2").resolve())
    assert_healthy(callback, model.losses[8:])


def test_a_resumed_fit(tmp_path: Path) -> None:
    """Recording begins with the checkpoint's weights and optimizer; with `resume=True` it goes on with the run."""
    callback = GradScopeCallback(every=1, run_dir="run", quiet=True)
    fit(Digits(), callback).save_checkpoint(tmp_path / "saved.ckpt")
    again, model = GradScopeCallback(every=1, run_dir="run", resume=True, quiet=True), Digits()
    resuming = trainer(again, max_epochs=2)
    resuming.fit(model, loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt", weights_only=False)
    run = recorded(again)
    assert run.steps["step"].tolist() == list(range(16))
    assert run.steps["loss"][8:].tolist() == pytest.approx(model.losses, rel=1e-5)
    assert run.steps["loss"][8] < run.steps["loss"][:4].min()  # the weights are those of the checkpoint


def test_copies_and_pickles_know_and_do_not_record() -> None:
    """A Trainer with the callback can be copied and pickled while it fits; the copies know the diagnosis."""
    copies: list[GradScopeCallback] = []

    class Copies(L.Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            ours = trainer.callbacks[0]
            copies.extend((copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))))

    callback = GradScopeCallback(every=1, run_dir="run", quiet=True)
    fit(Digits("vanishing"), callback, Copies())
    for each in copies:
        assert each.scope is None
        assert each.options == {"every": 1, "run_dir": "run"}
        assert each.diagnosis.headline == callback.diagnosis.headline
    assert len(recorded(callback).steps) == 8


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is recorded, and the verdict in one line."""
    callback = GradScopeCallback(run_dir="run")
    fit(Digits("vanishing"), callback)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gradscope")]
    headline = callback.diagnosis.headline
    assert said == [
        "gradscope: recording to run",
        f"gradscope: unhealthy: {headline} (all of it: gradscope report run)",
    ]


def test_the_module_of_lightning_that_is_imported_counts() -> None:
    """The callback is one of `lightning.pytorch`, as that is what this program has imported."""
    assert isinstance(GradScopeCallback(), L.Callback)


def test_what_cannot_be_watched_is_said_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said on stderr, and the diagnosis says why; the training goes on."""

    class Frozen(Digits):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)

    callback, model = GradScopeCallback(run_dir="run"), Frozen()
    fit(model, callback)
    assert len(model.losses) == 8
    why = "SGD updates none of the parameters of Frozen"
    assert f"gradscope: this training is not watched: {why}" in capsys.readouterr().err
    assert callback.diagnosis.verdict == "not-enough-data"
    assert why in callback.diagnosis.headline


def test_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With GRADSCOPE=off nothing is recorded or said."""
    monkeypatch.setenv("GRADSCOPE", "off")
    callback, model = GradScopeCallback(run_dir="run"), Digits()
    fit(model, callback)
    assert len(model.losses) == 8
    assert not Path("run").exists()
    assert "GRADSCOPE=off" in callback.diagnosis.headline
    assert "gradscope" not in capsys.readouterr().err


def test_under_gradscope_run_it_is_recorded_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`gradscope run` leaves a training that has the callback to it, and says the verdict once, at its end."""
    callback, model = GradScopeCallback(every=1, run_dir="run"), Digits()
    with gradscope.autowatch(run_dir="other") as session:
        fit(model, callback)
        fit(model, callback)
    assert sorted(path.name for path in Path().iterdir() if not path.is_symlink()) == ["run", "run-2"]
    assert [scope.run_dir for scope in session.scopes] == [Path("run"), Path("run-2")]
    assert_healthy(callback, model.losses[8:])
    assert capsys.readouterr().err.count("healthy: No sickness found in 8 steps.") == 2
