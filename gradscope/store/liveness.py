"""Whether a training still writes into its run, as far as its files and this machine tell."""

from __future__ import annotations

import psutil

from gradscope.records import RunInfo

SILENCE = 60.0  # seconds without a write after which a run whose process is gone is over


def is_over(info: RunInfo, silence: float) -> bool:
    """Whether nothing more will come: the run says that it ended, or nobody is left who could say it.

    Args:
        info: as the run's file has it now.
        silence: seconds since somebody wrote to it.

    Example:
        >>> is_over(RunInfo("r", "Net", 0.0, process=-1, state="recording"), silence=5.0)
        False
        >>> is_over(RunInfo("r", "Net", 0.0, process=-1, state="recording"), silence=90.0)
        True
    """
    if info.state != "recording":
        return True
    alive = 0 < info.process < 2**31 and psutil.pid_exists(info.process)
    return silence > SILENCE and not alive
