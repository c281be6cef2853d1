"""Where each threshold lies among what it was compared with, over the kept trainings of the zoo.

    python -m tests.zoo --keep DIR
    python -m tests.zoo.calibrate DIR

writes `CALIBRATION.md`. While a run is diagnosed, every threshold is replaced by a number that notes what it is compared
with, so the table shows what the rules do, not what somebody says that they do. A rule that gave up before it came to a
comparison has no number there.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradscope.catalogue import rules
from gradscope.diagnosis import diagnose
from gradscope.records import Run
from gradscope.rules import Rule
from tests.zoo.animals import by_id, find
from tests.zoo.judge import MOMENTS, beginning, label, last_step, read
from tests.zoo.train import kept

PAGE = Path(__file__).with_name("CALIBRATION.md")
BELOW, ABOVE = "below", "above"
COMPARED = {"less": BELOW, "less_equal": BELOW, "greater": ABOVE, "greater_equal": ABOVE}
OTHER_WAY = {BELOW: ABOVE, ABOVE: BELOW}
Note = Callable[[str, Any], None]  # on which side it is asked for, the number


class Noted(float):
    """A threshold's value that notes every number that it is compared with."""

    note: Note

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [float(each) if isinstance(each, Noted) else each for each in inputs]
        if ufunc.__name__ in COMPARED and method == "__call__":
            side = COMPARED[ufunc.__name__]
            first = inputs[0] is self
            self.note(OTHER_WAY[side] if first else side, plain[1 if first else 0])
        return getattr(ufunc, method)(*plain, **options)

    def __lt__(self, other: Any) -> Any:
        self.note(ABOVE, other)
        return float(self) < other

    def __le__(self, other: Any) -> Any:
        self.note(ABOVE, other)
        return float(self) <= other

    def __gt__(self, other: Any) -> Any:
        self.note(BELOW, other)
        return float(self) > other

    def __ge__(self, other: Any) -> Any:
        self.note(BELOW, other)
        return float(self) >= other


Key = tuple[str, str, str]  # rule, threshold, side


@contextmanager
def noting(extremes: dict[Key, float]) -> Iterator[None]:
    """Inside, `extremes` is filled: the smallest number asked to be below a threshold, the largest asked to be above."""

    def noter(rule: Rule, name: str) -> Note:
        def note(side: str, compared: Any) -> None:
            numbers = np.asarray(compared, dtype=np.float64).ravel()
            numbers = numbers[~np.isnan(numbers)]
            if len(numbers):
                key, take = (rule.id, name, side), min if side == BELOW else max
                extreme = float(take(numbers))
                extremes[key] = take(extremes.get(key, extreme), extreme)

        return note

    before = {(rule, name): threshold for rule in rules().values() for name, threshold in rule.thresholds().items()}
    try:
        for (rule, name), threshold in before.items():
            value = Noted(threshold.value)
            value.note = noter(rule, name)
            setattr(type(rule), name, replace(threshold, value=value))
        yield
    finally:
        for (rule, name), threshold in before.items():
            setattr(type(rule), name, threshold)


def measured(run: Run) -> dict[Key, float]:
    """The extreme number that each threshold was compared with while a run was diagnosed."""
    extremes: dict[Key, float] = {}
    with noting(extremes):
        diagnose(run)
    return extremes


@dataclass
class Spread:
    """What a threshold was compared with in healthy trainings, and in those that have the rule's sickness."""

    healthy: list[float] = field(default_factory=list)
    sick: list[float] = field(default_factory=list)


def collect(folder: Path) -> dict[Key, Spread]:
    """Over all kept trainings: healthy ones at the three moments, sick ones at the end."""
    spreads: dict[Key, Spread] = defaultdict(Spread)
    for place in sorted(path.parent for path in folder.glob("*/outcome.json")):
        name, _, seed = place.name.rpartition("-")
        if name not in {program.id for program in find()}:
            continue
        program = by_id(name)
        twin = folder / f"{program.twin}-{seed}"
        compared = kept(twin) if program.twin and (twin / "outcome.json").exists() else None
        found, run = label(program, kept(place), compared), read(place)
        if found == "healthy":
            for moment in MOMENTS:
                for key, number in measured(beginning(run, last_step(run, moment))).items():
                    spreads[key].healthy.append(number)
        elif found == "sick" and program.blame is not None:
            for key, number in measured(run).items():
                if key[0] in program.blame.rules:
                    spreads[key].sick.append(number)
    return spreads


def page(spreads: dict[Key, Spread]) -> str:
    """The table as Markdown."""
    lines = [
        "# Where the thresholds lie",
        "",
        "Made by `python -m tests.zoo.calibrate DIR` from the kept trainings of the zoo. For each threshold the extreme of",
        "what a rule compared with it in a run: the smallest number where it asks for less, the largest where it asks for",
        "more. Healthy trainings are looked at three times, sick ones at the end, and only those whose sickness the rule",
        "may name. Numbers: least, 5 %, median, 95 %, most. Margin: decades from the threshold to the nearest healthy",
        "number; below 0 it is crossed, and something else that the rule asks for keeps it quiet.",
        "",
        "| rule | threshold | asks for | healthy | sick | margin |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (rule, name, side), spread in sorted(spreads.items()):
        value = rules()[rule].thresholds()[name].value
        cells = [rule, name, f"{side} {value:g}", _numbers(spread.healthy), _numbers(spread.sick)]
        lines.append(f"| {' | '.join(cells)} | {margin(value, side, spread.healthy)} |")
    return "\n".join(lines) + "\n"


def margin(value: float, side: str, healthy: Sequence[float]) -> str:
    """Decades between a threshold and the healthy number that comes nearest, negative when that lies beyond."""
    if not healthy:
        return "–"
    nearest = min(healthy) if side == BELOW else max(healthy)
    if nearest <= 0 or not math.isfinite(nearest):
        return "–" if side == BELOW or nearest > 0 else "free"
    decades = math.log10(nearest / value)
    return f"{decades if side == BELOW else -decades:+.1f}"


def _numbers(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, five, half, most, high = np.quantile(np.clip(values, -1e300, 1e300), [0, 0.05, 0.5, 0.95, 1], method="nearest")
    return f"{low:.2g}, {five:.2g}, **{half:.2g}**, {most:.2g}, {high:.2g} ({len(values)})"


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.calibrate", description=__doc__)
    parser.add_argument("folder", type=Path, help="where `python -m tests.zoo --keep` put the trainings")
    PAGE.write_text(page(collect(parser.parse_args().folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
