"""A new finding in a training that runs, as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.records import Diagnosis, Finding


@dataclass(frozen=True)
class Alert:
    """A new finding, with all that a handler may want to say of it.

    Names from the user's program are escaped in `line` and `explanation`.
    """

    finding: Finding
    diagnosis: Diagnosis  # that it is part of
    step: int  # the last one that was closed when it was found
    run_dir: Path  # where the run is recorded
    line: str  # "gradscope ▲ error step 1143 … -> gradscope dashboard runs/a"
    explanation: str  # several lines: what, where, since when, why, what to do, where the run is
    document: dict[str, Any]  # what a webhook is sent
