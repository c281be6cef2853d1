"""`gradscope doctor`: what is here, what cannot be seen, and what watching costs."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gradscope.cli import main
from gradscope.doctor.environment import environment, storage
from gradscope.doctor.limits import limits
from gradscope.doctor.probe import probe
from gradscope.reports.examination import render


def test_the_environment_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions as the packages say them; what is not installed is not listed; settings only where they are set."""
    monkeypatch.setenv("GRADSCOPE", "off")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = environment()
    assert found.packages["torch"] == version("torch")
    assert all(found.packages.values())
    assert "" not in found.optional.values()
    assert found.devices[0].startswith(f"CPU, {os.cpu_count()} cores")
    assert found.settings["GRADSCOPE"] == "off"
    assert "NO_COLOR" not in found.settings


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    """The folder need not exist; nothing is made that stays."""
    found = storage(tmp_path / "runs" / "deep")
    assert (found.writable, found.links, found.problem) == (True, True, "")
    assert found.free > 0
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_run_can_be_is_said() -> None:
    """With the reason, not as an error."""
    found = storage(Path("/proc/runs"))
    assert not found.writable
    assert found.problem.startswith("/proc: ")


def test_what_cannot_be_seen_here_comes_first() -> None:
    """Limits of this machine before those that hold everywhere."""
    here = [limit.here for limit in limits()]
    assert here == sorted(here, reverse=True)
    assert ("trainings on a GPU" in [limit.what for limit in limits()]) == (not torch.cuda.is_available())


def test_the_probe_measures_a_training_that_watching_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bit for bit, healthy, also with GRADSCOPE=off; random state, threads and setting are put back."""
    monkeypatch.setenv("GRADSCOPE", "off")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = probe()
    assert (found.same, found.verdict) == (True, "healthy")
    assert found.milliseconds > 0
    assert min(found.noise, found.auto, found.every) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert (torch.get_num_threads(), os.environ["GRADSCOPE"]) == (threads, "off")


def test_the_probe_notices_a_training_that_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that draws a single random number is found out."""

    def meddling(*_: object, **__: object) -> object:
        torch.rand(1)
        said = SimpleNamespace(verdict="healthy")
        return SimpleNamespace(loss=lambda loss: loss, close=lambda: None, diagnose=lambda: said)

    monkeypatch.setattr("gradscope.scope.watch", meddling)
    assert not probe().same


def test_the_page_says_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the terminal and as a document, without a probe where none is wanted."""
    assert main(["doctor", str(tmp_path / "runs"), "--no-probe", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["probe"] is None
    assert document["environment"]["packages"]["torch"] == version("torch")
    assert main(["doctor", str(tmp_path / "runs"), "--no-probe"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for each in document["limits"]:
        assert each["what"] in said
    assert f"torch {version('torch')}" in said
    assert "Watching a small training" not in said


def test_a_failed_check_is_loud() -> None:
    """A training that was changed, and a folder that cannot be written, are marked as errors."""
    measured = {"device": "cpu", "milliseconds": 3.0, "noise": 1.0, "auto": 1.01, "every": 1.4, "verdict": "healthy"}
    document = {
        "environment": {
            "gradscope": "1", "python": "3", "platform": "p", "packages": {"torch": ""}, "optional": {},
            "devices": ["CPU"], "distributed": [], "settings": {},
        },
        "storage": {"folder": "runs", "writable": False, "links": False, "free": 0, "problem": "/x: Read-only"},
        "limits": [],
        "probe": {**measured, "same": False},
    }  # fmt: skip
    said = render(document)
    assert "▲ NO: please report it" in said
    assert "▲ cannot be written: /x: Read-only" in said
    assert "torch MISSING" in said
