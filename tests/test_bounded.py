"""A run that is judged from as much of it as memory allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradscope.cli._bounded_run import read_bounded
from gradscope.records import SUMMARY_ROW
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import RunWriter, bounded
from gradscope.store.bounded import BoundedReader
from gradscope.store.excerpt import EXCERPT_ROW
from tests.conftest import SaveRun

BIG = by_hand({"a": 1e-9, "b": 1.0}, loss=2.3, steps=200)


def test_a_run_that_fits_is_read_whole(save_run: SaveRun) -> None:
    """Nothing is said of what was not read."""
    reading = BoundedReader(save_run(BIG)).read()
    assert reading.run.summaries.tobytes() == BIG.summaries.tobytes()
    assert (reading.is_excerpt, reading.excerpt_words, len(reading.recorded)) == (False, "", 200)
    assert reading.run.info.not_observed == ()


def test_a_run_that_does_not_fit_says_how_much_of_it_was_read(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run itself, so that every diagnosis of it lists it; and in words for a note."""
    monkeypatch.setattr(bounded, "MEMORY", 60_000)
    read = read_bounded(save_run(BIG))
    whole = len(np.unique(read.run.summaries["step"]))
    assert 0 < whole < 200 == len(read.recorded)
    assert read.run.summaries.nbytes <= 60_000
    assert read.excerpt_words.startswith(f"judged from {whole} of its 200 recorded steps: ")
    assert str(read.diagnosis.not_observed[0]).startswith(f"{200 - whole} of 200 recorded steps, for the diagnosis")


def test_a_run_that_just_fits_as_an_excerpt_is_whole(save_run: SaveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of an excerpt are smaller: where all steps have their place in it, none is missing."""
    small = BIG.summaries.nbytes // SUMMARY_ROW.itemsize * EXCERPT_ROW.itemsize
    assert small < BIG.summaries.nbytes
    monkeypatch.setattr(bounded, "MEMORY", small)
    reading = BoundedReader(save_run(BIG)).read()
    assert (reading.is_excerpt, reading.run.info.not_observed) == (False, ())
    assert len(reading.run.summaries) == len(BIG.summaries)


def test_the_same_object_is_given_until_something_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a run judges it anew only then; also once it is too large to be read whole."""
    monkeypatch.setattr(bounded, "MEMORY", 60_000)
    writer = RunWriter(tmp_path / "run", BIG.info)
    reader = BoundedReader(tmp_path / "run")
    for step in range(100):
        writer.write_summaries(BIG.summaries[BIG.summaries["step"] == step])
        reading = reader.read()
        assert reading.recorded.tolist() == list(range(step + 1))
        assert reader.read() is reading
    writer.close()
    assert reading.is_excerpt
