"""Run <-> disk: what is written is read, whatever happened to the file in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradscope.errors import NotARun, RunExists, RunNotFound, RunNotWritable, UnsupportedSchema
from gradscope.records import Event, NotObserved, OptimizerInfo, Rows, Run, RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunReader, RunWriter, list_runs, read_run, resolve_run
from gradscope.store.messages import Encoder
from gradscope.store.schema import STEP_SCHEMA, step_batch
from gradscope.store.single_steps import SingleSteps
from tests.conftest import SaveRun, write_run

FILES = ("steps.arrow", "summaries.arrow", "events.jsonl")
MINIMAL = RunInfo("a", "Net", 0.0)


def _assert_same_rows(expected: Rows, actual: Rows) -> None:
    assert expected.dtype == actual.dtype
    for name in expected.dtype.names or ():  # one by one: NaN equals NaN only in a plain array
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def _assert_same(expected: Run, actual: Run) -> None:
    assert expected.info == actual.info
    np.testing.assert_array_equal(actual.learning_rates, expected.learning_rates)
    _assert_same_rows(expected.steps, actual.steps)
    _assert_same_rows(expected.summaries, actual.summaries)
    assert [(e.step, e.kind, e.data) for e in expected.events] == [(e.step, e.kind, e.data) for e in actual.events]


# round trips


def test_a_run_comes_back_as_it_was_written(save_run: SaveRun) -> None:
    """Reading gives every number, every site and every event that was written, NaN and Inf included."""
    nan, inf = float("nan"), float("inf")
    run = by_hand({"a": [1e-9, 0.0, nan, inf], "b": 0.5, "c": 1.0}, loss=[2.3, nan, inf, -inf], steps=4)
    run = Run(run.info, run.steps, run.learning_rates, run.summaries, (Event(1, 0.0, "value", {"accuracy": 0.5}),))
    _assert_same(run, read_run(save_run(run)))


def test_everything_that_does_not_grow_comes_back(tmp_path: Path) -> None:
    """`run.json` gives back the whole `RunInfo`."""
    info = RunInfo(
        "a",
        "Net",
        1.5,
        versions={"torch": "2.13.0"},
        optimizers=(OptimizerInfo("Adam", {"lr": 0.1}),),
        settings={"every": "auto", "overhead": 0.03, "exact": False},
        not_observed=(NotObserved("emb", "integers"),),
        state="ended",
        ended=2.5,
    )
    RunWriter(tmp_path / "run", info).close()
    assert read_run(tmp_path / "run").info == info


def test_steps_may_have_different_numbers_of_learning_rates(tmp_path: Path) -> None:
    """A parameter group that was added later is NaN before."""
    steps = by_hand({"a": 1.0}, steps=2).steps
    writer = RunWriter(tmp_path, MINIMAL)
    writer.write_steps(steps, [[0.1], [0.1, 0.2]])
    writer.close()
    np.testing.assert_array_equal(read_run(tmp_path).learning_rates, [[0.1, np.nan], [0.1, 0.2]])


def test_a_run_without_steps_is_a_run(tmp_path: Path) -> None:
    """A run that has only begun reads as no rows."""
    writer = RunWriter(tmp_path, MINIMAL)
    run = read_run(tmp_path)
    assert (len(run.steps), len(run.summaries), run.events) == (0, 0, ())
    writer.close()


def test_info_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Writing the info again replaces it and leaves no other file behind."""
    writer = RunWriter(tmp_path, MINIMAL)
    writer.write_info(RunInfo("a", "Net", 0.0, state="ended"))
    writer.close()
    assert read_run(tmp_path).info.state == "ended"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*FILES, "run.json"])


def test_unknown_keys_of_run_json_are_ignored(save_run: SaveRun) -> None:
    """A run with facts that this version does not know can be read."""
    folder = save_run()
    _edit(folder, from_the_future=1)
    assert read_run(folder).info.model == "Sequential"


# a run that grows

