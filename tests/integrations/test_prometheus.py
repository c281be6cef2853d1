"""A run in Prometheus' text format, read back with Prometheus' own parser."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.integrations import prometheus, recorded
from gradscope.signals import Signals
from gradscope.store import RunWriter
from tests.conftest import SaveRun
from tests.exported import NAMES, empty_run, hard_run

Samples = dict[str, list[tuple[dict[str, str], float]]]


def parse(text: str) -> Samples:
    """The samples by name, each with its labels but the run's."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert sample.labels.pop("run") == "hard"
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def samples(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> Samples:
    """The hard run as Prometheus sees it."""
    assert main(["export", str(save_run(hard_run())), "--to", "prometheus"]) == 0
    return parse(capsys.readouterr().out)


def test_the_newest_numbers_are_there(samples: Samples) -> None:
    """Of each series Prometheus gets the last value; parameter groups, layers and parameters are labels."""
    signals = Signals(hard_run())
    assert samples["gradscope_loss"] == [({}, 0.25)]
    assert samples["gradscope_step"] == [({}, 7.0)]
    assert samples["gradscope_learning_rate"] == [({"group": "0"}, 0.01), ({"group": "1"}, 0.01)]
    assert samples["gradscope_value"] == [({"name": 'val "loss"\n'}, 0.75)]
    gains = {labels["layer"]: value for labels, value in samples["gradscope_backward_gain"]}
    assert gains == {name: signals.backward_gain[signals.site(name), -1] for name in (*NAMES, "act", "head")}
    assert ({"parameter": "head.weight"}, pytest.approx(1e-3)) in samples["gradscope_update_ratio"]


def test_the_verdict_is_a_state_set(samples: Samples) -> None:
    """Of all verdicts the one that holds is 1; findings are counted by severity, and each says since when."""
    diagnosis = diagnose(hard_run())
    verdicts = {labels["verdict"]: value for labels, value in samples["gradscope_verdict"]}
    assert verdicts == dict.fromkeys(("healthy", "watch", "unhealthy", "broken", "not-enough-data"), 0.0) | {
        diagnosis.verdict: 1.0
    }
    counts = {labels["severity"]: value for labels, value in samples["gradscope_findings"]}
    severities = [finding.severity for finding in diagnosis.findings]
    assert counts == {name: float(severities.count(name)) for name in ("note", "warning", "error")}
    since = [(labels["rule"], value) for labels, value in samples["gradscope_finding_since"]]
    assert since == [(finding.rule, float(finding.first_step)) for finding in diagnosis.findings]


def test_nan_and_inf_are_numbers_of_prometheus(save_run: SaveRun) -> None:
    """A loss that is NaN now is NaN there, not absent and not 0."""
    run = hard_run()
    run.steps["loss"][-1] = np.nan
    ((_, loss),) = parse(prometheus.text(save_run(run)))["gradscope_loss"]
    assert np.isnan(loss)


def test_a_run_without_a_step_says_what_it_is(save_run: SaveRun) -> None:
    """There is a verdict, not-enough-data, and no number that was made up."""
    found = parse(prometheus.text(save_run(empty_run())))
    assert ({"verdict": "not-enough-data"}, 1.0) in found["gradscope_verdict"]
    assert set(found) == {"gradscope_verdict", "gradscope_findings", "gradscope_run_info"}


def test_a_textfile_is_written_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--follow` the file has the newest loss while the training runs, and is whole at every moment."""
    monkeypatch.setattr(recorded, "POLL", 0.02)
    monkeypatch.setattr(prometheus, "EVERY", 0.0)
    run, folder, file = hard_run(), tmp_path / "run", tmp_path / "node" / "gradscope.prom"
    going = replace(run.info, state="recording", process=os.getpid())
    writer = RunWriter(folder, going)
    command = ["export", str(folder), "--to", "prometheus", "-o", str(file), "--follow"]
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(command)))
    thread.start()
    for step in (0, 5, 6):
        writer.write_summaries(run.summaries[run.summaries["step"] == step])
        writer.write_steps(run.steps[step : step + 1], [[0.01]])
        until, loss = time.monotonic() + 30, float(run.steps["loss"][step])
        while time.monotonic() < until:
            if file.exists() and parse(file.read_text())["gradscope_loss"] == [({}, loss)]:
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"the loss of step {step} did not come")
    writer.write_info(replace(going, state="ended"))
    writer.close()
    thread.join(30)
    assert codes == [0]
    assert ({"model": "Sequential", "device": "cpu", "state": "ended"}, 1.0) in parse(file.read_text())[
        "gradscope_run_info"
    ]
    assert [each.name for each in file.parent.iterdir()] == ["gradscope.prom"]
