"""A run in Weights & Biases, offline: its transaction log is read back."""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.integrations import wandb
from gradscope.signals import Signals
from tests.conftest import SaveRun
from tests.exported import NAMES, empty_run, hard_run

_BLOCK, _HEADER, _MAGIC = 2**15, 7, b":W&B"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own files go into the test's folder, and there is no server to reach."""
    for name in [each for each in os.environ if each.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def records(folder: Path) -> list[Any]:
    """The records of the only run in a folder, once W&B's own process has written the last one."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        (log,) = (folder / "wandb").glob("offline-run-*/*.wandb")
        found = list(parse(log.read_bytes()))
        if any(each.WhichOneof("record_type") == "exit" for each in found):
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{log} was not written to its end")


def parse(content: bytes) -> Iterator[Any]:
    """The whole records of a log, pieces in blocks as LevelDB writes it."""
    assert content.startswith(_MAGIC)
    position, waiting = _HEADER, b""
    while position + _HEADER <= len(content):
        if _BLOCK - position % _BLOCK < _HEADER:  # too little for another piece
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += _HEADER
        if position + length > len(content):
            return
        waiting += content[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or the last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(waiting)
            yield record
            waiting = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, call by call."""
    rows = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({(each.key or "/".join(each.nested_key)): json.loads(each.value_json) for each in items})
    return rows


def series(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """One metric with its steps."""
    return [(row["gradscope/step"], float(row[name])) for row in rows if name in row]


@pytest.fixture
def tracked(save_run: SaveRun, tmp_path: Path) -> Path:
    """The folder with the hard run as W&B has it."""
    assert main(["export", str(save_run(hard_run())), "--to", "wandb", "-o", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_numbers_keep_their_steps(tracked: Path) -> None:
    """Every number is logged with the training's own step, NaN and Inf included."""
    run, rows = hard_run(), history(tracked)
    seen = run.steps["has_loss"]
    expected = list(zip(run.steps["step"][seen].tolist(), run.steps["loss"][seen].tolist(), strict=True))
    assert str(series(rows, "gradscope/loss")) == str(expected)
    signals = Signals(run)
    for name in NAMES:
        gains = [value for _, value in series(rows, f"gradscope_backward_gain/{name}")]
        assert str(gains) == str(signals.backward_gain[signals.site(name)].tolist())
    assert math.isnan(series(rows, f"gradscope_backward_gain/{NAMES[0]}")[3][1])


def test_facts_verdict_and_findings_are_there(tracked: Path) -> None:
    """The config has the facts, the summary the verdict, the notes the findings."""
    found = records(tracked)
    runs = [each.run for each in found if each.WhichOneof("record_type") == "run"]
    config = {item.key: json.loads(item.value_json) for run in runs for item in run.config.update}
    assert runs[0].project == "gradscope"
    assert runs[0].display_name == "hard"
    assert config["optimizer"] == "SGD(lr=0.01)"
    assert any(run.notes.startswith("**Watch:** Loss is NaN since step 1") for run in runs)
    summary = {
        (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
        for each in found
        if each.WhichOneof("record_type") == "summary"
        for item in each.summary.update
    }
    assert summary["gradscope/verdict"] == diagnose(hard_run()).verdict


def test_nothing_of_the_machine_or_the_program_is_written_down(tracked: Path) -> None:
    """No command, no output, no list of packages, no code: only what was exported, into one folder."""
    assert records(tracked)
    content = b"".join(path.read_bytes() for path in tracked.rglob("*.wandb"))
    assert b"secret" not in content
    files = {each.name for each in (tracked / "wandb").glob("offline-run-*/files/*")}
    assert files <= {"config.yaml", "wandb-summary.json"}


def test_nothing_is_sent_unless_asked(save_run: SaveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says online, as that of a training does, changes nothing: the user has to say so here."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    before = dict(os.environ)
    said = wandb.export(save_run(empty_run()), str(tmp_path / "out"), project="mine")
    assert said.startswith(f"offline run written to {tmp_path / 'out'}")
    runs = [each.run for each in records(tmp_path / "out") if each.WhichOneof("record_type") == "run"]
    assert runs[0].project == "mine"
    assert dict(os.environ) == before


def test_a_run_of_the_trainings_own_goes_on(save_run: SaveRun, tmp_path: Path) -> None:
    """Exporting in a process that tracks with W&B itself neither ends nor changes its run."""
    import wandb as theirs

    own = theirs.init(dir=str(tmp_path), mode="offline", project="own", settings=theirs.Settings(silent=True))
    try:
        wandb.export(save_run(hard_run()), str(tmp_path / "out"))
        assert theirs.run is own
        own.log({"mine": 1.0})
        assert own.summary["mine"] == 1.0
    finally:
        own.finish()
