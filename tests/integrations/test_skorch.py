"""Skorch: the callback in real nets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

import gradscope
from gradscope.integrations.skorch import GradScopeCallback
from tests.integrations.fits import BATCH, assert_healthy, assert_sick, ended, everything, net, recorded, values
from tests.specimens import assert_same
from tests.trainings import digits


class Net(nn.Module):
    """One of the nets, as a class that skorch makes objects of."""

    def __init__(self, kind: str = "healthy") -> None:
        super().__init__()
        self.layers = net(kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Keeps(NeuralNetClassifier):
    """Keeps every loss that it calls `backward` on."""

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> torch.Tensor:
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        if training:
            loss = loss + 1e-4 * sum(weight.square().sum() for weight in self.module_.parameters())
            KEPT.append(loss.item())
        return loss


KEPT: list[float] = []


def make(*callbacks: Callback, kind: str = "healthy", **options: Any) -> Keeps:
    """A classifier of digits."""
    KEPT.clear()
    torch.manual_seed(0)
    options = {"max_epochs": 2, "optimizer": torch.optim.Adam, "lr": 1e-3, "criterion": nn.CrossEntropyLoss, **options}
    return Keeps(Net, module__kind=kind, callbacks=list(callbacks), batch_size=BATCH, verbose=0, **options)


def task() -> tuple[np.ndarray, np.ndarray]:
    """Digits, for 8 batches of training and 2 of validation."""
    images, labels = digits()
    return images[: 10 * BATCH].numpy(), labels[: 10 * BATCH].numpy()


def watching(**options: Any) -> GradScopeCallback:
    """The callback of most tests."""
    return GradScopeCallback(**{"every": 1, "run_dir": "run", "quiet": True, **options})


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.LBFGS])
def test_not_a_bit_is_changed(optimizer: type[torch.optim.Optimizer]) -> None:
    """With and without the callback: the same weights, optimizer state, random numbers and losses."""
    left = []
    for callbacks in ([], [watching()]):
        classifier = make(*callbacks, optimizer=optimizer).fit(*task())
        losses = [*KEPT, *classifier.history[:, "train_loss"], *classifier.history[:, "valid_loss"]]
        left.append(everything(classifier.module_, [classifier.optimizer_], losses))
    assert_same(*left)


def test_a_healthy_training() -> None:
    """Every step has the loss that `get_loss` made; validation is not seen and its scores are kept."""
    callback = watching()
    classifier = make(callback).fit(*task())
    assert_healthy(callback, KEPT)
    run = recorded(callback)
    assert (run.info.model, run.info.optimizers[0].kind, run.info.criterion) == ("Net", "Adam", "CrossEntropyLoss")
    assert run.steps["forwards"].tolist() == [1] * 16
    assert values(callback, "valid_loss") == pytest.approx(classifier.history[:, "valid_loss"])
    assert {event.data["name"] for event in run.events if event.kind == "value"} == {"valid_loss", "valid_acc"}


def test_bfloat16() -> None:
    """Under autocast too."""

    class Half(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x).float()

    callback = watching()
    make(callback).set_params(module=Half).fit(*task())
    assert_healthy(callback, KEPT)


@pytest.mark.parametrize("kind", ["vanishing", "exploding"])
def test_a_sick_training(kind: str) -> None:
    """The sickness of a deep net is found, in its first layers."""
    callback = watching()
    make(callback, kind=kind).fit(*task())
    assert_sick(callback, kind, "layers.")


def test_the_loss_of_lbfgs_is_that_of_its_first_evaluation() -> None:
    """Skorch hands every optimizer a closure; one that evaluates it often has the first loss."""
    callback = watching()
    classifier = make(callback, optimizer=torch.optim.LBFGS, lr=0.05, optimizer__max_iter=3).fit(*task())
    steps = recorded(callback).steps
    assert len(steps) == 16
    assert steps["loss"][0] == pytest.approx(KEPT[0], rel=1e-5)
    assert np.mean(steps["loss"][:8]) == pytest.approx(classifier.history[0, "train_loss"], rel=0.05)


class Two(NeuralNet):
    """A net of two modules."""

    def initialize_module(self) -> Two:
        super().initialize_module()
        self.head_ = nn.Linear(10, 10)
        return self

    def initialize_optimizer(self) -> Two:
        self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=0.05)
        self.second_ = torch.optim.SGD(self.head_.parameters(), lr=0.05)
        return self

    def infer(self, x: Any, **_: Any) -> torch.Tensor:
        return self.head_(self.module_(torch.as_tensor(x)))


def test_several_modules_are_watched_as_one() -> None:
    """A net of two modules with an optimizer each; `partial_fit` goes on with its run, and a pickle has no model."""
    callback = watching()
    two = Two(Net, criterion=nn.CrossEntropyLoss, callbacks=[callback], batch_size=BATCH, max_epochs=1, verbose=0)
    two.fit(*task())
    run = recorded(callback)
    assert len(run.info.optimizers) == 2
    assert {"module.layers.0", "head"} <= {site.path for site in run.info.sites}
    assert run.steps["has_loss"].all()
    two.partial_fit(*task())
    assert len(recorded(callback).steps) == 2 * len(run.steps)
    assert b"_rebuild_parameter" in pickle.dumps(two.head_)
    assert b"_rebuild_parameter" not in pickle.dumps(callback)


class Fails(Callback):
    """Fails in the fourth batch."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.error = error

    def initialize(self) -> Fails:
        self.batches_ = 0
        return self

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self.batches_ += 1
        if self.batches_ == 4:
            raise self.error("the disk is full")


