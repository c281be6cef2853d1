"""What all tests share: runs written by hand and saved to disk."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gradscope.records import Run
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunWriter

SaveRun = Callable[..., Path]


def write_run(run: Run, folder: Path) -> Path:
    """Writes a run as a recorder would: one batch a step."""
    writer = RunWriter(folder, run.info)
    for position in range(len(run.steps)):
        steps = run.steps[position : position + 1]
        writer.write_summaries(run.summaries[run.summaries["step"] == steps["step"][0]])
        rates = run.learning_rates[position]
        writer.write_steps(steps, [rates[~np.isnan(rates)].tolist()])
    for event in run.events:
        writer.write_event(event.step, event.kind, event.data)
    writer.close()
    return folder


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """A shell that starts us in the background has us ignore SIGINT, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_hook_is_left() -> Iterator[None]:
    """After every test torch's global module hooks are gone: what was watched was closed."""
    yield
    hooks = sys.modules.get("torch.nn.modules.module")
    if hooks is not None:
        assert not hooks._has_any_global_hook()


@pytest.fixture
def save_run(tmp_path: Path) -> SaveRun:
    def save(run: Run | None = None, name: str = "run") -> Path:
        return write_run(run or by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3), tmp_path / name)

    return save
