"""The numbers that the package's docstring works out for a large job are those that are measured here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.records import STEP, SUMMARY_ROW, RunInfo
from gradscope.store import RunWriter
from gradscope.store.messages import Encoder
from gradscope.store.schema import COMPRESSION, STEP_SCHEMA, STEPS, SUMMARIES, SUMMARY_SCHEMA, step_batch, summary_batch
from gradscope.store.segments import MOST, SHARE
from gradscope.store.writer import BUDGET, SHARES
from tests.test_store_budget import size

UNITS = {"": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "files": 1.0, "steps": 1.0}
RANKS, SITES, STEPS_TRAINED = 1_000, 10_000, 1_000_000


def _said() -> dict[str, float]:
    """The table in the docstring: what is measured, and the number in bytes, files or steps."""
    lines = re.findall(r"^    (\w[^\d]*?) {2,}([\d.,]+) ?(\w*)", gradscope.__doc__ or "", flags=re.MULTILINE)
    return {name: float(number.replace(",", "")) * UNITS[unit] for name, number, unit in lines if unit in UNITS}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """A deep residual network, trained for a few steps and recorded in full: bytes a row, and rows a site."""
    torch.manual_seed(0)
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU()) for _ in range(60)))
    model = nn.Sequential(nn.Linear(16, 32), blocks, nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters())
    folder = tmp_path_factory.mktemp("runs") / "run"
    with gradscope.watch(model, optimizer, run_dir=folder, every=1) as scope:
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(torch.randn(16, 16)), torch.randint(0, 10, (16,)))
            scope.loss(loss).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(folder)
    rows = run.summaries[run.summaries["step"] == 2]
    message = Encoder(SUMMARY_SCHEMA, COMPRESSION).message(summary_batch(rows))
    return {"row": len(message) / len(rows), "rows of a site": len(rows) / len(run.info.sites)}


def test_the_measured_numbers_are_those_that_are_said(measured: dict[str, float]) -> None:
    """What a row takes and how many rows a site has, within a fifth."""
    said = _said()
    assert said["a summary row, packed"] == pytest.approx(measured["row"], rel=0.2)
    assert said["rows of a site in a recorded step"] == pytest.approx(measured["rows of a site"], rel=0.2)
    assert said["a summary row, in memory"] == SUMMARY_ROW.itemsize


def test_the_numbers_of_a_step_are_those_that_are_said(tmp_path: Path) -> None:
    """What the row of a step takes while it is new, and packed with others, within a fifth."""
    said, random = _said(), np.random.default_rng(0)
    steps = np.zeros(5000, STEP)
    steps["step"], steps["forwards"], steps["backwards"] = np.arange(5000), 1, 1
    steps["time"] = 1.8e9 + np.cumsum(0.1 + 0.01 * random.random(5000))
    for name in ("seconds", "recorder_seconds", "loss"):
        steps[name] = random.random(5000)
    steps["gradient_norm"] = steps["clipped_gradient_norm"] = np.nan
    one = Encoder(STEP_SCHEMA, None).message(step_batch(steps[:1], [[0.1]]))
    assert said["the row of a step, while new"] == pytest.approx(len(one), rel=0.2)
    writer = RunWriter(tmp_path, RunInfo("a", "Net", 0.0))
    for row in range(5000):
        writer.write_steps(steps[row : row + 1], [[0.1]])
    writer.close()
    packed = sum(file.stat().st_size for file in tmp_path.glob("steps-*-*.arrow"))
    count = 512 * len(list(tmp_path.glob("steps-*-*.arrow")))
    assert said["the row of a step, packed"] == pytest.approx(packed / count, rel=0.2)
    assert size(tmp_path) < 5000 * 512


def test_the_products_are_right() -> None:
    """What is worked out from the measured numbers is their product, and what is bounded is the budget."""
    said = _said()
    step = SITES * said["rows of a site in a recorded step"] * said["a summary row, packed"]
    assert said["a recorded step"] == pytest.approx(step)
    assert said["a rank, if nothing were thinned"] == pytest.approx(STEPS_TRAINED * step)
    assert said["a rank, at most"] == pytest.approx(BUDGET, rel=0.05)
    assert said["files of a rank, at most"] == 3 * SHARE + 2
    assert said["all ranks, at most"] == pytest.approx(RANKS * said["a rank, at most"])
    assert said["files of all ranks, at most"] == RANKS * said["files of a rank, at most"]
    kept = BUDGET * SHARES[SUMMARIES] / SHARE * (MOST + 1) / step
    assert said["recorded steps of a rank that are kept"] == pytest.approx(kept, rel=0.05)
    newest = BUDGET * SHARES[SUMMARIES] / SHARE / step
    assert said["of them the newest, every one"] == pytest.approx(newest, rel=0.1)
    rows = BUDGET * SHARES[STEPS] / SHARE * (MOST + 1) / said["the row of a step, packed"]
    assert said["rows of steps that are kept"] == pytest.approx(rows, rel=0.05)


def test_the_job_of_the_docstring_is_the_one_that_is_worked_out() -> None:
    """The sentence above the table names ranks, sites and steps."""
    assert f"{RANKS:,} ranks, {SITES:,} sites and {STEPS_TRAINED:,} steps" in " ".join(
        (gradscope.__doc__ or "").split()
    )
