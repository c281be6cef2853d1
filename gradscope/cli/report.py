"""Say what is sick in a run, since when, where, why and what to do."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gradscope.cli._exit_codes import DONE
from gradscope.cli._formats import add_formats, judged, text_of
from gradscope.cli._output import put
from gradscope.cli._run_folder import add_run

HELP = "what is sick in a run, why, and what to do"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser)
    add_formats(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of -f json, and read no run")


def run(options: Namespace) -> int:
    """Prints the report. Findings do not change the exit code: a report that was made is a success."""
    if options.schema:
        from gradscope.reports.schema import schema_text

        put(schema_text(), options)
        return DONE
    read = judged(options.path)
    put(text_of(read, read.document, options), options)
    return DONE
