"""`gradscope runs`: the list, and taking old runs away without touching what is not ours."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gradscope
from gradscope.cli import main
from gradscope.errors import RunNotWritable
from gradscope.reports.look import Look
from gradscope.reports.terminal import render_table
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import list_runs
from gradscope.store.housekeeping import remove, runs_on_disk
from tests.conftest import SaveRun, write_run

DAY = 86400.0


def _aged(folder: Path, days: float) -> None:
    """As if nobody had written to it for so long."""
    for entry in [folder, *folder.rglob("*")]:
        os.utime(entry, (time.time() - days * DAY,) * 2)


@pytest.fixture
def three(save_run: SaveRun, tmp_path: Path) -> Path:
    """Three runs, "a" the oldest, and the link to the newest."""
    for name, days in (("a", 40.0), ("b", 10.0), ("c", 0.0)):
        _aged(save_run(name=f"runs/{name}"), days)
        time.sleep(0.01)  # a file's own clock orders them
    (tmp_path / "runs" / "latest").symlink_to("c")
    return tmp_path / "runs"


def _listed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    assert main(["runs", *map(str, arguments), "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["runs"]
    return found


def test_the_list_says_how_each_run_is_and_what_it_takes(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest first: name, state, steps, size on disk and verdict; the link is not listed twice."""
    listed = _listed(capsys, three)
    assert [each["name"] for each in listed] == ["c", "b", "a"]
    for each in listed:
        files = [entry for entry in (three / str(each["name"])).rglob("*") if entry.is_file()]
        assert each["bytes"] == sum(entry.stat().st_size for entry in files)
    assert (listed[0]["state"], listed[0]["steps"], listed[0]["verdict"]) == ("ended", 8, "unhealthy")
    assert main(["runs", str(three)]) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["run", "c", "b", "a"]
    assert said.err.startswith("3 runs, ")


def test_the_verdict_is_there_in_a_narrow_terminal() -> None:
    """What there is no room for goes in an order, the least telling first; the run and its verdict stay whole."""
    columns = ("run", "started", "state", "steps", "size", "verdict")
    rows = [("vanishing_gradient", "2026-11-29 08:22", "ended", "160", "124 kB", "Unhealthy")]

    def heads(width: int) -> list[str]:
        head, line = render_table(columns, rows, Look(width), ("started", "size", "steps")).splitlines()
        assert (line.startswith("vanishing_gradient "), line.endswith("  Unhealthy"), len(line) <= width) == (True,) * 3
        return head.split()

    assert heads(80) == list(columns)
    assert heads(60) == ["run", "state", "steps", "size", "verdict"]
    assert heads(50) == ["run", "state", "steps", "verdict"]
    assert heads(40) == ["run", "state", "verdict"]


def test_a_folders_name_steers_no_terminal() -> None:
    """It is the user's text."""
    assert "\\x1b[31mred" in render_table(("run",), [("\x1b[31mred",)], Look())


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged run costs its line, not the list."""
    (three / "b" / "run.json").write_text("{")
    listed = {each["name"]: each for each in _listed(capsys, three)}
    assert "run.json" in str(listed["b"]["problem"])
    assert listed["b"]["verdict"] is None
    assert listed["c"]["verdict"] == "unhealthy"


@pytest.mark.parametrize(
    ("chosen", "gone"),
    [(["--keep", "1"], {"a", "b"}), (["--older-than", "30d"], {"a"}), (["--keep", "2", "--older-than", "1w"], {"a"})],
)
def test_prune_removes_what_was_chosen_and_only_when_told(
    chosen: list[str], gone: set[str], three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --yes it only says what would go."""
    assert {each["name"]: each["removed"] for each in _listed(capsys, three, "--prune", *chosen)} == dict.fromkeys(
        gone, False
    )
    assert len(list_runs(three)) == 3
    assert {each["name"]: each["removed"] for each in _listed(capsys, three, "--prune", *chosen, "--yes")} == (
        dict.fromkeys(gone, True)
    )
    assert {entry.name for entry in three.iterdir()} == {"a", "b", "c", "latest"} - gone


def test_a_run_that_is_being_recorded_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--prune passes over it, and it cannot be removed; one that nobody writes to any more can."""
    live = by_hand({"a": 1.0})
    folder = write_run(
        replace(live, info=replace(live.info, state="recording", ended=None)), tmp_path / "runs" / "live"
    )
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"state": "recording"}))
    assert _listed(capsys, folder.parent, "--prune", "--keep", "0", "--yes") == []
    with pytest.raises(RunNotWritable, match=r"is being recorded; stop the training first\.$"):
        remove(runs_on_disk(folder.parent)[0])
    _aged(folder, 1.0)
    assert len(_listed(capsys, folder.parent, "--prune", "--keep", "0", "--yes")) == 1
    assert not folder.exists()


def test_what_is_not_ours_stays(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint that was saved into the run's folder is left, and said."""
    (three / "a" / "model.pt").write_bytes(b"weights")
    shutil.copytree(three / "b", three / "a" / "rank-1")
    assert main(["runs", str(three), "--prune", "--keep", "2", "--yes"]) == 0
    assert [entry.name for entry in (three / "a").iterdir()] == ["model.pt"]
    assert "it also holds model.pt, which is not ours" in capsys.readouterr().err


