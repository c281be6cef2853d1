"""Transformers: the callback in real Trainers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import gradscope
from gradscope.errors import TrainingUnhealthy
from gradscope.integrations.transformers import GradScopeCallback
from tests.integrations.fits import BATCH, assert_healthy, assert_sick, data, ended, everything, net, recorded, values
from tests.specimens import assert_same

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Digits, as the Trainer wants them."""

    def __init__(self, batches: int = 8) -> None:
        self.images, self.labels = data(batches).tensors

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"x": self.images[row], "labels": self.labels[row]}


class Classifier(nn.Module):
    """A net that gives its loss, as models of Transformers do."""

    def __init__(self, kind: str = "healthy", fails_at: int = -1) -> None:
        super().__init__()
        self.net = net(kind)
        self.config = PreTrainedConfig()
        self.calls, self.fails_at = 0, fails_at

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        self.calls += self.training
        if self.calls - 1 == self.fails_at:
            raise RuntimeError("the disk is full")
        logits = self.net(x)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """In full precision."""
    return nn.functional.cross_entropy(logits.float(), labels)


class Keeps(Trainer):
    """Keeps the loss of every batch that it trains on, which its callbacks are not shown."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        LOSSES.append(loss.item())
        return loss


LOSSES: list[float] = []


@pytest.fixture(autouse=True)
def _no_losses_yet() -> None:
    LOSSES.clear()


def make(model: nn.Module, *callbacks: TrainerCallback, **options: Any) -> Keeps:
    """A Trainer that says nothing by itself."""
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": BATCH}
    options = {
        **quiet,
        "learning_rate": 1e-3,
        "max_steps": 8,
        "save_strategy": "no",
        "logging_strategy": "no",
        **options,
    }
    arguments = TrainingArguments(output_dir="saved", **options)
    trainer = Keeps(model, arguments, train_dataset=Rows(), eval_dataset=Rows(2), callbacks=list(callbacks))
    trainer.remove_callback(PrinterCallback)
    return trainer


def watching(**options: Any) -> GradScopeCallback:
    """The callback of most tests."""
    return GradScopeCallback(**{"every": 1, "run_dir": "run", "quiet": True, **options})


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"eval_strategy": "steps", "eval_steps": 4},
    "accumulated": {"gradient_accumulation_steps": 2, "max_steps": 6},
    "smoothed": {"label_smoothing_factor": 0.1},
    "bf16": {"bf16": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_not_a_bit_is_changed(options: dict[str, Any]) -> None:
    """With and without the callback: the same weights, optimizer state, random numbers and losses."""
    left = []
    for callbacks in ([], [watching()]):
        LOSSES.clear()
        model = Classifier()
        trainer = make(model, *callbacks, **options)
        result = trainer.train()
        left.append(everything(model, [trainer.optimizer.optimizer], [*LOSSES, result.training_loss]))
    assert_same(*left)


@pytest.mark.parametrize("name", ["plain", "smoothed", "bf16"])
def test_a_healthy_training(name: str) -> None:
    """Every step has its loss, whoever computed it, and no pass of an evaluation is seen."""
    callback = watching()
    make(Classifier(), callback, **OPTIONS[name]).train()
    assert_healthy(callback, LOSSES)
    assert recorded(callback).info.model == "Classifier"
    assert recorded(callback).steps["forwards"].tolist() == [1] * 8


def test_evaluations_are_written_down() -> None:
    """The losses and metrics of evaluations, not how long they took."""
    callback = watching()
    trainer = make(Classifier(), callback, **OPTIONS["plain"])
    trainer.train()
    assert values(callback, "eval_loss")[-1] == pytest.approx(trainer.evaluate()["eval_loss"], rel=1e-6)
    assert [event.step for event in recorded(callback).events if event.kind == "value"] == [4, 8]


@pytest.mark.parametrize("kind", ["vanishing", "exploding"])
def test_a_sick_training(kind: str) -> None:
    """The sickness of a deep net is found, in its first layers."""
    callback = watching()
    make(Classifier(kind), callback).train()
    assert_sick(callback, kind, "net.")


def test_accumulated_batches_are_one_step() -> None:
    """A step is the optimizer's; its loss is the sum of what the Trainer calls `backward` on."""
    callback = watching()
    make(Classifier(), callback, **OPTIONS["accumulated"]).train()
    assert_healthy(callback, np.reshape(LOSSES, (-1, 2)).sum(axis=1))
    assert recorded(callback).steps["loss"].max() < 4  # of one batch: 2.3 to begin with
    assert recorded(callback).steps["backwards"].tolist() == [2] * 6


