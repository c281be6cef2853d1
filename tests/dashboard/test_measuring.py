"""Measuring a suggestion from the page: what may run, how far it is, how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gradscope.dashboard import measuring
from gradscope.dashboard.address import Address
from gradscope.dashboard.app import create_app
from gradscope.dashboard.measuring import Measurement, cancel, command, measurement, start, trainings, why_not
from gradscope.dashboard.pages.finding_callbacks import look, press
from gradscope.dashboard.parts.finding_view import FindingView, finding_view
from gradscope.dashboard.parts.measure_panel import measure_panel, outcome
from gradscope.dashboard.runs import Runs
from gradscope.errors import ProgramError
from gradscope.records import RunInfo, Suggestion
from gradscope.store import read_info, read_run
from gradscope.store.folders import Folder, open_folder
from gradscope.store.trial_status import TrialStatus, read_trial_statuses, write_trial_status

SIGMOIDS = """
import time, torch
from torch import nn
torch.manual_seed(0)
chain = [layer for _ in range(8) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
model = nn.Sequential(*chain, nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.randn(32, 8)
labels = data[:, :4].argmax(1)
for step in range(STEPS):
    loss = nn.functional.cross_entropy(model(data), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(PAUSE)
"""


def words(part: Any) -> str:
    """All that a part says, as JSON."""
    return json.dumps(part, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sick program and a run that remembers it, as `gradscope run` records one."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "train.py").write_text(SIGMOIDS.replace("STEPS", "12").replace("PAUSE", "0"))
    done = subprocess.run(
        [sys.executable, "-m", "gradscope", "run", "--every", "1", "--run-dir", "runs/sick", "train.py"],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(recorded: Path) -> Iterator[Folder]:
    """The run's folder; nothing goes on in it afterwards."""
    folder = open_folder(recorded / "runs" / "sick")
    yield folder
    if cancel(folder):
        _wait(folder)
    measuring._children.clear()


def _wait(run: Folder, seconds: float = 60.0) -> Measurement | None:
    until = time.monotonic() + seconds
    while (found := measurement(run)) is not None and found.goes_on and time.monotonic() < until:
        time.sleep(0.05)
    return measurement(run)


def _view(recorded: Path) -> FindingView:
    runs = Runs(recorded / "runs")
    found = finding_view(runs, runs.get("sick"), Address("finding", "sick", "F1"), "light", 2)
    assert found is not None
    return found


def _info(run: Folder) -> RunInfo:
    return read_info(run.location)


# the whole


def test_a_suggestion_is_measured_by_a_child_and_stored_with_the_run(recorded: Path, run: Folder) -> None:
    """A button starts it, the panel follows it, a second one is refused; at its end the run holds the outcome."""
    view = _view(recorded)
    remedy = view.finding.suggestions[0].remedy
    start(run, _info(run), [remedy], steps=5, seeds=1)
    with pytest.raises(ProgramError, match="goes on already"):
        start(run, _info(run), [remedy])
    found = measurement(run)
    assert found is not None
    assert (found.state in ("starting", "running"), found.remedies, found.can_cancel) == (True, (remedy,), True)
    assert "Cancel" in words(measure_panel(view, view.finding.suggestions[0], found))
    assert "Another trial of this run goes on" in words(measure_panel(view, view.finding.suggestions[1], found))
    assert not look(view).still
    ended = _wait(run)
    assert ended is not None
    assert (ended.state, ended.done, ended.planned) == ("ended", 4, 4)
    (event,) = [event for event in read_run(run.location).events if event.kind == "trial"]
    assert event.data["remedies"] == [remedy]
    assert event.data["spread"]["no change"]["losses"] == [event.data["no_change"]]
    answer = look(view)
    assert (answer.still, answer.fresh, answer.said) == (True, True, outcome(ended))
    after = _view(recorded)
    tried = next(each for each in after.finding.suggestions if each.remedy == remedy)
    assert tried.trial is not None


def test_cancelling_ends_the_trial_and_all_that_it_has_started(recorded: Path, run: Folder) -> None:
    """Also the short training that runs right then; the status says so, and another server would say the same."""
    script = recorded / "train.py"
    text = script.read_text()
    script.write_text(SIGMOIDS.replace("STEPS", "1000").replace("PAUSE", "0.1"))
    try:
        start(run, _info(run), ["batch-norm"])
        child = measuring._children[Path(run.location).resolve()].process
        trial = psutil.Process(child.pid)
        until = time.monotonic() + 30
        while not (children := trial.children(recursive=True)) and time.monotonic() < until:
            time.sleep(0.05)
        found = measurement(run)
        assert found is not None
        assert (found.state, found.planned, found.running) == ("running", 16, ("no change, seed 0",))
        measuring._children.clear()  # as a server that was started again
        found = measurement(run)
        assert found is not None
        assert (found.state, found.can_cancel, found.remedies) == ("running", True, ("batch-norm",))
        assert cancel(run)
        ended = _wait(run, 15)
        assert ended is not None
        assert ended.state == "interrupted"
        child.wait(10)
        _gone, alive = psutil.wait_procs([*children, trial], timeout=10)
        assert alive == []
    finally:
        script.write_text(text)


# what may run


def test_the_command_is_what_the_run_remembers(run: Folder) -> None:
    """The trial is told the run and the remedies; a run that remembers no script asks for one."""
    info = _info(run)
    assert command(run, ["batch-norm"], info) == f"gradscope trial --run {run.location} --remedy batch-norm"
    forgetful = dataclasses.replace(info, command=())
    assert command(run, ["a", "b"], forgetful, seeds=2).endswith(" --remedy a --remedy b --seeds 2 YOUR_SCRIPT.py")
    assert [trainings(seeds) for seeds in (1, 2, 5)] == [4, 7, 16]


def test_what_is_missing_is_said(recorded: Path, run: Folder) -> None:
    """A run that is elsewhere, that remembers no script, whose script or folder is gone, or that is being recorded."""
    info = _info(run)
    assert why_not(run, info) == ""
    for changed, said in (
        (dataclasses.replace(info, command=()), "does not remember its script"),
        (dataclasses.replace(info, directory="/nowhere"), "ran in /nowhere, which is not here"),
        (dataclasses.replace(info, command=("gone.py",)), "The script gone.py is not in"),
        (dataclasses.replace(info, state="recording", process=os.getpid()), "still being recorded"),
    ):
        assert said in why_not(run, changed)
        with pytest.raises(ProgramError):
            start(run, changed, ["batch-norm"])
    assert "is not on this machine" in why_not(open_folder("memory://there/run"), info)
    assert measurement(open_folder("memory://there/run")) is None
    assert not cancel(open_folder("memory://there/run"))


def test_only_known_remedies_that_the_finding_suggests_are_started(recorded: Path, run: Folder) -> None:
    """What a browser sends names a suggestion of the finding, or nothing runs."""
    view = _view(recorded)
    with pytest.raises(ProgramError, match="no remedy --on"):
        start(run, _info(run), ["--on"])
    for kind, remedy, seeds in (("start", "rm -rf", 5), ("start", view.finding.suggestions[0].remedy, 10**6)):
        assert press(view, kind, remedy, seeds).said == "This finding has no such suggestion any more."
    assert (
        press(view, "cancel", view.finding.suggestions[0].remedy).said
        == "Nothing goes on that could be cancelled here."
    )
    assert measuring._children == {}


def test_a_page_elsewhere_can_start_nothing(recorded: Path) -> None:
    """[29] What another origin makes a browser send is refused before any callback sees it."""
    client = create_app(recorded / "runs").server.test_client()
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        assert client.post("/_dash-update-component", json={}, headers=headers).status_code == 403


# what is known


def test_a_trial_whose_process_is_gone_is_said_to_be(run: Folder, tmp_path: Path) -> None:
    """After a machine went down the file still says that it runs."""
    folder = tmp_path / "trials" / "3"
    folder.mkdir(parents=True)
    status = TrialStatus("running", 0, 2**22 + 1, 5.0, 6.0, ("batch-norm",), 100, 5, 16, 4, ("no change, seed 1",), 9.0)
    write_trial_status(folder, status)
    found = measurement(open_folder(tmp_path))
    assert found is not None
    assert (found.state, found.can_cancel) == ("lost", False)
    assert outcome(found) == "The last measurement ended without a word: its process is gone. After 4 of 16 runs."


def test_a_folder_that_names_another_process_ends_none(tmp_path: Path) -> None:
    """A run folder may come from anybody: only a process that is a trial is ever ended."""
    folder = tmp_path / "trials" / "1"
    folder.mkdir(parents=True)
    born = psutil.Process().create_time()
    write_trial_status(folder, TrialStatus("running", 0, os.getpid(), born + 1, remedies=("batch-norm",)))
    found = measurement(open_folder(tmp_path))
    assert found is not None
    assert (found.state, found.can_cancel) == ("running", False)
    assert not cancel(open_folder(tmp_path))


def test_a_damaged_status_says_nothing(tmp_path: Path) -> None:
    """Nor does a folder that is none of a trial."""
    for name, text in (("1", "{"), ("2", "[]"), ("3", '{"state": "ended", "of the future": 1}'), ("x", "{}")):
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "status.json").write_text(text)
    assert read_trial_statuses(open_folder(tmp_path)) == [TrialStatus("ended", 3)]
    assert measurement(open_folder(tmp_path)) is None


def test_a_trial_that_fails_at_once_says_why(recorded: Path, run: Folder) -> None:
    """The last words of its process, when it did not come to a status."""
    info = _info(run)
    script = recorded / "train.py"
    text = script.read_text()
    script.write_text("raise SystemExit('no data here')")
    try:
        start(run, info, ["batch-norm"], seeds=1)
        found = _wait(run)
    finally:
        script.write_text(text)
    assert found is not None
    assert found.state == "failed"
    assert outcome(found).startswith("The last measurement failed: the training without a change did not get through")


# the panel


def test_the_panel_says_before_what_will_happen(recorded: Path, run: Folder) -> None:
    """How often the program runs, where, that it writes what it writes; and what to type instead."""
    view = _view(recorded)
    suggestion = Suggestion("batch-norm", "Insert BatchNorm", "It helps.", "x")
    said = words(
        measure_panel(
            dataclasses.replace(view, finding=dataclasses.replace(view.finding, suggestions=(suggestion,))),
            suggestion,
            None,
        )
    )
    for text in (
        "Measure it now",
        "python train.py",
        str(recorded),
        "16 times",
        "each of these runs writes",
        "Start: 16 runs",
    ):
        assert text in said
    assert "gradscope trial --run" in said


def test_the_panel_says_what_is_missing(recorded: Path, run: Folder) -> None:
    """In place of the button: the reason, and the command that would do it."""
    view = _view(recorded)
    info = dataclasses.replace(view.snapshot.run.info, command=())
    snapshot = dataclasses.replace(view.snapshot, run=dataclasses.replace(view.snapshot.run, info=info))
    said = words(measure_panel(dataclasses.replace(view, snapshot=snapshot), view.finding.suggestions[0], None))
    assert "not from this page" in said
    assert "does not remember its script" in said
    assert "YOUR_SCRIPT.py" in said
    assert "finding-start" not in said
    edit = dataclasses.replace(view.finding.suggestions[0], needs_edit="it is in your loss")
    assert "It cannot be measured from here: it is in your loss." in words(measure_panel(view, edit, None))
