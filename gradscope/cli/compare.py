"""Compare two runs: what was set differently, which findings are gone, new or still there, and where their numbers part."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import Action, ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from gradscope.cli._bounded_run import BoundedRun, name_of, read_bounded
from gradscope.cli._exit_codes import DONE
from gradscope.cli._formats import FORMATS
from gradscope.cli._output import add_output, carried, look_for, put
from gradscope.cli._run_folder import ONE_RUN, Location, location, shown

if TYPE_CHECKING:
    from gradscope.comparison import Side
    from gradscope.reports.comparison.document import Line
    from gradscope.reports.comparison.map import DifferenceMap
    from gradscope.reports.envelope import Document

HELP = "what differs between two runs: settings, findings, layers, loss"
_ALIGNMENTS = ("step", "share", "time")


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("a", metavar="A", type=location, help=f"the run before: {ONE_RUN}")
    parser.add_argument("b", metavar="B", type=location, help="the run after, in the same way")
    parser.add_argument(
        "--align",
        choices=_ALIGNMENTS,
        default="step",
        help="what the losses have in common: the step (default), the share of the training, or the time since its start",
    )
    add_output(parser, FORMATS)
    parser.add_argument("--schema", action=_Schema, nargs=0, help="print the JSON Schema of -f json, and read no run")


class _Schema(Action):
    """Prints the schema at once, as --version does: there are no runs to be named."""

    def __call__(self, parser: ArgumentParser, *_: Any) -> None:
        from gradscope.reports.schema import schema_text

        sys.stdout.write(schema_text("comparison"))
        parser.exit()


def run(options: Namespace) -> int:
    """Prints the comparison. Findings do not change the exit code."""
    a, b = read_bounded(options.a), read_bounded(options.b)
    put(_text(a, b, options), options)
    return DONE


def _text(a: BoundedRun, b: BoundedRun, options: Namespace) -> str:
    from gradscope.reports import document as report
    from gradscope.reports import github, json_text
    from gradscope.reports.comparison import html, junit, markdown, sarif, terminal

    sides = _sides(a, b)
    document = _document(a, b, sides, options.align)
    if options.format == "json":
        return json_text.render(document)
    if options.format in ("markdown", "md"):
        return markdown.render(document)
    if options.format == "html":
        return carried(html.render(document, _map(sides, options.align)), options)
    if options.format in ("sarif", "junit"):
        reports = [report(read.run, read.diagnosis, shown(read.folder)) for read in (a, b)]
        if options.format == "sarif":
            return sarif.render(document, reports[0], reports[1], github.root(os.environ))
        return junit.render(document, reports[1])
    return terminal.render(document, look_for(options))


def _sides(a: BoundedRun, b: BoundedRun) -> tuple[Side, Side]:
    """Both under their folders' names; under their paths where these are one."""
    from gradscope.comparison import Side

    names = [name_of(a), name_of(b)]
    if names[0] == names[1] and a.folder != b.folder:
        names = [str(shown(a.folder)), str(shown(b.folder))]
    one, other = (Side(name, each.run, each.diagnosis, each.signals) for name, each in zip(names, (a, b), strict=True))
    return one, other


def _document(a: BoundedRun, b: BoundedRun, sides: tuple[Side, Side], by: str) -> Document:
    from gradscope.comparison import compare, to_document
    from gradscope.reports.comparison.document import comparison_document

    notes = [f"{letter} is {read.excerpt_words}" for letter, read in (("A", a), ("B", b)) if read.is_excerpt]
    return comparison_document(
        to_document(compare(*sides)),
        (str(shown(a.folder)), str(shown(b.folder))),
        (_loss(sides[0], by), _loss(sides[1], by)),
        by,
        notes,
        _next_command(a.folder, b.folder),
    )


def _map(sides: tuple[Side, Side], by: str) -> DifferenceMap:
    """The map of the page: the backward gains of the layers of both, B minus A."""
    import numpy as np

    from gradscope.comparison.difference import (
        BOTH_BROKEN,
        ONLY_A_BROKEN,
        ONLY_A_ZERO,
        ONLY_B_BROKEN,
        ONLY_B_ZERO,
        difference,
    )
    from gradscope.reports.comparison.map import DifferenceMap
    from gradscope.reports.metrics import DEFAULT_METRIC, METRICS

    metric = METRICS[DEFAULT_METRIC]
    found = difference(sides[0].signals, sides[1].signals, metric, by)
    decades = found.decades.astype(np.float64)
    decades[found.states == ONLY_A_ZERO], decades[found.states == ONLY_B_ZERO] = np.inf, -np.inf
    broken = np.isin(found.states, (ONLY_A_BROKEN, ONLY_B_BROKEN, BOTH_BROKEN))
    return DifferenceMap(metric.title, metric.span, found.labels, found.at, decades, broken)


def _loss(side: Side, by: str) -> Line:
    """The loss on the axis that the runs are aligned by."""
    from gradscope.comparison import positions

    seen = side.run.steps[side.run.steps["has_loss"]]
    return positions(side.signals, by, seen["step"]), seen["loss"]


def _next_command(a: Location, b: Location) -> str:
    """The dashboard compares runs of one folder; else what is sick in B."""
    from gradscope.store.folders import open_folder

    parent = open_folder(a).parent().location
    if a != b and parent == open_folder(b).parent().location:
        return f"gradscope dashboard {shlex.quote(str(shown(parent)))}"
    return f"gradscope report {shlex.quote(str(shown(b)))}"
