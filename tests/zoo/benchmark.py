"""Writes how often the cause that is named first was right: the table that reports show beside a confidence.

Counted are the sick trainings whose right causes are known, and the healthy ones, where any cause that is named is wrong.
Left out are trainings that are neither, and those of which the design has no id for the right cause.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gradscope import __version__
from tests.zoo.tally import Result

FILE = Path(__file__).resolve().parents[2] / "assets" / "benchmark.json"


def benchmark_document(results: Sequence[Result], date: str) -> dict[str, Any]:
    """The table: by rule and cause of the leading finding at the end how often it was given, and how often that was right.

    Args:
        results: of the whole zoo, in one seed or more.
        date: of the measurement, "2026-11-29".
    """
    counted = [each for each in results if each.label == "healthy" or (each.label == "sick" and _is_known(each))]
    first: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    for each in counted:
        if each.end.alarm and each.end.cause:
            pair = (each.end.rule, each.end.cause)
            first[pair] += 1
            right[pair] += each.label == "sick" and each.end.cause_right is True
    return {
        "date": date,
        "gradscope": __version__,
        "programs": len({each.program.id for each in results}),
        "seeds": len({each.seed for each in results}),
        "trainings": len(counted),
        "sick": sum(each.label == "sick" for each in counted),
        "healthy": sum(each.label == "healthy" for each in counted),
        "left_out": len(results) - len(counted),
        "named": [
            {"rule": rule, "cause": cause, "first": first[rule, cause], "right": right[rule, cause]}
            for rule, cause in sorted(first)
        ],
    }


def _is_known(result: Result) -> bool:
    return result.program.blame is not None and bool(result.program.blame.causes)


def write_benchmark(results: Sequence[Result], file: Path = FILE) -> None:
    """Puts the table of today into the package."""
    today = datetime.now(timezone.utc).date().isoformat()
    file.write_text(json.dumps(benchmark_document(results, today), indent=1) + "\n", encoding="utf-8")
