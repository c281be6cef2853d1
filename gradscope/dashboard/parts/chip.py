"""The live chip: whether the run still grows, or was packaged with GradScope."""

from __future__ import annotations

from gradscope.dashboard.learning.examples import EXAMPLE
from gradscope.dashboard.wording import duration, step
from gradscope.records import RunInfo
from gradscope.reports.words import count

STALE_AFTER = 60.0  # seconds without a write


def origin_text(run: str) -> str:
    """What is said before the chip's text of a run that is not the user's.

    Example:
        >>> origin_text("example:adam"), origin_text("my-run")
        ('packaged example · ', '')
    """
    return "packaged example · " if run.startswith(EXAMPLE) else ""


def chip_text(
    info: RunInfo, newest_step: int | None, steps: int, age: float, paused: bool, newer: int = 0
) -> tuple[str, str]:
    """The chip's text and its state: "live", "paused", "stale", "ended" or "stopped".

    Args:
        info: of the run.
        newest_step: the last step shown.
        steps: how many steps the run has.
        age: seconds since the run's files were last written.
        paused: whether the page stands still.
        newer: how many steps were taken since.
    """
    if info.state == "ended":
        return f"✓ ended · {count(steps, 'step')}", "ended"
    if info.state == "stopped":
        return f"■ recording stopped at step {step(newest_step)}", "stopped"
    if paused:
        return f"‖ paused at step {step(newest_step)}{f' · {newer:,} newer' if newer > 0 else ''}", "paused"
    if age > STALE_AFTER:
        reached = "no step yet" if newest_step is None else f"step {step(newest_step)}"
        return f"○ nothing new for {duration(age)} · {reached}", "stale"
    if newest_step is None:
        return f"● live · no step yet · {duration(age)} ago", "live"
    return f"● live · step {step(newest_step)} · {duration(age)} ago", "live"
