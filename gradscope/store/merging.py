"""Puts the parts of many ranks together into one run, as if one process had trained on the whole batch (DESIGN §4).

Activations add up. Their gradients do too, each scaled by 1/world size where the wrapper averages. Parameters that are
sharded add up; those that every rank has whole are taken once and compared. The loss is the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import ranks_in_words
from gradscope.records import (
    QUANTITIES,
    STEP,
    SUMMARY,
    SUMMARY_ROW,
    Event,
    Link,
    NotObserved,
    RankFact,
    Role,
    Rows,
    Run,
    RunInfo,
    Site,
    merge,
)
from gradscope.store.rank_facts import differences, facts_of, first_only, loss_facts
from gradscope.store.scaling import scale

BEHIND = 5  # steps that a rank of a running training may be late: it writes them when its numbers have arrived
_ROWS_AT_ONCE = 1 << 18  # that are merged together: 117 MB
_FIRST, _LAST = -(1 << 62), 1 << 62  # before and after all steps
_GRADIENT = QUANTITIES.index("activation_gradient")


class Merging:
    """Merges the parts of a run, again and again while it grows: what all ranks are past is merged once."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._until = _FIRST  # steps before this one are merged
        self._used: tuple[list[tuple[int, int, float, int]], list[NDArray[np.int64]]] = ([], [])
        self._rows = np.empty(0, SUMMARY_ROW)
        self._facts: list[RankFact] = []

    def merge(self, parts: Sequence[Run]) -> Run:
        """One run from the parts of its ranks, lowest rank first."""
        first = parts[0]
        reason = next((part.info.not_merged for part in parts if part.info.not_merged), "")
        if reason and len(parts) > 1:
            others = NotObserved(f"ranks other than {first.info.rank}", reason)
            return replace(first, info=replace(first.info, not_observed=(*first.info.not_observed, others)))
        sites, numbers = _merge_sites(parts)
        steps, rates = _merge_steps(parts)
        if not self._holds(parts, numbers):
            self._forget()
        newest = max((int(part.summaries["step"][-1]) for part in parts if len(part.summaries)), default=_FIRST)
        self._merge_until(max(newest - BEHIND, self._until), parts, sites, numbers)
        recent, facts = _merge_range(self._until, _LAST, parts, sites, numbers)
        summaries = np.concatenate([self._rows, recent])
        _set_gradient_norms(steps, summaries, parts, sites)
        said = first_only([*loss_facts(parts), *self._facts, *facts])
        info = _merge_info(parts, sites, numbers)
        return Run(info, steps, rates, summaries, _merge_events(parts), said)

    def _merge_until(
        self, until: int, parts: Sequence[Run], sites: list[Site], numbers: list[NDArray[np.int64]]
    ) -> None:
        rows, facts = _merge_range(self._until, until, parts, sites, numbers)
        self._rows, self._until = np.concatenate([self._rows, rows]), until
        self._facts = list(first_only([*self._facts, *facts]))
        self._used = self._use(parts), numbers

    def _use(self, parts: Sequence[Run]) -> list[tuple[int, int, float, int]]:
        """Of each part, how many rows are merged, and by what rule."""
        counts = [int(np.searchsorted(part.summaries["step"], self._until)) for part in parts]
        infos = [part.info for part in parts]
        return [(n, info.rank, info.averaged, info.replica) for n, info in zip(counts, infos, strict=True)]

    def _holds(self, parts: Sequence[Run], numbers: list[NDArray[np.int64]]) -> bool:
        """Whether what is merged would come out the same: no late rows, none thinned, each site's number as before."""
        used, before = self._used
        same = (np.array_equal(old, new[: len(old)]) for old, new in zip(before, numbers, strict=False))
        return used == self._use(parts) and all(same)


# places


def _merge_sites(parts: Sequence[Run]) -> tuple[list[Site], list[NDArray[np.int64]]]:
    """All sites of all parts, and for each part its sites' numbers among them."""
    sites: list[Site] = []
    index: dict[tuple[str, Role], int] = {}
    numbers: list[NDArray[np.int64]] = []
    for part in parts:
        for site in part.info.sites:
            if (site.path, site.role) not in index:
                index[site.path, site.role] = len(sites)
                sites.append(site)
        numbers.append(np.array([index[site.path, site.role] for site in part.info.sites], np.int64))
        for old, new in enumerate(numbers[-1]):
            site = part.info.sites[old]
            if sites[new] is site:  # first seen here: what it points to has other numbers now
                same = None if site.same_as is None else int(numbers[-1][site.same_as])
                sites[new] = replace(site, same_as=same, inputs=tuple(int(numbers[-1][i]) for i in site.inputs))
    return sites, numbers


