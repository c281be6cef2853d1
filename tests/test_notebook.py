"""The dashboard beside a training, and what a notebook shows: with a real IPython and real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from traitlets.config import Config

import gradscope
from gradscope import beside
from gradscope.records import Cause, Check, Diagnosis, Finding, NotObserved, Suggestion
from gradscope.records.html import COLOURS, to_html
from gradscope.scope import Scope
from tests.trainings import digits, mlp, sgd

DASHBOARD = re.compile(r"gradscope: dashboard at (http://127\.0\.0\.1:\d+/run/\S+)")
SCRIPT = """
import sys, time, torch, gradscope
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scope = gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1, dashboard=True)
for _ in range(4):
    scope.loss(model(torch.ones(8, 4)).square().mean()).backward()
    optimizer.step()
    optimizer.zero_grad()
scope.diagnose()
print("trained", flush=True)
time.sleep(float(sys.argv[2]))
"""
NO_HISTORY = Config({"HistoryManager": {"enabled": False}})
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _no_dashboard_is_left() -> Iterator[None]:
    """What a test started ends with it."""
    yield
    for each in beside._STARTED.values():
        each.stop()
    beside._STARTED.clear()


def sick() -> Diagnosis:
    """A diagnosis with everything in it, and names that want to be markup."""
    suggestion = Suggestion("initialization", f"Initialise {HOSTILE}", "because", "x < 1 & y", f"{HOSTILE}.py:1")
    failed = Suggestion("warmup", "Warm up", "because", "", trial={"effect": "failed"})
    finding = Finding(
        "vanishing-gradient",
        "error",
        (HOSTILE, "", "b", "c"),
        1200,
        1300,
        f"Gradients vanish before {HOSTILE}",
        (),
        (Cause("init-too-small", 0.8, HOSTILE),),
        (suggestion, failed),
    )
    return Diagnosis(
        "unhealthy",
        f"Gradients vanish before {HOSTILE}",
        (finding, Finding("dead-units", "note", (), 3, 3, "Few", follows="vanishing-gradient")),
        (Check("non-finite", "passed"), Check("loss-stalled", "needs-data", "needs 3 more")),
        (NotObserved(HOSTILE, "it is compiled"),),
    )


def gone(process: int, patience: float = 6.0) -> bool:
    """Whether a process ends within a few seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


class Training:
    """A script in its own process, with a dashboard beside it."""

    def __init__(self, folder: Path, seconds: float, **environment: str) -> None:
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(folder / "run"), str(seconds)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=folder,
                env={**os.environ, **environment},
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "trained\n"
        self.children = psutil.Process(self.process.pid).children()
        self.said = (folder / "stderr").read_text()

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()


def page(address: str) -> str:
    """What the server answers there, once it is ready."""
    with urlopen(address, timeout=20) as answer:
        return str(answer.read(), "utf-8")


def test_the_dashboard_starts_beside_the_training_and_ends_with_it(tmp_path: Path) -> None:
    """One line on stderr says where it is; it answers; and it goes when the training is killed without a warning."""
    training = Training(tmp_path, 60)
    try:
        (address,) = DASHBOARD.findall(training.said)
        assert address.endswith("/run/run")
        assert "gradscope" in page(address)
        (child,) = training.children
        training.process.send_signal(signal.SIGKILL)
        training.process.wait()
        assert gone(child.pid)
    finally:
        training.close()
    assert (tmp_path / "stderr").read_text().count("\n") == 2  # where it records, where the dashboard is


def test_it_ends_when_the_training_does(tmp_path: Path) -> None:
    """A training that is done leaves no process and says nothing more."""
    training = Training(tmp_path, 0.2)
    (child,) = training.children
    assert training.process.wait(20) == 0
    assert not psutil.pid_exists(child.pid)
    training.close()
    assert (tmp_path / "stderr").read_text().count("\n") == 2


def test_a_ctrl_c_is_for_the_training(tmp_path: Path) -> None:
    """The dashboard is in a session of its own: a terminal's Ctrl-C does not reach it."""
    training = Training(tmp_path, 60)
    (child,) = training.children
    assert os.getsid(child.pid) == child.pid
    training.close()
    assert gone(child.pid)


