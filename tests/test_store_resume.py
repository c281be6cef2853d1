"""A run that goes on where it ended: `RunWriter(folder, info, resume=True)`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from gradscope.errors import NotARun, RunExists, UnsupportedSchema
from gradscope.records import RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunReader, RunWriter, read_run
from tests.conftest import write_run
from tests.test_store_budget import INFO, same, steps_of, write

FILES = ("steps.arrow", "summaries.arrow", "events.jsonl")
STEPS = 6


def _written(folder: Path) -> Path:
    """A run of six steps with an event each."""
    writer = RunWriter(folder, INFO)
    for step in range(STEPS):
        write(writer, step)
        writer.write_event(step, "value", {"number": step})
    writer.close()
    return folder


def test_an_ended_run_goes_on(tmp_path: Path) -> None:
    """A run that was closed is taken up: what it holds stays, what is written comes behind, `last_step` says where."""
    folder = _written(tmp_path / "run")
    before = read_run(folder)
    writer = RunWriter(folder, RunInfo("a", "Net", 0.0, script="again"), resume=True)
    assert writer.last_step == STEPS - 1
    write(writer, STEPS)
    writer.write_event(STEPS, "value", {"number": STEPS})
    writer.close()
    run = read_run(folder)
    assert run.info.script == "again"
    assert run.steps["step"].tolist() == steps_of(run) == list(range(STEPS + 1))
    assert same(before.summaries, run.summaries[: len(before.summaries)])
    assert [event.data["number"] for event in run.events] == list(range(STEPS + 1))


@pytest.mark.parametrize("name", FILES)
def test_a_run_cut_at_any_byte_goes_on(name: str, tmp_path: Path) -> None:
    """Cut anywhere, as a kill cuts, a run keeps every whole batch and event when it is resumed; nothing else is lost."""
    whole = _written(tmp_path / "whole")
    content = (whole / name).read_bytes()
    cuts = np.random.default_rng(0).integers(0, len(content), 25)
    for cut in sorted({0, 1, *map(int, cuts), len(content) - 1, len(content)}):
        folder = shutil.copytree(whole, tmp_path / "cut", dirs_exist_ok=True)
        (folder / name).write_bytes(content[:cut])
        before = read_run(folder)
        writer = RunWriter(folder, INFO, resume=True)
        assert writer.last_step == max([*before.steps["step"], *steps_of(before)])
        write(writer, STEPS)
        writer.write_event(STEPS, "value", {"number": STEPS})
        writer.close()
        run = read_run(folder)
        assert run.steps["step"].tolist() == [*before.steps["step"].tolist(), STEPS], f"cut at byte {cut}"
        assert steps_of(run) == [*steps_of(before), STEPS], f"cut at byte {cut}"
        assert run.events[:-1] == before.events
        shutil.rmtree(folder)


def test_the_last_step_is_the_last_of_either_file(tmp_path: Path) -> None:
    """A kill between a step's summaries and its row leaves the summaries: that step counts as written."""
    writer = RunWriter(tmp_path, INFO)
    write(writer, 0)
    writer.write_summaries(by_hand({"a": 1.0, "b": 1.0}, steps=2).summaries[-10:])
    writer.close()
    resumed = RunWriter(tmp_path, INFO, resume=True)
    resumed.close()
    assert resumed.last_step == 1


def test_resuming_where_nothing_is_begins_a_run(tmp_path: Path) -> None:
    """A job that always resumes begins with an empty folder: there is no last step."""
    writer = RunWriter(tmp_path / "new", INFO, resume=True)
    assert writer.last_step is None
    write(writer, 0)
    writer.close()
    assert steps_of(read_run(tmp_path / "new")) == [0]


def test_a_run_resumed_many_times_stays_a_few_files(tmp_path: Path) -> None:
    """A job that was preempted fifty times has all its steps, in files that were merged again."""
    for step in range(50):
        writer = RunWriter(tmp_path, INFO, resume=True)
        write(writer, step)
        writer.close()
    assert steps_of(read_run(tmp_path)) == read_run(tmp_path).steps["step"].tolist() == list(range(50))
    assert len(os.listdir(tmp_path)) <= 1 + 3 * 11


def test_a_reader_follows_across_a_resume(tmp_path: Path) -> None:
    """Who followed the first part goes on with the second."""
    folder = _written(tmp_path / "run")
    reader = RunReader(folder)
    assert len(reader.read().steps) == STEPS
    writer = RunWriter(folder, INFO, resume=True)
    write(writer, STEPS)
    assert reader.read().steps["step"].tolist() == list(range(STEPS + 1))
    writer.close()


def test_what_cannot_be_read_cannot_be_resumed(tmp_path: Path) -> None:
    """A run of another schema version, or with a damaged run.json, is refused and stays as it is."""
    folder = _written(tmp_path / "run")
    file = folder / "run.json"
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    file.write_text(json.dumps({**json.loads(before["run.json"]), "schema_version": 99}))
    with pytest.raises(UnsupportedSchema, match="was written with schema version 99"):
        RunWriter(folder, INFO, resume=True)
    file.write_text("{")
    with pytest.raises(NotARun, match=r"run\.json is damaged"):
        RunWriter(folder, INFO, resume=True)
    file.write_bytes(before["run.json"])
    assert before == {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_run_is_resumed_only_when_asked(tmp_path: Path) -> None:
    """Without `resume` a folder that holds a run is refused; without its run.json it is refused with it, too."""
    folder = _written(tmp_path / "run")
    with pytest.raises(RunExists, match="already holds a run"):
        RunWriter(folder, INFO)
    (folder / "run.json").unlink()
    with pytest.raises(RunExists, match="already holds files of a run"):
        RunWriter(folder, INFO, resume=True)


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """A run without checksums is resumed, and merged when there are many parts of it."""
    from tests.test_store_damage import WHOLE, write_plainly

    folder = write_plainly(tmp_path / "run")
    for step in range(100, 130):
        writer = RunWriter(folder, WHOLE.info, resume=True)
        write(writer, step)
        writer.close()
    run = read_run(folder)
    assert same(WHOLE.steps, run.steps[: len(WHOLE.steps)])
    assert same(WHOLE.summaries, run.summaries[: len(WHOLE.summaries)])
    assert run.steps["step"][len(WHOLE.steps) :].tolist() == list(range(100, 130))
    assert not (folder / "steps.arrow").exists()  # it was merged


def test_the_remains_beside_a_run_by_hand_stay(tmp_path: Path) -> None:
    """Files that are none of ours are never touched."""
    folder = write_run(by_hand({"a": 1.0}), tmp_path / "run")
    (folder / "steps-notes.arrow").write_text("mine")
    (folder / "model.pt").write_text("mine")
    RunWriter(folder, INFO, resume=True).close()
    assert (folder / "steps-notes.arrow").read_text() == (folder / "model.pt").read_text() == "mine"
