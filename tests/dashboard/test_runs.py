"""How runs are found, followed and kept."""

from __future__ import annotations

import gc
import os
import shutil
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gradscope.dashboard.mutes import mute
from gradscope.dashboard.runs import MOST_KEPT, Runs
from gradscope.errors import NotARun, RunNotFound
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunWriter
from gradscope.store.folders import LocalFolder
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


def test_a_mute_is_not_taken_for_a_step(save_run: SaveRun) -> None:
    """What somebody mutes is no sign of life of the training, though the page is drawn anew for it."""
    folder = save_run(by_hand({"a": 1e-9, "b": 1.0}, loss=2.3), name="sick")
    runs = Runs(folder)
    before = runs.stamp("sick")
    mute(runs.folder("sick"), runs.get("sick").diagnosis.findings[0], "known")
    os.utime(folder / "mutes.json", (before.written + 500, before.written + 500))
    after = runs.stamp("sick")
    assert after.written == before.written
    assert after.version != before.version


def test_many_stamps_list_the_folder_once(save_run: SaveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick of a page about many runs lists the folder of runs once, and gives what each question alone would."""
    for name in ("one", "two", "three"):
        save_run(name=name)
    runs = Runs(tmp_path)
    names, listed = runs.names(), []
    alone = [runs.stamp(name) for name in names]
    folders = LocalFolder.folders

    def noted(folder: LocalFolder) -> list[str]:
        listed.append(folder.location)
        return folders(folder)

    monkeypatch.setattr(LocalFolder, "folders", noted)
    assert runs.stamps(names) == alone
    assert listed.count(tmp_path.resolve()) == 1
    with pytest.raises(RunNotFound, match="no run named 'gone'"):
        runs.stamps(["one", "gone"])


def test_a_run_without_anything_is_empty(tmp_path: Path) -> None:
    """A run that was only begun has no step."""
    RunWriter(tmp_path / "begun", by_hand({"a": 1.0}).info).close()
    snapshot = Runs(tmp_path).get("begun")
    assert snapshot.is_empty
    assert snapshot.newest_step is None


# many runs


def test_a_brief_says_what_the_list_shows(save_run: SaveRun, tmp_path: Path) -> None:
    """A run in a line: verdict, headline, findings by severity, steps, state, and the loss in few points."""
    save_run(by_hand({"a": 1e-9, "b": 1.0}, loss=[2.0, 1.0, 0.5], steps=3), name="sick")
    runs = Runs(tmp_path)
    brief = runs.brief("sick")
    snapshot = runs.get("sick")
    assert (brief.verdict, brief.headline) == (snapshot.diagnosis.verdict, snapshot.diagnosis.headline)
    assert sum(brief.severities.values()) == len(snapshot.diagnosis.findings) > 0
    assert (brief.model, brief.steps, brief.newest_step, brief.state) == ("Sequential", 3, 2, "ended")
    np.testing.assert_array_equal(brief.loss[1], [2.0, 1.0, 0.5])


def test_a_brief_is_made_once_for_each_growth(tmp_path: Path) -> None:
    """Asking again costs no reading; a run that grew is read again."""
    run = by_hand({"a": 1.0, "b": 1.0}, loss=1.0, steps=3)
    writer = RunWriter(tmp_path / "run", run.info)
    writer.write_steps(run.steps[:1], [[0.1]])
    runs = Runs(tmp_path)
    first = runs.brief("run")
    assert runs.brief("run") is first
    assert runs.peek("run") is None
    writer.write_steps(run.steps[1:2], [[0.1]])
    writer.close()
    assert (first.steps, runs.brief("run").steps) == (1, 2)


def test_a_brief_of_a_damaged_run_says_what_is_the_matter(save_run: SaveRun, tmp_path: Path) -> None:
    """One bad run is a line too; a name that is no run is refused."""
    (save_run(name="bad") / "run.json").write_text("{")
    assert "run.json is damaged" in Runs(tmp_path).brief("bad").problem
    with pytest.raises(RunNotFound, match="no run named"):
        Runs(tmp_path).brief("gone")


def test_only_the_runs_looked_at_last_are_kept(save_run: SaveRun, tmp_path: Path) -> None:
    """A folder of many runs costs the memory of a few."""
    for number in range(MOST_KEPT + 3):
        save_run(name=f"run-{number}")
    runs = Runs(tmp_path)
    for number in range(MOST_KEPT + 3):
        runs.get(f"run-{number}")
    kept = [name for name in sorted(runs.names()) if runs.peek(name) is not None]
    assert kept == [f"run-{number}" for number in range(3, MOST_KEPT + 3)]
    again = runs.get("run-3")
    runs.get("run-0")
    assert runs.peek("run-3") is again
    assert runs.peek("run-4") is None


def test_of_large_runs_fewer_are_kept(save_run: SaveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that is looked at is kept in any case; others go when together they are too large."""
    monkeypatch.setattr("gradscope.dashboard.runs.MOST_BYTES", 1)
    save_run(name="one")
    save_run(name="two")
    runs = Runs(tmp_path)
    runs.get("one")
    two = runs.get("two")
    assert runs.peek("one") is None
    assert runs.get("two") is two


def test_memory_does_not_grow_with_reloads(save_run: SaveRun, tmp_path: Path) -> None:
    """[28] Fifty reloads of more runs than are kept: the memory of the server is where it was."""
    for number in range(6):
        save_run(by_hand({f"l{i}": 1.0 for i in range(40)}, loss=1.0, steps=40), name=f"run-{number}")
    runs = Runs(tmp_path)

    def reload(times: int) -> None:
        for number in range(times):
            runs.get(f"run-{number % 6}")

    reload(12)
    gc.collect()
    tracemalloc.start()
    reload(6)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    reload(48)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 200_000


def test_two_tabs_on_two_runs_do_not_disturb_each_other(save_run: SaveRun, tmp_path: Path) -> None:
    """[28] Threads that ask for two runs at once always get their own, judged once."""
    save_run(by_hand({"a": 1e-9, "b": 1.0}, steps=3), name="sick")
    save_run(by_hand({"a": 1.0, "b": 1.0}, steps=3), name="well")
    runs = Runs(tmp_path)
    names = ["sick", "well"] * 20
    with ThreadPoolExecutor(8) as pool:
        snapshots = list(pool.map(runs.get, names))
    assert [snapshot.name for snapshot in snapshots] == names
    assert len({id(snapshot) for snapshot in snapshots}) == 2
    assert [snapshot.diagnosis.verdict for snapshot in snapshots[:2]] == ["unhealthy", "healthy"]


def test_a_list_of_two_hundred_runs_is_quick_the_second_time(save_run: SaveRun, tmp_path: Path) -> None:
    """Versions and lines of 200 runs that did not change are at hand in well under a second."""
    one = save_run(name="run-0")
    for number in range(1, 200):
        shutil.copytree(one, tmp_path / f"run-{number}")
    runs = Runs(tmp_path)
    for name in runs.names():
        runs.brief(name)
    started = time.process_time()
    assert {runs.brief(name).verdict for name in runs.names()} == {"unhealthy"}
    assert time.process_time() - started < 1.0
    assert not any(runs.peek(name) for name in runs.names())
