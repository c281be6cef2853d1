"""What attackers of the command line and of a running training met: each is said, and stops or misleads nobody."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gradscope
from gradscope.alerts import Handler
from gradscope.cli import main
from gradscope.errors import BaselineError, RunExists, UnusableSample
from gradscope.records import RunInfo
from gradscope.reports.baseline import read_baseline
from gradscope.store import RunWriter
from gradscope.store.liveness import is_over
from gradscope.testing import check_model
from tests.conftest import SaveRun

BEGIN = """
import sys, time, torch, gradscope
time.strftime = lambda *_: "20260101-000000"  # the same second for both
model = torch.nn.Linear(2, 1)
sys.stdin.readline()
scope = gradscope.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
print(scope.run_dir, flush=True)
scope.close()
"""


def test_trainings_that_begin_in_the_same_second_have_a_folder_each(tmp_path: Path) -> None:
    """Those of a sweep, say: none reads or writes what is another's."""
    command = [sys.executable, "-c", BEGIN]
    begun = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
        for _ in range(3)
    ]
    found = {each.communicate(b"\n", timeout=60)[0].decode().strip() for each in begun}
    assert found == {f"runs/20260101-000000-Linear{end}" for end in ("", "-2", "-3")}


def test_of_two_that_begin_in_one_folder_one_is_refused(tmp_path: Path) -> None:
    """The other was faster by so little that its run.json is not there yet."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "steps.arrow").touch()
    with pytest.raises(RunExists, match="already holds files of a run"):
        RunWriter(tmp_path / "run", RunInfo("run", "Net", 0.0))


class Speechless(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("nobody asked me")


class Broken(Handler):
    """A handler that can do nothing."""

    def __str__(self) -> str:
        raise RuntimeError("no name")

    def tell(self, alert: object) -> None:
        raise Speechless

    @property
    def trouble(self) -> str:  # type: ignore[override]
        raise RuntimeError("all of it")


def _sick() -> tuple[nn.Module, torch.optim.Optimizer]:
    layers = [part for _ in range(12) for part in (nn.Linear(8, 8), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_a_handler_that_can_do_nothing_harms_nothing(tmp_path: Path) -> None:
    """The training goes on, and the run says that nobody was told."""
    model, optimizer = _sick()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1, on_finding=Broken()) as scope:
        for _ in range(8):
            scope.loss(model(torch.ones(16, 8)).square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert gradscope.read_run(tmp_path / "run").info.state == "ended"
    assert any("Broken was told" in missing.what for missing in scope.diagnose().not_observed)


def test_the_users_own_error_comes_out_as_it_is(tmp_path: Path) -> None:
    """Also one that cannot say what it is; the run is closed all the same."""
    model, optimizer = _sick()
    with pytest.raises(Speechless), gradscope.watch(model, optimizer, run_dir=tmp_path / "run"):
        raise Speechless
    assert gradscope.read_run(tmp_path / "run").info.state == "ended"


def test_a_report_draws_no_random_number(tmp_path: Path) -> None:
    """rich draws one when it is imported: Python's own random state is what it was."""
    program = (
        "import random, sys, torch, gradscope\n"
        "model = torch.nn.Linear(2, 1)\n"
        "scope = gradscope.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), run_dir=sys.argv[1])\n"
        "before = random.getstate()\n"
        "scope.report()\n"
        "print(random.getstate() == before)\n"
        "scope.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    assert random.getstate() is not None


class Itself(nn.Linear):
    """A model whose copy is itself."""

    def __deepcopy__(self, memo: object) -> Itself:
        return self


def test_a_model_that_cannot_be_copied_is_left_alone() -> None:
    """A copy that shares parameters would train the user's own."""
    model = Itself(4, 2)
    before = copy.copy(model.weight.detach().clone())
    with pytest.raises(UnusableSample):
        check_model(model, (torch.randn(8, 4), torch.randint(0, 2, (8,))), criterion=nn.CrossEntropyLoss())
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("field", "value"),
    [("script", None), ("heads", [[1]]), ("world_size", "x"), ("model", [1]), ("heads", [99]), ("device", 2**31)],
)
def test_a_run_file_with_fields_of_other_types_is_said(
    field: str, value: object, save_run: SaveRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit code 2, no traceback."""
    folder = save_run()
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {field: value}))
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gradscope: ")
    assert "Traceback" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_stdout_is_said(save_run: SaveRun) -> None:
    """As for a file that cannot be written: what to do, exit code 2."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "gradscope", "report", str(save_run())]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "gradscope: cannot write to stdout: No space left on device. Give -o a file, or make room.\n"


def test_a_baseline_of_nothing_but_brackets_is_said(tmp_path: Path) -> None:
    """However deep."""
    (tmp_path / "baseline.json").write_text("[" * 100_000)
    with pytest.raises(BaselineError):
        read_baseline(tmp_path / "baseline.json")


def test_a_process_number_that_none_can_have_is_nobody() -> None:
    """A damaged run file must not end what follows the run."""
    assert is_over(RunInfo("r", "Net", 0.0, process=2**40, state="recording"), silence=90.0)


def test_a_warning_of_the_users_is_shown_as_often_as_without_us(tmp_path: Path) -> None:
    """Python shows a warning once for each line, and goes on to do so while a training is watched."""
    program = (
        "import sys, warnings, torch, gradscope\n"
        "model = torch.nn.Linear(2, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "scope = gradscope.watch(model, optimizer, run_dir=sys.argv[1])\n"
        "for _ in range(60):\n"
        "    warnings.warn('mine')\n"
        "    scope.loss(model(torch.ones(4, 2)).square().mean()).backward()\n"
        "    optimizer.step()\n"
        "scope.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.count("UserWarning: mine") == 1
