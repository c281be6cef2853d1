"""A run's files stay within its disk budget: what is thinned, what is kept, and that nothing is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gradscope.records import QUANTITIES, STEP, Rows, Run, RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunReader, RunWriter, read_run
from gradscope.store.schema import SUMMARIES
from gradscope.store.segments import segments
from gradscope.store.thinning import choose

INFO = RunInfo("a", "Net", 0.0)
SMALL = 1_500_000  # bytes; some 500 steps of `recorded` fit
TEMPLATE = by_hand({"a": 1.0, "b": 1.0}, steps=1)


def recorded(step: int, norm: float = 1.0, loss: float = 1.0) -> tuple[Rows, Rows]:
    """The summaries and the row of one step; `norm` scales its gradients."""
    summaries, row = TEMPLATE.summaries.copy(), TEMPLATE.steps.copy()
    summaries["step"] = row["step"] = step
    gradients = summaries["quantity"] == QUANTITIES.index("gradient")
    summaries["sum_squares"][gradients] *= norm**2
    summaries["non_finite"][gradients] = not np.isfinite(norm)
    row["loss"], row["has_loss"], row["gradient_norm"] = loss, True, norm
    return summaries, row


def write(writer: RunWriter, step: int, norm: float = 1.0, loss: float = 1.0) -> None:
    """Writes one step, recorded in full."""
    summaries, row = recorded(step, norm, loss)
    writer.write_summaries(summaries)
    writer.write_steps(row, [[0.1]])


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def same(expected: Rows, actual: Rows) -> bool:
    """Whether rows are equal to the bit, NaN included."""
    return bool(expected.dtype == actual.dtype and expected.tobytes() == actual.tobytes())


def steps_of(run: Run) -> list[int]:
    """The steps that have summaries."""
    return [int(step) for step in np.unique(run.summaries["step"])]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run of 4,000 recorded steps in a small budget, and the most bytes that it ever had.

    Step 1,000 has the largest gradients, 1,700 the smallest, 2,300 a NaN; at 2,900 there is a warning.
    """
    folder = tmp_path_factory.mktemp("runs") / "long"
    random = np.random.default_rng(0)
    norms = np.exp(random.normal(0, 0.1, 4000))
    norms[1000], norms[1700], norms[2300] = 1e3, 1e-3, np.nan
    writer, most = RunWriter(folder, INFO, budget=SMALL), 0
    for step, norm in enumerate(norms):
        write(writer, step, norm, loss=norm)
        writer.write_event(step, "value", {"name": "accuracy", "value": 0.5})
        writer.write_event(step, "value", {"name": "validation loss", "value": 0.5})
        if step == 2900:
            writer.write_event(step, "warning", {"text": "by hand"})
        if step % 10 == 0:
            most = max(most, size(folder))
    writer.close()
    return folder, max(most, size(folder))


def test_a_run_never_exceeds_its_budget(long_run: tuple[Path, int]) -> None:
    """The files of a run together stay below the budget at every moment, and use most of it."""
    _, most = long_run
    assert SMALL // 2 < most <= SMALL


def test_the_newest_steps_are_whole(long_run: tuple[Path, int]) -> None:
    """Old steps are thinned, never the newest."""
    steps = steps_of(read_run(long_run[0]))
    assert len(steps) < 1000
    assert steps[-100:] == list(range(3900, 4000))
    assert read_run(long_run[0]).steps["step"][-100:].tolist() == list(range(3900, 4000))


def test_older_is_sparser(long_run: tuple[Path, int]) -> None:
    """What is older lies further apart; nothing is forgotten altogether."""
    steps = np.array(steps_of(read_run(long_run[0])))
    gaps = [np.median(np.diff(steps[(steps >= start) & (steps < start + 1000)])) for start in (0, 1000, 2000, 3000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 2 * gaps[3]
    assert np.diff(steps).max() < 100


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 1000, 1700, 2299, 2300, 2301, 2899, 2900, 2901])
def test_what_tells_most_is_kept(step: int, long_run: tuple[Path, int]) -> None:
    """The first steps, the extremes of each quantity and the steps around a NaN or a warning are never thinned."""
    run = read_run(long_run[0])
    expected, _ = recorded(step)
    kept = run.summaries[run.summaries["step"] == step]
    assert len(kept) == len(expected)
    assert step in run.steps["step"]


