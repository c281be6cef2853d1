"""A large run that goes on: closed and recorded steps behind its last one."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.records import Rows
from gradscope.store import RunWriter
from tests.dashboard.big import Size, steps, summaries


def more(size: Size, count: int) -> Iterator[tuple[Rows, Rows]]:
    """The rows of so many more steps: of the step, and of its summaries."""
    step, rows = steps(size)[:1], next(summaries(size))
    for number in range(size.steps, size.steps + count):
        step["step"] = rows["step"] = number
        yield step, rows


def grow(writer: RunWriter, step: Rows, rows: Rows) -> None:
    """Writes one of them."""
    writer.write_summaries(rows)
    writer.write_steps(step, [[1e-3]])
