"""Runs that do not fit into memory: some recorded steps are read whole, all of them are looked at."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gradscope.records import SUMMARY_ROW, Rows, Run
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store import RunReader, RunWriter, read_run
from gradscope.store.excerpt import EXCERPT_ROW, LOOK_ROW
from tests.conftest import write_run

SPIKE, BROKEN, STEPS = 37, 90, 120
SMALL = 12 * 27 * EXCERPT_ROW.itemsize  # bytes: room for a dozen steps of `sick`


def sick(steps: int = STEPS) -> Run:
    """Nine layers: one leaps at one step, all are NaN in the end."""
    gain = {f"l{i}": [1.0] * steps for i in range(9)}
    gain["l4"][SPIKE] = 1e7
    for layer in gain.values():
        layer[BROKEN:] = [float("nan")] * (steps - BROKEN)
    kinds = {f"l{i}": "ReLU" for i in range(1, 9, 2)}
    loss = [1.0] * BROKEN + [float("nan")] * (steps - BROKEN)
    return by_hand(gain, kinds=kinds, loss=loss, steps=steps)


def of_step(run: Run, step: int) -> Rows:
    """The rows of one recorded step."""
    return run.summaries[run.summaries["step"] == step]


class Looks:
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, run: Run) -> tuple[int, ...]:
        found = tuple(np.unique(run.summaries["step"]).tolist())
        self.steps += found
        return found


def test_a_run_that_fits_is_read_whole(tmp_path: Path) -> None:
    """With memory to spare nothing is left out."""
    folder = write_run(sick(), tmp_path / "run")
    reader = RunReader(folder, memory=2**24)
    assert reader.read().summaries.tobytes() == read_run(folder).summaries.tobytes()
    assert reader.excerpt is None


def test_an_excerpt_keeps_to_its_memory_and_to_the_truth(tmp_path: Path) -> None:
    """The rows that are read are those on disk, whole recorded steps, no more than fit."""
    folder = write_run(sick(), tmp_path / "run")
    run, whole = RunReader(folder, memory=SMALL).read(), read_run(folder)
    assert 0 < run.summaries.nbytes <= SMALL
    for step in np.unique(run.summaries["step"]):
        for name in SUMMARY_ROW.names or ():
            np.testing.assert_array_equal(of_step(run, step)[name], of_step(whole, step)[name])
    assert run.steps.tobytes() == whole.steps.tobytes()


def test_an_excerpt_has_the_steps_that_tell_most(tmp_path: Path) -> None:
    """The first steps, the spike of a single layer at a single step, the step where NaN begins, and the newest."""
    run = RunReader(write_run(sick(), tmp_path / "run"), memory=SMALL).read()
    assert {0, 1, 2, SPIKE, BROKEN, STEPS - 1} <= set(Signals(run).steps.tolist())


def test_every_recorded_step_is_looked_at_once(tmp_path: Path) -> None:
    """While a run grows each of its steps is looked at once, with the columns that tell where something happened."""
    run, looks = sick(), Looks()
    writer = RunWriter(tmp_path / "run", run.info)
    for step in range(60):
        writer.write_summaries(of_step(run, step))
    reader = RunReader(tmp_path / "run", memory=SMALL, look=looks)
    reader.read()
    for step in range(60, STEPS):
        writer.write_summaries(of_step(run, step))
        assert reader.read().summaries["step"][-1] == step
    assert looks.steps == list(range(STEPS))
    assert reader.excerpt is not None
    assert [step for look in reader.excerpt.looks for step in look] == looks.steps  # type: ignore[attr-defined]
    writer.close()


def test_a_look_sees_where_something_happened(tmp_path: Path) -> None:
    """What is looked at is enough for the signals of the map, and the same as in the whole run."""
    folder, seen = write_run(sick(), tmp_path / "run"), []

    def look(run: Run) -> None:
        seen.append(run.summaries.dtype)
        np.testing.assert_array_equal(Signals(run).backward_gain, Signals(read_run(folder)).backward_gain)

    RunReader(folder, memory=SMALL, look=look).read()
    assert seen == [LOOK_ROW]


def test_the_same_steps_stay_while_a_run_grows(tmp_path: Path) -> None:
    """A growing run costs the reading of its new steps, not of others: at most three steps come in for each new one."""
    run = by_hand({f"l{i}": 1.0 for i in range(9)}, steps=STEPS)
    writer = RunWriter(tmp_path / "run", run.info)
    reader, before, fresh = RunReader(tmp_path / "run", memory=SMALL), set(), []
    for step in range(STEPS):
        writer.write_summaries(of_step(run, step))
        kept = set(np.unique(reader.read().summaries["step"]).tolist())
        fresh.append(len(kept - before))
        before = kept
    writer.close()
    assert np.mean(fresh) < 1.5
    assert step in kept


def test_work_is_bounded_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little time a part is looked at, the newest first; further reads go on until nothing is left."""
    monkeypatch.setattr("gradscope.store.excerpt._ROWS_AT_ONCE", 100)
    reader = RunReader(write_run(sick(), tmp_path / "run"), memory=SMALL, look=Looks())
    counts, left = [], []
    while not left or left[-1]:
        reader.read(seconds=0)
        assert reader.excerpt is not None
        counts.append(len(reader.excerpt.steps))
        left.append(reader.excerpt.left)
    assert counts == sorted(counts)
    assert counts[-1] == STEPS
    assert len(counts) > 10


