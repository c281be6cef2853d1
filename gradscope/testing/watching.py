"""A few steps of a copy under `watch`, recorded in full, and their diagnosis."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from gradscope.notices import pinned
from gradscope.records import Diagnosis
from gradscope.scope import watch
from gradscope.signals import Signals
from gradscope.store import read_run
from gradscope.testing.sample import Batch
from gradscope.testing.subject import Twin


@dataclass(frozen=True)
class Watched:
    """What a watched training showed."""

    diagnosis: Diagnosis
    signals: Signals


def is_off() -> bool:
    """Whether the environment says that nothing is to be watched."""
    return os.environ.get("GRADSCOPE", "").lower() == "off"


def train_watched(twin: Twin, batches: Iterable[Batch], steps: int, folder: Path) -> Watched:
    """Trains a copy for some steps, every one recorded, and diagnoses the run."""
    assert twin.optimizer is not None
    with quietly(), watch(twin.model, twin.optimizer, run_dir=folder, every=1) as scope:
        for _, batch in zip(range(steps), batches, strict=False):
            twin.step(batch, scope.loss)
        diagnosis = scope.diagnose()
    return Watched(diagnosis, Signals(read_run(folder)))


@contextmanager
def quietly() -> Iterator[None]:
    """Says none of our notices; what the program itself writes is written."""
    with ExitStack() as stack:
        with redirect_stderr(io.StringIO()):
            stack.enter_context(pinned())
        yield
