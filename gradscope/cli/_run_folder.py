"""The run that the user named, as options and as a path to show."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

Location = Path | str  # a path, or a URL

DEFAULT_FOLDER = Path("runs")  # where `watch()` records unless told otherwise
ONE_RUN = "a run, or a folder of runs, of which the newest is taken; a path or a URL"


def add_run(parser: ArgumentParser, metavar: str = "RUN", meaning: str = f"{ONE_RUN} (default: runs)") -> None:
    """Adds the positional argument that names a run."""
    parser.add_argument("path", metavar=metavar, type=location, nargs="?", default=DEFAULT_FOLDER, help=meaning)


def location(text: str) -> Location:
    """What was typed: a URL stays as it is, for a path would lose one of its slashes."""
    return text if "://" in text else Path(text)


def shown(folder: Location) -> Location:
    """The folder as short as the user can type it from here."""
    if isinstance(folder, Path) and folder.is_relative_to(Path.cwd()):
        return folder.relative_to(Path.cwd())
    return folder
