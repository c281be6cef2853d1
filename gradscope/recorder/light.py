"""Steps too short to be closed one by one: their times and losses are noted, and written together."""

from __future__ import annotations

import time

from gradscope.recorder.losses import mean
from gradscope.stats import HostNumber

LONGEST = 0.1  # seconds until what was noted is written: so much of a training a `kill -9` can lose


class LightSteps:
    """Notes steps between two recorded ones when closing each would cost more than the budget has."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, float, float, list[HostNumber], list[float]]] = []
        self._until = 0.0

    def __len__(self) -> int:
        return len(self._steps)

    def note(self, step: int, now: float, seconds: float, losses: list[HostNumber], rates: list[float]) -> bool:
        """Notes a step that took so many seconds; says whether what was noted has waited long enough."""
        if not self._steps:
            self._until = now + LONGEST
        self._steps.append((step, now, seconds, losses, rates))
        return now > self._until

    def take(self, recorder_seconds: float) -> list[tuple[dict[str, float], list[float]]]:
        """What was noted, with the time that it took us: columns of the steps' rows, and their learning rates."""
        noted, self._steps = self._steps, []
        offset = time.time() - time.perf_counter()
        steps = []
        for step, now, seconds, losses, rates in noted:
            facts = {"step": step, "time": now + offset, "seconds": seconds, "training_mode": True}
            facts["recorder_seconds"] = recorder_seconds / len(noted)
            if losses:
                facts["loss"], facts["has_loss"] = mean(losses), True
            steps.append((facts, rates))
        return steps