def _merge_info(parts: Sequence[Run], sites: list[Site], numbers: list[NDArray[np.int64]]) -> RunInfo:
    infos = [part.info for part in parts]
    links: dict[Link, None] = {}
    heads: dict[int, None] = {}
    for info, number in zip(infos, numbers, strict=True):
        heads.update(dict.fromkeys(int(number[head]) for head in info.heads))
        for link in info.links:
            source, target = (None if end is None else int(number[end]) for end in (link.source, link.target))
            links[Link(int(number[link.container]), source, target, link.operations)] = None
    states = {info.state for info in infos}
    ends = [info.ended for info in infos if info.ended is not None]
    return replace(
        infos[0],
        created=min(info.created for info in infos),
        sites=tuple(sites),
        links=tuple(links),
        heads=tuple(heads),
        criterion=next((info.criterion for info in infos if info.criterion), ""),
        not_observed=tuple(_merge_not_observed(parts)),
        state="ended" if "ended" in states else "recording" if "recording" in states else "stopped",
        ended=max(ends, default=None),
    )


def _merge_not_observed(parts: Sequence[Run]) -> Iterator[NotObserved]:
    """What no rank saw, what only some did not see, and which ranks are missing or fell silent."""
    silent: dict[NotObserved, list[int]] = {}
    for part in parts:
        for missing in part.info.not_observed:
            silent.setdefault(missing, []).append(part.info.rank)
    for missing, ranks in silent.items():
        where = "" if len(ranks) == len(parts) else f" ({ranks_in_words(ranks)})"
        yield NotObserved(missing.what + where, missing.why)
    world = max(part.info.world_size for part in parts)
    absent = sorted(set(range(world)) - {part.info.rank for part in parts})
    if absent:
        yield NotObserved(f"{ranks_in_words(absent)} of {world}", "nothing was written there: was watch() called?")
    last = [int(part.steps["step"][-1]) if len(part.steps) else -1 for part in parts]
    ended = any(part.info.state == "ended" for part in parts)
    for part, step in zip(parts, last, strict=True):
        late = max(last) - step
        until = f"nothing after step {step:,}" if step >= 0 else "no step was closed there"
        if late > (0 if ended else BEHIND):
            yield NotObserved(ranks_in_words([part.info.rank]), f"{until}; other ranks got to step {max(last):,}")
        elif ended and part.info.state == "recording":
            yield NotObserved(ranks_in_words([part.info.rank]), f"{until}, and no end: killed, or still at it")


def _merge_events(parts: Sequence[Run]) -> tuple[Event, ...]:
    """All events in order; a value that every rank logs is told once, by the lowest rank that does."""
    owners: dict[str, int] = {}
    events = []
    for part in parts:
        rank = part.info.rank
        for event in part.events:
            if event.kind == "value" and owners.setdefault(str(event.data.get("name")), rank) != rank:
                continue
            events.append(event if rank == parts[0].info.rank else replace(event, data={**event.data, "rank": rank}))
    return tuple(sorted(events, key=lambda event: event.time))


# steps


def _merge_steps(parts: Sequence[Run]) -> tuple[Rows, NDArray[np.float64]]:
    """One row for each step that any rank closed."""
    rows = np.concatenate([part.steps for part in parts])
    numbers, first, groups = np.unique(rows["step"], return_index=True, return_inverse=True)
    steps: Rows = rows[first].astype(STEP)
    seen = np.zeros(len(numbers))
    with np.errstate(invalid="ignore"):
        total = np.zeros(len(numbers))
        np.add.at(total, groups[rows["has_loss"]], rows["loss"][rows["has_loss"]])
        np.add.at(seen, groups[rows["has_loss"]], 1.0)
        steps["loss"] = np.where(seen > 0, total / np.maximum(seen, 1.0), np.nan)
    for name in ("has_loss", "recorded", "training_mode", "skipped"):
        steps[name] = False
        np.logical_or.at(steps[name], groups, rows[name])
    for name in ("time", "seconds", "recorder_seconds", "forwards", "backwards"):
        np.maximum.at(steps[name], groups, rows[name])
    rates = np.full((len(rows), max(part.learning_rates.shape[1] for part in parts)), np.nan)
    row = 0
    for part in parts:
        length, groups_of_parameters = part.learning_rates.shape
        rates[row : row + length, :groups_of_parameters] = part.learning_rates
        row += length
    return steps, rates[first]


