"""Looks for runs in a folder and resolves what a user typed for one."""

from __future__ import annotations

from gradscope.errors import NotARun, RunNotFound
from gradscope.store.folders import Folder, Location, open_folder
from gradscope.store.parts import first_part
from gradscope.store.schema import RUN_FILE

LATEST = "latest"  # a link beside the runs to the one begun last


def list_runs(location: Location) -> list[Location]:
    """The runs directly in a folder, newest first; links (such as `latest`) are not listed twice."""
    return [folder.location for folder in runs_in(open_folder(location))]


def runs_in(folder: Folder) -> list[Folder]:
    """The same as opened folders."""
    children = [folder.child(name) for name in folder.folders()]
    parts = [(part, child) for child in children if (part := first_part(child)) is not None]
    found = [(stamp.changed, child) for part, child in parts if (stamp := part.files().get(RUN_FILE)) is not None]
    return [child for _, child in sorted(found, key=lambda each: each[0], reverse=True)]


def resolve_run(location: Location) -> Location:
    """The run for what a user typed: a run itself, or a folder of runs, of which the newest is taken.

    Where there are no links, `…/latest` is the newest run of the folder.

    Raises:
        RunNotFound: nothing is there.
        NotARun: neither a run nor a folder with runs.
    """
    folder = open_folder(location)
    if folder.name == LATEST and not folder.exists():  # a filesystem without links
        folder = folder.parent()
    if first_part(folder) is not None:
        return folder.resolved()
    if not folder.exists() and not folder.is_file():
        raise RunNotFound(
            f"no run at {location}: there is no such folder. Runs are in `runs/` unless run_dir= says else."
        )
    runs = runs_in(folder)
    if not runs:
        raise NotARun(
            f"{location} is neither a GradScope run (it has no {RUN_FILE}) nor a folder that holds one. Name either."
        )
    return runs[0].resolved()
