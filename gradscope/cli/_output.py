"""Options for what is printed, where and how; the same in every command."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.errors import ReportNotWritable

if TYPE_CHECKING:
    from gradscope.reports.look import Look


def add_output(parser: ArgumentParser, formats: Sequence[str] = ("terminal", "json")) -> None:
    """Adds `--format`, `--json`, `--output` and `--color`."""
    parser.add_argument("-f", "--format", choices=formats, default="terminal", help="default: terminal")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as -f json")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to this file, not to stdout")
    add_color(parser)


def add_color(parser: ArgumentParser) -> None:
    """Adds `--color`."""
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto (default): in a terminal, or where FORCE_COLOR is set; not where NO_COLOR is, or TERM=dumb",
    )


def look_for(options: Namespace) -> Look:
    """How the text is to be laid out where it goes."""
    from gradscope.reports.look import Look, look_of

    return Look(color=options.color == "always") if options.output else look_of(sys.stdout, options.color)


def put(text: str, options: Namespace) -> None:
    """Writes the text where it was asked for.

    Raises:
        ReportNotWritable: the file cannot be written.
    """
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_file(options.output, text)
        print(f"written to {options.output}", file=sys.stderr)


def carried(page: str, options: Namespace) -> str:
    """A page of HTML, in ASCII where the stream cannot carry more."""
    unicode = options.output is not None or look_for(options).unicode
    return page if unicode else page.encode("ascii", "xmlcharrefreplace").decode("ascii")


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
