"""Recorded runs of the demos that come with GradScope, so that each lesson has a real run behind it.

Each is a zip with one run folder, read where it lies. They are addressed as runs whose name begins with `EXAMPLE`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gradscope.packaged import packaged
from gradscope.store.folders import Folder, open_folder

EXAMPLE = "example:"  # begins the name of a packaged run; a folder's name seldom has a colon


@cache
def examples() -> dict[str, Path]:
    """The packaged recordings by their demo's name."""
    return {file.stem: file for file in sorted(packaged("examples").glob("*.zip"))}


def example_folder(name: str) -> Folder | None:
    """The run folder of an example such as "example:adam"; None where the name is no example's.

    Example:
        >>> example_folder("example:adam").name
        'adam'
    """
    file = examples().get(name.removeprefix(EXAMPLE)) if name.startswith(EXAMPLE) else None
    return None if file is None else open_folder(f"zip://{file.stem}::{file.as_posix()}")
