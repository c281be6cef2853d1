"""A run for Weights & Biases: offline unless you say otherwise, so that nothing leaves this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from gradscope.integrations.recorded import diagnosis_markdown, folder_for, judged, needed, stretches
from gradscope.integrations.scalars import moments
from gradscope.reports.tables.facts import facts
from gradscope.store import read_info, resolve_run
from gradscope.store.folders import Location

STEP = "gradscope/step"  # the axis of all charts: a training of your own may log in another rhythm


def export(
    location: Location,
    folder: str = ".",
    *,
    project: str = "gradscope",
    mode: Literal["offline", "online"] = "offline",
    follow: bool = False,
) -> str:
    """Writes a W&B run into `FOLDER/wandb`; gives a sentence that says where.

    Numbers get the names in `scalars`, the facts of the run are its config, the verdict is in its summary and the
    findings are its notes. Nothing of the machine, the program or its output is written down.

    Args:
        location: a run, or a folder of runs, of which the newest is taken.
        folder: that W&B's own folder is made in.
        project: the W&B project.
        mode: "online" sends the run to the W&B server that this machine is logged in to.
        follow: go on with what is recorded, until the training has ended.

    Raises:
        MissingPackage: wandb is not installed.
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.
        ReportNotWritable: the folder cannot be made.

    Example:
        >>> export("runs/latest", "tracked")  # doctest: +SKIP
        'offline run written to tracked/wandb/offline-run-20260101_120000-abc; send it with `wandb sync …`'
    """
    with _quiet():
        wandb = needed("wandb", "wandb", "W&B")
        location = resolve_run(location)
        info = read_info(location)
        tracked = wandb.init(
            dir=str(folder_for(folder)),
            project=project,
            name=info.id,
            mode=mode,
            config=facts(info),
            reinit="create_new",  # one of the training's own goes on
            settings=_settings(wandb),
        )
        try:
            _log(tracked, location, follow)
        finally:
            tracked.finish()
    where = os.path.dirname(tracked.dir)
    if mode == "online":
        return f"sent to {tracked.url}"
    return f"offline run written to {where}; send it, if you want to, with `wandb sync {where}`"


def _log(tracked: Any, location: Location, follow: bool) -> None:
    tracked.define_metric(STEP, hidden=True)
    tracked.define_metric("*", step_metric=STEP)
    for moment in moments(stretches(location, follow)):
        tracked.log({**moment.values, STEP: moment.step})
    run, diagnosis = judged(location)
    tracked.config.update(facts(run.info, diagnosis), allow_val_change=True)
    tracked.summary.update({"gradscope/verdict": diagnosis.verdict, "gradscope/headline": diagnosis.headline})
    tracked.notes = diagnosis_markdown(diagnosis)


def _settings(wandb: Any) -> Any:
    """Only what we hand over is written down: no output, no machine, no code, no packages."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """W&B reports its own faults to its makers unless this is said before it is imported."""
    name = "WANDB_ERROR_REPORTING"
    before = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
