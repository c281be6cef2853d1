"""Damaged files: a flipped byte or a cut costs the batch that it hit, and never the process that reads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gradscope.records import Run, RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunReader, read_run
from gradscope.store.schema import STEP_SCHEMA, SUMMARY_SCHEMA, step_batch, summary_batch
from tests.conftest import write_run
from tests.test_store_budget import same

FILES = ("steps.arrow", "summaries.arrow")
BATCHES = 6
WHOLE = by_hand({"a": [1e-9, float("nan"), *[1.0] * (BATCHES - 2)], "b": 0.5}, loss=2.3, steps=BATCHES)


def _batches(run: Run, name: str) -> list[bytes]:
    """Each step's rows of one file, as bytes."""
    if name == "steps.arrow":
        return [run.steps[index : index + 1].tobytes() for index in range(len(run.steps))]
    return [run.summaries[run.summaries["step"] == step].tobytes() for step in np.unique(run.summaries["step"])]


def _rows(run: Run) -> set[bytes]:
    return {row.tobytes() for rows in (run.steps, run.summaries) for row in rows}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_costs_one_batch(name: str, tmp_path: Path) -> None:
    """Any one byte changed, every batch but the one that it is in comes back, to the bit."""
    folder = write_run(WHOLE, tmp_path / "run")
    expected, content = _batches(WHOLE, name), (folder / name).read_bytes()
    random = np.random.default_rng(0)
    for position in {*map(int, random.integers(0, len(content), 200)), *range(16), len(content) - 9}:
        damaged = bytearray(content)
        damaged[position] ^= int(random.integers(1, 256))
        (folder / name).write_bytes(damaged)
        got = _batches(read_run(folder), name)
        assert len(got) >= BATCHES - 1, f"byte {position}"
        assert [batch for batch in expected if batch in got] == got, f"byte {position}"


@pytest.mark.parametrize("name", FILES)
def test_what_comes_back_from_a_ruin_is_true(name: str, tmp_path: Path) -> None:
    """After many flips, cuts, holes and doublings, what is read is a part of what was written, and nothing else."""
    folder = write_run(WHOLE, tmp_path / "run")
    expected, content = _rows(WHOLE), (folder / name).read_bytes()
    random = np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), random.integers(1, 30)):
            damaged[position] = int(random.integers(0, 256))
        start, length = (int(number) for number in random.integers(0, len(content), 2))
        kind = random.integers(0, 4)
        if kind == 1:
            del damaged[start:]
        elif kind == 2:
            del damaged[start : start + length // 8]
        elif kind == 3:
            damaged[start:start] = damaged[:length]
        (folder / name).write_bytes(damaged)
        assert _rows(read_run(folder)) <= expected


@pytest.mark.parametrize("name", FILES)
def test_noise_is_an_empty_file(name: str, tmp_path: Path) -> None:
    """A file of noise, of zeros or of nothing holds no rows."""
    folder = write_run(WHOLE, tmp_path / "run")
    for noise in (b"", b"\0" * 4096, b"\xff" * 4096, np.random.default_rng(2).bytes(100_000)):
        (folder / name).write_bytes(noise)
        assert _batches(read_run(folder), name) == []


def test_a_follower_goes_on_behind_damage(tmp_path: Path) -> None:
    """A reader that met a damaged batch at the end reads on when whole ones follow."""
    folder = write_run(WHOLE, tmp_path / "run")
    file = folder / "summaries.arrow"
    content = file.read_bytes()
    end = content.index(b"\xff\xff\xff\xff", len(content) // 2)  # where some batch begins
    damaged = bytearray(content)
    damaged[end - 20] ^= 1
    file.write_bytes(damaged[:end])
    reader = RunReader(folder)
    before = len(_batches(reader.read(), "summaries.arrow"))
    file.write_bytes(damaged)
    after = _batches(reader.read(), "summaries.arrow")
    assert before < len(after) == BATCHES - 1
    assert after == [batch for batch in _batches(WHOLE, "summaries.arrow") if batch in after]


# runs of versions that wrote no checksums


def write_plainly(folder: Path) -> Path:
    """Writes the run as Arrow does by itself."""
    write_run(WHOLE, folder)
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(folder / "steps.arrow", STEP_SCHEMA) as stream:
        for row in range(BATCHES):
            stream.write_batch(step_batch(WHOLE.steps[row : row + 1], [[0.1]]))
    with pa.ipc.new_stream(folder / "summaries.arrow", SUMMARY_SCHEMA, options=packed) as stream:
        for step in range(BATCHES):
            stream.write_batch(summary_batch(WHOLE.summaries[WHOLE.summaries["step"] == step]))
    return folder


def test_a_run_without_checksums_is_read(tmp_path: Path) -> None:
    """What an earlier version wrote, streams without checksums, is read as before, also while it grows."""
    folder = write_plainly(tmp_path / "run")
    run = read_run(folder)
    assert same(WHOLE.steps, run.steps)
    assert same(WHOLE.summaries, run.summaries)
    content = (folder / "steps.arrow").read_bytes()
    (folder / "steps.arrow").write_bytes(content[: len(content) // 2])
    reader = RunReader(folder)
    assert 0 < len(reader.read().steps) < BATCHES
    (folder / "steps.arrow").write_bytes(content)
    assert same(WHOLE.steps, reader.read().steps)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("name", FILES)
def test_without_checksums_a_flipped_byte_does_not_end_the_process(name: str, tmp_path: Path) -> None:
    """Where only Arrow's own checks see damage, wrong numbers may be read, but the reader lives and raises nothing."""
    folder = write_plainly(tmp_path / "run")
    content = (folder / name).read_bytes()
    child = os.fork()
    if child == 0:  # a fault of Arrow's would end all the tests
        try:
            random = np.random.default_rng(3)
            for position in random.integers(0, len(content), 400):
                damaged = bytearray(content)
                damaged[position] ^= int(random.integers(1, 256))
                (folder / name).write_bytes(damaged)
                read_run(folder)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_columns_that_an_older_version_did_not_write_are_empty(tmp_path: Path) -> None:
    """A stream with fewer columns than today's gives NaN, 0 or False for them."""
    folder = write_run(WHOLE, tmp_path / "run")
    fewer = step_batch(WHOLE.steps, [[0.1]] * BATCHES).drop_columns(["gradient_norm", "forwards"])
    with pa.ipc.new_stream(folder / "steps.arrow", fewer.schema) as stream:
        stream.write_batch(fewer)
    steps = read_run(folder).steps
    assert np.isnan(steps["gradient_norm"]).all()
    assert (steps["forwards"] == 0).all()
    assert steps["loss"].tolist() == WHOLE.steps["loss"].tolist()


def test_a_column_of_another_type_is_not_guessed_at(tmp_path: Path) -> None:
    """A stream whose column has another type than expected is not read."""
    folder = write_run(WHOLE, tmp_path / "run")
    with pa.ipc.new_stream(folder / "steps.arrow", pa.schema([("step", pa.string())])) as stream:
        stream.write_batch(pa.record_batch([pa.array(["0"])], names=["step"]))
    assert len(read_run(folder).steps) == 0
    assert read_run(folder).info == RunInfo(**vars(WHOLE.info))
