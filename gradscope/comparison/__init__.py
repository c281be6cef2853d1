"""Two runs side by side: what was set differently, what is wrong in one only, and where their numbers part.

configuration.py  what was set: optimizer, rates, model, loss, versions, the program's lines
findings.py       which findings both have, and which only one
difference.py     one quantity of both on common layers and aligned steps
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gradscope.comparison.configuration import Setting, SourceChange, settings, source_changes
from gradscope.comparison.difference import (
    ALIGNMENTS,
    Difference,
    LayerPair,
    Reading,
    difference,
    layer_pairs,
    positions,
)
from gradscope.comparison.findings import FindingLine, FindingPair, match
from gradscope.comparison.side import Side, as_json

__all__ = [
    "ALIGNMENTS",
    "Comparison",
    "Difference",
    "FindingLine",
    "FindingPair",
    "LayerPair",
    "Reading",
    "Setting",
    "Side",
    "SideWords",
    "SourceChange",
    "compare",
    "difference",
    "positions",
    "to_document",
]

SCHEMA_VERSION = 1  # of the document


@dataclass(frozen=True)
class SideWords:
    """What is said of one of the two runs.

    Attributes:
        name: as the user knows it.
        id: of the run.
        model: class name.
        verdict, headline: of its diagnosis.
        first_step, last_step: None without steps.
        loss, loss_step: the last finite loss; None when there was none.
        loss_is_broken: the loss ends as NaN or Inf.
    """

    name: str
    id: str
    model: str
    verdict: str
    headline: str
    first_step: int | None
    last_step: int | None
    loss: float | None
    loss_step: int | None
    loss_is_broken: bool


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of two runs, in plain values.

    Attributes:
        a, b: the runs.
        settings: all that was compared, what differs first.
        sources: the program's files that differ.
        only_a, only_b: findings of one run only: what `a` alone has is gone in `b`.
        both: findings of both, by rule, cause and layers.
        layers: the layers of both, in forward order, with the medians of their gains.
        layers_only_a, layers_only_b: names of the others.
        notes: what limits the comparison, a sentence each.
    """

    a: SideWords
    b: SideWords
    settings: tuple[Setting, ...]
    sources: tuple[SourceChange, ...]
    only_a: tuple[FindingLine, ...]
    both: tuple[FindingPair, ...]
    only_b: tuple[FindingLine, ...]
    layers: tuple[LayerPair, ...]
    layers_only_a: tuple[str, ...]
    layers_only_b: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def differing(self) -> tuple[Setting, ...]:
        """The settings that are not alike."""
        return tuple(setting for setting in self.settings if setting.differs)


def compare(a: Side, b: Side) -> Comparison:
    """Compares two runs; with the runs exchanged it says the same, exchanged.

    Example:
        >>> from gradscope.records import Diagnosis
        >>> from gradscope.rules.handwritten import run
        >>> sick, well, said = run({"a": 1e-9, "b": 1.0}), run({"a": 0.9, "b": 1.0}), Diagnosis("watch", "")
        >>> found = compare(Side("sick", sick, said), Side("well", well, said))
        >>> [round(pair.decades, 2) for pair in found.layers]
        [8.95, 0.0]
    """
    only_a, both, only_b = match(a.diagnosis.findings, b.diagnosis.findings)
    pairs, layers_only_a, layers_only_b = layer_pairs(a.signals, b.signals)
    return Comparison(
        _words(a),
        _words(b),
        settings(a, b),
        source_changes(a.run, b.run),
        only_a,
        both,
        only_b,
        pairs,
        layers_only_a,
        layers_only_b,
        _notes(a, b, len(pairs)),
    )


def to_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as dicts, lists, strings and numbers that JSON can hold; a number that is none is null."""
    document: dict[str, Any] = as_json(asdict(comparison))
    for setting, said in zip(comparison.settings, document["settings"], strict=True):
        said["differs"] = setting.differs
    return {"schema_version": SCHEMA_VERSION, **document}


def _words(side: Side) -> SideWords:
    steps = side.run.steps
    seen = steps[steps["has_loss"]]
    finite = seen[_finite(seen["loss"])]
    return SideWords(
        side.name,
        side.run.info.id,
        side.run.info.model,
        side.diagnosis.verdict,
        side.diagnosis.headline,
        int(steps["step"][0]) if len(steps) else None,
        int(steps["step"][-1]) if len(steps) else None,
        float(finite["loss"][-1]) if len(finite) else None,
        int(finite["step"][-1]) if len(finite) else None,
        bool(len(seen) and not _finite(seen["loss"])[-1]),
    )


def _finite(values: Any) -> Any:
    return abs(values) < float("inf")  # false for NaN too


def _notes(a: Side, b: Side, common: int) -> tuple[str, ...]:
    notes = []
    if a.run.info.id == b.run.info.id:
        notes.append("Both are the same run: nothing can differ.")
    if not common:
        notes.append("The two models have no layer of the same name: their layers cannot be compared.")
    ends = [int(side.run.steps["step"][-1]) for side in (a, b) if len(side.run.steps)]
    for side in (a, b):
        if not len(side.run.steps):
            notes.append(f"{side.name} has no step yet.")
    if len(ends) == 2 and ends[0] != ends[1]:
        longer = a if ends[0] > ends[1] else b
        notes.append(f"Only {longer.name} goes on after step {min(ends):,}; what is aligned by step ends there.")
    return tuple(notes)
