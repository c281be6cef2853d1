"""Which findings of a run are new."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.records import SEVERITIES, Event, Finding, Severity

_MOST_LAYERS = 50  # of a finding, in its event


class Seen:
    """The findings of a run that are known: one is new again only when it has become more severe.

    Two findings of a rule are the same sickness when the worst layer of one is among the layers of the other: which
    layer is the worst changes from step to step.

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
        self._known: list[tuple[str, set[str], str, Severity]] = []  # rule, layers, the worst of them, severity
        for event in events:
            severity, layers = event.data.get("severity"), event.data.get("layers")
            if event.kind == "finding" and severity in SEVERITIES and isinstance(layers, list):
                self._add(str(event.data.get("rule")), tuple(map(str, layers)), severity)

    def fresh(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that are new, which are known from now on."""
        found = []
        for finding in findings:
            known = [each for each in self._known if _same(finding, *each[:3])]
            if all(SEVERITIES.index(each[3]) < SEVERITIES.index(finding.severity) for each in known):
                found.append(finding)
            self._add(finding.rule, finding.layers, finding.severity)
        return found

    def _add(self, rule: str, layers: tuple[str, ...], severity: Severity) -> None:
        entry = rule, set(layers), next(iter(layers), ""), severity
        if entry not in self._known:
            self._known.append(entry)


def event_of(finding: Finding) -> dict[str, object]:
    """What is written into the run when a finding is new."""
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "layers": list(finding.layers[:_MOST_LAYERS]),
        "first_step": finding.first_step,
        "message": finding.message,
    }


def _same(finding: Finding, rule: str, layers: set[str], worst: str) -> bool:
    if finding.rule != rule or not (layers and finding.layers):
        return finding.rule == rule and bool(layers) == bool(finding.layers)
    return finding.layers[0] in layers or worst in finding.layers
