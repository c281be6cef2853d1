"""A run as far as it fits into memory: of a large one some recorded steps are read whole, and that is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradscope.cli._run_folder import Location, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gradscope.records import Diagnosis, Run
    from gradscope.signals import Signals

MEMORY = 128 * 2**20  # bytes of summaries that are read whole


@dataclass(frozen=True)
class BoundedRun:
    """A run with its signals and its diagnosis.

    Attributes:
        folder: where it is.
        run: with the summaries of the steps that were read.
        signals, diagnosis: of these.
        recorded: all recorded steps, shape `[recorded steps]`.
    """

    folder: Location
    run: Run
    signals: Signals
    diagnosis: Diagnosis
    recorded: NDArray[np.int64]

    @property
    def is_excerpt(self) -> bool:
        """Whether some recorded steps were not read."""
        return len(self.signals.steps) < len(self.recorded)

    @property
    def excerpt_words(self) -> str:
        """What of the run was read, where it is not all of it."""
        if not self.is_excerpt:
            return ""
        return (
            f"judged from {len(self.signals.steps):,} of its {len(self.recorded):,} recorded steps: the run is larger than "
            "the memory that this takes. The first and the newest are among them, those where something happened, and "
            "some of the others."
        )


def read_bounded(path: Location) -> BoundedRun:
    """The run for what was typed, read as far as memory allows, and diagnosed.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    import numpy as np

    from gradscope.diagnosis import diagnose
    from gradscope.records import NotObserved
    from gradscope.signals import Signals
    from gradscope.store import RunReader, resolve_run

    folder = resolve_run(path)
    reader = RunReader(folder, MEMORY)
    run = reader.read()
    recorded = np.unique(run.summaries["step"] if reader.excerpt is None else reader.excerpt.steps)
    signals = Signals(run)
    if len(signals.steps) < len(recorded):
        what = f"{len(recorded) - len(signals.steps):,} of {len(recorded):,} recorded steps, for the diagnosis"
        unseen = NotObserved(what, "the run is larger than the memory that this takes")
        run = replace(run, info=replace(run.info, not_observed=(*run.info.not_observed, unseen)))
        signals = Signals(run)
    return BoundedRun(folder, run, signals, diagnose(run, signals), recorded)


def name_of(read: BoundedRun) -> str:
    """The run's name, as short as its folder's."""
    from gradscope.store.folders import open_folder

    return open_folder(read.folder).name or str(shown(read.folder))
