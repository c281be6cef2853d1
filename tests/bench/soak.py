"""Many steps of a small training: what GradScope keeps in memory must not grow with them."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

from tests.bench.contenders import Every, with_gradscope
from tests.bench.trainings import mlp


def resident() -> int:
    """The bytes of this process that are in memory now, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def soak(every: Every, steps: int, warm_up: int) -> int:
    """By how many bytes the process grows from step `warm_up` to step `steps` of a watched training."""
    training = mlp(width=8, layers=2, batch=4)
    with tempfile.TemporaryDirectory() as place, with_gradscope(training, Path(place) / "run", every=every):
        for _ in range(warm_up):
            training.step()
        gc.collect()
        before = resident()
        for _ in range(warm_up, steps):
            training.step()
        gc.collect()
        return resident() - before
