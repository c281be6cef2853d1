"""A run that is larger than memory: the map shows all of it, and says so; everything stays quick and small."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dash._utils import to_json

from gradscope.dashboard.address import parse
from gradscope.dashboard.figures.map import map_data
from gradscope.dashboard.followed import Snapshot
from gradscope.dashboard.history import ExcerptSignals
from gradscope.dashboard.live import refresh
from gradscope.dashboard.pages import PAGES
from gradscope.dashboard.runs import Runs
from gradscope.reports.cells import NON_FINITE, NOT_RECORDED
from gradscope.reports.layer_map import MapData
from gradscope.reports.metrics import METRICS
from gradscope.signals import Signals
from gradscope.store import read_run
from tests.dashboard.big import Size, begin, steps, summaries, write_big

GAIN = METRICS["backward-gain"]
SMALL = Size(layers=60, steps=5_000, kept=150)
LARGE = Size(kept=14)  # as many layers and steps as they come, with few of the steps recorded


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradscope.dashboard.followed.MEMORY", 1_500_000)  # a dozen steps of SMALL
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    return write_big(tmp_path_factory.mktemp("small") / "big", SMALL)


@pytest.fixture(scope="module")
def snapshot(small: Path) -> Snapshot:
    """The same as the page has it."""
    return Runs(small).get("big")


def column(data: MapData, step: int) -> int:
    """Which column shows a step."""
    return int(np.searchsorted(data.steps, step, side="right")) - 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_the_map_of_an_excerpt_is_that_of_the_whole_run(small: Path, snapshot: Snapshot, metric: object) -> None:
    """Though a tenth of the steps is read whole, each cell is as it would be if all were."""
    assert isinstance(snapshot.signals, ExcerptSignals)
    assert len(snapshot.signals.steps) < SMALL.kept // 5
    part = map_data(snapshot.signals, metric)  # type: ignore[arg-type]
    whole = map_data(Signals(read_run(small)), metric)  # type: ignore[arg-type]
    assert (part.rows, part.per_column, part.every_step) == (whole.rows, whole.per_column, whole.every_step)
    np.testing.assert_array_equal(part.steps, whole.steps)
    np.testing.assert_array_equal(part.states, whole.states)
    np.testing.assert_array_equal(part.decades, whole.decades)


def test_no_event_is_averaged_away(snapshot: Snapshot) -> None:
    """One layer that leaps at one recorded step, an area that vanishes, NaN in the end: all are on the map."""
    data, planted = map_data(snapshot.signals, GAIN), SMALL.planted
    spike = data.decades[planted.spike_layer, column(data, planted.spike_step)]
    assert spike > 5
    middle = column(data, sum(planted.vanishing_steps) // 2)
    assert (data.decades[: planted.vanishing_layers[1], middle] < -7).all()
    assert (np.abs(data.decades[planted.vanishing_layers[1] :, middle]) < 1).all()
    assert (data.states[:, -1] == NON_FINITE).all()
    assert (data.states[:, column(data, planted.broken_from) - 2] != NON_FINITE).all()


def test_the_page_says_what_it_did_not_read(snapshot: Snapshot) -> None:
    """What the diagnosis is not from is among what was not observed, in words."""
    said = [missing for missing in snapshot.diagnosis.not_observed if "recorded steps" in missing.what]
    assert snapshot.is_excerpt
    assert len(said) == 1
    assert said[0].what.endswith(f"of {len(SMALL.recorded)} recorded steps, for the diagnosis")
    assert "the map shows all of them" in said[0].why


def test_a_comparison_says_what_it_did_not_read(small: Path, snapshot: Snapshot) -> None:
    """Two runs are compared by what was read of them: of how many steps that is, stands above the verdicts."""
    shutil.copytree(small, small.parent / "other", dirs_exist_ok=True)
    runs = Runs(small.parent)
    outputs = refresh(PAGES["compare"], runs, parse("/compare", "?a=big&b=other"), "light", None)
    read, every = len(snapshot.signals.steps), len(SMALL.recorded)
    said = to_json(outputs["missing"])
    for letter in "AB":
        assert f"{letter} is judged from an excerpt, {read} of its {every} recorded steps" in said


def test_the_diagnosis_has_seen_what_happened(snapshot: Snapshot) -> None:
    """The steps that are read whole are enough to say what broke the run, and when."""
    assert snapshot.diagnosis.verdict == "broken"
    assert snapshot.diagnosis.findings[0].first_step == SMALL.planted.broken_from


def test_a_large_run_is_looked_at_in_rounds(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is much to look at, each round is short, and the version changes until all is seen."""
    monkeypatch.setattr("gradscope.dashboard.followed.FIRST_SECONDS", 0)
    monkeypatch.setattr("gradscope.dashboard.followed.SECONDS", 0)
    monkeypatch.setattr("gradscope.store.excerpt._ROWS_AT_ONCE", 3_000)
    runs = Runs(small)
    versions, left = [runs.stamp("big").version], [1]
    while left[-1]:
        left.append(runs.get("big").left)
        versions.append(runs.stamp("big").version)
    assert len(set(versions)) == len(versions)
    assert len(left) > 5
    assert not (map_data(runs.get("big").signals, GAIN).states == NOT_RECORDED).any()
    assert runs.get("big") is runs.get("big")
    assert runs.stamp("big").version == versions[-1]


def test_what_is_new_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A growing run costs the look at its new steps only."""
    size, seen = Size(layers=60, steps=500, kept=100), []
    writer = begin(tmp_path / "big", size)
    for rows in summaries(size):
        writer.write_summaries(rows)
    runs = Runs(tmp_path / "big")
    runs.get("big")
    cells_of = Signals.__init__

    def count(signals: Signals, run: object) -> None:
        cells_of(signals, run)  # type: ignore[arg-type]
        seen.append(len(signals.steps))

    monkeypatch.setattr(Signals, "__init__", count)
    step = steps(size)[:1]
    step["step"] = rows["step"] = size.steps
    writer.write_summaries(rows)
    writer.write_steps(step, [[1e-3]])
    assert runs.get("big").newest_step == size.steps
    assert seen[0] == 1
    assert len(seen) == 2  # the look, and the signals of the excerpt
    writer.close()


def test_3000_layers_and_100000_steps_are_quick_and_small(tmp_path: Path) -> None:
    """[23] Opening, drawing and the payload of the largest run; the whole of it is a row of `make bench`."""
    runs, address = Runs(write_big(tmp_path / "big", LARGE)), parse("/run/big", "")
    started = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradscope.dashboard.followed.MEMORY", 32 * 2**20)
        drawn = refresh(PAGES["overview"], runs, address, "light", None)
    opened = time.process_time() - started
    started = time.process_time()
    again = refresh(PAGES["overview"], runs, address, "light", None)
    seconds = time.process_time() - started
    assert drawn["problem"] == again["problem"] == []
    assert runs.get("big").is_excerpt
    assert sum(len(to_json(value)) for value in drawn.values()) < 1_000_000  # type: ignore[no-untyped-call]
    assert opened < 5
    assert seconds < 1
    data = map_data(runs.get("big").signals, GAIN)
    assert len(data.rows) == 300
    row = LARGE.planted.spike_layer // 10
    assert data.decades[row, column(data, LARGE.planted.spike_step)] > 5
