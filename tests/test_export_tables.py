"""The tables of a run: what three readers find in them is what was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.records import EXPONENT_EDGES, QUANTITIES, Run
from gradscope.reports.tables import TABLES
from gradscope.reports.tables.layer_signals import LAYER_SIGNALS
from gradscope.reports.tables.rows import table_batches
from gradscope.reports.tables.words import describe
from gradscope.signals import Signals
from tests.conftest import SaveRun, write_run
from tests.exported import NAMES, empty_run, hard_run

Column = list[object]  # None: null; NaN is not null


def _pandas(path: Path) -> dict[str, Column]:
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        return {name: frame[name].tolist() for name in frame}
    table = pd.read_parquet(path, dtype_backend="pyarrow")
    return {name: [None if each is pd.NA else each for each in table[name]] for name in table}


def _polars(path: Path) -> dict[str, Column]:
    frame = pl.read_csv(path, infer_schema_length=None) if path.suffix == ".csv" else pl.read_parquet(path)
    return frame.to_dict(as_series=False)


def _duckdb(path: Path) -> dict[str, Column]:
    read = f"read_csv('{path}', sample_size=-1)" if path.suffix == ".csv" else f"'{path}'"
    with duckdb.connect() as base:
        found = base.execute(f"select * from {read}")
        names = [each[0] for each in found.description]
        return dict(zip(names, map(list, zip(*found.fetchall(), strict=True)), strict=True))


READERS: dict[str, Callable[[Path], dict[str, Column]]] = {"pandas": _pandas, "polars": _polars, "duckdb": _duckdb}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of the hard run, as Parquet and as CSV."""
    root = tmp_path_factory.mktemp("exported")
    write_run(hard_run(), root / "run")
    for form in ("parquet", "csv"):
        assert main(["export", str(root / "run"), "-t", "all", "-f", form, "-o", str(root / form)]) == 0
    return root


def _numbers(column: Column) -> list[float]:
    """Cells as numbers; an empty one is NaN here."""
    return [float("nan") if each in (None, "") else float(str(each)) for each in column]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_three_readers_find_the_numbers_that_were_recorded(folder: Path, reader: str, form: str) -> None:
    """Step, layer, quantity and statistics of every row are those of the run, to the last bit, NaN and Inf included."""
    found, run = READERS[reader](folder / form / f"layers.{form}"), hard_run()
    rows, sites = run.summaries, run.info.sites
    owner = [(site.module if site.role == "parameter" else site.path) or "(model)" for site in sites]
    written = [f"'{name}" if form == "csv" and name.startswith("=") else name for name in owner]
    assert [int(str(each)) for each in found["step"]] == rows["step"].tolist()
    assert found["layer"] == [written[site] for site in rows["site"]]
    assert found["quantity"] == [QUANTITIES[each] for each in rows["quantity"]]
    np.testing.assert_array_equal(_numbers(found["norm"]), np.sqrt(rows["sum_squares"]))
    np.testing.assert_array_equal(_numbers(found["rms"]), np.sqrt(rows["sum_squares"] / rows["count"]))
    np.testing.assert_array_equal(_numbers(found["zero_fraction"]), rows["zeros"] / rows["count"])
    assert [str(each).lower() == "true" for each in found["non_finite"]] == rows["non_finite"].tolist()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_three_readers_find_the_steps(folder: Path, reader: str, form: str) -> None:
    """The loss is NaN where it was NaN, Inf where it was Inf, and absent where nobody saw it; so is a learning rate."""
    found = READERS[reader](folder / form / f"steps.{form}")
    run = hard_run()
    expected = np.where(run.steps["has_loss"], run.steps["loss"], np.nan)
    np.testing.assert_array_equal(_numbers(found["loss"]), expected)
    assert [each in (None, "") for each in found["loss"]] == (~run.steps["has_loss"]).tolist()
    np.testing.assert_array_equal(_numbers(found["learning_rate_1"]), run.learning_rates[:, 1])
    np.testing.assert_array_equal(_numbers(found["time"]), run.steps["time"])


