"""Say what is sick in a run, since when, where, why and what to do."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gradscope.cli._output import add_output, look_for, put
from gradscope.cli._run_folder import Location, add_run, shown

if TYPE_CHECKING:
    from gradscope.records import Diagnosis, Run

FORMATS = ("terminal", "json", "html")
HELP = "what is sick in a run, why, and what to do"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser, "RUN", "a run, or a folder of runs, of which the newest is taken; a path or a URL (default: runs)")
    add_output(parser, FORMATS)


def run(options: Namespace) -> int:
    """Prints the report. Findings do not change the exit code: a report that was made is a success."""
    put(_text(options), options)
    return 0


def _text(options: Namespace) -> str:
    from gradscope.diagnosis import diagnose
    from gradscope.reports import document, json_text, terminal
    from gradscope.store import read_run, resolve_run

    folder = resolve_run(options.path)
    recorded = read_run(folder)
    if options.format == "html":
        return _page(recorded, diagnose(recorded), shown(folder), ascii_only=not _takes_unicode(options))
    content = document(recorded, diagnose(recorded), shown(folder))
    if options.format == "json":
        return json_text.render(content)
    return terminal.render(content, look_for(options))


def _page(recorded: Run, diagnosis: Diagnosis, folder: Location, ascii_only: bool) -> str:
    from gradscope.reports import html
    from gradscope.reports.html_data import page_data

    page = html.render(page_data(recorded, diagnosis, folder))
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii") if ascii_only else page


def _takes_unicode(options: Namespace) -> bool:
    from gradscope.reports.look import look_of

    return options.output is not None or look_of(sys.stdout).unicode