def test_folders_that_are_called_like_ours_keep_what_others_put_there(three: Path) -> None:
    """Of a rank's folder and of `trials` only what GradScope wrote goes: a training may keep its checkpoints there."""
    run = three / "a"
    shutil.copytree(three / "b", run / "rank-1")
    shutil.copytree(three / "b", run / "trials" / "1" / "runs" / "base-seed0")
    kept = ["rank-0/model.pt", "rank-1/model.pt", "rank-2/run.json", "trials/1/notes.txt", "trials/7/study.json"]
    ours = [
        "run.json.new",
        "trials/last.log",
        "trials/1/status.json",
        "trials/1/base-seed0.log",
        "trials/1/results.json",
    ]
    for name in (*kept, *ours):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"{}")
    (one,) = (each for each in runs_on_disk(three) if each.name == "a")
    assert remove(one) == ["rank-0", "rank-1", "rank-2", "trials"]
    assert sorted(file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()) == kept


def test_a_trial_that_the_dashboard_started_goes_with_its_run(three: Path) -> None:
    """What its process has said lies beside the trials, and is ours too."""
    (three / "a" / "trials" / "1").mkdir(parents=True)
    (three / "a" / "trials" / "1" / "status.json").write_text("{}")
    (three / "a" / "trials" / "last.log").write_text("said")
    assert remove(runs_on_disk(three)[2]) == []
    assert not (three / "a").exists()


def test_a_link_in_a_run_costs_nothing_behind_it(three: Path, tmp_path: Path) -> None:
    """Of a link that is called like one of ours at most the link goes."""
    other = tmp_path / "other"
    shutil.copytree(three / "b", other)
    before = sorted(other.iterdir())
    (three / "a" / "steps.arrow").unlink()
    for name in ("steps.arrow", "rank-1", "trials"):
        (three / "a" / name).symlink_to(other / name if name == "steps.arrow" else other)
    assert remove(runs_on_disk(three)[2]) == ["rank-1", "trials"]
    assert sorted(other.iterdir()) == before


@pytest.mark.parametrize("content", ['{"name": "of another program"}', "", "[]", '{"schema_version": 99}'])
def test_what_may_be_another_programs_is_never_removed(
    content: str, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `run.json` that is none of ours protects its folder, is said, and is not one of the newest that --keep leaves."""
    for file in (other := three / "other", other / "trials"):
        file.mkdir()
    for name in ("run.json", "steps.arrow", "trials/last.log"):
        (other / name).write_text(content)
    assert [each["name"] for each in _listed(capsys, three, "--prune", "--keep", "1", "--yes")] == ["b", "a"]
    assert {entry.name for entry in three.iterdir()} == {"c", "other", "latest"}
    assert len([entry for entry in other.rglob("*") if entry.is_file()]) == 3
    assert main(["runs", str(three), "--prune", "--keep", "0"]) == 0
    assert "other stays, for it may be another program's: " in capsys.readouterr().err
    with pytest.raises(RunNotWritable, match="other may be another program's"):
        remove(next(each for each in runs_on_disk(three) if each.name == "other"))


def test_a_training_that_writes_nothing_for_long_keeps_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that validates for an hour is still there: its process has the run's files open."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "runs" / "a") as scope:
        scope.loss(model(torch.ones(4, 2)).mean()).backward()
        optimizer.step()
        _aged(tmp_path / "runs" / "a", 1.0)
        assert [each["goes_on"] for each in _listed(capsys, tmp_path / "runs")] == [True]
        assert _listed(capsys, tmp_path / "runs", "--prune", "--keep", "0", "--yes") == []
    assert len(_listed(capsys, tmp_path / "runs", "--prune", "--keep", "0", "--yes")) == 1


def test_a_run_with_a_damaged_rank_is_listed_with_the_reason(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not called too large."""
    (three / "b" / "rank-1").mkdir()
    (three / "b" / "rank-1" / "run.json").write_text("{")
    listed = {each["name"]: each for each in _listed(capsys, three)}
    assert "rank-1 is not a readable GradScope run" in str(listed["b"]["problem"])


def test_latest_follows_what_is_left(three: Path) -> None:
    """When the newest run is gone, `latest` is the newest that is left; when none is left, it is gone too."""
    for name in ("b", "a"):
        newest = runs_on_disk(three)[0]
        remove(newest)
        from gradscope.store.housekeeping import point_latest

        point_latest(three)
        assert (three / "latest").resolve().name == name
    remove(runs_on_disk(three)[0])
    point_latest(three)
    assert list(three.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--yes"], "--prune goes with --keep N, --older-than AGE or both, and --yes with --prune."),
        (["--prune"], "--prune goes with --keep N, --older-than AGE or both, and --yes with --prune."),
        (["--prune", "--older-than", "3"], "expected a number and h, d or w, such as 30d; got 3"),
        (["--prune", "--keep", "-1"], "expected a whole number of 0 or more, got -1"),
        (["--prune", "--keep", "x"], "expected a whole number of 0 or more, got x"),
    ],
)
def test_wrong_choices_are_said(
    arguments: list[str], said: str, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes where it is not clear what is meant."""
    assert main(["runs", str(three), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert len(list_runs(three)) == 3


def test_a_folder_without_runs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No folder, no runs in it, and a run in its place: each has its words."""
    assert main(["runs", str(tmp_path / "no")]) == 2
    assert "no folder at" in capsys.readouterr().err
    assert main(["runs", str(tmp_path)]) == 2
    assert "holds no runs. Name the folder that they are in" in capsys.readouterr().err