def test_pandas_reads_the_csv_as_it_comes(folder: Path) -> None:
    """Without an option, numbers are floats, NaN and Inf too, and flags are booleans."""
    frame = pd.read_csv(folder / "csv" / "steps.csv")
    assert frame["loss"].isna().tolist() == [False, True, False, False, True, False, False, False]
    assert frame["loss"][2] == np.inf
    assert frame["recorded"].dtype == bool
    assert frame["step"].tolist() == list(range(8))


@pytest.mark.parametrize("reader", READERS)
def test_three_readers_find_the_signals(folder: Path, reader: str) -> None:
    """The long table of signals is the matrices of `Signals`, without what was not measured."""
    found, signals = READERS[reader](folder / "parquet" / "signals.parquet"), Signals(hard_run())
    keys = list(zip(found["signal"], found["place"], found["step"], strict=True))
    values = dict(zip(keys, found["value"], strict=True))
    assert len(values) == len(keys)
    for step in range(8):
        for place in (*NAMES, "act", "head"):
            expected = signals.backward_gain[signals.site(place), step]
            np.testing.assert_equal(values["backward_gain", place, step], expected)
    assert {values["dead_fraction", "act", step] for step in range(8)} == {0.1}
    assert {values["silent_fraction", "act", step] for step in range(8)} == {0.25}
    assert ("dead_fraction", "head", 0) not in values
    head = signals.update_ratio[signals.site("head.weight", "parameter")]
    assert [values["update_ratio", "head.weight", step] for step in range(8)] == head.tolist()


def test_gain_and_ratio_stand_beside_the_rows_that_they_are_of(folder: Path) -> None:
    """`backward_gain` is there for activation gradients only, `update_ratio` for updates only."""
    frame = pd.read_parquet(folder / "parquet" / "layers.parquet")
    assert set(frame.loc[frame.backward_gain.notna(), "quantity"]) == {"activation_gradient"}
    assert set(frame.loc[frame.update_ratio.notna(), "quantity"]) == {"update"}
    row = frame[(frame.layer == NAMES[0]) & (frame.quantity == "activation_gradient")].set_index("step")
    assert row.backward_gain[[0, 1, 2]].tolist() == pytest.approx([1e-60, 1e100, 0.0])
    assert np.isnan(row.backward_gain[3])
    assert row.backward_gain[4] == np.inf


def test_findings_evidence_and_checks_are_those_of_the_diagnosis(folder: Path) -> None:
    """One row a finding, in order, with its layers as a list; one a number that speaks for it; one a silent rule."""
    diagnosis = diagnose(hard_run())
    findings = pl.read_parquet(folder / "parquet" / "findings.parquet")
    assert findings["rule"].to_list() == [each.rule for each in diagnosis.findings]
    assert findings["layers"].to_list() == [
        [layer or "(model)" for layer in each.layers] for each in diagnosis.findings
    ]
    assert findings["causes"].to_list() == [[cause.id for cause in each.causes] for each in diagnosis.findings]
    text = pd.read_csv(folder / "csv" / "findings.csv")
    assert [json.loads(each) for each in text["layers"]] == findings["layers"].to_list()
    evidence = pd.read_parquet(folder / "parquet" / "evidence.parquet")
    expected = [float(number.value) for each in diagnosis.findings for number in each.evidence]
    np.testing.assert_array_equal(evidence["value"], expected)
    assert pd.read_parquet(folder / "parquet" / "checks.parquet")["rule"].tolist() == [
        each.rule for each in diagnosis.passed
    ]


def test_histograms_hold_the_bins_that_are_not_empty(save_run: SaveRun, tmp_path: Path) -> None:
    """Each row is one bin with its edges as powers of two; what lies below the first edge goes down to -inf."""
    run = hard_run()
    run.summaries["histogram"][:] = 0
    run.summaries["histogram"][5, [0, 7]] = 3.0, 4.0
    assert main(["export", str(save_run(run)), "-t", "histograms", "-o", str(tmp_path / "h.parquet")]) == 0
    found = pd.read_parquet(tmp_path / "h.parquet")
    assert found[["log2_from", "log2_to", "entries"]].to_numpy().tolist() == [
        [-np.inf, EXPONENT_EDGES[0], 3.0],
        [EXPONENT_EDGES[6], EXPONENT_EDGES[7], 4.0],
    ]
    assert found["step"].tolist() == [int(run.summaries["step"][5])] * 2


