"""What a remedy is: a cure with an id, the causes it works against, and its advice for one finding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from gradscope.records import Finding, Suggestion
from gradscope.signals import Signals


class Remedy(ABC):
    """One cure. A subclass in a file of this package is found by itself.

    Attributes:
        id: the cure, e.g. "gradient-clipping".
        title: what to do, in a few words.
        cures: how well it works against a cause, from 0 to 1, by the cause's id.
        only_for: the rules in whose findings it works against a cause, by the cause's id; any rule's where not said.
        sources: where that is from.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    cures: ClassVar[Mapping[str, float]]
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    sources: ClassVar[tuple[str, ...]]

    @abstractmethod
    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here, with this run's numbers."""

    @abstractmethod
    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste, which names the model `model` and the optimizer `optimizer`."""

    def advice(self, finding: Finding, signals: Signals) -> Suggestion:
        """The remedy aimed at a finding."""
        return Suggestion(self.id, self.title, self.why(finding, signals), self.code(finding, signals))

    def possible(self, signals: Signals) -> bool:
        """Whether there is something in this model that it can be applied to."""
        return True

    def suits(self, finding: Finding) -> float:
        """How well it fits a finding: the confidence of each cause times how well this cures it, summed."""
        return sum(
            cause.confidence * self.cures.get(cause.id, 0.0)
            for cause in finding.causes
            if finding.rule in self.only_for.get(cause.id, (finding.rule,))
        )
