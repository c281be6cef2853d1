"""Keeps a file beside a trial's results that says how far it has come, and hands everything on to what people see."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gradscope.store.trial_status import TrialState, TrialStatus, write_trial_status
from gradscope.trials.job import Job, Result
from gradscope.trials.progress import Clock, Progress


class Noted:
    """A `Progress` that is noted in the trial's folder before it is shown."""

    def __init__(self, shown: Progress, folder: Path, remedies: Sequence[str], steps: int, seeds: int) -> None:
        self._shown, self._folder = shown, folder
        self._clock, self._running = Clock(), list[Job]()
        self._status = TrialStatus(
            "running", process=os.getpid(), started=time.time(), remedies=tuple(remedies), steps=steps, seeds=seeds
        )
        self._note()

    def plan(self, more: int, at_once: int) -> None:
        """See `Progress`."""
        self._clock.planned += more
        self._clock.at_once = at_once
        self._note()
        self._shown.plan(more, at_once)

    def began(self, job: Job) -> None:
        """See `Progress`."""
        self._running.append(job)
        self._note()
        self._shown.began(job)

    def done(self, job: Job, result: Result) -> None:
        """See `Progress`."""
        self._running = [each for each in self._running if each is not job]
        self._clock.count(result)
        self._note()
        self._shown.done(job, result)

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._shown.say(text)

    def end(self, state: TrialState, said: str) -> None:
        """Notes what it came to."""
        self._running = []
        self._status = replace(self._status, state=state, said=said)
        self._note()

    def close(self) -> None:
        """See `Progress`."""
        self._shown.close()

    def _note(self) -> None:
        self._status = replace(
            self._status,
            written=time.time(),
            planned=self._clock.planned,
            done=self._clock.ended,
            running=tuple(f"{job.arm}, seed {job.seed}" for job in self._running),
            seconds_left=self._clock.seconds_left,
        )
        write_trial_status(self._folder, self._status)