def test_logged_values_and_sites_are_there(folder: Path) -> None:
    """What `scope.log` wrote down keeps its name; a site says what it is."""
    values = pd.read_parquet(folder / "parquet" / "values.parquet")
    assert values[["step", "name", "value"]].to_numpy().tolist() == [[2, 'val "loss"\n', 0.75]]
    sites = pd.read_parquet(folder / "parquet" / "sites.parquet").set_index("place")
    assert sites.loc["head.weight", "layer"] == "head"
    assert sites.loc["head", "shape"] == "10x100"
    assert sites.loc["(model)", "same_as"] == "head"
    assert pd.isna(sites.loc["head", "trainable"])


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("reader", READERS)
def test_names_survive(folder: Path, reader: str, form: str) -> None:
    """Any layer name comes back as it was; in CSV one that a spreadsheet would run has an apostrophe before it."""
    found = READERS[reader](folder / form / f"sites.{form}")
    expected = {f"'{name}" if form == "csv" and name == "=1+1" else name for name in NAMES}
    assert expected <= set(map(str, found["layer"]))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_run_without_a_step_gives_empty_tables_with_all_columns(
    save_run: SaveRun, tmp_path: Path, name: str, form: str
) -> None:
    """Whoever reads an empty table finds the columns that it will have."""
    path = tmp_path / f"t.{form}"
    assert main(["export", str(save_run(empty_run())), "-t", name, "-o", str(path)]) == 0
    table = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
    assert list(table) == [column.name for column in TABLES[name].columns]
    assert name in ("sites", "checks") or len(table) == 0


def test_a_parquet_file_says_what_run_it_is_of_and_what_its_columns_are(folder: Path) -> None:
    """The facts of the run are the file's metadata, unit and meaning each column's; the command line is in neither."""
    schema = parquet.read_schema(folder / "parquet" / "findings.parquet")
    assert schema.metadata[b"gradscope.run"] == b"hard"
    assert schema.metadata[b"gradscope.optimizer"] == b"SGD(lr=0.01)"
    assert schema.metadata[b"gradscope.verdict"].decode() == diagnose(hard_run()).verdict
    assert schema.field("first_step").metadata == {b"meaning": b"since when", b"unit": b"step"}
    assert not any(b"secret" in file.read_bytes() for file in (folder / "parquet").iterdir())


def test_stretches_give_the_same_rows_as_the_whole(folder: Path) -> None:
    """A table that is written stretch by stretch is the table that is written at once."""
    run = hard_run()
    parts = [_part(run, step) for step in range(8)]
    for name in TABLES:
        diagnosis = diagnose(run)
        whole = [batch for _, batch in table_batches([name], [run], diagnosis)]
        pieces = [batch for _, batch in table_batches([name], parts, diagnosis)]
        sorting = [("step", "ascending"), ("place", "ascending")] if name in ("layers", "signals") else []
        one, many = pa.Table.from_batches(whole), pa.Table.from_batches(pieces)
        keys = [*sorting, *([("quantity", "ascending")] if name == "layers" else [])]
        keys += [("signal", "ascending")] if name == "signals" else []
        assert str((one.sort_by(keys) if keys else one).to_pylist()) == str(
            (many.sort_by(keys) if keys else many).to_pylist()
        )


def _part(run: Run, step: int) -> Run:
    return replace(run, summaries=run.summaries[run.summaries["step"] == step])


def test_every_column_and_signal_is_described() -> None:
    """`gradscope export --describe` says of every column and signal what it is."""
    text = describe()
    for table in TABLES.values():
        assert f"\n{table.name}: one row is {table.meaning}" in f"\n{text}"
        for column in table.columns:
            assert f"  {column.name} " in text
            assert column.meaning in text
    assert all(f"  {signal.name} " in text for signal in LAYER_SIGNALS)