_FOLLOWER = """
import sys
from pathlib import Path
from gradscope.store.messages import Encoder
from gradscope.store.schema import STEP_SCHEMA, step_batch
from gradscope.store.single_steps import SingleSteps
from gradscope.store import RunReader
reader = RunReader(Path(sys.argv[1]))
for line in sys.stdin:
    run = reader.read()
    print(len(run.steps), len(run.summaries), len(run.events), run.info.state, flush=True)
"""


def test_a_reader_in_another_process_follows_a_growing_run(tmp_path: Path) -> None:
    """Each read in another process gives what has been written until then, while the writer has the run open."""
    run = by_hand({"a": 1.0, "b": 1.0}, steps=3)
    writer = RunWriter(tmp_path, MINIMAL)
    command = [sys.executable, "-c", _FOLLOWER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdin is not None
        assert follower.stdout is not None

        def seen() -> str:
            assert follower.stdin is not None
            assert follower.stdout is not None
            follower.stdin.write("\n")
            follower.stdin.flush()
            return follower.stdout.readline().strip()

        rows = len(run.summaries) // 3
        assert seen() == "0 0 0 recording"
        for step in range(3):
            writer.write_summaries(run.summaries[run.summaries["step"] == step])
            writer.write_steps(run.steps[step : step + 1], [[0.1]])
            writer.write_event(step, "value", {})
            assert seen() == f"{step + 1} {(step + 1) * rows} {step + 1} recording"
        writer.write_info(RunInfo("a", "Net", 0.0, state="ended"))
        writer.close()
        assert seen() == f"3 {3 * rows} 3 ended"
        follower.stdin.close()


def _write_noting_sizes(folder: Path) -> tuple[Run, dict[str, list[int]]]:
    """Writes eight batches; for each file the size after each of them, so that oracle and reader can be compared."""
    run = by_hand({"a": [1e-9, float("nan"), *[1.0] * 6], "b": 0.5})
    writer = RunWriter(folder, run.info)
    sizes: dict[str, list[int]] = {name: [] for name in FILES}
    for step in range(8):
        writer.write_summaries(run.summaries[run.summaries["step"] == step])
        writer.write_steps(run.steps[step : step + 1], [[0.01]])
        writer.write_event(step, "value", {"number": step})
        for name in FILES:
            sizes[name].append((folder / name).stat().st_size)
    writer.close()
    return run, sizes


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_batch(name: str, tmp_path: Path) -> None:
    """Cut at any of 200 random bytes, a file gives every batch that was whole and nothing of the rest; the reader that
    saw the cut file goes on when the missing bytes arrive.
    """
    whole, sizes = _write_noting_sizes(tmp_path / "whole")
    content = (tmp_path / "whole" / name).read_bytes()
    cut_folder = shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    cuts = np.random.default_rng(0).integers(0, len(content), 200)
    for cut in sorted({0, *map(int, cuts), *sizes[name], len(content) - 1}):
        (cut_folder / name).write_bytes(content[:cut])
        reader = RunReader(cut_folder)
        expected = sum(size <= cut for size in sizes[name])
        run = reader.read()
        got = {
            "steps.arrow": run.steps,
            "summaries.arrow": np.unique(run.summaries["step"]),
            "events.jsonl": run.events,
        }
        assert len(got[name]) == expected, f"cut at byte {cut}"
        _assert_same_rows(whole.steps[: len(run.steps)], run.steps)
        _assert_same_rows(whole.summaries[: len(run.summaries)], run.summaries)
        (cut_folder / name).write_bytes(content)
        grown = reader.read()
        assert (len(grown.steps), len(grown.summaries), len(grown.events)) == (8, len(whole.summaries), 8)


def test_a_damaged_event_costs_only_itself(save_run: SaveRun) -> None:
    """A line of `events.jsonl` that is no event is left out; those around it stay."""
    folder = save_run()
    good = b'{"step": 1, "time": 0.0, "kind": "value", "data": {}}\n'
    (folder / "events.jsonl").write_bytes(good + b"{broken\n[1]\n{}\n" + good)
    assert len(read_run(folder).events) == 2


@pytest.mark.parametrize("name", FILES)
def test_a_missing_column_file_is_an_empty_one(name: str, save_run: SaveRun) -> None:
    """A run that was copied without one of its files is read with what there is."""
    folder = save_run()
    (folder / name).unlink()
    assert read_run(folder).info.model == "Sequential"


def test_what_follows_a_whole_batch_does_not_hide_it(save_run: SaveRun) -> None:
    """Bytes that are no batch, after whole ones, end the reading without an error."""
    folder = save_run()
    whole = len(read_run(folder).summaries)
    for garbage in (b"\0" * 100, os.urandom(1000), b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 4):
        with (folder / "summaries.arrow").open("ab") as stream:
            stream.write(garbage)
        assert len(read_run(folder).summaries) == whole


# what cannot be read


def _edit(folder: Path, **changes: Any) -> None:
    file = folder / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """A folder that does not exist is RunNotFound, and its text says where runs are."""
    with pytest.raises(RunNotFound) as error:
        read_run(tmp_path / "none")
    assert str(error.value) == (
        f"no run at {tmp_path}/none: there is no such folder. `gradscope.watch` prints where it records."
    )
    with pytest.raises(RunNotFound, match=r"no run at .*/none: there is no such folder\. Runs are in `runs/` unless"):
        resolve_run(tmp_path / "none")


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    """A folder without run.json is NotARun."""
    with pytest.raises(NotARun) as error:
        read_run(tmp_path)
    assert str(error.value) == f"{tmp_path} is not a GradScope run: it has no run.json."
    with pytest.raises(NotARun) as error:
        resolve_run(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is neither a GradScope run (it has no run.json) nor a folder that holds one. Name either."
    )


def test_a_file_is_no_run(tmp_path: Path) -> None:
    """A path that leads to a file is NotARun too."""
    file = tmp_path / "train.py"
    file.write_text("")
    with pytest.raises(NotARun, match=r"train\.py is neither a GradScope run"):
        resolve_run(file)
    with pytest.raises(NotARun, match=r"train\.py is not a GradScope run"):
        read_run(file)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_schema_version_is_refused(version: int, save_run: SaveRun) -> None:
    """A run of another schema version is not guessed at; the text says which version can read it."""
    folder = save_run()
    _edit(folder, schema_version=version)
    with pytest.raises(UnsupportedSchema) as error:
        read_run(folder)
    assert str(error.value) == (
        f"{folder} was written with schema version {version}; this GradScope reads version 1. "
        "Read it with the version of GradScope that wrote it (see `versions` in its run.json)."
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"schema_version": 1}', b"\xff\xfe", b'{"schema_version": 1, "sites": [3]}'],
)
def test_a_damaged_run_json_is_said(content: bytes, save_run: SaveRun) -> None:
    """A run.json that is cut, empty or no description of a run is NotARun, never a traceback of the parser."""
    folder = save_run()
    (folder / "run.json").write_bytes(content)
    with pytest.raises(NotARun, match=r"is not a readable GradScope run: run\.json is damaged \("):
        read_run(folder)


