"""What is running, how much is done and how long it will take, on stderr."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

import numpy as np

from gradscope.numerals import number
from gradscope.trials.job import Job, Result


class Progress(Protocol):
    """Is told what happens."""

    def plan(self, more: int, at_once: int) -> None:
        """So many more runs will be needed, so many at once."""

    def began(self, job: Job) -> None:
        """A run has begun."""

    def done(self, job: Job, result: Result) -> None:
        """A run has ended."""

    def say(self, text: str) -> None:
        """Something that people should read now."""

    def close(self) -> None:
        """Nothing more will happen."""


def progress_on(stream: TextIO | None) -> Progress:
    """A bar on a terminal, a line a run elsewhere, nothing without a stream."""
    if stream is None:
        return _Silent()
    return _Bar(stream) if stream.isatty() else _Lines(stream)


class _Silent:
    def plan(self, more: int, at_once: int) -> None:
        """See `Progress`."""

    def began(self, job: Job) -> None:
        """See `Progress`."""

    def done(self, job: Job, result: Result) -> None:
        """See `Progress`."""

    def say(self, text: str) -> None:
        """See `Progress`."""

    def close(self) -> None:
        """See `Progress`."""


class Clock:
    """How long the rest will take, judged by the runs that have ended."""

    def __init__(self) -> None:
        self.planned = self.ended = 0
        self.at_once = 1
        self.seconds: list[float] = []
        self.started = time.monotonic()

    @property
    def seconds_left(self) -> float | None:
        """About; None before the first run has ended."""
        if not self.seconds:
            return None
        return float(np.mean(self.seconds)) * (self.planned - self.ended) / max(1, self.at_once)

    def count(self, result: Result) -> None:
        """Counts a run that has ended."""
        self.ended += 1
        if np.isfinite(result.seconds):
            self.seconds.append(result.seconds)

    def left(self) -> str:
        """The same in words; empty before."""
        return "" if self.seconds_left is None else f"about {_span(self.seconds_left)} left"


class _Lines:
    """For logs: a line when a run has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._clock = Clock()

    def plan(self, more: int, at_once: int) -> None:
        """See `Progress`."""
        self._clock.planned += more
        self._clock.at_once = at_once

    def began(self, job: Job) -> None:
        """See `Progress`."""

    def done(self, job: Job, result: Result) -> None:
        """See `Progress`."""
        self._clock.count(result)
        left = self._clock.left() if self._clock.ended < self._clock.planned else ""
        self.say(f"{self._clock.ended} of {self._clock.planned}  {_result(job, result)}{f'; {left}' if left else ''}")

    def say(self, text: str) -> None:
        """See `Progress`."""
        print(f"gradscope: {text}", file=self._stream, flush=True)

    def close(self) -> None:
        """See `Progress`."""


class _Bar:
    """For people: one line that moves, and one for each run that went wrong."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Display

        self._running: list[Job] = []
        self._clock = Clock()
        self._display = Display(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=Console(file=stream, markup=False, highlight=False),
            transient=True,
        )
        self._task = self._display.add_task("starting", total=0, left="")

    def plan(self, more: int, at_once: int) -> None:
        """See `Progress`."""
        self._display.start()  # twice does no harm
        self._clock.planned += more
        self._clock.at_once = at_once
        self._show()

    def began(self, job: Job) -> None:
        """See `Progress`."""
        self._running.append(job)
        self._show()

    def done(self, job: Job, result: Result) -> None:
        """See `Progress`."""
        self._running = [each for each in self._running if each is not job]
        self._clock.count(result)
        if result.state not in ("done", "ended early"):
            self.say(_result(job, result))
        self._show()

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._display.console.print(text)

    def close(self) -> None:
        """See `Progress`."""
        self._display.stop()

    def _show(self) -> None:
        running = ", ".join(f"{job.arm} (seed {job.seed})" for job in self._running) or "waiting"
        self._display.update(
            self._task,
            description=running,
            total=self._clock.planned,
            completed=self._clock.ended,
            left=self._clock.left(),
        )


def _result(job: Job, result: Result) -> str:
    """What came of a run, in a line."""
    course = result.course(job.model)
    loss = "" if course is None or not course.losses else f", loss {number(course.loss_after(job.steps))}"
    at = f" at step {course.diverged_at}" if result.state == "diverged" and course is not None else ""
    why = f": {result.why}" if result.why else ""
    spent = f" after {_span(result.seconds)}" if np.isfinite(result.seconds) else ""
    return f"{job.arm}, seed {job.seed}: {result.state}{at}{why}{spent}{loss if result.state != 'diverged' else ''}"


def _span(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> _span(4.26), _span(90), _span(7300)
        ('4.3 s', '2 min', '2.0 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def stderr(wanted: bool) -> TextIO | None:
    """Where progress is shown, if it is wanted."""
    return sys.stderr if wanted else None
