"""What the exported tables are, in words."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.reports.tables import TABLES
from gradscope.reports.tables.layer_signals import LAYER_SIGNALS


def describe() -> str:
    """All tables with their columns, and the names of the signals, as plain text.

    Example:
        >>> describe().splitlines()[0]
        'layers: one row is one tensor at one recorded step, with its statistics'
    """
    parts = []
    for table in TABLES.values():
        more = [f"  {table.more}"] if table.more else []
        columns = [(each.name, each.type, each.meaning, each.unit) for each in table.columns]
        parts.append("\n".join([f"{table.name}: one row is {table.meaning}", *_aligned(columns), *more]))
    signals = [(each.name, each.of, each.meaning, each.unit) for each in LAYER_SIGNALS]
    parts.append("\n".join(["the names in `signals`", *_aligned(signals)]))
    parts.append("An empty cell was not recorded; NaN and Inf were measured.")
    return "\n\n".join(parts) + "\n"


def _aligned(rows: Iterable[tuple[str, str, str, str]]) -> list[str]:
    """One line a row, in columns; the unit stands in brackets."""
    listed = list(rows)
    widths = [max(len(row[place]) for row in listed) for place in (0, 1)]
    return [
        f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {meaning}{f' [{unit}]' if unit else ''}"
        for name, kind, meaning, unit in listed
    ]