def test_an_excerpt_follows_thinning(tmp_path: Path) -> None:
    """What the writer merges and drops while it is read is looked at as it is on disk."""
    run = by_hand({f"l{i}": 1.0 for i in range(9)}, steps=400)
    random = np.random.default_rng(0)
    run.summaries["sum"] = random.normal(size=len(run.summaries))  # so that it does not pack
    writer = RunWriter(tmp_path / "run", run.info, budget=400_000)
    reader = RunReader(tmp_path / "run", memory=SMALL, look=Looks())
    for step in range(400):
        writer.write_summaries(of_step(run, step))
        if step % 7 == 0:
            reader.read()
    writer.close()
    got, whole = reader.read(), read_run(tmp_path / "run")
    assert reader.excerpt is not None
    assert len(np.unique(whole.summaries["step"])) < 400
    np.testing.assert_array_equal(reader.excerpt.steps, np.unique(whole.summaries["step"]))
    for step in np.unique(got.summaries["step"]):
        np.testing.assert_array_equal(of_step(got, step)["sum"], of_step(whole, step)["sum"])


@pytest.mark.parametrize("lost", [1, 100, 3000])
def test_a_cut_end_costs_what_is_cut(lost: int, tmp_path: Path) -> None:
    """A file that ends in the middle of a record is read up to there, and on when the rest has come."""
    folder = write_run(sick(), tmp_path / "run")
    content = (folder / "summaries.arrow").read_bytes()
    (folder / "summaries.arrow").write_bytes(content[:-lost])
    reader = RunReader(folder, memory=SMALL)
    before = reader.read().summaries["step"].max()
    (folder / "summaries.arrow").write_bytes(content)
    assert STEPS - 4 < before < STEPS
    assert reader.read().summaries["step"].max() == STEPS - 1


def test_a_damaged_record_costs_itself(tmp_path: Path) -> None:
    """A flipped byte loses one recorded step, not the others."""
    folder = write_run(sick(), tmp_path / "run")
    content = bytearray((folder / "summaries.arrow").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "summaries.arrow").write_bytes(content)
    reader = RunReader(folder, memory=SMALL)
    reader.read()
    assert reader.excerpt is not None
    assert len(reader.excerpt.steps) == STEPS - 1


def test_new_sites_are_looked_at_anew(tmp_path: Path) -> None:
    """When the run's description changes, what depends on it is made again."""
    run, looks = sick(), Looks()
    writer = RunWriter(tmp_path / "run", run.info)
    writer.write_summaries(run.summaries[run.summaries["step"] < 2])
    for step in range(2, 60):
        writer.write_summaries(of_step(run, step))
    reader = RunReader(tmp_path / "run", memory=SMALL, look=looks)
    reader.read()
    writer.write_info(by_hand({f"m{i}": 1.0 for i in range(9)}).info)
    reader.read()
    reader.read()
    writer.close()
    assert looks.steps[-1] == 59
    assert len(looks.steps) > 60


_OPENED: list[tuple[str, int]] = []
_LISTENING: list[bool] = []


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _LISTENING and event == "open" and isinstance(arguments[2], int):
        _OPENED.append((str(arguments[0]), arguments[2]))
    elif _LISTENING and event.startswith("fcntl."):
        _OPENED.append((event, os.O_RDWR))


@pytest.fixture
def opened() -> Iterator[list[tuple[str, int]]]:
    """Every file that is opened, with its flags, and every lock that is taken."""
    sys.addaudithook(_listen)
    _OPENED.clear()
    _LISTENING.append(True)
    yield _OPENED
    _LISTENING.clear()


def test_a_reader_never_stands_in_the_writers_way(tmp_path: Path, opened: list[tuple[str, int]]) -> None:
    """[30] What follows a run opens its files for reading only and locks nothing: the training cannot feel it."""
    _LISTENING.clear()
    folder = write_run(sick(), tmp_path / "run")
    _LISTENING.append(True)
    reader = RunReader(folder, memory=SMALL)
    reader.read()
    RunReader(folder).read()
    assert any(path.endswith("summaries.arrow") for path, _ in opened)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    assert [path for path, flags in opened if flags & writing] == []


def test_a_run_becomes_large_while_it_is_followed(tmp_path: Path) -> None:
    """A run that turns out to be large while it is followed is an excerpt from then on."""
    run = sick()
    writer = RunWriter(tmp_path / "run", run.info)
    reader = RunReader(tmp_path / "run", memory=SMALL)
    assert len(reader.read().summaries) == 0
    kinds = []
    for step in range(40):
        writer.write_summaries(of_step(run, step))
        kinds.append(reader.read().summaries.dtype == EXCERPT_ROW)
    writer.close()
    assert kinds == sorted(kinds)
    assert (kinds[0], kinds[-1]) == (False, True)
