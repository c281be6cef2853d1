"""The dashboard over a run as large as they come, and what it costs a training to be watched by it."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gradscope.records import Rows
from gradscope.store import RunWriter
from tests.bench.contenders import with_gradscope
from tests.bench.growing import grow, more
from tests.bench.large_browser import measure_in_browser
from tests.bench.trainings import Training, mlp
from tests.bench.viewer import Drawn, Viewer, viewer
from tests.dashboard.big import Size, begin, summaries

GROWTHS, RELOADS, METRICS = 12, 50, ("backward-gain", "gradient-norm", "forward-gain", "update-ratio")


@dataclass(frozen=True)
class Figures:
    """What the dashboard takes for one run."""

    opened: Drawn  # by a server that was just started
    refreshed: tuple[Drawn, ...]  # each after the run grew by a recorded step
    reloaded: tuple[Drawn, ...]  # without anything new, each with another metric

    def lines(self) -> Iterator[str]:
        """The figures beside what they are to stay under."""
        every = [self.opened, *self.refreshed, *self.reloaded]
        seconds = [each.seconds for each in self.refreshed]
        payload, memory = max(each.payload for each in every) / 1e6, max(each.memory for each in every) / 1e6
        growth = (self.reloaded[-1].memory - self.reloaded[len(METRICS) - 1].memory) / 1e6
        yield f"  opens in               {self.opened.seconds:7.2f} s    goal   5"
        yield f"  refreshes in           {statistics.median(seconds):7.2f} s    goal   1    at worst {max(seconds):.2f} s"
        yield f"  payload                {payload:7.2f} MB   goal   1"
        yield f"  memory of the server   {memory:7.0f} MB   goal 500    peak {every[-1].peak / 1e6:.0f} MB"
        yield f"  grows in {len(self.reloaded):3} reloads by {growth:6.1f} MB   goal   0"


def measure_large(size: Size | None = None, growths: int = GROWTHS, reloads: int = RELOADS) -> Figures:
    """Opens a large run that goes on, lets it grow, and reloads it."""
    size = size or Size()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "big"
        writer = begin(folder, size)
        for rows in summaries(size):
            writer.write_summaries(rows)
        with viewer(folder) as seen:
            opened = seen.draw()
            while opened.left:
                opened = replace(seen.draw(), seconds=opened.seconds)
            refreshed = tuple(_grown(writer, seen, *rows) for rows in more(size, growths))
            reloaded = tuple(seen.draw(f"?metric={METRICS[number % len(METRICS)]}") for number in range(reloads))
        writer.close()
    return Figures(opened, refreshed, reloaded)


def _grown(writer: RunWriter, seen: Viewer, step: Rows, rows: Rows) -> Drawn:
    grow(writer, step, rows)
    return seen.draw()


# what it costs the training


@contextmanager
def _looked_at(folder: Path) -> Iterator[None]:
    """A dashboard over the run, drawing it once a second like an open page does."""
    ended = threading.Event()
    with viewer(folder) as seen:
        seen.draw()

        def follow() -> None:
            while not ended.wait(1.0):
                seen.draw()

        page = threading.Thread(target=follow)
        page.start()
        try:
            yield
        finally:
            ended.set()
            page.join()


def cost_of_looking(turns: int = 5, seconds: float = 4.0) -> tuple[float, float]:
    """A step's time, and its CPU time, with a dashboard open over that with none: one watched training, in turns.

    A core is left to spare: what a dashboard costs a training that uses all of them is what any program beside it does.
    """
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    with tempfile.TemporaryDirectory() as place:
        training, folder = mlp(width=128, layers=10, batch=64), Path(place) / "run"
        with with_gradscope(training, folder, every=10):
            _steps_for(1.0, training)
            for turn in range(turns):
                for looked_at in (turn % 2 == 0, turn % 2 == 1):
                    with _looked_at(folder) if looked_at else nullcontext():
                        times[looked_at] += _steps_for(seconds, training)
    torch.set_num_threads(threads)
    wall, cpu = np.median(times[True], axis=0) / np.median(times[False], axis=0)
    return float(wall), float(cpu)


def _steps_for(seconds: float, training: Training) -> list[tuple[float, float]]:
    until, taken = time.perf_counter() + seconds, []
    while time.perf_counter() < until:
        taken.append(training.step())
    return taken


def show_large() -> None:
    """Prints all of it."""
    size = Size()
    print(f"the dashboard over {size.layers:,} layers x {size.steps:,} steps", flush=True)
    print("\n".join(measure_large(size).lines()), flush=True)
    print("\n".join(measure_in_browser(size).lines()), flush=True)
    print("a training with the dashboard open, over the same with it closed", flush=True)
    wall, cpu = cost_of_looking()
    print(f"  a step's time          {wall:7.3f}      goal   1.01    CPU time {cpu:.3f}", flush=True)
