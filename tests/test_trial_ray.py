"""The same trials on Ray: a local one that the trial starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gradscope.errors import MissingPackage
from gradscope.trials import ray_pool
from gradscope.trials.experiment import Options
from gradscope.trials.start import try_program
from tests.test_trial_runs import LINEAR


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_trial_runs_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script and what lies beside it travel to the tasks; the results, the logs and the first run come back."""
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rate.py").write_text("RATE = 1.9")
    (tmp_path / "train.py").write_text("from rate import RATE\n" + LINEAR.format(rate="RATE", steps=30, before="pass"))
    options = Options(steps=12, seeds=1, remedies=("lower-learning-rate",), jobs=2, on="ray")
    report = try_program(["train.py"], options, progress=False)
    assert (report.done, report.planned) == (4, 4)
    assert report.outcomes[0].sentence.startswith("sickness gone in 1 of 1; loss after 12 steps ")
    folder = report.run / "trials" / "1"
    assert (report.run / "run.json").exists()
    assert "gradscope: recording to" in (folder / "no-change-seed0.log").read_text()


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is an extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r"--on ray needs Ray, .* `pip install 'torch-gradscope\[ray\]'`"):
        ray_pool._ray()
