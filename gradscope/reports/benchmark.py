"""How often the cause that is named first was right in the benchmark: the trainings that GradScope is developed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from gradscope.packaged import packaged
from gradscope.records import Finding

FILE = "benchmark.json"  # among the assets; `make zoo ARGS=--benchmark` writes it
NOTE = "GradScope is developed on these, so expect less on others"


@dataclass(frozen=True)
class Rate:
    """How often a cause was named first, and how often that was right."""

    first: int
    right: int

    def __str__(self) -> str:
        return f"right in {self.right:,} of the {self.first:,} benchmark trainings where it was named first"

    @property
    def short(self) -> str:
        """The same where there is little room."""
        return f"right in {self.right:,} of {self.first:,} benchmark trainings"


@dataclass(frozen=True)
class Benchmark:
    """The measured table.

    Attributes:
        date: of the measurement.
        sick, healthy: how many trainings were counted.
        causes: by id; those that were never named first are not there.
    """

    date: str
    sick: int
    healthy: int
    causes: Mapping[str, Rate]


def read_benchmark(file: Path) -> Benchmark | None:
    """The table in a file; None where there is none, or it cannot be read.

    Example:
        >>> print(read_benchmark(Path("nowhere.json")))
        None
    """
    try:
        content = orjson.loads(file.read_bytes())
        causes: dict[str, Rate] = {}
        for each in content["named"]:
            before = causes.get(each["cause"], Rate(0, 0))
            causes[each["cause"]] = Rate(before.first + int(each["first"]), before.right + int(each["right"]))
        return Benchmark(str(content["date"]), int(content["sick"]), int(content["healthy"]), causes)
    except (OSError, ValueError, TypeError, KeyError):
        return None


@cache
def benchmark() -> Benchmark | None:
    """The packaged table; None in an installation without it."""
    return read_benchmark(packaged(FILE))


def rate_of(cause: str) -> Rate | None:
    """What was measured of a cause; None where it was never named first, or nothing was measured.

    Example:
        >>> print(rate_of("never-named"))
        None
    """
    table = benchmark()
    rate = None if table is None else table.causes.get(cause)
    return rate if rate is not None and rate.first else None


def rate_of_cause(finding: Finding, place: int) -> Rate | None:
    """What may be said beside a cause of a finding: measured is the first cause of what leads, and is no note."""
    leads = finding.follows is None and finding.severity != "note"
    return rate_of(finding.causes[place].id) if leads and place == 0 else None