def test_a_language_model_that_divides_by_the_tokens_of_the_whole_step() -> None:
    """The Trainer hands `num_items_in_batch` to such a model and does not divide again: the loss is right."""

    class Tokens(Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return 32

        def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
            tokens = torch.arange(12) * (row + 1) % 20
            return {"input_ids": tokens, "labels": tokens}

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_positions=16, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    callback = watching()
    trainer = make(GPT2LMHeadModel(config), callback, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    trainer.train_dataset = Tokens()
    trainer.train()
    assert_healthy(callback, np.reshape(LOSSES, (-1, 2)).sum(axis=1))
    assert recorded(callback).steps["loss"][0] == pytest.approx(np.log(20), rel=0.1)


def test_a_training_that_is_resumed_and_one_that_goes_on(tmp_path: Path) -> None:
    """From a checkpoint with `resume=True` the run goes on; so it does when the Trainer trains again."""
    saving = {"save_strategy": "steps", "save_steps": 4}
    make(Classifier(), watching(), **saving, max_steps=4).train()
    callback = watching(resume=True)
    trainer = make(Classifier(), callback, **saving)
    trainer.train(resume_from_checkpoint=True)
    assert recorded(callback).steps["step"].tolist() == list(range(8))
    assert_healthy(callback, LOSSES)


def test_two_trainers_are_two_runs() -> None:
    """The callback can be used again."""
    callback = watching()
    for _ in range(2):
        LOSSES.clear()
        make(Classifier(), callback).train()
        assert_healthy(callback, LOSSES)
    assert callback.run_dir == Path("run-2").resolve()


def test_early_stopping() -> None:
    """A training that is stopped early has ended."""
    callback = watching()
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    stop = EarlyStoppingCallback(1, early_stopping_threshold=10.0)
    make(Classifier(), callback, stop, load_best_model_at_end=True, metric_for_best_model="loss", **evaluated).train()
    assert (ended(callback), len(recorded(callback).steps)) == ("closed", 4)


def test_an_exception_that_leaves_the_block_is_how_the_run_ended() -> None:
    """The Trainer tells no callback of an exception; `with callback:` does."""
    callback = watching()
    with pytest.raises(RuntimeError, match="the disk is full"), callback:
        make(Classifier(fails_at=3), callback).train()
    assert ended(callback) == "RuntimeError: the disk is full"
    assert len(recorded(callback).steps) == 3


def test_on_finding_raise_ends_the_training() -> None:
    """The error leaves `train`, and the run says why it ended."""
    callback = watching(on_finding="raise")
    with pytest.raises(TrainingUnhealthy, match="vanish"):
        make(Classifier("vanishing"), callback, max_steps=60).train()
    assert ended(callback) == 'on_finding="raise": vanishing-gradient'
    callback.close()


def test_copies_and_pickles_know_and_do_not_record() -> None:
    """A copy or a pickle taken while it trains holds no scope; a model is saved without a trace of us."""
    copies: list[GradScopeCallback] = []

    class Copies(TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            copies.extend((copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))))

    callback = watching()
    trainer = make(Classifier("vanishing"), callback, Copies(), save_strategy="steps", save_steps=4)
    trainer.train()
    assert len(copies) == 2
    for each in copies:
        assert (each.scope, each.options) == (None, {"every": 1, "run_dir": "run"})
        assert each.diagnosis.headline == callback.diagnosis.headline
    assert sorted(path.name for path in Path("saved").iterdir()) == ["checkpoint-4", "checkpoint-8"]


def test_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With GRADSCOPE=off nothing is recorded or said."""
    monkeypatch.setenv("GRADSCOPE", "off")
    callback = watching(quiet=False)
    make(Classifier(), callback).train()
    assert not Path("run").exists()
    assert "GRADSCOPE=off" in callback.diagnosis.headline
    assert "gradscope" not in capsys.readouterr().err


def test_under_gradscope_run_it_is_recorded_once() -> None:
    """`gradscope run` leaves a training that has the callback to it."""
    callback = watching()
    with gradscope.autowatch(run_dir="other") as session:
        make(Classifier(), callback).train()
    assert [scope.run_dir for scope in session.scopes] == [Path("run")]
    assert not Path("other").exists()
    assert_healthy(callback, LOSSES)
