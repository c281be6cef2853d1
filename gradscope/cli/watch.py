"""Follow a run in the terminal while it grows, without a browser; ends when the training has ended."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradscope.cli._exit_codes import DONE
from gradscope.cli._output import add_color
from gradscope.cli._run_folder import add_run, shown

if TYPE_CHECKING:
    from gradscope.records import Run
    from gradscope.reports.envelope import Document
    from gradscope.reports.look import Look
    from gradscope.store.folders import Location

HELP = "follow a run in the terminal while it grows"
EVERY, PATIENCE = 1.0, 5.0  # seconds between two looks, or so many times what the last one took


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser)
    add_color(parser)


def run(options: Namespace) -> int:
    """Shows the run until its training has ended. In a file or a pipe: a line for each new finding, then the verdict."""
    from gradscope.reports.look import look_of
    from gradscope.store import resolve_run

    folder, look = resolve_run(options.path), look_of(sys.stdout, options.color)
    if sys.stdout.isatty():
        _draw(folder, look)
    else:
        _tell(folder, look)
    return DONE


def _looks(folder: Location) -> Iterator[tuple[Document, Run, float]]:
    """The report, the run and the seconds since it was written to, again and again until the training has ended."""
    from gradscope.diagnosis import diagnose
    from gradscope.reports import document
    from gradscope.store.bounded import BoundedReader
    from gradscope.store.liveness import is_over

    reader, written, before, said = BoundedReader(folder), time.time(), None, None
    while True:
        started = time.perf_counter()
        run = reader.read().run
        if run is not before:
            stamps = [stamp.written for stamp in reader.folder.files().values()]
            written = max(stamps, default=0.0) or time.time()
            before, said = run, document(run, diagnose(run), shown(folder))
        assert said is not None
        age = time.time() - written
        yield said, run, age
        if is_over(run.info, age):
            return
        time.sleep(max(EVERY, PATIENCE * (time.perf_counter() - started)))


def _draw(folder: Location, look: Look) -> None:
    """In place, below what the terminal already shows; the last picture stays."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from gradscope.reports.live import losses_of, render

    console = Console(highlight=False, markup=False, width=look.width, no_color=not look.color)
    with Live(console=console, auto_refresh=False) as live:
        for document, run, age in _looks(folder):
            live.update(Text.from_ansi(render(document, losses_of(run), age, look)), refresh=True)


def _tell(folder: Location, look: Look) -> None:
    from gradscope.reports.live import conclusion, news

    known: set[tuple[str, str]] = set()
    last = ""
    for document, _, age in _looks(folder):
        for line in news(document, known, look):
            print(line, flush=True)
        last = conclusion(document, age, look)
    print(f"\n{last}" if known else last)
