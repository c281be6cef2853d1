"""What all exporters share: how they read a run, follow one that grows, and ask for the package that they need."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradscope.diagnosis import diagnose
from gradscope.errors import MissingPackage, ReportNotWritable
from gradscope.records import Diagnosis, Run
from gradscope.reports.finding_markdown import finding_markdown, plain
from gradscope.reports.words import VERDICT_WORDS
from gradscope.store.bounded import BoundedReader
from gradscope.store.folders import Location
from gradscope.store.liveness import is_over
from gradscope.store.stream import RunStream

POLL = 2.0  # seconds between two looks at a run that is followed


def needed(module: str, package: str, target: str) -> Any:
    """A module that is no dependency of ours.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"exporting to {target} needs the package {package}, which cannot be imported ({error}). "
            f"Install it with `pip install {package}`."
        ) from error


def stretches(location: Location, follow: bool = False) -> Iterator[Run]:
    """The run, see `RunStream.read`; with `follow` what is new too, until the run has ended."""
    stream, heard, told = RunStream(location), time.monotonic(), (-1, -1)
    while True:
        ended = is_over(stream.info, time.monotonic() - heard)
        for run in stream.read():
            if (news := (len(run.steps), len(run.events))) != told or len(run.summaries):
                heard, told = time.monotonic(), news
            yield run
        if ended or not follow:
            return
        if stream.info.state == "recording":
            time.sleep(POLL)


class Judge:
    """Gives a run with its diagnosis, again and again while it grows; of a large one see `store.bounded`."""

    def __init__(self, location: Location) -> None:
        self._reader = BoundedReader(location)

    def now(self) -> tuple[Run, Diagnosis]:
        """The run as it is now, and its diagnosis."""
        run = self._reader.read().run
        return run, diagnose(run)


def judged(location: Location) -> tuple[Run, Diagnosis]:
    """The run and its diagnosis, once."""
    return Judge(location).now()


def diagnosis_markdown(diagnosis: Diagnosis) -> str:
    """The verdict and all findings as Markdown."""
    head = f"**{VERDICT_WORDS[diagnosis.verdict]}:** {plain(diagnosis.headline)}\n"
    return "\n".join([head, *(finding_markdown(f"F{at}", each) for at, each in enumerate(diagnosis.findings, 1))])


def folder_for(output: str) -> Path:
    """A folder to write into, made if missing.

    Raises:
        ReportNotWritable: it cannot be made.
    """
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportNotWritable(
            f"cannot write to the folder {folder}: {error.strerror}. Give -o another one."
        ) from error
    return folder
