"""One of the two runs that are compared, and how a comparison becomes JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gradscope.records import Diagnosis, Run
from gradscope.signals import Signals


@dataclass(frozen=True)
class Side:
    """A run with its name and its diagnosis; `known`, if you have its signals already, spares work."""

    name: str
    run: Run
    diagnosis: Diagnosis
    known: Signals | None = None

    @cached_property
    def signals(self) -> Signals:
        """The run's signals."""
        return self.known or Signals(self.run)


def as_json(value: Any) -> Any:
    """A nest of plain values as JSON can hold it: tuples become lists, NaN and Inf null.

    Example:
        >>> as_json({"a": (1.0, float("nan"))})
        {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
