"""Show everything around one step for a layer: norms, gains, shares, the loss, the learning rate, and what happened."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gradscope.cli._bounded_run import BoundedRun, name_of, read_bounded
from gradscope.cli._exit_codes import DONE
from gradscope.cli._numbers import whole
from gradscope.cli._output import add_output, look_for, put
from gradscope.cli._run_folder import add_run, shown

if TYPE_CHECKING:
    from gradscope.records import Rows
    from gradscope.reports.envelope import Document
    from gradscope.reports.layer_window import Around

HELP = "everything around one step for a layer"
WIDEST = 50  # recorded steps on either side


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser)
    parser.add_argument(
        "--layer",
        metavar="NAME",
        action="append",
        default=[],
        help="a layer's or a parameter's path, or a pattern such as 'blocks.*.fc1'; may be repeated "
        "(default: the worst layers of the findings)",
    )
    parser.add_argument(
        "--step",
        metavar="N",
        type=whole(),
        help="the step (default: where the first finding that names the layer begins)",
    )
    parser.add_argument(
        "--window",
        metavar="N",
        type=whole(0, WIDEST),
        default=5,
        help=f"how many recorded steps before and after it, at most {WIDEST} (default: 5)",
    )
    add_output(parser)


def run(options: Namespace) -> int:
    """Prints the numbers."""
    from gradscope.reports import json_text
    from gradscope.reports.layer_window import terminal

    document = _document(read_bounded(options.path), options)
    if options.format == "json":
        put(json_text.render(document), options)
    else:
        put(terminal.render(document, look_for(options)), options)
    return DONE


def _document(read: BoundedRun, options: Namespace) -> Document:
    from gradscope.reports.layer_window import around, chosen_layers, window_document

    layers = chosen_layers(read.signals, read.diagnosis, options.layer)
    rows = read.run.steps
    span = (int(rows["step"][0]), int(rows["step"][-1])) if len(rows) else None
    near = around(read.recorded, span, read.diagnosis, layers, read.signals, options.step, options.window)
    return window_document(
        read.signals,
        read.diagnosis,
        _rows(read, near),
        near,
        layers,
        _run(read, span),
        f"gradscope report {shlex.quote(str(shown(read.folder)))}",
    )


def _rows(read: BoundedRun, near: Around) -> Rows:
    """The summaries of the steps that are shown; those of a large run are read for this alone."""
    from gradscope.store.step_rows import rows_of_steps

    if not len(near.steps):
        return read.run.summaries[:0]
    first, last = int(near.steps[0]), int(near.steps[-1])
    if read.is_excerpt:
        return rows_of_steps(read.folder, first, last)
    steps = read.run.summaries["step"]
    return read.run.summaries[(steps >= first) & (steps <= last)]


def _run(read: BoundedRun, span: tuple[int, int] | None) -> Document:
    """What is said of the run."""
    full = f"{len(read.recorded):,} of them recorded in full"
    said = "no step yet" if span is None else f"steps {span[0]:,} to {span[1]:,}, {full}"
    return {
        "id": read.run.info.id,
        "name": name_of(read),
        "folder": str(shown(read.folder)),
        "model": read.run.info.model,
        "facts": f"{read.run.info.model}, {said}",
        "recorded_steps": len(read.recorded),
        "note": f"Findings are {read.excerpt_words}" if read.is_excerpt else "",
    }
