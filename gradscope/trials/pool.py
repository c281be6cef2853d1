"""Several jobs at once on this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

import psutil

from gradscope.trials.job import Job, Result
from gradscope.trials.processes import Limits, run_child

_MEMORY_SHARE = 0.9  # of what is available, for all the runs at once

Begin = Callable[[Job], Result | None]  # gives what is known of a job, which is not run then
Done = Callable[[Job, Result], None]


class Pool(Protocol):
    """Where jobs are run. A context manager.

    Attributes:
        at_once: how many jobs run at once.
    """

    at_once: int

    def __enter__(self) -> Pool:
        """Reaches it."""

    def __exit__(self, *_: object) -> None:
        """Leaves it."""

    def room(self, on_gpu: bool) -> int:
        """How many jobs fit there, when the user does not say."""

    def memory(self) -> int | None:
        """Bytes that all jobs at once may hold; None when nobody here can say."""

    def run(self, jobs: Sequence[Job], limits: Limits, begin: Begin, done: Done) -> None:
        """Runs jobs in their order, as many at once as there is room for; says when each begins and what came of it.

        Raises:
            KeyboardInterrupt: Ctrl-C; the jobs that were running are ended, the others never begin.
        """


class LocalPool:
    """So many processes at once."""

    def __init__(self) -> None:
        self.at_once = 1

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to be closed."""

    def room(self, on_gpu: bool) -> int:
        """Half the cores; one on a GPU, whose memory several could fill."""
        return 1 if on_gpu else max(1, (os.cpu_count() or 1) // 2)

    def memory(self) -> int:
        """Nearly all that is available."""
        return int(psutil.virtual_memory().available * _MEMORY_SHARE)

    def run(self, jobs: Sequence[Job], limits: Limits, begin: Begin, done: Done) -> None:
        """See `Pool`."""
        stop = threading.Event()

        def one(job: Job) -> Result:
            if stop.is_set():
                return Result("stopped")
            return begin(job) or run_child(job, limits, stop)

        with ThreadPoolExecutor(self.at_once, thread_name_prefix="trial") as threads:
            running: dict[Future[Result], Job] = {threads.submit(one, job): job for job in jobs}
            try:
                while running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        done(running.pop(future), future.result())
            except BaseException:
                stop.set()
                raise
