"""`gradscope export`: what it writes where, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from gradscope.cli import main, parser
from gradscope.cli.export import TARGETS
from gradscope.errors import GradScopeError, MissingPackage, OutputExists, ReportNotWritable, UnknownId
from gradscope.integrations import recorded
from gradscope.integrations.scalars import moments
from gradscope.records import SUMMARY_ROW, Run
from gradscope.reports.tables import TABLES, chosen_tables
from gradscope.reports.tables.files import TableFiles
from gradscope.reports.tables.rows import table_batches
from gradscope.store import RunWriter, liveness, read_run, stream
from gradscope.store.stream import RunStream
from tests.conftest import SaveRun, write_run
from tests.exported import hard_run


@pytest.fixture
def run_folder(save_run: SaveRun) -> Path:
    """The hard run on disk."""
    return save_run(hard_run())


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    code = main(["export", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_one_table_goes_into_the_file_that_is_named(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default is the table of layers, the form follows from the file's name, and stderr says what was written."""
    path = tmp_path / "table.parquet"
    code, out, err = said(capsys, run_folder, "-o", path)
    assert (code, out, err) == (0, "", f"{len(hard_run().summaries)} rows written to {path}\n")
    assert len(pd.read_parquet(path)) == len(hard_run().summaries)
    assert main(["export", str(run_folder), "-t", "steps", "-o", str(tmp_path / "steps.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "steps.csv")) == 8


def test_several_tables_go_into_a_folder(run_folder: Path, tmp_path: Path) -> None:
    """Each table is a file of its own there."""
    folder = tmp_path / "deep" / "tables"
    assert main(["export", str(run_folder), "-t", "steps", "-t", "sites", "-o", str(folder)]) == 0
    assert sorted(each.name for each in folder.iterdir()) == ["sites.parquet", "steps.parquet"]


def test_csv_goes_to_stdout_without_a_file(run_folder: Path) -> None:
    """One table as CSV can be piped on; nothing else is on stdout."""
    words = [sys.executable, "-m", "gradscope", "export", str(run_folder), "-t", "steps", "-f", "csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith('"step","time","seconds"')
    assert len(done.stdout.splitlines()) == 9
    assert done.stderr == ""


def test_what_is_there_is_replaced_only_when_asked(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table that is there stays as it is, and so does every other one of the same call; `--overwrite` replaces it."""
    (tmp_path / "steps.parquet").write_text("mine")
    code, _, err = said(capsys, run_folder, "-t", "steps", "-t", "sites", "-o", tmp_path)
    assert code == 2
    assert err == (
        f"gradscope: {tmp_path / 'steps.parquet'} is there already; nothing was written. "
        "Give -o another name, or --overwrite to replace it.\n"
    )
    assert not (tmp_path / "sites.parquet").exists()
    assert said(capsys, run_folder, "-t", "steps", "-o", tmp_path, "--overwrite")[0] == 0
    assert len(pd.read_parquet(tmp_path / "steps.parquet")) == 8


def test_a_file_is_whole_or_not_there(run_folder: Path, tmp_path: Path) -> None:
    """When writing fails in between, no half of a table is left, and an older one stays."""
    path = tmp_path / "steps.parquet"
    path.write_text("older")

    def batches() -> Iterator[tuple[str, pa.RecordBatch]]:
        yield from table_batches(["steps"], [hard_run()])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), TableFiles({"steps": path}, "parquet", overwrite=True) as files:
        files.add(batches())
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["steps.parquet"]
    assert path.read_text() == "older"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-o", "x.parquet", "-t", "nothing"], "no table is called 'nothing'. There are: layers, steps, signals,"),
        ([], "tables need -o FILE, or -o FOLDER for several of them; only one table with -f csv goes to stdout."),
        (["-t", "all", "-f", "csv"], "tables need -o FILE, or -o FOLDER for several of them"),
        (["-t", "all", "-o", "x.parquet"], "9 tables need -o FOLDER; x.parquet is the name of one file."),
        (["-o", "x.csv", "--follow"], "--follow does not go with tables: it needs --to."),
        (["--to", "wandb", "-t", "steps"], "--table does not go with --to wandb."),
        (["--to", "tensorboard"], "--to tensorboard needs -o FOLDER, where to write."),
        (["--to", "mlflow"], "--to mlflow needs -o FOLDER, where to write."),
        (["--to", "prometheus", "--follow"], "--follow needs -o FILE, a text that is written again and again."),
        (["--to", "tensorboard", "--online", "-o", "x"], "--online does not go with --to tensorboard."),
        (["--to", "nowhere"], "invalid choice: 'nowhere'"),
    ],
)
def test_what_cannot_be_meant_is_said(
    run_folder: Path, words: list[str], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table or an option that does not fit ends with exit code 2 and the reason, before anything is written."""
    monkeypatch.chdir(run_folder)
    before = sorted(run_folder.iterdir())
    code, out, err = said(capsys, run_folder, *words)
    assert (code, out) == (2, "")
    assert why in err
    assert sorted(run_folder.iterdir()) == before


def test_a_place_that_cannot_be_written_is_said(run_folder: Path, tmp_path: Path) -> None:
    """A file where a folder is needed ends with the reason and what to do."""
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "tables"
    for words in (["-t", "steps", "-o", str(place / "t.csv")], ["--to", "tensorboard", "-o", str(place)],
                  ["--to", "prometheus", "-o", str(place / "x.prom")]):  # fmt: skip
        assert main(["export", str(run_folder), *words]) == ReportNotWritable.exit_code


def test_chosen_tables_are_named_once() -> None:
    """`all` is every table, a table that is named twice is written once."""
    assert chosen_tables(("steps", "all")) == tuple(TABLES)
    assert chosen_tables(("steps", "sites", "steps")) == ("steps", "sites")
    with pytest.raises(UnknownId, match=r"no table is called 'x'\. There are: layers, .*, values, and all for all"):
        chosen_tables(("x",))


def test_the_help_names_all_tables() -> None:
    """What `-t` takes is in its help, in the order of the description."""
    (text,) = [action.help for action in _actions() if action.dest == "table"]
    assert str(text).startswith(", ".join(TABLES).replace("layers", "layers (default)"))


def _actions() -> Iterator:  # type: ignore[type-arg]
    commands = next(action for action in parser()._actions if action.dest == "command")
    yield from commands.choices["export"]._actions  # type: ignore[index, union-attr, attr-defined]


def test_a_missing_package_is_named_with_its_command(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tool is imported when it is asked for, and its absence says what to install."""
    packages = {
        "tensorboard": "tensorboard",
        "wandb": "wandb",
        "mlflow": "mlflow-skinny",
        "prometheus": "prometheus-client",
        "opentelemetry": "opentelemetry-sdk",
    }
    for name in list(sys.modules):
        if name.split(".")[0] in ("tensorboard", "wandb", "mlflow", "prometheus_client", "opentelemetry"):
            monkeypatch.delitem(sys.modules, name)
    for name in ("tensorboard", "wandb", "mlflow", "prometheus_client", "opentelemetry"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    assert set(packages) == set(TARGETS)
    for target, package in packages.items():
        code, _, err = said(capsys, run_folder, "--to", target, "-o", tmp_path / target)
        assert code == MissingPackage.exit_code
        assert f"needs the package {package}, which cannot be imported" in err
        assert f"Install it with `pip install {package}`." in err


def test_export_needs_no_torch(run_folder: Path, tmp_path: Path) -> None:
    """Tables are written without torch, and the help without numpy too."""
    program = (
        "import sys\nfrom gradscope.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'dash', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )

    def modules(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, "export", *map(str, words)], capture_output=True, text=True
        )
        return done.stderr.splitlines()[-1]

    assert modules("--help") == "[]"
    assert "torch" not in modules(run_folder, "-o", tmp_path / "a.parquet")
    assert "torch" not in modules(run_folder, "-t", "all", "-f", "csv", "-o", tmp_path / "csv")
    assert "torch" not in modules(run_folder, "--to", "tensorboard", "-o", tmp_path / "logs")


# how a run is read


def _joined(runs: list[Run]) -> np.ndarray:  # type: ignore[type-arg]
    return np.concatenate([np.empty(0, SUMMARY_ROW), *(each.summaries for each in runs)])


def test_a_stream_gives_every_row_once_in_bounded_stretches(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stretches together are the run; none is larger than was asked for by more than one recorded step."""
    whole = read_run(run_folder)
    per_step = len(whole.summaries) // 8
    monkeypatch.setattr(stream, "_ROWS", 2 * per_step)
    runs = list(RunStream(run_folder).read())
    assert [len(each.summaries) for each in runs] == [2 * per_step] * 4
    assert _joined(runs).tobytes() == whole.summaries.tobytes()
    assert all(len(each.steps) == 8 for each in runs)


def test_a_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    """What is written after a read, and nothing else, is in the next one, a torn end included once it is whole."""
    run, folder = hard_run(), tmp_path / "run"
    writer = RunWriter(folder, run.info)
    followed = RunStream(folder)
    assert [len(each.summaries) for each in followed.read()] == [0]
    for step in range(8):
        writer.write_summaries(run.summaries[run.summaries["step"] == step])
        (one,) = followed.read()
        assert one.summaries["step"].tolist() == [step] * len(one.summaries)
        assert [len(each.summaries) for each in followed.read()] == [0]
    writer.close()


def test_a_stream_survives_the_writers_merges(tmp_path: Path) -> None:
    """While old steps are thinned and files exchanged, a reader that follows meets each recorded step once."""
    run, folder = hard_run(), tmp_path / "run"
    one = run.summaries[run.summaries["step"] == 0]
    writer = RunWriter(folder, run.info, budget=2 * 2**20)
    followed, met = RunStream(folder), []
    for step in range(900):
        rows = one.copy()
        rows["step"] = step
        rows["histogram"] = np.random.default_rng(step).random(rows["histogram"].shape)
        writer.write_summaries(rows)
        if step % 3 == 0:
            met += [int(number) for each in followed.read() for number in np.unique(each.summaries["step"])]
    writer.close()
    assert len(list(folder.glob("summaries-*-*.arrow"))) > 0
    assert met == list(range(898))
    again = [int(number) for each in RunStream(folder).read() for number in np.unique(each.summaries["step"])]
    assert again == np.unique(read_run(folder).summaries["step"]).tolist()
    assert len(again) < 900


def test_a_stream_reads_what_is_left_of_a_damaged_run(tmp_path: Path) -> None:
    """Where somebody has deleted a file of the middle, the rest is given, as by a reader."""
    run, folder = hard_run(), tmp_path / "run"
    one = run.summaries[run.summaries["step"] == 0]
    writer = RunWriter(folder, run.info, budget=2**20)
    for step in range(40):
        rows = one.copy()
        rows["step"] = step
        rows["histogram"] = np.random.default_rng(step).random(rows["histogram"].shape)
        writer.write_summaries(rows)
    writer.close()
    (folder / "summaries-1.arrow").unlink()
    steps = [int(number) for each in RunStream(folder).read() for number in np.unique(each.summaries["step"])]
    assert 0 < len(steps) < 40
    assert steps == np.unique(read_run(folder).summaries["step"]).tolist()


def test_ranks_are_merged_before_they_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training on two processes the stretches are those of the merged run."""
    run = hard_run()
    for rank, folder in enumerate((tmp_path / "run", tmp_path / "run" / "rank-1")):
        write_run(replace(run, info=replace(run.info, rank=rank, world_size=2)), folder)
    whole = read_run(tmp_path / "run")
    monkeypatch.setattr(stream, "_ROWS", len(whole.summaries) // 4)
    followed = RunStream(tmp_path / "run")
    runs = list(followed.read())
    assert len(runs) > 1
    assert _joined(runs).tobytes() == whole.summaries.tobytes()
    assert [len(each.summaries) for each in followed.read()] == [0]
    assert len(followed.without_summaries().steps) == 8


def test_a_growing_run_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of a training that still goes on comes once, the last one too; then following ends by itself."""
    run, folder = hard_run(), tmp_path / "run"
    going = replace(run.info, state="recording", process=os.getpid())
    writer = RunWriter(folder, going)

    def train() -> None:
        for step in range(8):
            time.sleep(0.03)
            writer.write_summaries(run.summaries[run.summaries["step"] == step])
            writer.write_steps(run.steps[step : step + 1], [[0.01]])
            writer.write_event(step, "value", {"name": "accuracy", "value": step / 8})
        writer.write_info(replace(going, state="ended"))
        writer.close()

    thread = threading.Thread(target=train)
    thread.start()
    found = list(moments(recorded.stretches(folder, follow=True)))
    thread.join()
    for name in ("gradscope/loss_of", "gradscope_forward_gain/act", "gradscope/seconds", "gradscope_value/accuracy"):
        steps = [moment.step for moment in found if name in moment.values]
        assert steps == ([] if name == "gradscope/loss_of" else list(range(8)))


def test_a_run_whose_process_is_gone_is_not_followed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was killed never says that it ended: after a while without a word, following ends."""
    monkeypatch.setattr(recorded, "POLL", 0.01)
    monkeypatch.setattr(liveness, "SILENCE", 0.1)
    run = hard_run()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_run(replace(run, info=replace(run.info, state="recording", process=gone.pid)), tmp_path / "run")
    assert sum(len(each.summaries) for each in recorded.stretches(tmp_path / "run", follow=True)) == len(run.summaries)


def test_a_diagnosis_from_some_of_the_steps_says_so(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run beyond the memory that an export takes is judged from the steps that tell most, and that is listed."""
    monkeypatch.setattr("gradscope.store.bounded.MEMORY", len(hard_run().summaries) * SUMMARY_ROW.itemsize // 2)
    _, diagnosis = recorded.judged(run_folder)
    assert "of 8 recorded steps, for the diagnosis" in str(diagnosis.not_observed[0])
    assert diagnosis.findings


def test_errors_are_in_the_tree() -> None:
    """What cannot be exported to is an error like all others."""
    assert issubclass(OutputExists, (GradScopeError, FileExistsError))
