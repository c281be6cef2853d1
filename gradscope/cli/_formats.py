"""A run's report in the format that was asked for."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradscope.cli._bounded_run import read_bounded
from gradscope.cli._output import add_output, carried, look_for
from gradscope.cli._run_folder import Location, shown

if TYPE_CHECKING:
    from gradscope.records import Diagnosis, Run
    from gradscope.reports.envelope import Document

FORMATS = ("terminal", "json", "markdown", "md", "html", "sarif", "junit")


def add_formats(parser: ArgumentParser) -> None:
    """Adds `--format` with all formats of a report, and the other options of output."""
    add_output(parser, FORMATS)


@dataclass(frozen=True)
class Judged:
    """A run with its diagnosis, and the document of both."""

    folder: Location
    run: Run
    diagnosis: Diagnosis
    document: Document


def judged(path: Location) -> Judged:
    """The run for what was typed, read as far as memory allows, and diagnosed.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    from gradscope.reports import document

    read = read_bounded(path)
    return Judged(read.folder, read.run, read.diagnosis, document(read.run, read.diagnosis, shown(read.folder)))


def text_of(read: Judged, document: Document, options: Namespace) -> str:
    """The report in the format of the options; no other one is imported, for a report is to be there at once.

    Args:
        read: what the page is made of, which needs more than the document.
        document: what all other formats are made of.
        options: with `format` and `output`.
    """
    if options.format == "json":
        from gradscope.reports import json_text

        return json_text.render(document)
    if options.format in ("markdown", "md"):
        from gradscope.reports import markdown

        return markdown.render(document)
    if options.format == "sarif":
        from gradscope.reports import github, sarif

        return sarif.render(document, github.root(os.environ))
    if options.format == "junit":
        from gradscope.reports import junit

        return junit.render(document)
    if options.format == "html":
        from gradscope.reports import html
        from gradscope.reports.html.data import page_data

        return carried(html.render(page_data(read.run, read.diagnosis, shown(read.folder))), options)
    from gradscope.reports import terminal

    return terminal.render(document, look_for(options))
