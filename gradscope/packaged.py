"""Where the files are that come with GradScope: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent  # importlib.resources would take longer to import than a report to print


def packaged(name: str) -> Path:
    """The path of a file or folder below `assets`.

    Example:
        >>> packaged("gradscope.css").is_file()
        True
    """
    inside = _PACKAGE / "assets" / name
    return inside if inside.exists() else _PACKAGE.parent / "assets" / name
