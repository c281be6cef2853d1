"""Looks for runs in a folder and resolves what a user typed for one."""

from __future__ import annotations

from pathlib import Path

from gradscope.errors import NotARun, RunNotFound
from gradscope.store.parts import first_part
from gradscope.store.schema import RUN_FILE


def list_runs(folder: Path) -> list[Path]:
    """The run folders directly in `folder`, newest first; links (such as `latest`) are not listed twice."""
    found = [(path, first_part(path)) for path in folder.iterdir() if not path.is_symlink()]
    runs = [((part / RUN_FILE).stat().st_ctime, path) for path, part in found if part is not None]
    return [path for _, path in sorted(runs, reverse=True)]


def resolve_run(path: Path | str) -> Path:
    """The run folder for what a user typed: a run itself, or a folder of runs, of which the newest is taken.

    Raises:
        RunNotFound: nothing is there.
        NotARun: neither a run nor a folder with runs.
    """
    folder = Path(path)
    if not folder.exists():
        raise RunNotFound(
            f"no run at {folder}: there is no such folder. Runs are in `runs/` unless run_dir= says else."
        )
    if first_part(folder) is not None:
        return folder.resolve()
    runs = list_runs(folder) if folder.is_dir() else []
    if not runs:
        raise NotARun(f"{folder} is neither a GradScope run (it has no {RUN_FILE}) nor a folder that holds one.")
    return runs[0].resolve()
