"""A run in MLflow, read back through its client."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.errors import MissingPackage
from gradscope.integrations import mlflow
from gradscope.integrations.mlflow import name_for
from gradscope.signals import Signals
from tests.conftest import SaveRun
from tests.exported import LONG, NAMES, empty_run, hard_run


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own files go into the test's folder, and it tells nobody."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for reading
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class Stored:
    """The only run of an experiment in a folder."""

    def __init__(self, folder: Path, experiment: str = "gradscope") -> None:
        self.client = MlflowClient(tracking_uri=folder.absolute().as_uri())
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None
        (self.run,) = self.client.search_runs([found.experiment_id])

    def history(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of a metric."""
        return [(each.step, each.value) for each in self.client.get_metric_history(self.run.info.run_id, name)]

    def artifact(self, path: str) -> str:
        """The text of an artifact."""
        return Path(self.client.download_artifacts(self.run.info.run_id, path)).read_text(encoding="utf-8")


@pytest.fixture
def stored(save_run: SaveRun, tmp_path: Path) -> Stored:
    """The hard run as MLflow has it."""
    assert main(["export", str(save_run(hard_run())), "--to", "mlflow", "-o", str(tmp_path / "mlruns")]) == 0
    return Stored(tmp_path / "mlruns")


def test_numbers_keep_their_steps(stored: Stored) -> None:
    """Each number is at its step, NaN, Inf and numbers that float32 cannot hold included."""
    run, signals = hard_run(), Signals(hard_run())
    seen = run.steps["has_loss"]
    assert str(stored.history("gradscope/loss")) == str(
        list(zip(run.steps["step"][seen].tolist(), run.steps["loss"][seen].tolist(), strict=True))
    )
    gains = stored.history(name_for(f"gradscope_backward_gain/{NAMES[0]}"))
    np.testing.assert_array_equal([value for _, value in gains], signals.backward_gain[signals.site(NAMES[0])])
    assert stored.history("gradscope_dead_fraction/act") == [(step, 0.1) for step in range(8)]
    assert stored.run.info.status == "FINISHED"
    assert stored.run.info.run_name == "hard"


def test_names_that_it_cannot_hold_are_mapped_in_sight(stored: Stored) -> None:
    """Every layer has a metric of its own; an artifact says which is which."""
    names = json.loads(stored.artifact("gradscope/names.json"))
    metrics = set(stored.run.data.metrics)
    for name in NAMES:
        metric = name_for(f"gradscope_forward_gain/{name}")
        assert metric in metrics
        assert names[metric] == f"gradscope_forward_gain/{name}"
    assert "gradscope_forward_gain/act" in metrics
    assert "gradscope_forward_gain/act" not in names


@pytest.mark.parametrize("name", [*NAMES, "", ".", "..", "...", "a/b", "a", "a b", "%2e", "a:b", "\x00", "🙂"])
def test_a_name_is_a_name_of_mlflow(name: str) -> None:
    """What is made of any name is allowed, short, no path to anywhere, and as it was when that is possible."""
    made = name_for(f"gradscope_forward_gain/{name}")
    start, _, rest = made.partition("/")
    assert start == "gradscope_forward_gain"
    assert re.fullmatch(r"[\w.\- ]*", rest, re.ASCII)
    assert rest not in (".", "..")
    assert len(made) <= 250
    if name in ("a", "a b"):
        assert rest == name


def test_different_names_stay_different() -> None:
    """Two long names with the same beginning do not fall together, nor does one that looks like a mapped one."""
    assert name_for("gradscope_own_gain/a_x0A_") != name_for("gradscope_own_gain/a\n")
    assert len({name_for(f"gradscope_own_gain/{LONG}{end}") for end in "abc"}) == 3


def test_the_diagnosis_is_tags_and_an_artifact(stored: Stored) -> None:
    """Verdict and findings can be searched for; all of it is Markdown among the artifacts. The command is not there."""
    diagnosis = diagnose(hard_run())
    tags = stored.run.data.tags
    assert tags["gradscope.verdict"] == diagnosis.verdict
    assert tags["gradscope.optimizer"] == "SGD(lr=0.01)"
    first = diagnosis.findings[0]
    assert tags[f"gradscope.finding.{first.rule}"] == f"{first.severity}: {first.message}"
    assert stored.artifact("gradscope/diagnosis.md").startswith("**Watch:** Loss is NaN since step 1")
    assert not any("secret" in text for text in tags.values())


def test_the_experiment_is_yours_to_name(save_run: SaveRun, tmp_path: Path) -> None:
    """`--project` names the experiment; a run without a step is there with its tags and no number."""
    command = ["export", str(save_run(empty_run())), "--to", "mlflow", "-o", str(tmp_path / "m"), "--project", "mine"]
    assert main(command) == 0
    found = Stored(tmp_path / "m", "mine")
    assert found.run.data.metrics == {}
    assert found.run.data.tags["gradscope.verdict"] == "not-enough-data"


def test_the_environment_is_left_as_it_was(save_run: SaveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What MLflow has to be told is told for the time of the export, and nothing of MLflow's lies about behind it."""
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    before, run = dict(os.environ), save_run(hard_run())
    mlflow.export(run, str(tmp_path / "mlruns"))
    assert dict(os.environ) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mlruns", "run"]


def test_a_database_needs_all_of_mlflow(save_run: SaveRun, tmp_path: Path) -> None:
    """mlflow-skinny writes into a folder only, and what is missing for a database is named."""
    run, store = save_run(hard_run()), tmp_path / "mlflow.db"
    if find_spec("sqlalchemy") and find_spec("alembic"):
        mlflow.export(run, str(store))
        found = MlflowClient(tracking_uri=f"sqlite:///{store}").search_runs(["1"])
        assert [each.data.metrics["gradscope/loss"] for each in found] == [0.25]
        return
    with pytest.raises(MissingPackage) as raised:
        mlflow.export(run, str(store))
    assert str(raised.value) == (
        f"writing to the database {store} needs all of MLflow, of which mlflow-skinny is a part. "
        "Install it with `pip install mlflow`, or give -o a folder."
    )
