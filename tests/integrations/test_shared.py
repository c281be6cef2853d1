"""What all adapters share: missing frameworks, options, folders, the end of a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradscope
from gradscope.errors import MissingPackage, WatchError
from gradscope.integrations.framework import framework
from gradscope.integrations.training import Watching
from tests.forking import forked

PACKAGES = {
    "lightning": ("lightning", "lightning", "pytorch_lightning"),
    "transformers": ("transformers", "transformers"),
    "accelerate": ("accelerate", "accelerate"),
    "ignite": ("pytorch-ignite", "ignite"),
    "skorch": ("skorch", "skorch"),
}

PROGRAM = """
import torch
from gradscope.integrations.training import Watching

watching, model = Watching(run_dir="run", quiet=True), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watching._begin(model, [optimizer])
model(torch.ones(2, 4)).sum().backward()
optimizer.step()
ENDING
"""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_framework_is_said(name: str, tmp_path: Path) -> None:
    """Without its framework an adapter says what to install."""
    package, *blocked = PACKAGES[name]

    def run() -> int:
        for module in [module for module in sys.modules if module.split(".")[0] in blocked]:
            del sys.modules[module]
        sys.modules.update(dict.fromkeys(blocked))  # None: cannot be imported
        sys.modules.pop(f"gradscope.integrations.{name}", None)
        __import__(f"gradscope.integrations.{name}")
        return 0

    done = forked(run, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"gradscope.errors.MissingPackage: this part of GradScope works inside {package}, which is not installed here. "
        f"Install it with: pip install {package}"
    )


def test_a_framework_that_misses_something_itself_is_no_missing_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own error says more."""
    (tmp_path / "half_installed.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as raised:
        framework("half_installed", package="half-installed")
    assert not isinstance(raised.value, MissingPackage)


def test_importing_gradscope_imports_no_framework() -> None:
    """`import gradscope` stays cheap, its watch too."""
    names = {"lightning", "pytorch_lightning", "transformers", "accelerate", "ignite", "skorch"}
    code = f"import sys, gradscope.scope; print([name for name in sys.modules if name.split('.')[0] in {names}])"
    environment = {**os.environ, "PYTHONPATH": str(Path(gradscope.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_option_that_watch_does_not_know_is_refused_at_once() -> None:
    """Not when the training begins."""
    with pytest.raises(TypeError, match="'evry'"):
        Watching(evry=10)
    with pytest.raises(WatchError, match="on_finding"):
        Watching(on_finding=3)


def train(watching: Watching, *, steps: int = 5) -> nn.Linear:
    """A few steps of a loop that a framework would run."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watching._begin(model, [optimizer])
    for _ in range(steps):
        model(torch.ones(8, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    watching._end()
    return model


def test_a_folder_that_is_taken_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of the same name, of this program or an earlier one, stand beside each other."""
    for _ in range(3):
        train(Watching(run_dir="a", quiet=True))
    assert sorted(path.name for path in Path().glob("a*")) == ["a", "a-2", "a-3"]
    assert capsys.readouterr().err == ""


def test_the_default_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `run_dir` it is one in `runs/`, and what is said can be typed."""
    watching = Watching()
    train(watching)
    assert watching.run_dir is not None
    assert watching.run_dir.parent == Path("runs").resolve()
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        f"gradscope: healthy: No sickness found in 5 steps. (all of it: gradscope report runs/{watching.run_dir.name})"
    )


def test_closing_early() -> None:
    """`close` ends recording before the framework does; the framework's own end then does nothing."""
    watching, seen = Watching(run_dir="a", quiet=True), []
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watching._begin(model, [optimizer])
    for step in range(6):
        if step == 3:
            watching.close()
        model(torch.ones(8, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(step)
    watching._end(RuntimeError("too late"))
    run = gradscope.read_run("a")
    assert (len(seen), len(run.steps), run.events[-1].data["reason"]) == (6, 3, "closed")


def test_names_that_would_move_the_cursor_are_shown_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    """A layer's name is printed, whatever it does to a terminal."""
    watching = Watching(run_dir="a")
    evil = nn.Sequential()
    for number in range(21):
        evil.add_module(f"\x1b[2J{number}", nn.Linear(16, 16))
        evil.add_module(f"s{number}", nn.Sigmoid())
    optimizer = torch.optim.SGD(evil.parameters(), lr=0.1)
    watching._begin(evil, [optimizer])
    for _ in range(6):
        evil(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    watching._end()
    assert watching.diagnosis.verdict == "unhealthy"
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("raise OSError('the disk is full')", "OSError: the disk is full"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    pass", "the training did not come to its end"),
    ],
)
def test_a_program_that_ends_before_its_training(ending: str, reason: str, tmp_path: Path) -> None:
    """Where the framework says nothing, the run tells at the exit of the exception that ended the program."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(gradscope.__file__).parents[1])}
    command = [sys.executable, "-c", PROGRAM.replace("ENDING", ending)]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=120)
    assert gradscope.read_run(tmp_path / "run").events[-1].data["reason"] == reason


def test_nothing_of_ours_reaches_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A diagnosis that fails, ours to blame, is said and what follows the training goes on."""

    def fails(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(gradscope.Scope, "diagnose", fails)
    train(Watching(run_dir="a"))
    assert "cannot be diagnosed: ValueError: a bug" in capsys.readouterr().err
