"""How runs are found, followed and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradscope.dashboard.runs import Runs
from gradscope.errors import NotARun, RunNotFound
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunWriter
from tests.conftest import SaveRun


def test_one_run_or_a_folder_of_runs(save_run: SaveRun, tmp_path: Path) -> None:
    """A run folder is one run; a folder of runs lists them, newest first."""
    one = save_run(name="one")
    save_run(name="two")
    assert Runs(one).names() == ["one"]
    assert sorted(Runs(tmp_path).names()) == ["one", "two"]


def test_an_empty_folder_waits_for_its_first_run(save_run: SaveRun, tmp_path: Path) -> None:
    """A folder without runs is no error; the first one appears by itself."""
    runs = Runs(tmp_path)
    assert runs.names() == []
    save_run(name="one")
    assert runs.names() == ["one"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """A missing folder and a file are refused with a reason."""
    with pytest.raises(RunNotFound, match="no such folder"):
        Runs(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotARun, match="is a file"):
        Runs(tmp_path / "file")


@pytest.mark.parametrize("name", ["../secret", "..", "/etc", "", "one/../../secret"])
def test_no_name_leads_out_of_the_folder(save_run: SaveRun, tmp_path: Path, name: str) -> None:
    """Only listed names are opened."""
    save_run(name="secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(RunNotFound, match="no run named"):
        Runs(inside).get(name)


def test_a_run_is_judged_once_for_each_growth(save_run: SaveRun) -> None:
    """An unchanged run gives the same snapshot; a grown one a new version and a new snapshot."""
    run = by_hand({"a": 1.0, "b": 1.0}, loss=[3.0, 2.0, 1.0], steps=3)
    folder = save_run(name="done").parent / "growing"
    writer = RunWriter(folder, run.info)
    writer.write_steps(run.steps[:1], [[0.1]])
    runs = Runs(folder)
    first, version = runs.get("growing"), runs.stamp("growing").version
    assert runs.get("growing") is first
    assert runs.peek("growing") is first
    writer.write_summaries(run.summaries[run.summaries["step"] == 1])
    writer.write_steps(run.steps[1:2], [[0.1]])
    writer.close()
    assert runs.stamp("growing").version != version
    second = runs.get("growing")
    assert (first.newest_step, second.newest_step) == (0, 1)
    np.testing.assert_array_equal(second.signals.steps, [1])


def test_a_run_without_anything_is_empty(tmp_path: Path) -> None:
    """A run that was only begun has no step."""
    RunWriter(tmp_path / "begun", by_hand({"a": 1.0}).info).close()
    snapshot = Runs(tmp_path).get("begun")
    assert snapshot.is_empty
    assert snapshot.newest_step is None
