"""The run that the user named, as options and as a path to show."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

DEFAULT_FOLDER = Path("runs")  # where `watch()` records unless told otherwise


def add_run(parser: ArgumentParser, metavar: str, meaning: str) -> None:
    """Adds the positional argument that names a run."""
    parser.add_argument("path", metavar=metavar, type=Path, nargs="?", default=DEFAULT_FOLDER, help=meaning)


def shown(folder: Path) -> Path:
    """The folder as short as the user can type it from here."""
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder
