"""The flight recorder: whatever ends a training, its last completed step is on disk and the run says how it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradscope
from gradscope.records import Run
from tests.test_store_budget import steps_of

LAST = 7  # the last step that is completed

_TRAINING = """
import os, signal, sys, time, warnings
import torch, gradscope
warnings.simplefilter("error")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def train(scope):
    for step in range(100):
        factor = float("nan") if how == "nan" and step == LAST else 1.0
        loss = scope.loss((model(torch.ones(8, 4)) * factor).square().mean())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == LAST:
            end()

def end():
    if how == "exception":
        raise RuntimeError("by hand")
    if how == "_exit":
        os._exit(3)
    if how == "nan":
        os._exit(4)
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(60)

how, LAST = sys.argv[2], int(sys.argv[3])
if sys.argv[4] == "with":
    with gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1) as scope:
        train(scope)
else:
    scope = gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1)
    train(scope)
"""


# Where `tabulate` is installed torch makes a table with it at the end, and Python forgets that a signal ended it.
_INTERRUPTED = """
import os, signal, torch
torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
os.kill(os.getpid(), signal.SIGINT)
"""


def _train(folder: Path, how: str, style: str) -> tuple[Run, int]:
    command = [sys.executable, "-c", _TRAINING, str(folder), how, str(LAST), style]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return gradscope.read_run(folder), done.returncode


@pytest.mark.parametrize(
    ("how", "style", "code", "state"),
    [
        ("SIGKILL", "with", -signal.SIGKILL, "recording"),
        ("SIGTERM", "plain", -signal.SIGTERM, "recording"),
        ("SIGINT", "plain", -signal.SIGINT, "ended"),
        ("SIGINT", "with", -signal.SIGINT, "ended"),
        ("_exit", "with", 3, "recording"),
        ("exception", "plain", 1, "ended"),
        ("exception", "with", 1, "ended"),
    ],
)
def test_the_last_completed_step_is_on_disk(how: str, style: str, code: int, state: str, tmp_path: Path) -> None:
    """Killed, interrupted, left or failed: every completed step is there, whole; what could not say that it ended is
    still "recording".
    """
    if how == "SIGINT":
        code = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, check=False).returncode
    run, returned = _train(tmp_path / "run", how, style)
    assert (returned, run.info.state) == (code, state)
    assert run.steps["step"].tolist() == steps_of(run) == list(range(LAST + 1))
    assert run.steps["recorded"].all()
    assert np.isfinite(run.steps["loss"]).all()
    reasons = [event.data["reason"] for event in run.events if event.kind == "ended"]
    assert len(reasons) == (1 if state == "ended" else 0)
    if state == "ended" and style == "with":
        assert reasons == ["KeyboardInterrupt: " if how == "SIGINT" else "RuntimeError: by hand"]


def test_a_nan_is_on_disk_before_the_next_step(tmp_path: Path) -> None:
    """A process that dies right behind the step that turned NaN leaves that step, in full, and the report finds it."""
    run, _ = _train(tmp_path / "run", "nan", "plain")
    assert np.isnan(run.steps["loss"][-1])
    assert run.steps["step"][-1] == run.summaries["step"][-1] == LAST
    diagnosis = gradscope.diagnose(run)
    assert diagnosis.verdict == "broken"
    assert diagnosis.findings[0].rule == "non-finite"
    assert diagnosis.findings[0].first_step == LAST


_WORKERS = """
import os, sys
import torch, gradscope
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, index):
        if os.getpid() != trainer:  # what a worker inherits does nothing here
            scope.log("from a worker", 1.0)
            scope.step()
            scope.close()
        return torch.ones(4) * index

trainer = os.getpid()
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
scope = gradscope.watch(model, optimizer, run_dir=sys.argv[1], every=1)
for epoch in range(2):  # each epoch forks its workers anew, in the middle of the run
    for batch in DataLoader(Data(), batch_size=4, num_workers=2, multiprocessing_context="fork"):
        scope.loss(model(batch).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
child = os.fork()
if child == 0:
    sys.exit(0)  # runs every atexit
os.waitpid(child, 0)
before = scope.run_dir.joinpath("run.json").read_text()
scope.log("after", 1.0)
assert '"recording"' in before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_with_writer_thread(tmp_path: Path) -> None:
    """DataLoader workers forked while recording end, write nothing and close nothing, nor does a child's atexit."""
    command = [sys.executable, "-c", _WORKERS, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["step"].tolist() == steps_of(run) == list(range(12))
    assert [(event.kind, event.data.get("name")) for event in run.events] == [("value", "after"), ("ended", None)]
    assert run.info.state == "ended"
