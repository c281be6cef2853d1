"""The run that was typed, read in bounded memory, with its signals and its diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradscope.cli._run_folder import Location, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gradscope.records import Diagnosis, Run
    from gradscope.signals import Signals


@dataclass(frozen=True)
class BoundedRun:
    """A run with its signals and its diagnosis.

    Attributes:
        folder: where it is.
        run: with the summaries of the steps that were read.
        signals, diagnosis: of these.
        recorded: all recorded steps, shape `[recorded steps]`.
        excerpt_words: what of the run was read; "" where it is all of it.
    """

    folder: Location
    run: Run
    signals: Signals
    diagnosis: Diagnosis
    recorded: NDArray[np.int64]
    excerpt_words: str = ""

    @property
    def is_excerpt(self) -> bool:
        """Whether some recorded steps were not read."""
        return bool(self.excerpt_words)


def read_bounded(path: Location) -> BoundedRun:
    """The run for what was typed, read as far as memory allows, and diagnosed.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    from gradscope.diagnosis import diagnose
    from gradscope.signals import Signals
    from gradscope.store import resolve_run
    from gradscope.store.bounded import BoundedReader

    folder = resolve_run(path)
    reading = BoundedReader(folder).read()
    signals = Signals(reading.run)
    diagnosis = diagnose(reading.run, signals)
    return BoundedRun(folder, reading.run, signals, diagnosis, reading.recorded, reading.excerpt_words)


def name_of(read: BoundedRun) -> str:
    """The run's name, as short as its folder's."""
    from gradscope.store.folders import open_folder

    return open_folder(read.folder).name or str(shown(read.folder))
