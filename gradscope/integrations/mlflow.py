"""A run for MLflow: into a folder or a database of this machine, or wherever you say.

MLflow allows few characters in names: what it cannot hold is written as its number, and `gradscope/names.json` among the
run's artifacts has the names as they were.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradscope.errors import MissingPackage
from gradscope.integrations.recorded import diagnosis_markdown, folder_for, judged, needed, stretches
from gradscope.integrations.scalars import fitting, moments
from gradscope.records import Diagnosis, RunInfo
from gradscope.reports.tables.facts import facts
from gradscope.store import read_info, resolve_run
from gradscope.store.folders import Location

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.\- ]")
_LONGEST_NAME, _LONGEST_TEXT, _AT_ONCE = 250, 5000, 1000  # characters, characters, numbers in one request
_DATABASES = (".db", ".sqlite", ".sqlite3")
# MLflow prefers databases and asks for the first; without the second it reports what it is used for
_SETTINGS = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def export(location: Location, store: str, *, project: str = "gradscope", follow: bool = False) -> str:
    """Writes a run of MLflow; gives a sentence that says where.

    Numbers get the names in `scalars`, the facts of the run are its tags, and the findings are an artifact.

    Args:
        location: a run, or a folder of runs, of which the newest is taken.
        store: a folder; a file `*.db` for SQLite, which needs `pip install mlflow` rather than mlflow-skinny; or a
            tracking URI, to which the numbers are then sent.
        project: the MLflow experiment.
        follow: go on with what is recorded, until the training has ended.

    Raises:
        MissingPackage: mlflow is not installed, or cannot use such a store.
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.
        ReportNotWritable: the folder cannot be made.

    Example:
        >>> export("runs/latest", "mlruns")  # doctest: +SKIP
        "MLflow run 5c6a… written to mlruns, experiment 'gradscope'"
    """
    with _environment():
        mlflow = needed("mlflow", "mlflow-skinny", "MLflow")
        location = resolve_run(location)
        client = _client(mlflow, store)
        run_id = _begin(client, project, read_info(location), store)
        try:
            names = _log(client, mlflow.entities, run_id, location, follow)
            _conclude(client, run_id, *_judged(location), names)
        except BaseException as error:
            client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        client.set_terminated(run_id)
    return f"MLflow run {run_id} written to {store}, experiment {project!r}"


def _judged(location: Location) -> tuple[RunInfo, Diagnosis]:
    run, diagnosis = judged(location)
    return run.info, diagnosis


def _client(mlflow: Any, store: str) -> Any:
    uri = store
    if "://" not in store:
        path = Path(store).absolute()
        folder_for(str(path.parent if path.suffix in _DATABASES else path))
        uri = f"sqlite:///{path}" if path.suffix in _DATABASES else path.as_uri()
    try:
        return mlflow.MlflowClient(tracking_uri=uri)
    except (ImportError, mlflow.exceptions.MlflowException) as error:
        if not uri.startswith("sqlite:"):
            raise
        raise MissingPackage(
            f"writing to the database {store} needs all of MLflow, of which mlflow-skinny is a part. "
            "Install it with `pip install mlflow`, or give -o a folder."
        ) from error


def _begin(client: Any, project: str, info: RunInfo, store: str) -> str:
    found = client.get_experiment_by_name(project)
    if found is not None:
        experiment = found.experiment_id
    else:  # beside a database, or MLflow would put artifacts into the folder that one happens to be in
        database = Path(store.removeprefix("sqlite:///"))
        artifacts = (database.absolute().parent / "mlartifacts").as_uri() if database.suffix in _DATABASES else None
        experiment = client.create_experiment(project, artifact_location=artifacts)
    created = client.create_run(experiment, start_time=int(1000 * info.created), run_name=info.id)
    return str(created.info.run_id)


def _log(client: Any, entities: Any, run_id: str, location: Location, follow: bool) -> dict[str, str]:
    """Logs all numbers; gives the names that had to be written otherwise."""
    names: dict[str, str] = {}
    waiting = []
    for moment in moments(stretches(location, follow)):
        for name, value in moment.values.items():
            if name not in names:
                names[name] = name_for(name)
            waiting.append(entities.Metric(names[name], value, int(1000 * moment.time), moment.step))
        while len(waiting) >= _AT_ONCE:
            client.log_batch(run_id, metrics=waiting[:_AT_ONCE])
            waiting = waiting[_AT_ONCE:]
    client.log_batch(run_id, metrics=waiting)
    return {written: name for name, written in names.items() if written != name}


def name_for(name: str) -> str:
    r"""A name as MLflow can hold it; the slash behind our own part stays.

    Example:
        >>> name_for("gradscope_forward_gain/a\n'b/c'")
        'gradscope_forward_gain/a_x0A__x27_b_x2F_c_x27_'
    """
    ours, slash, rest = name.partition("/")
    rest = fitting(rest, _FORBIDDEN, _LONGEST_NAME - len(ours) - 1)
    if not rest.strip(". "):  # a folder's name for a path, or nothing
        rest = fitting(rest, re.compile(r"[. ]"))
    return f"{ours}{slash}{rest}"


def _conclude(client: Any, run_id: str, info: RunInfo, diagnosis: Diagnosis, names: dict[str, str]) -> None:
    for key, text in facts(info, diagnosis).items():
        client.set_tag(run_id, f"gradscope.{fitting(key, _FORBIDDEN)}", text[:_LONGEST_TEXT])
    for finding in reversed(diagnosis.findings):  # of several of one rule, the first in rank stays
        client.set_tag(
            run_id, f"gradscope.finding.{finding.rule}", f"{finding.severity}: {finding.message}"[:_LONGEST_TEXT]
        )
    client.log_text(run_id, diagnosis_markdown(diagnosis), "gradscope/diagnosis.md")
    if names:
        client.log_text(run_id, json.dumps(names, indent=1), "gradscope/names.json")


@contextmanager
def _environment() -> Iterator[None]:
    """Lets MLflow write into a folder, for whoever names one has asked for it, and has it tell its makers nothing."""
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ |= _SETTINGS
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