def test_an_exception_that_leaves_the_block_is_how_the_run_ended() -> None:
    """Skorch tells no callback of an exception; `with callback:` does."""
    callback = watching()
    with pytest.raises(RuntimeError, match="the disk is full"), callback:
        make(callback, Fails()).fit(*task())
    assert ended(callback) == "RuntimeError: the disk is full"
    assert len(recorded(callback).steps) == 3


def test_an_exception_outside_of_a_block() -> None:
    """Without the block the run is closed when the callback trains again or is gone."""
    callback = watching()
    classifier = make(callback, Fails(), kind="vanishing")
    with pytest.raises(RuntimeError, match="the disk is full"):
        classifier.fit(*task())
    first = callback.run_dir
    assert_sick(callback, "vanishing", "layers.")  # it can be asked all the same
    make(callback).fit(*task())
    assert_healthy(callback, KEPT)
    assert first is not None
    assert gradscope.read_run(first).events[-1].data["reason"] == "the training began anew"


def test_a_callback_that_is_gone_closes_its_run() -> None:
    """Nothing is recorded for nobody."""
    callback = watching()
    with pytest.raises(RuntimeError):
        make(callback, Fails()).fit(*task())
    folder = callback.run_dir
    del callback
    assert folder is not None
    assert gradscope.read_run(folder).events[-1].data["reason"] == "the training did not come to its end"


def test_ctrl_c_ends_a_training() -> None:
    """Skorch ends a training at Ctrl-C as if it were over."""
    callback = watching()
    make(callback, Fails(KeyboardInterrupt)).fit(*task())
    assert (ended(callback), len(recorded(callback).steps)) == ("closed", 3)


def test_early_stopping() -> None:
    """A training that is stopped early has ended."""
    callback = watching()
    make(callback, EarlyStopping(patience=1, threshold=10.0, sink=lambda _: None), max_epochs=9).fit(*task())
    assert ended(callback) == "closed"
    assert len(recorded(callback).steps) < 9 * 8


def test_partial_fit_goes_on_with_the_run() -> None:
    """`partial_fit` goes on with the run of the `fit` before; `fit`, which makes everything anew, begins another."""
    callback = watching()
    classifier = make(callback, max_epochs=1).fit(*task())
    classifier.partial_fit(*task())
    assert recorded(callback).steps["step"].tolist() == list(range(16))
    assert_healthy(callback, KEPT)
    KEPT.clear()
    classifier.fit(*task())
    assert callback.run_dir == Path("run-2").resolve()
    assert_healthy(callback, KEPT)


def test_a_net_can_be_pickled_and_cloned() -> None:
    """A fitted net goes through pickle with what the callback knows; a clone has its options and nothing else."""
    callback = watching()
    classifier = make(callback, kind="vanishing").fit(*task())
    back = pickle.loads(pickle.dumps(callback))
    assert (back.scope, back.options) == (None, callback.options)
    assert back.diagnosis.headline == callback.diagnosis.headline
    fresh = clone(classifier).set_params(callbacks__GradScopeCallback__every=5).callbacks[0]
    assert fresh.get_params() == {"quiet": True, "every": 5, "run_dir": "run"}
    assert fresh.diagnosis.headline == "No training has begun."
    assert callback.options["every"] == 1


def test_a_grid_search() -> None:
    """Every fit of a `GridSearchCV` has a run of its own; the best net's callback is the one that saw it."""
    search = GridSearchCV(make(watching(), max_epochs=1), {"lr": [1e-3, 1e-2]}, cv=2, refit=True, error_score="raise")
    search.fit(*task())
    assert sorted(path.name for path in Path().glob("run*")) == ["run", "run-2", "run-3", "run-4", "run-5"]
    best = search.best_estimator_.callbacks[0]
    assert best.run_dir == Path("run-5").resolve()
    assert len(recorded(best).steps) == 8


def test_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With GRADSCOPE=off nothing is recorded or said."""
    monkeypatch.setenv("GRADSCOPE", "off")
    callback = watching(quiet=False)
    make(callback).fit(*task())
    assert not Path("run").exists()
    assert "GRADSCOPE=off" in callback.diagnosis.headline
    assert "gradscope" not in capsys.readouterr().err


def test_under_gradscope_run_it_is_recorded_once() -> None:
    """`gradscope run` leaves a training that has the callback to it."""
    callback = watching()
    with gradscope.autowatch(run_dir="other") as session:
        make(callback, max_epochs=1).fit(*task())
    assert [scope.run_dir for scope in session.scopes] == [Path("run")]
    assert not Path("other").exists()
    assert_healthy(callback, KEPT)
