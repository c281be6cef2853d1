"""A run in TensorBoard, read back with its own EventAccumulator."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.text import metadata
from tensorboard.util import tensor_util

from gradscope.cli import main
from gradscope.integrations import recorded, tensorboard
from gradscope.signals import Signals
from gradscope.store import RunWriter
from tests.conftest import SaveRun
from tests.exported import NAMES, empty_run, hard_run


def read(folder: Path) -> EventAccumulator:
    """What TensorBoard sees."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


@pytest.fixture
def events(save_run: SaveRun, tmp_path: Path) -> EventAccumulator:
    """The hard run as TensorBoard sees it."""
    assert main(["export", str(save_run(hard_run())), "--to", "tensorboard", "-o", str(tmp_path / "logs")]) == 0
    return read(tmp_path / "logs")


def test_losses_keep_their_steps_and_times(events: EventAccumulator) -> None:
    """The loss is there for each step where it was observed, NaN and Inf included, at the time when the step closed."""
    run = hard_run()
    seen = run.steps["has_loss"]
    found = events.Scalars("gradscope/loss")
    assert [each.step for each in found] == run.steps["step"][seen].tolist()
    np.testing.assert_array_equal([each.value for each in found], run.steps["loss"][seen])
    assert [each.wall_time for each in found] == run.steps["time"][seen].tolist()
    assert [each.step for each in events.Scalars("gradscope/learning_rate_1")] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_any_name_are_there(events: EventAccumulator, name: str) -> None:
    """A tag is the metric, a slash and the layer's path, whatever that holds."""
    signals = Signals(hard_run())
    found = [each.value for each in events.Scalars(f"gradscope_backward_gain/{name}")]
    expected = signals.backward_gain[signals.site(name)]
    if name == NAMES[0]:  # 1e-60 and 1e100 are beyond float32
        smallest, largest = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
        expected = np.array([smallest, largest, *expected[2:]])
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_what_was_not_measured_is_not_there(events: EventAccumulator) -> None:
    """Only activations have dead units, only parameters an update ratio; a loss scale of 1 is no news."""
    tags = set(events.Tags()["scalars"])
    assert {tag for tag in tags if tag.startswith("gradscope_dead_fraction/")} == {"gradscope_dead_fraction/act"}
    assert "gradscope_update_ratio/head.weight" in tags
    assert "gradscope_update_ratio/head" not in tags
    assert "gradscope/loss_scale" not in tags
    assert [each.value for each in events.Scalars('gradscope_value/val "loss"\n')] == [0.75]


def test_the_diagnosis_is_a_text(events: EventAccumulator) -> None:
    """The findings are Markdown in TensorBoard's text tab, names from the model as code."""
    (text,) = events.Tensors("gradscope/diagnosis")
    said = tensor_util.make_ndarray(text.tensor_proto).item().decode()
    assert said.startswith("**Watch:** Loss is NaN since step 1")
    assert "### ■ F1: Loss is NaN" in said
    assert events.SummaryMetadata("gradscope/diagnosis").plugin_data.plugin_name == metadata.PLUGIN_NAME
    assert text.step == 7


def test_a_run_without_a_step_has_a_diagnosis_only(save_run: SaveRun, tmp_path: Path) -> None:
    """Nothing is made up for a training that has not begun."""
    said = tensorboard.export(save_run(empty_run()), str(tmp_path / "logs"))
    assert said.startswith("0 numbers of 0 steps written to ")
    assert read(tmp_path / "logs").Tags()["scalars"] == []


def test_a_training_that_goes_on_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--follow` new steps appear while the training runs, and the command ends with it."""
    monkeypatch.setattr(recorded, "POLL", 0.02)
    run, folder = hard_run(), tmp_path / "run"
    going = replace(run.info, state="recording", process=os.getpid())
    writer = RunWriter(folder, going)
    command = ["export", str(folder), "--to", "tensorboard", "-o", str(tmp_path / "logs"), "--follow"]
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(command)))
    thread.start()
    for step in range(8):
        writer.write_summaries(run.summaries[run.summaries["step"] == step])
        writer.write_steps(run.steps[step : step + 1], [[0.01]])
        time.sleep(0.05)
    assert codes == []  # it waits
    writer.write_info(replace(going, state="ended"))
    writer.close()
    thread.join(30)
    assert codes == [0]
    events = read(tmp_path / "logs")
    assert [each.step for each in events.Scalars("gradscope/seconds")] == list(range(8))
    assert [each.step for each in events.Scalars("gradscope_forward_gain/act")] == list(range(8))


@pytest.mark.parametrize(
    ("value", "kept"),
    [(0.0, 0.0), (1e-60, 1.401298464324817e-45), (-1e-60, -1.401298464324817e-45), (1e60, 3.4028234663852886e38),
     (math.inf, math.inf), (0.5, 0.5)],
)  # fmt: skip
def test_a_number_beyond_float32_is_neither_zero_nor_infinite(value: float, kept: float) -> None:
    """TensorBoard's scalars are float32: the nearest one that still tells that there is a finite number is taken."""
    assert tensorboard._as_float32(value) == kept