def test_a_module_of_the_training_stands_for_none_of_ours(tmp_path: Path) -> None:
    """A folder with a file that is called like a library is no trouble."""
    (tmp_path / "dash.py").write_text("raise RuntimeError('not me')")
    training = Training(tmp_path, 60)
    try:
        (address,) = DASHBOARD.findall(training.said)
        assert "gradscope" in page(address)
    finally:
        training.close()


@pytest.mark.parametrize("switch", [{"GRADSCOPE": "off"}, {"GRADSCOPE_DASHBOARD": "off"}])
def test_it_can_be_switched_off(switch: dict[str, str], tmp_path: Path) -> None:
    """Off in the environment starts no process, whatever the script asks for."""
    training = Training(tmp_path, 60, **switch)
    assert training.children == []
    assert "dashboard" not in training.said
    training.close()


def test_a_dashboard_that_cannot_start_is_one_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training goes on without it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    scope = gradscope.watch(nn.Linear(4, 1), run_dir=tmp_path / "run", dashboard=True)
    scope.close()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert re.search(r"dashboard could not be started \(.*gone.*\); the training goes on without it", said[1])


def test_a_dashboard_that_breaks_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A run that is gone before the page is made: a line on stderr, no traceback."""
    beside.start(tmp_path / "gone")
    (started,) = beside._STARTED.values()
    started._process.wait(20)
    said = capfd.readouterr().err
    assert re.fullmatch(r"gradscope: the dashboard beside the training ended: RunNotFound: no run at .*\n", said)


def test_one_process_is_enough_for_the_runs_of_a_folder(tmp_path: Path) -> None:
    """Runs in `runs/` share a dashboard, each with its own address; a run elsewhere has its own."""
    (tmp_path / "runs" / "a b").mkdir(parents=True)
    one, two = beside.start(tmp_path / "runs" / "a b"), beside.start(tmp_path / "runs" / "c")
    assert len(beside._STARTED) == 1
    assert one is not None
    assert two == one.replace("a%20b", "c")
    assert beside.start(tmp_path / "other") not in (None, one)
    assert len(beside._STARTED) == 2


def test_a_dashboard_beside_it_changes_no_bit(tmp_path: Path) -> None:
    """Losses, weights and the RNG state are those of the training alone."""

    def train(watched: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = mlp(3, nn.ReLU, width=16)
        optimizer = sgd(0.1, 0.9)(model)
        scope = gradscope.watch(model, optimizer, run_dir=tmp_path / "run", dashboard=True) if watched else None
        images, labels = digits()
        trace = []
        for step in range(10):
            loss = nn.functional.cross_entropy(model(images[step * 32 : step * 32 + 32]), labels[step * 32 :][:32])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            trace.append(loss.detach())
        if scope is not None:
            assert len(beside._STARTED) == 1
            scope.close()
        return [*trace, *model.state_dict().values(), torch.get_rng_state()]

    assert all(torch.equal(one, two) for one, two in zip(train(False), train(True), strict=True))


class Notebook(InteractiveShell):
    """A shell with a kernel, as a notebook's; what it displays is kept."""

    kernel: Any = object()


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    """A real IPython that says of itself that it is a notebook's."""
    InteractiveShell.clear_instance()
    shell = Notebook.instance(config=NO_HISTORY)
    shell.display_formatter.active_types = list(shell.display_formatter.format_types)
    yield shell
    Notebook.clear_instance()


