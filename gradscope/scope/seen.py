"""Which findings of a run are new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gradscope.records import SEVERITIES, Event, Finding, Severity

_MOST_LAYERS = 50  # of a finding, in its event


@dataclass
class _Known:
    """What was found of one rule in one severity: all layers, those that were the worst, whether any had none."""

    layers: set[str] = field(default_factory=set)
    worst: set[str] = field(default_factory=set)
    without_layers: bool = False

    def add(self, layers: tuple[str, ...]) -> None:
        self.layers.update(layers)
        self.worst.update(layers[:1])
        self.without_layers |= not layers

    def holds(self, layers: tuple[str, ...]) -> bool:
        if not layers:
            return self.without_layers
        return layers[0] in self.layers or not self.worst.isdisjoint(layers)


class Seen:
    """The findings of a run that are known: one is new again only when it has become more severe.

    Two findings of a rule are the same sickness when the worst layer of one is among the layers of the other: which
    layer is the worst changes from step to step. What is kept does not grow with the run, only with its layers.

    Args:
        events: of the run; those of kind "finding" tell what was known before it was resumed.

    Example:
        >>> seen = Seen([])
        >>> mild = Finding("dead-units", "warning", ("a", "b"), 3, 9, "…")
        >>> worse = Finding("dead-units", "error", ("b", "c"), 3, 20, "…")
        >>> [len(seen.fresh(found)) for found in ([mild], [mild], [worse], [mild])]
        [1, 0, 1, 0]
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._known: defaultdict[tuple[str, Severity], _Known] = defaultdict(_Known)
        for event in events:
            severity, layers = event.data.get("severity"), event.data.get("layers")
            if event.kind == "finding" and severity in SEVERITIES and isinstance(layers, list):
                self._known[str(event.data.get("rule")), severity].add(tuple(map(str, layers)))

    def fresh(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that are new, which are known from now on."""
        found = []
        for finding in findings:
            as_severe = SEVERITIES[SEVERITIES.index(finding.severity) :]
            if not any(self._known[finding.rule, severity].holds(finding.layers) for severity in as_severe):
                found.append(finding)
            self._known[finding.rule, finding.severity].add(finding.layers)
        return found


def event_of(finding: Finding) -> dict[str, object]:
    """What is written into the run when a finding is new."""
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "layers": list(finding.layers[:_MOST_LAYERS]),
        "first_step": finding.first_step,
        "message": finding.message,
    }
