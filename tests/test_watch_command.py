"""`gradscope watch RUN`: a run that grows, in a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.reports import document
from gradscope.reports.live import conclusion, curve, losses_of, news, render, status
from gradscope.reports.look import Look
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import liveness
from tests.conftest import SaveRun

# Its rate is raised to where nothing can hold once somebody has seen its first steps.
TRAINING = """
import sys, time, torch, gradscope
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(64, 8)
y = x.sum(1, keepdim=True)
with gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1) as scope:
    for step in range(40):
        if step == 20:
            sys.stdin.readline()
            optimizer.param_groups[0]["lr"] = 1e6
        scope.loss(torch.nn.functional.mse_loss(model(x), y)).backward()
        optimizer.step()
        optimizer.zero_grad()
    sys.stdin.readline()
"""


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training that waits at its twentieth step, and at its end, for a line."""
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    command = [sys.executable, str(script), str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path
    ) as started:
        _until(lambda: (tmp_path / "run" / "steps.arrow").exists())
        yield started
        started.kill()  # where a test failed and did not let it go on to its end


def _until(met: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def _go_on(training: subprocess.Popen[str]) -> None:
    assert training.stdin is not None
    training.stdin.write("\n")
    training.stdin.flush()


def test_a_pipe_gets_a_line_for_each_new_finding_then_the_verdict(
    training: subprocess.Popen[str], tmp_path: Path
) -> None:
    """The line is there while the training goes on; when it ends, the watching ends with the verdict and exit code 0."""
    command = [sys.executable, "-m", "gradscope", "watch", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        _go_on(training)
        first = watching.stdout.readline()
        assert first.startswith("▲ error step 2")
        assert training.poll() is None
        _go_on(training)
        rest = watching.stdout.read()
        assert training.wait(30) == 0
    assert watching.returncode == 0
    assert "\n▲ Broken: " in rest
    assert rest.endswith("ended · step 39\n")
    lines = [line for line in [first, *rest.splitlines()] if " step " in line and line[0] in "▲■●"]
    assert len(lines) == len({line.split(":")[0] for line in lines})  # each finding is said once


def test_a_terminal_is_drawn_in_place(training: subprocess.Popen[str], tmp_path: Path) -> None:
    """Verdict, numbers, the loss as a line and the last step, again and again without clearing the screen."""
    _go_on(training)
    _go_on(training)
    assert training.wait(30) == 0
    main_end, other_end = pty.openpty()
    command = [sys.executable, "-m", "gradscope", "watch", str(tmp_path / "run")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "60"}
    with subprocess.Popen(command, stdout=other_end, stderr=other_end, env=environment) as watching:
        os.close(other_end)
        said = b""
        while True:
            try:
                piece = os.read(main_end, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(main_end)
    text = said.decode()
    assert watching.returncode == 0
    assert "Broken" in text
    assert "ended · step 39" in text
    assert "→ NaN" in text
    assert "\x1b[2J" not in text
    assert "\x1b[?1049h" not in text  # nor another screen


def test_ctrl_c_ends_the_watching_not_the_training(training: subprocess.Popen[str], tmp_path: Path) -> None:
    """Exit code 130, no traceback; the training has not noticed."""
    command = [sys.executable, "-m", "gradscope", "watch", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        time.sleep(2.0)  # it says nothing while nothing is wrong
        watching.send_signal(signal.SIGINT)
        _, complaints = watching.communicate(timeout=10)
    assert (watching.returncode, complaints) == (130, "")
    assert training.poll() is None
    _go_on(training)
    _go_on(training)
    assert training.wait(30) == 0


def test_a_killed_training_ends_the_watching(
    training: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is left who could say that the run has ended: after a while without a sign it is over."""
    training.kill()
    training.wait(30)
    monkeypatch.setattr(liveness, "SILENCE", 0.1)
    assert main(["watch", str(tmp_path / "run")]) == 0
    assert "the training waits, or was killed" in capsys.readouterr().out


def test_a_run_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As by every other command."""
    assert main(["watch", str(tmp_path / "no")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_an_ended_run_is_shown_once(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to wait for."""
    assert main(["watch", str(save_run())]) == 0
    assert capsys.readouterr().out.endswith("ended · step 7\n")


def test_a_run_without_a_step_has_its_words() -> None:
    """Neither a loss line nor a number is invented."""
    empty = by_hand({"a": 1.0}, steps=0)
    said = render(document(empty, diagnose(empty)), losses_of(empty), 0.0, Look())
    assert "Loss  " not in said.splitlines()[-1]
    assert "no step yet" in said.splitlines()[-1]


def test_the_curve_shows_where_the_loss_was_lost() -> None:
    """Each stretch is a block between the lowest and the highest loss; one with a NaN or Inf is marked."""
    assert curve([3.0, 2.0, 1.0, 0.0], 4, "0123") == "3210"
    assert curve([1.0, 1.0], 9, "0123") == "00"
    assert curve([1.0, float("inf"), 0.0], 3, "0123") == "3!0"
    assert curve([float("nan")] * 4, 2, "0123") == "!!"
    assert curve(list(range(100)), 4, "0123") == "0123"
    assert curve([], 4, "0123") == ""


def test_what_is_said_once_is_not_news() -> None:
    """The same finding again is no news; the same with a higher severity is."""
    run = by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3)
    said, known = document(run, diagnose(run)), set[tuple[str, str]]()
    assert len(list(news(said, known, Look()))) == len(said["findings"]) > 0
    assert list(news(said, known, Look())) == []
    said["findings"][0]["severity"] = "warning"
    assert len(list(news(said, known, Look(unicode=False)))) == 1


def test_a_training_that_is_silent_is_said() -> None:
    """After a minute without a write it waits, or was killed."""
    run = by_hand({"a": 1.0})
    said = document(run, diagnose(run))
    said["run"]["state"] = "recording"
    assert status(said, 1.0).startswith("live · step 7")
    assert conclusion(said, 1.0, Look()).endswith("\nlive · step 7 · Ctrl-C ends this, not the training")
    assert conclusion(said, 1.0, Look(unicode=False)).isascii()
    assert status(said, 75.0) == "no sign for 75 s · step 7 · the training waits, or was killed"