def shown(shell: Notebook, code: str) -> list[dict[str, str]]:
    """What a cell displays: for each output its kinds."""
    from IPython.utils.capture import capture_output

    with capture_output() as captured:
        result = shell.run_cell(textwrap.dedent(code))
    result.raise_error()
    outputs = [dict(output.data) for output in captured.outputs]
    if result.result is not None:
        outputs.append(shell.display_formatter.format(result.result)[0])
    return outputs


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[Scope]:
    """A training of three steps that is being watched."""
    model = mlp(2, nn.ReLU)
    optimizer = sgd(0.1)(model)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as watched:
        for _ in range(3):
            watched.loss(model(digits()[0][:8]).square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        yield watched


def test_a_scope_at_the_end_of_a_cell_is_its_diagnosis(notebook: Notebook, scope: Scope) -> None:
    """A scope and a diagnosis are shown as HTML, and as text where that is all there is."""
    notebook.push({"scope": scope})
    (of_scope,) = shown(notebook, "scope")
    (of_diagnosis,) = shown(notebook, "scope.diagnose()")
    assert of_scope["text/html"] == of_diagnosis["text/html"] == to_html(scope.diagnose())
    assert "text/plain" in of_diagnosis


def test_show_opens_the_dashboard_in_the_notebook(notebook: Notebook, scope: Scope) -> None:
    """An inline frame with the run's page and its address below; showing it again starts nothing new."""
    notebook.push({"scope": scope})
    frame, link = shown(notebook, "scope.show()")
    (started,) = beside._STARTED.values()
    address = f"{started.url}run/run"
    assert f'src="{address}"' in frame["text/html"]
    assert f'href="{address}"' in link["text/html"]
    assert "gradscope" in page(address)
    shown(notebook, "scope.show()")
    assert list(beside._STARTED.values()) == [started]


def test_show_falls_back_to_the_diagnosis(notebook: Notebook, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no dashboard may be started the notebook shows what is known."""
    monkeypatch.setenv("GRADSCOPE_DASHBOARD", "off")
    notebook.push({"scope": scope})
    (output,) = shown(notebook, "scope.show()")
    assert output["text/html"] == to_html(scope.diagnose())
    assert beside._STARTED == {}


def test_show_prints_outside_of_a_notebook(scope: Scope, capsys: pytest.CaptureFixture[str]) -> None:
    """The report in words; with the address when there is a dashboard. Nothing is opened or started."""
    scope.show()
    assert capsys.readouterr().out == scope.report().rstrip() + "\n"
    assert beside._STARTED == {}
    address = beside.start(scope._at)  # type: ignore[arg-type]
    scope.show()
    assert capsys.readouterr().out.endswith(f"\nDashboard: {address}\n")


def test_off_shows_nothing(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With GRADSCOPE=off nothing is started and show() does nothing; a cell says that it is off."""
    monkeypatch.setenv("GRADSCOPE", "off")
    scope = gradscope.watch(nn.Linear(4, 1), run_dir=tmp_path / "run", dashboard=True)
    notebook.push({"scope": scope})
    assert shown(notebook, "scope.show()") == []
    assert "GradScope is off" in scope._repr_html_()
    assert beside._STARTED == {}
    assert capsys.readouterr().err == ""


def test_a_terminals_ipython_is_no_notebook() -> None:
    """Only a shell with a kernel has outputs that a browser shows."""
    InteractiveShell.clear_instance()
    InteractiveShell.instance(config=NO_HISTORY)
    try:
        assert not beside.in_notebook()
    finally:
        InteractiveShell.clear_instance()
    assert not beside.in_notebook()


def test_the_html_says_what_the_text_does() -> None:
    """Verdict, findings with severity in words and shape, causes, suggestions with what they rest on, what was not seen."""
    html = re.sub("<[^>]+>", "", to_html(sick()))
    for words in ("▲ Unhealthy", "▲ Error F1: Gradients vanish", "● Note F2", "follows from vanishing-gradient"):
        assert words in html
    assert "step 1,200 to 1,300" in html
    assert "(model), b and 1 more" in html
    assert "Why: init-too-small (80 %)" in html
    assert "(estimate)" in html
    assert "✗ tried, did not help" in html
    assert "x &lt; 1 &amp; y" in html
    assert "Checks: 1 passed, 1 need more data." in html
    assert "Not observed: 1" in html


def test_the_html_is_only_text_and_style() -> None:
    """Names are escaped; there is no script, no handler, no request to anywhere."""
    html = to_html(sick())
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 5
    harmless = "section, div, span, strong, code, pre, details, summary, ul, li"
    assert set(re.findall(r"<(\w+)", html)) <= set(harmless.split(", "))
    assert not re.search(r"<[^>]*\s(?:on\w+|src|href|class|id)=", html)


@pytest.mark.parametrize("verdict", ["healthy", "watch", "unhealthy", "broken", "not-enough-data"])
def test_every_verdict_has_its_html(verdict: Any) -> None:
    """Also one without anything in it."""
    assert to_html(Diagnosis(verdict, "A sentence.")).count("A sentence.") == 1


@pytest.mark.parametrize("background", ["#FFFFFF", "#111111", "#14171C", "#1E1E1E"])
def test_its_colours_stand_out_from_light_and_dark(background: str) -> None:
    """Bars and shapes, the only things with a colour of their own, have a contrast of 3:1 on either."""

    def luminance(colour: str) -> float:
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in COLOURS.values():
        lighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3