# where cannot be written


def test_a_run_is_never_overwritten(save_run: SaveRun) -> None:
    """A folder that holds a run is refused, and the run in it stays."""
    folder = save_run()
    before = read_run(folder)
    with pytest.raises(RunExists) as error:
        RunWriter(folder, MINIMAL)
    assert str(error.value) == (
        f"{folder} already holds a run. Give watch() another run_dir, or move that run away; "
        "GradScope never overwrites a run."
    )
    _assert_same(before, read_run(folder))


def test_the_remains_of_a_run_are_not_overwritten(save_run: SaveRun) -> None:
    """A folder that has lost its run.json and still holds the columns is refused too."""
    folder = save_run()
    (folder / "run.json").unlink()
    with pytest.raises(RunExists, match=r"already holds files of a run: .*steps\.arrow.*\. Give another run_dir\."):
        RunWriter(folder, MINIMAL)


@pytest.mark.parametrize("place", ["under a file", "in /proc"])
def test_a_folder_that_cannot_be_written_is_said(place: str, tmp_path: Path) -> None:
    """Where no folder can be made, RunNotWritable names the folder and the reason."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run" if place == "under a file" else Path("/proc/gradscope/run")
    with pytest.raises(RunNotWritable) as error:
        RunWriter(folder, MINIMAL)
    assert str(error.value).startswith(f"cannot write a run to {folder}: ")
    assert str(error.value).endswith(" Give watch() a run_dir that this process may write.")


# The kernel refuses to let a file grow past the limit, in the middle of a batch: what a full disk does, with another
# errno. A real full disk would need a file system of our own.
_FULL_DISK = """
import resource, sys
from pathlib import Path
from gradscope.records import RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.store.messages import Encoder
from gradscope.store.schema import STEP_SCHEMA, step_batch
from gradscope.store.single_steps import SingleSteps
from gradscope.store import RunWriter
run = by_hand({"a": 1.0, "b": 1.0}, steps=1)
writer = RunWriter(Path(sys.argv[1]), RunInfo("a", "Net", 0.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
written = 0
try:
    while True:
        if sys.argv[2] == "summaries.arrow":
            writer.write_summaries(run.summaries)
        elif sys.argv[2] == "steps.arrow":
            writer.write_steps(run.steps, [[0.1]])
        else:
            writer.write_event(0, "value", {"text": "x" * 50})
        written += 1
except OSError as error:
    print(written, type(error).__name__)
writer.close()
writer.close()
"""


@pytest.mark.parametrize("name", FILES)
def test_on_a_full_disk_what_was_whole_stays_readable(name: str, tmp_path: Path) -> None:
    """Writing to a full disk raises OSError, closing does not, and every batch before is read."""
    folder = tmp_path / "run"
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", _FULL_DISK, str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    written, kind = done.stdout.split()
    run = read_run(folder)
    got = {
        "steps.arrow": len(run.steps),
        "summaries.arrow": len(run.summaries) // len(by_hand({"a": 1.0, "b": 1.0}, steps=1).summaries),
        "events.jsonl": len(run.events),
    }
    assert kind == "OSError"
    assert got[name] == int(written) > 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    """A DataLoader worker that inherited the writer cannot touch the run."""
    run = by_hand({"a": 1.0}, steps=1)
    writer = RunWriter(tmp_path, run.info)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    child = os.fork()
    if child == 0:  # no assertion here: its failure would run the rest of the suite twice
        writer.write_summaries(run.summaries)
        writer.write_steps(run.steps, [[0.1]])
        writer.write_event(0, "value", {})
        writer.write_info(RunInfo("other", "Net", 0.0))
        writer.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    writer.close()


# which run is meant


def test_a_folder_of_runs_stands_for_its_newest(tmp_path: Path) -> None:
    """`runs/` means the run that was changed last; what is no run in it does not count."""
    run = by_hand({"a": 1.0}, steps=1)
    old, new = write_run(run, tmp_path / "old"), write_run(run, tmp_path / "new")
    (tmp_path / "notes").mkdir()
    assert resolve_run(tmp_path) == new
    assert list_runs(tmp_path) == [new, old]


def test_latest_is_followed_and_not_listed_twice(tmp_path: Path) -> None:
    """`runs/latest` resolves to the run that it points at, and a folder's list does not show it again."""
    folder = write_run(by_hand({"a": 1.0}, steps=1), tmp_path / "one")
    (tmp_path / "latest").symlink_to("one")
    assert resolve_run(tmp_path / "latest") == folder
    assert list_runs(tmp_path) == [folder]


# the message of a step


@pytest.mark.parametrize("rates", [[], [0.1], [1e-3, float("nan"), 2.0]])
def test_a_single_step_is_written_as_arrow_writes_it(rates: list[float]) -> None:
    """The message that is filled in is, byte for byte, the one that Arrow makes of a batch of one row."""
    encoder = Encoder(STEP_SCHEMA, None)
    single = SingleSteps(encoder)
    steps = by_hand({"a": 1.0}, loss=[2.3, float("nan"), float("inf")], steps=3).steps
    steps["recorded"], steps["training_mode"] = [True, False, True], [False, True, True]
    for row in (*range(3), 0):
        step = steps[row : row + 1]
        assert single.message(step, rates) == encoder.message(step_batch(step, [rates]))
