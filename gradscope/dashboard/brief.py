"""A run in a line, for the list of all runs: a few kilobytes, kept when all else of the run is let go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradscope.records import Diagnosis, Run, VerdictName
from gradscope.reports.loss_line import Line, downsample

_POINTS = 60  # of the loss


@dataclass(frozen=True)
class Brief:
    """What the list says of a run.

    Attributes:
        severities: how many findings there are of each.
        steps: how many are closed.
        newest_step: the last of them.
        state: "recording", "stopped" or "ended", as the run says.
        started: seconds since 1970.
        loss: steps and values, few of them, extremes kept.
        seconds: that reading and judging the run took.
        problem: why it cannot be read; "" where it can.
    """

    model: str = ""
    verdict: VerdictName = "not-enough-data"
    headline: str = ""
    severities: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    newest_step: int | None = None
    state: str = ""
    started: float = 0.0
    loss: Line = field(default_factory=lambda: (np.empty(0), np.empty(0)))
    seconds: float = 0.0
    problem: str = ""


def brief_of(run: Run, diagnosis: Diagnosis, seconds: float) -> Brief:
    """The line of a run that was read and judged."""
    severities: dict[str, int] = {}
    for finding in diagnosis.findings:
        severities[finding.severity] = severities.get(finding.severity, 0) + 1
    seen = run.steps[run.steps["has_loss"]]
    return Brief(
        run.info.model,
        diagnosis.verdict,
        diagnosis.headline,
        severities,
        len(run.steps),
        int(run.steps["step"][-1]) if len(run.steps) else None,
        run.info.state,
        run.info.created,
        downsample(seen["step"], seen["loss"], _POINTS),
        seconds,
    )
