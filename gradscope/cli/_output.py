"""Options for how text is printed, and the look that follows from them."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from gradscope.errors import ReportNotWritable


def add_color(parser: ArgumentParser) -> None:
    """Adds `--color`."""
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto (default): in a terminal, unless NO_COLOR is set or TERM=dumb",
    )


def write_file(file: Path, text: str) -> None:
    """Writes a report to a file, in UTF-8.

    Raises:
        ReportNotWritable: the file cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportNotWritable(
            f"cannot write the report to {file}: {error.strerror}. Give -o another file."
        ) from error