def _set_gradient_norms(steps: Rows, summaries: Rows, parts: Sequence[Run], sites: list[Site]) -> None:
    """Gradient norms over all ranks, in place; NaN where a rank's shards are missing."""
    trained = [site for site in sites if site.role == "parameter" and site.trainable]
    kinds = {site.sharded for site in trained}
    if True not in kinds:
        return  # every rank has the whole norm
    copy = [part for part in parts if part.info.replica == min(part.info.replica for part in parts)]
    squares = {name: np.zeros(len(steps)) for name in ("gradient_norm", "clipped_gradient_norm")}
    for part in copy:
        there = np.searchsorted(steps["step"], part.steps["step"])
        for name, total in squares.items():
            absent = np.full(len(steps), np.nan)
            absent[there] = part.steps[name] ** 2
            total += absent
    complete = len(copy) == parts[0].info.shards
    whole, clipped = squares["gradient_norm"], squares["clipped_gradient_norm"]
    norms = np.sqrt(whole) if complete else np.full(len(steps), np.nan)
    if False in kinds:  # a replicated parameter is in every rank's norm: add it up from the rows, where there are any
        rows = summaries[summaries["quantity"] == QUANTITIES.index("gradient")]
        at = np.searchsorted(steps["step"], rows["step"])
        total, known = np.zeros(len(steps)), np.zeros(len(steps), bool)
        np.add.at(total, at, rows["sum_squares"])
        known[at] = True
        norms = np.where(known & ~np.isnan(norms), np.sqrt(total), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(whole > 0, np.sqrt(clipped / whole), 1.0)
    after = norms * ratio
    if complete and False not in kinds:  # a norm that was taken between recorded steps is known after clipping only
        after = np.where(np.isnan(norms), np.sqrt(clipped), after)
    steps["gradient_norm"], steps["clipped_gradient_norm"] = norms, after


# summaries


def _merge_range(
    low: int, high: int, parts: Sequence[Run], sites: list[Site], numbers: list[NDArray[np.int64]]
) -> tuple[Rows, list[RankFact]]:
    """Merges the rows of the steps from `low` up to `high`, in blocks of whole steps."""
    longest = max((part.summaries["step"] for part in parts), key=len)
    longest = longest[slice(*np.searchsorted(longest, [low, high]))]
    bounds = [low, *np.unique(longest[:: max(_ROWS_AT_ONCE // len(parts), 1)])[1:].tolist(), high]
    merged, facts = [np.empty(0, SUMMARY_ROW)], []
    for begin, end in pairwise(bounds):
        rows, owner = [], []
        for number, part in enumerate(parts):
            taken = part.summaries[slice(*np.searchsorted(part.summaries["step"], [begin, end]))].copy()
            taken["site"] = numbers[number][taken["site"]] if len(taken) else 0
            rows.append(taken)
            owner.append(np.full(len(taken), number))
        if any(map(len, rows)):
            block, found = _merge_rows(np.concatenate(rows), np.concatenate(owner), sites, parts)
            merged.append(block)
            facts += found
    return np.concatenate(merged), facts


def _merge_rows(
    rows: Rows, owner: NDArray[np.int64], sites: list[Site], parts: Sequence[Run]
) -> tuple[Rows, list[RankFact]]:
    """One row a step, site and quantity, dtype `SUMMARY_ROW`, and what the ranks do not have in common."""
    keys = (rows["step"] - rows["step"].min()) * len(sites) + rows["site"]
    unique, groups = np.unique(keys * len(QUANTITIES) + rows["quantity"], return_inverse=True)
    first = np.full(len(unique), len(rows))
    np.minimum.at(first, groups, np.arange(len(rows)))
    parameter = np.array([site.role == "parameter" for site in sites])[rows["site"]]
    sharded = parameter & np.array([site.sharded for site in sites])[rows["site"]]
    replicas = np.array([part.info.replica for part in parts])
    counted = np.where(
        sharded, (replicas == replicas.min())[owner], ~parameter | (np.arange(len(rows)) == first[groups])
    )
    summaries = np.empty(len(rows), SUMMARY)
    for name in SUMMARY.names or ():
        summaries[name] = rows[name]
    for number, part in enumerate(parts):
        if part.info.averaged != 1:
            scaled = (rows["quantity"] == _GRADIENT) & (owner == number)
            summaries[scaled] = scale(summaries[scaled], 1 / part.info.averaged)
    merged = np.empty(len(unique), SUMMARY_ROW)
    for name in ("step", "site", "quantity"):
        merged[name] = rows[name][first]
    with np.errstate(invalid="ignore"):  # Inf and NaN are what is looked for
        together = merge(summaries[counted], groups[counted], len(unique))
    for name in SUMMARY.names or ():
        merged[name] = together[name]
    ranks = np.array([part.info.rank for part in parts])[owner]
    facts = facts_of("non-finite", rows, groups, first, 0.0 + rows["non_finite"], ranks, len(parts))
    compared = parameter & ~sharded & (rows["quantity"] != _GRADIENT)
    return merged, facts + differences(rows, groups, first, compared, ranks, parts)
