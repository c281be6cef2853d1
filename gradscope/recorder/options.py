"""How a training is recorded, as `gradscope.watch` was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gradscope.recorder.compiled import Mode


@dataclass(frozen=True)
class Options:
    """How to record, see `gradscope.watch`."""

    every: int | Literal["auto"] = "auto"
    overhead: float = 0.03
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    exact: bool = False
    compiled: Mode = "boundary"
    resume: bool = False
    locate: bool = False  # runs a step again whose numbers are NaN or Inf
