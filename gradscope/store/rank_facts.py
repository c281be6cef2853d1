"""What putting the ranks' parts together would hide: a NaN that some have, a replica that left the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.records import QUANTITIES, RankFact, Rows, Run

DIFFERENCE = 1e-4  # of a norm; DDP keeps replicas equal to the bit, sums taken in another order differ by 1e-7


def loss_facts(parts: Sequence[Run]) -> list[RankFact]:
    """The first step at which the loss of some ranks only is NaN or Inf."""
    broken: dict[int, list[int]] = {}
    for part in parts:
        bad = part.steps["step"][part.steps["has_loss"] & ~np.isfinite(part.steps["loss"])]
        for step in bad[:1]:
            broken.setdefault(int(step), []).append(part.info.rank)
    if not broken:
        return []
    step = min(broken)
    ranks = tuple(broken[step])
    return [] if len(ranks) == len(parts) else [RankFact("non-finite", step, -1, "loss", ranks)]


def differences(
    rows: Rows,
    groups: NDArray[np.int64],
    first: NDArray[np.int64],
    compared: NDArray[np.bool_],
    ranks: NDArray[np.int64],
    parts: Sequence[Run],
) -> list[RankFact]:
    """Parameters that should be the same on every rank and are not."""
    if parts[0].info.parallel != "DDP":  # gradients that nobody averages are each rank's own
        compared = compared & (rows["quantity"] == QUANTITIES.index("weight"))
    matrix = np.full((len(first), len(parts)), np.nan)
    column = np.searchsorted([part.info.rank for part in parts], ranks)
    with np.errstate(invalid="ignore"):
        norms = np.sqrt(rows["sum_squares"])
    known = compared & np.isfinite(norms)
    matrix[groups[known], column[known]] = norms[known]
    middle = np.full(len(first), np.nan)
    some = ~np.isnan(matrix).all(axis=1)
    middle[some] = np.nanmedian(matrix[some], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.where(known, np.abs(norms - middle[groups]) / np.maximum(middle[groups], 1e-300), 0.0)
    return facts_of("differs", rows, groups, first, np.where(away > DIFFERENCE, away, 0.0), ranks, len(parts) + 1)


def facts_of(
    kind: Literal["non-finite", "differs"],
    rows: Rows,
    groups: NDArray[np.int64],
    first: NDArray[np.int64],
    amounts: NDArray[Any],
    ranks: NDArray[np.int64],
    everyone: int,
) -> list[RankFact]:
    """What holds for some ranks, those with an amount above 0, but not for `everyone`, by site and quantity."""
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(amounts):
        members.setdefault(int(groups[row]), []).append(int(row))
    facts = []
    for group, found in members.items():
        row = rows[first[group]]
        if len(found) < everyone:
            there = tuple(int(rank) for rank in ranks[found])
            where = int(row["site"]), QUANTITIES[int(row["quantity"])]
            facts.append(RankFact(kind, int(row["step"]), *where, there, float(amounts[found].max())))
    return facts


def first_only(facts: list[RankFact]) -> tuple[RankFact, ...]:
    """The earliest fact of each kind, site and quantity."""
    earliest: dict[tuple[str, int, str], RankFact] = {}
    for fact in sorted(facts, key=lambda fact: fact.step):
        earliest.setdefault((fact.kind, fact.site, fact.quantity), fact)
    return tuple(earliest.values())
