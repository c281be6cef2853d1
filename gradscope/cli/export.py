"""Hand the numbers of a run on: tables for pandas, polars, duckdb and spreadsheets, or a run of another tracker."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from typing import Literal

from gradscope.cli._bounded_run import read_bounded
from gradscope.cli._exit_codes import DONE
from gradscope.cli._output import write_file
from gradscope.cli._run_folder import add_run
from gradscope.errors import UsageError

HELP = "hand the numbers of a run on to other tools: tables, or another tracker"
TARGETS = ("tensorboard", "wandb", "mlflow", "prometheus", "opentelemetry")
_TEXTS = ("prometheus", "opentelemetry")  # they go to stdout without -o
_TRACKERS_IN_PLACE = {"wandb": "."}  # where one goes without -o


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser)
    tables = parser.add_argument_group("tables")
    tables.add_argument(
        "-t", "--table", metavar="TABLE", action="append", default=[],
        help="layers (default), steps, signals, histograms, sites, findings, evidence, checks, values, or all; may be "
        "repeated, then -o is a folder",
    )  # fmt: skip
    tables.add_argument(
        "-f", "--format", choices=("parquet", "csv"), help="default: what the name of -o ends in, else parquet"
    )
    tables.add_argument("--overwrite", action="store_true", help="replace tables that are there already")
    tables.add_argument("--describe", action="store_true", help="say what the tables and their columns are, and end")
    trackers = parser.add_argument_group("other tools")
    trackers.add_argument("--to", choices=TARGETS, help="the tool to hand the run to; nothing is sent, see --online")
    trackers.add_argument("--follow", action="store_true", help="go on until the training has ended")
    trackers.add_argument("--project", metavar="NAME", help="W&B's project, MLflow's experiment (default: gradscope)")
    trackers.add_argument("--online", action="store_true", help="let W&B send the run to its server")
    parser.add_argument(
        "-o", "--output", metavar="PLACE",
        help="a file, or a folder for several tables and for trackers; MLflow also takes a *.db and a tracking URI; "
        "CSV, prometheus and opentelemetry go to stdout without it",
    )  # fmt: skip


def run(options: Namespace) -> int:
    """Exports, and says on stderr where to."""
    if options.describe:
        from gradscope.reports.tables.words import describe

        sys.stdout.write(describe())
        return DONE
    _refuse_mixtures(options)
    said = _hand_on(options) if options.to else _write_tables(options)
    if said:
        print(said, file=sys.stderr)
    return DONE


def _refuse_mixtures(options: Namespace) -> None:
    """Options that mean nothing together.

    Raises:
        UsageError: there are some.
    """
    given = {
        "--table": bool(options.table), "--format": options.format is not None, "--overwrite": options.overwrite,
        "--follow": options.follow, "--project": options.project is not None, "--online": options.online,
    }  # fmt: skip
    belong = {
        None: ("--table", "--format", "--overwrite"),
        "tensorboard": ("--follow",),
        "wandb": ("--follow", "--project", "--online"),
        "mlflow": ("--follow", "--project"),
        "prometheus": ("--follow",),
        "opentelemetry": (),
    }[options.to]
    for name, there in given.items():
        if there and name not in belong:
            raise _wrong(f"{name} does not go with {f'--to {options.to}' if options.to else 'tables: it needs --to'}")
    if options.follow and options.to == "prometheus" and options.output is None:
        raise _wrong("--follow needs -o FILE, a text that is written again and again")
    if options.to in ("tensorboard", "mlflow") and options.output is None:
        raise _wrong(f"--to {options.to} needs -o FOLDER, where to write")


def _wrong(why: str) -> UsageError:
    return UsageError(f"gradscope export: error: {why}. `gradscope export --help` shows what there is.")


# other tools


def _hand_on(options: Namespace) -> str:
    target = import_module(f"gradscope.integrations.{options.to}")
    if options.to in _TEXTS and (options.output is None or options.to == "opentelemetry"):
        text = target.text(options.path)
        if options.output is None:
            sys.stdout.write(text)
            return ""
        write_file(Path(options.output), text)
        return f"written to {options.output}"
    more = {"project": options.project} if options.project is not None else {}
    if options.online:
        more["mode"] = "online"
    place = options.output or _TRACKERS_IN_PLACE[options.to]
    return str(target.export(options.path, place, follow=options.follow, **more))


# tables


def _write_tables(options: Namespace) -> str:
    from gradscope.reports.tables import DEFAULT_TABLE, chosen_tables
    from gradscope.reports.tables.facts import facts
    from gradscope.reports.tables.files import TableFiles, write_csv
    from gradscope.reports.tables.rows import NEED_A_DIAGNOSIS, NEED_SUMMARIES, table_batches
    from gradscope.store import resolve_run
    from gradscope.store.stream import RunStream

    tables = chosen_tables(tuple(options.table) or (DEFAULT_TABLE,))
    form, paths = _files(tables, options.format, options.output)
    location = resolve_run(options.path)
    stream = RunStream(location)
    diagnosis = read_bounded(location).diagnosis if NEED_A_DIAGNOSIS & set(tables) else None
    stretches = stream.read() if NEED_SUMMARIES & set(tables) else iter([stream.without_summaries()])
    batches = table_batches(tables, stretches, diagnosis)
    if not paths:
        write_csv(sys.stdout.buffer, batches)
        return ""
    told = {f"gradscope.{name}": text for name, text in facts(stream.info, diagnosis).items()}
    with TableFiles(paths, form, told, options.overwrite) as files:
        files.add(batches)
    return "\n".join(f"{files.rows[name]:,} rows written to {path}" for name, path in paths.items())


def _files(
    tables: tuple[str, ...], form: Literal["parquet", "csv"] | None, output: str | None
) -> tuple[Literal["parquet", "csv"], dict[str, Path]]:
    """What to write, and where; nowhere is stdout."""
    if output is None:
        if form == "csv" and len(tables) == 1:
            return form, {}
        raise _wrong("tables need -o FILE, or -o FOLDER for several of them; only one table with -f csv goes to stdout")
    path = Path(output)
    ending = path.suffix.lower()
    written = form or ("csv" if ending == ".csv" else "parquet")
    if path.is_dir() or not ending or len(tables) > 1:
        if ending in (".parquet", ".csv") and not path.is_dir():
            raise _wrong(f"{len(tables)} tables need -o FOLDER; {output} is the name of one file")
        return written, {name: path / f"{name}.{written}" for name in tables}
    if form is None and ending not in (".parquet", ".csv"):
        raise _wrong(f"a table is written as .parquet or .csv, not as {ending}; -f says which, whatever its name")
    return written, {tables[0]: path}
