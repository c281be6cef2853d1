"""Which steps the ranks of one training record, so that their summaries are of the same steps: rank 0 says it ahead."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Literal, NamedTuple

from gradscope.recorder.schedule import NORM_SHARE, Schedule

SCHEDULE_FILE = "schedule.json"
LOOK = 16  # steps from one look at the file to the next; what it says holds from two looks later
_LARGEST_STRIDE = 1 << 20


class _Plan(NamedTuple):
    """From a step on, every how many steps are recorded in full, and every how many have their gradient's norm taken."""

    begins: int
    stride: int
    norm_stride: int


class _Account:
    """Seconds spent on one kind of reading: in all, and in one of late."""

    def __init__(self) -> None:
        self._spent = self._cost = 0.0

    def take(self, seconds: float) -> None:
        """Books one reading."""
        self._cost = seconds if self._cost == 0.0 else 0.5 * (self._cost + seconds)
        self._spent += seconds

    def also(self, seconds: float) -> None:
        """Books what came beside the readings."""
        self._spent += seconds

    def stride(self, share: float, step: float, training: float) -> int:
        """The least power of two so that a reading each such step takes this share of the training's time."""
        needed = self._cost / max(share * step, 1e-9)
        if self._spent > share * training:
            needed *= 2  # what was spent too much is paid back
        stride = 1
        while stride < min(needed, _LARGEST_STRIDE):
            stride *= 2
        return stride


class SharedSchedule:
    """A schedule that follows from the step number alone: every n-th step, n a power of two that rank 0 publishes.

    Nobody waits for anybody. A rank that reads the file late has an older n: of two powers of two one is a multiple of
    the other, so that it misses some steps or records some alone, and neither is wrong. The first steps are recorded by
    all; a rank that sees its loss leap records the next step, if need be alone. Where rank 0 does not watch, each rank
    goes by its own budget.

    Args:
        overhead: share of the training's own time that recording may take.
        folder: of the run.
        rank: of this process.
    """

    def __init__(self, overhead: float, folder: Path, rank: int) -> None:
        self._always = Schedule("auto", 0.0, 0.0)  # no budget: the first steps, and after alarms
        self._overhead = overhead
        self._file = folder / SCHEDULE_FILE
        self._leads = rank == 0
        self._plan: _Plan | None = None
        self._coming: _Plan | None = None
        self._now = 0
        self._training = self._step = 0.0  # seconds without ours: in all, and in a step of late
        self._full, self._norms = _Account(), _Account()

    def spent(self, total: float, recorder: float, recorded: bool, norm: float = 0.0, steps: int = 1) -> None:
        """Takes account of a step, as `Schedule` does."""
        self._always.spent(total, recorder, recorded, norm)
        own = max(total - recorder, 0.0)
        self._training += own
        self._step = own if self._step == 0.0 else 0.9 * self._step + 0.1 * own
        if norm:
            self._norms.take(norm)
        if recorded:
            self._full.take(recorder)
        else:
            self._full.also(recorder - norm)

    @property
    def recorded(self) -> int:
        """How many steps this rank recorded."""
        return self._always.recorded

    @property
    def alarms(self) -> int:
        """How often its loss or norm leapt, or stopped being finite."""
        return self._always.alarms

    hurried = False  # what one rank holds back another may have written: steps would not be the same

    def is_milestone(self, step: int) -> bool:
        """None is: ranks have no allowance of their own."""
        return False

    def saw_loss(self, loss: float) -> bool:
        """Takes account of a loss, as `Schedule` does."""
        return self._always.saw_loss(loss)

    def saw_norm(self, norm: float) -> None:
        """Takes account of a gradient's norm, as `Schedule` does."""
        self._always.saw_norm(norm)

    def wants(self, step: int) -> bool:
        """Whether to record this step in full."""
        self._now = step
        if step >= LOOK and step % LOOK == 0:
            self._look(step)
        if self._coming is not None and step >= self._coming.begins:
            self._plan, self._coming = self._coming, None
        due = self._plan is not None and step % (2 * self._plan.stride) < 2  # in pairs: a curvature takes two gradients
        return self._always.wants(step) or due

    def wants_norm(self) -> bool:
        """Whether to take the gradient's norm at this step; at the first ones by all, to learn what it costs."""
        if self._plan is None:
            return self._now < LOOK
        return self._now % self._plan.norm_stride == 0

    def _look(self, step: int) -> None:
        """Rank 0 publishes what it can afford; the others read it."""
        if not self._leads:
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._coming = _Plan(**json.loads(self._file.read_text(encoding="utf-8")))
                return
            if step < 2 * LOOK:
                return  # rank 0 may just be about to
        said = self._coming or self._plan
        share = self._overhead * NORM_SHARE
        wanted = _Plan(
            step + 2 * LOOK,
            self._full.stride(self._overhead - share, self._step, self._training),
            self._norms.stride(share, self._step, self._training),
        )
        if said is None or any(now > old or 4 * now <= old for now, old in zip(wanted[1:], said[1:], strict=True)):
            self._coming = wanted
            if self._leads:
                fresh = self._file.with_suffix(".new")
                fresh.write_text(json.dumps(wanted._asdict()), encoding="utf-8")
                os.replace(fresh, self._file)


def schedule_for(
    every: int | Literal["auto"], overhead: float, part: Path, rank: int, world: int
) -> Schedule | SharedSchedule:
    """The schedule of one rank that writes into `part`; only "auto" needs agreement."""
    if world == 1 or every != "auto":
        return Schedule(every, overhead)
    return SharedSchedule(overhead, part if rank == 0 else part.parent, rank)
