"""What stands between torch and us: an error of ours ends recording, never the training, and our time is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


class Guard:
    """Wraps what torch or the user calls: it does nothing when nothing is recorded, and stops recording on an error.

    Args:
        recording: whether anything is being recorded.
        failed: told an error of ours.

    Attributes:
        spent: seconds of ours since they were last booked.
        aside: seconds that were spent on our behalf outside of what is guarded, since they were last booked.
        paused: how many `pause` blocks are open.
        telling: whether a handler of the user's is being told a finding, inside an optimizer's hooks for one.
    """

    def __init__(self, recording: Callable[[], bool], failed: Callable[[Exception], None]) -> None:
        self._recording, self._failed = recording, failed
        self.spent = self.aside = 0.0
        self.paused = 0
        self.telling = False

    def take_aside(self) -> float:
        """Those seconds, which are booked now."""
        seconds, self.aside = self.aside, 0.0
        return seconds

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, guarded."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            # first of all: when torch.compile traces a hook it must find nothing but this
            if torch.compiler.is_compiling() or self.paused:
                return None
            entered = time.perf_counter()
            if not self._recording():
                return None
            try:
                return function(*args, **kwargs)
            except Exception as error:
                self._failed(error)
            finally:
                self.spent += time.perf_counter() - entered

        return guarded
