"""Which findings two runs share."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.records import Finding


@dataclass(frozen=True)
class FindingLine:
    """A finding in one line."""

    number: str  # "F1", in its own run
    rule: str
    severity: str
    message: str
    cause: str  # the most likely one's id; "" without
    layers: tuple[str, ...]
    first_step: int
    last_step: int


@dataclass(frozen=True)
class FindingPair:
    """One sickness of both runs."""

    a: FindingLine
    b: FindingLine


Matched = tuple[tuple[FindingLine, ...], tuple[FindingPair, ...], tuple[FindingLine, ...]]


def match(a: tuple[Finding, ...], b: tuple[Finding, ...]) -> Matched:
    """The findings of `a` alone, of both, and of `b` alone.

    Two findings are one sickness when rule and most likely cause are the same and their layers overlap, or when one of
    them names no layer. Each finding has at most one partner: the one that shares most of its layers.
    """
    lines_a, lines_b = _lines(a), _lines(b)
    alike = [
        (-_overlap(one.layers, other.layers), i + j, i, j)  # the same order with the runs exchanged: see below
        for i, one in enumerate(lines_a)
        for j, other in enumerate(lines_b)
        if (one.rule, one.cause) == (other.rule, other.cause) and _overlap(one.layers, other.layers) > 0
    ]
    partner: dict[int, int] = {}
    for _, _, i, j in sorted(alike):  # of two with the same i + j neither takes the other's finding
        if i not in partner and j not in partner.values():
            partner[i] = j
    return (
        tuple(line for i, line in enumerate(lines_a) if i not in partner),
        tuple(FindingPair(line, lines_b[partner[i]]) for i, line in enumerate(lines_a) if i in partner),
        tuple(line for j, line in enumerate(lines_b) if j not in partner.values()),
    )


def _lines(findings: tuple[Finding, ...]) -> list[FindingLine]:
    return [
        FindingLine(
            f"F{number}",
            finding.rule,
            finding.severity,
            finding.message,
            finding.causes[0].id if finding.causes else "",
            finding.layers,
            int(finding.first_step),
            int(finding.last_step),
        )
        for number, finding in enumerate(findings, 1)
    ]


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """The share of layers that two findings have in common, in [0, 1]; 1 when one of them names none."""
    if not one or not other:
        return 1.0
    return len(set(one) & set(other)) / len(set(one) | set(other))