def test_kept_steps_are_what_was_written(long_run: tuple[Path, int]) -> None:
    """Thinning copies: a kept step has the bytes that it was written with."""
    run = read_run(long_run[0])
    expected, row = recorded(1000, 1e3, 1e3)
    assert same(expected, run.summaries[run.summaries["step"] == 1000])
    assert same(row, run.steps[run.steps["step"] == 1000])
    assert run.learning_rates.tolist() == [[0.1]] * len(run.steps)


def test_events_are_thinned_by_the_step(long_run: tuple[Path, int]) -> None:
    """Values logged at one step stay together; a warning is kept; the newest values are all there."""
    events = read_run(long_run[0]).events
    assert [event.step for event in events if event.kind == "warning"] == [2900]
    values = [event.data["name"] for event in events if event.kind == "value"]
    assert values.count("accuracy") == values.count("validation loss") < 4000
    assert [event.step for event in events[-40:]] == sorted(2 * list(range(3980, 4000)))


def test_every_file_of_a_thinned_run_is_an_arrow_stream(long_run: tuple[Path, int]) -> None:
    """Any tool that reads Arrow IPC streams reads the files of a thinned run; together they are the run."""
    folder, _ = long_run
    names = [each.name for each in segments(os.listdir(folder), *SUMMARIES)]
    rows = sum(pa.ipc.open_stream(folder / name).read_all().num_rows for name in names)
    assert len(names) > 3
    assert rows == len(read_run(folder).summaries)


def test_a_long_run_has_few_files(long_run: tuple[Path, int]) -> None:
    """However long the training, a run is a few dozen files."""
    names = os.listdir(long_run[0])
    assert len(names) <= 1 + 3 * 11
    assert not [name for name in names if name.endswith(".new")]


def test_a_million_steps_take_megabytes(tmp_path: Path) -> None:
    """Steps without summaries are packed: 100,000 of them take less than 100 bytes each."""
    writer = RunWriter(tmp_path, INFO)
    rows = np.zeros(10, STEP)
    random = np.random.default_rng(0)
    for first in range(0, 100_000, 10):
        rows["step"] = np.arange(first, first + 10)
        rows["time"], rows["seconds"], rows["loss"] = first, random.random(10), random.random(10)
        writer.write_steps(rows, [[0.1]] * 10)
    writer.close()
    assert size(tmp_path) < 100 * 100_000
    np.testing.assert_array_equal(read_run(tmp_path).steps["step"], np.arange(100_000))


def test_a_small_run_is_its_four_files(tmp_path: Path) -> None:
    """Until a file is full there is one of each."""
    writer = RunWriter(tmp_path, INFO)
    for step in range(20):
        write(writer, step)
    writer.close()
    assert sorted(os.listdir(tmp_path)) == ["events.jsonl", "run.json", "steps.arrow", "summaries.arrow"]


def test_a_budget_that_holds_nothing_keeps_the_newest(tmp_path: Path) -> None:
    """Where not even a dozen recorded steps fit, the files hold a dozen, the newest among them."""
    writer = RunWriter(tmp_path, INFO, budget=10_000)
    for step in range(100):
        write(writer, step)
    writer.close()
    steps = steps_of(read_run(tmp_path))
    assert len(steps) <= 12
    assert steps[-1] == 99


def test_choosing_keeps_what_is_special_and_spreads_the_rest() -> None:
    """Special pieces have half of the room, the most important first; the rest is spread evenly over the steps."""
    steps, sizes = np.arange(100), np.full(100, 10)
    kept = choose(steps, sizes, special=[50, 51, 52, 53, 54, 55], room=100).nonzero()[0]
    assert {50, 51, 52, 53, 54} <= set(kept.tolist())
    assert len(kept) == 10
    others = np.array([index for index in kept if not 50 <= index <= 54])
    assert (others[0], others[-1]) == (0, 99)


@pytest.mark.parametrize("room", [0, 9, 10, 55, 1000])
def test_choosing_never_takes_more_than_there_is_room_for(room: int) -> None:
    """What is kept fits, but for a single piece that fits nowhere."""
    sizes = np.random.default_rng(0).integers(1, 20, 60)
    kept = choose(np.arange(60), sizes, special=[3, 7, 7], room=room)
    assert kept.any()
    assert sizes[kept].sum() <= room or kept.sum() == 1


