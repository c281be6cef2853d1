"""A training that starts again from its checkpoint goes on with its run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.errors import AnotherModel, WatchError
from gradscope.signals import Signals
from tests.trainings import digits, he, mlp, sgd


def train(folder: Path, start: int, stop: int, checkpoint: Path, *, resume: bool = True, width: int = 64) -> None:
    """Trains from one step to another; the weights come from a checkpoint where there is one."""
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU, he, width=width)
    if checkpoint.exists():
        model.load_state_dict(torch.load(checkpoint))
    optimizer = sgd(0.05)(model)
    images, labels = digits()
    with gradscope.watch(model, optimizer, run_dir=folder, every=1, resume=resume) as scope:
        for step in range(start, stop):
            batch = slice(step * 32, step * 32 + 32)
            scope.loss(nn.CrossEntropyLoss()(model(images[batch]), labels[batch])).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
    torch.save(model.state_dict(), checkpoint)


def test_a_resumed_run_is_the_run_of_the_whole_training(tmp_path: Path) -> None:
    """Stopped after six steps and gone on with, the run holds what the training in one go would have left."""
    train(tmp_path / "two", 0, 6, tmp_path / "weights")
    train(tmp_path / "two", 6, 10, tmp_path / "weights")
    train(tmp_path / "one", 0, 10, tmp_path / "others", resume=False)
    two, one = (gradscope.read_run(tmp_path / name) for name in ("two", "one"))
    assert two.steps["step"].tolist() == list(range(10))
    assert two.steps["loss"].tolist() == one.steps["loss"].tolist()
    assert [(site.path, site.role, site.order) for site in two.info.sites] == [
        (site.path, site.role, site.order) for site in one.info.sites
    ]
    assert (two.info.links, two.info.heads) == (one.info.links, one.info.heads)
    assert np.array_equal(Signals(two).backward_gain, Signals(one).backward_gain, equal_nan=True)
    assert [event.kind for event in two.events] == ["ended", "resumed", "ended"]
    assert two.info.state == "ended"
    assert gradscope.diagnose(two).verdict == "healthy"


def test_resuming_where_nothing_is_begins_a_run(tmp_path: Path) -> None:
    """The same command begins the training and goes on with it."""
    train(tmp_path / "run", 0, 3, tmp_path / "weights")
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["step"].tolist() == [0, 1, 2]
    assert [event.kind for event in run.events] == ["ended"]


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    """A torn tail is left behind, and the new steps come after the last whole one."""
    train(tmp_path / "run", 0, 6, tmp_path / "weights")
    for name in ("steps.arrow", "summaries.arrow"):
        file = tmp_path / "run" / name
        file.write_bytes(file.read_bytes()[:-100])
    left = gradscope.read_run(tmp_path / "run").steps["step"].tolist()
    train(tmp_path / "run", 6, 8, tmp_path / "weights")
    steps = gradscope.read_run(tmp_path / "run").steps["step"].tolist()
    assert steps[: len(left)] == left
    assert steps == sorted(set(steps))
    assert len(steps) == len(left) + 2


def test_another_model_is_refused(tmp_path: Path) -> None:
    """A run is not gone on with by a model of other shapes, or of another class, and stays as it is."""
    train(tmp_path / "run", 0, 2, tmp_path / "weights")
    with pytest.raises(AnotherModel, match=r"0\.weight has the shape \[64, 64\]; in the model .* \[32, 64\]"):
        train(tmp_path / "run", 2, 3, tmp_path / "none", width=32)
    with pytest.raises(AnotherModel, match="is a run of a Sequential, and watch\\(\\) was handed a Linear"):
        gradscope.watch(nn.Linear(4, 4), run_dir=tmp_path / "run", resume=True)
    assert gradscope.read_run(tmp_path / "run").steps["step"].tolist() == [0, 1]


def test_resuming_needs_a_folder() -> None:
    """`resume=True` without `run_dir=` says what is missing."""
    with pytest.raises(WatchError, match="resume=True goes on with a run: say which, with run_dir="):
        gradscope.watch(nn.Linear(4, 4), resume=True)
