"""Say what is sick in a run, since when, where, why and what to do."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli._output import add_color, write_file
from gradscope.cli._run_folder import Location, add_run, shown
from gradscope.errors import RunError

if TYPE_CHECKING:
    from gradscope.records import Diagnosis, Run

FORMATS = ("terminal", "json", "html")
HELP = "what is sick in a run, why, and what to do"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser, "RUN", "a run, or a folder of runs, of which the newest is taken; a path or a URL (default: runs)")
    parser.add_argument("-f", "--format", choices=FORMATS, default="terminal", help="default: terminal")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to this file, not to stdout")
    add_color(parser)


def run(options: Namespace) -> int:
    """Prints the report. Findings do not change the exit code: a report that was made is a success."""
    from gradscope.reports import json_text
    from gradscope.reports.document import error_document

    try:
        text = _text(options)
    except RunError as error:
        if options.format == "json":  # a program reads this: it gets a document, whatever happened
            _put(json_text.render(error_document(error)), options.output)
        raise
    _put(text, options.output)
    return 0


def _text(options: Namespace) -> str:
    from gradscope.diagnosis import diagnose
    from gradscope.reports import document, json_text, terminal
    from gradscope.reports.look import Look, look_of
    from gradscope.store import read_run, resolve_run

    folder = resolve_run(options.path)
    recorded = read_run(folder)
    if options.format == "html":
        return _page(recorded, diagnose(recorded), shown(folder), ascii_only=not _takes_unicode(options))
    content = document(recorded, diagnose(recorded), shown(folder))
    if options.format == "json":
        return json_text.render(content)
    to_file = Look(color=options.color == "always")
    return terminal.render(content, to_file if options.output else look_of(sys.stdout, options.color))


def _page(recorded: Run, diagnosis: Diagnosis, folder: Location, ascii_only: bool) -> str:
    from gradscope.reports import html
    from gradscope.reports.html_data import page_data

    page = html.render(page_data(recorded, diagnosis, folder))
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii") if ascii_only else page


def _takes_unicode(options: Namespace) -> bool:
    from gradscope.reports.look import look_of

    return options.output is not None or look_of(sys.stdout).unicode


def _put(text: str, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(text)
    else:
        write_file(file, text)
        print(f"written to {file}", file=sys.stderr)