# whoever reads or dies in between

_FOLLOWER = """
import sys
import numpy as np
from gradscope.store import RunReader
reader, reads, newest = RunReader(sys.argv[1]), 0, -1
while newest < int(sys.argv[2]):
    run = reader.read()
    steps = np.unique(run.summaries["step"])
    assert len(run.summaries) == len(steps) * int(sys.argv[3])
    assert (np.diff(run.summaries["step"]) >= 0).all() and (np.diff(run.steps["step"]) > 0).all()
    if len(steps):
        assert steps[-1] >= newest
        newest = steps[-1]
    reads += 1
    if reads == 1:
        print("ready", flush=True)
print(reads, len(steps))
"""


def test_a_reader_follows_a_run_that_is_thinned(tmp_path: Path) -> None:
    """A reader in another process sees every row once and in order, while files are merged under its hands."""
    writer = RunWriter(tmp_path, INFO, budget=SMALL)
    command = [sys.executable, "-c", _FOLLOWER, str(tmp_path), "1499", str(len(TEMPLATE.summaries))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "ready\n"
        for step in range(1500):
            write(writer, step)
        writer.close()
        said, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert int(said.split()[0]) > 1
    assert int(said.split()[1]) == len(steps_of(read_run(tmp_path)))


def test_a_reader_that_follows_holds_what_a_new_one_reads(tmp_path: Path) -> None:
    """Read after every step, a run that is thinned is the same as read once."""
    writer = RunWriter(tmp_path, INFO, budget=SMALL)
    reader = RunReader(tmp_path)
    for step in range(700):
        write(writer, step, norm=1.0 + step % 7)
        run = reader.read()
        assert run.steps["step"][-1] == step
        if step % 50 == 0:
            fresh = read_run(tmp_path)
            assert same(fresh.summaries, run.summaries)
            assert same(fresh.steps, run.steps)
    writer.close()


def test_what_a_reader_gave_stays_as_it_was(tmp_path: Path) -> None:
    """A run that was read does not change when the reader reads on, thinned or grown."""
    writer = RunWriter(tmp_path, INFO, budget=SMALL)
    reader = RunReader(tmp_path)
    given = []
    for step in range(700):
        write(writer, step)
        run = reader.read()
        if step % 50 == 0:
            given.append((run, run.summaries.copy(), run.steps.copy()))
    writer.close()
    for run, summaries, steps in given:
        assert same(summaries, run.summaries)
        assert same(steps, run.steps)


def _train_until_killed(folder: Path, operations: int, tell: int) -> None:
    """Writes steps and says each; dies by SIGKILL before that many operations on files in the folder."""

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal operations
        if event in ("open", "os.rename", "os.remove", "os.listdir") and str(folder) in str(arguments[0]):
            operations -= 1
            if operations == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    writer = RunWriter(folder, INFO, budget=SMALL)
    for step in range(2000):
        write(writer, step)
        os.write(tell, b"%d\n" % step)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("operations", range(330, 350))
def test_a_kill_in_the_middle_of_a_merge_loses_nothing(operations: int, tmp_path: Path) -> None:
    """Killed before any of its file operations, a run holds each row once, the newest whole, and can be resumed."""
    listen, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _train_until_killed(tmp_path, operations, tell)
        finally:
            os._exit(1)
    os.close(tell)
    with os.fdopen(listen) as said:
        last = int(said.read().split()[-1])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    run = read_run(tmp_path)
    assert len(run.summaries) == len(steps_of(run)) * len(TEMPLATE.summaries)
    assert steps_of(run)[-1] in (last, last + 1)
    newest = int(run.steps["step"][-1])
    assert newest in (last, last + 1)
    assert run.steps["step"][-10:].tolist() == list(range(newest - 9, newest + 1))
    assert (np.diff(run.steps["step"]) > 0).all()
    writer = RunWriter(tmp_path, INFO, resume=True, budget=SMALL)
    write(writer, last + 2)
    writer.close()
    assert not list(tmp_path.glob("*.new"))
    resumed = read_run(tmp_path)
    assert resumed.steps["step"][-11:].tolist() == [*run.steps["step"][-10:].tolist(), last + 2]
    assert size(tmp_path) <= SMALL
