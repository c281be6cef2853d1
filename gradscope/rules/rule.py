"""What a rule is: a sickness with its page, its thresholds, its cases and its check."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.records import Check, Finding, Run
from gradscope.signals import Signals


@dataclass(frozen=True)
class Threshold:
    """A number that a rule judges by.

    `source` says where it is from: a paper, a theorem, or the calibration that chose it.
    """

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Case:
    """A run written by hand and the layers that the rule must name in it; no layers: it must stay quiet."""

    title: str
    run: Run
    layers: tuple[str, ...] = ()


class Rule(ABC):
    """One sickness. A subclass in a file of this package is found by itself; its docstring is its page.

    Attributes:
        id: the sickness, e.g. "vanishing-gradient".
        summary: one line for tables.
        needs_steps: recorded steps that it needs before it can speak.
        sources: what the page rests on.
    """

    id: ClassVar[str]
    summary: ClassVar[str]
    needs_steps: ClassVar[int] = 3
    sources: ClassVar[tuple[str, ...]]

    @abstractmethod
    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds the sickness in a run; yields nothing when it is not there."""

    @classmethod
    @abstractmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand: where the rule fires and where it must stay quiet."""

    def applies(self, signals: Signals) -> Check | None:
        """None when the rule can judge this run, else the reason why it cannot."""
        missing = self.needs_steps - len(signals.steps)
        if missing > 0:
            return Check(self.id, "needs-data", f"needs {missing} more recorded step{'s' * (missing > 1)}")
        return None

    @classmethod
    def thresholds(cls) -> dict[str, Threshold]:
        """The rule's thresholds by field name."""
        return {name: value for name, value in vars(cls).items() if isinstance(value, Threshold)}

    @classmethod
    def page(cls) -> str:
        """The rule's page as plain text: its docstring, thresholds and sources."""
        lines = [cls.id, "=" * len(cls.id), "", inspect.cleandoc(cls.__doc__ or ""), "", "Thresholds:"]
        for name, threshold in cls.thresholds().items():
            lines.append(f"    {name} = {threshold.value:g} ({threshold.unit})")
            lines.append(f"        {threshold.source}")
        lines += ["", "Sources:", *(f"    {source}" for source in cls.sources)]
        return "\n".join(lines)
