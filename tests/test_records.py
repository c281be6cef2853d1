"""Merging summaries, and the short texts of what is found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gradscope.records import (
    EXPONENT_EDGES,
    SUMMARY,
    Cause,
    Check,
    Diagnosis,
    Evidence,
    Finding,
    NotObserved,
    Rows,
    Site,
    Suggestion,
    empty_summaries,
    merge,
)

rng = np.random.default_rng(0)


def summarise(values: NDArray[np.float64], weight_dot: float = np.nan) -> Rows:
    """The slow, obvious oracle: one exact summary of one tensor, shape `[1]`."""
    row = empty_summaries(1)
    finite = values[np.isfinite(values)]
    exponents = np.floor(np.log2(np.abs(finite[finite != 0])))
    row["count"] = row["sample_size"] = values.size
    row["sum_squares"], row["non_finite"] = np.sum(values**2), not np.isfinite(values).all()
    row["sum"], row["zeros"] = finite.sum(), np.sum(values == 0)
    row["minimum"], row["maximum"] = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    row["nans"] = np.isnan(values).sum()
    row["positive_infs"], row["negative_infs"] = np.sum(values == np.inf), np.sum(values == -np.inf)
    row["weight_dot"] = weight_dot
    np.add.at(row["histogram"][0], np.searchsorted(EXPONENT_EDGES, exponents, side="right"), 1)
    return row


def _assert_equal(expected: Rows, actual: Rows) -> None:
    for name in SUMMARY.names or ():
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "special",
    [[], [0.0, -0.0], [np.nan], [np.inf, -np.inf, np.nan], [1e-40, 1e30]],
    ids=["plain", "zeros", "NaN", "Inf", "extremes"],
)
def test_merging_summaries_gives_what_summarising_the_tensors_together_gives(special: list[float]) -> None:
    """Merging two summaries equals summarising both tensors together."""
    first, second = rng.normal(size=50), np.concatenate([rng.normal(size=30) * 1e-6, special])
    merged = merge(np.concatenate([summarise(first), summarise(second)]), np.array([0, 0]), 1)
    _assert_equal(summarise(np.concatenate([first, second])), merged)


def test_merging_does_not_depend_on_the_order() -> None:
    """Ranks may come in any order, and parts of parts may be merged first."""
    parts = np.concatenate([summarise(rng.normal(size=size)) for size in (1, 7, 40)])
    at_once = merge(parts, np.zeros(3, np.int64), 1)
    pairs = merge(parts[[2, 0]], np.zeros(2, np.int64), 1)
    _assert_equal(at_once, merge(np.concatenate([pairs, parts[[1]]]), np.zeros(2, np.int64), 1))


def test_the_empty_summary_is_the_identity() -> None:
    """Merging with the summary of nothing changes nothing."""
    row = summarise(rng.normal(size=9), weight_dot=0.5)
    _assert_equal(row, merge(np.concatenate([empty_summaries(1), row]), np.array([0, 0]), 1))


def test_each_group_is_merged_for_itself() -> None:
    """Rows go to the result that their group names; a result without rows is empty."""
    first, second = summarise(np.ones(3)), summarise(np.full(5, 2.0))
    merged = merge(np.concatenate([first, second]), np.array([2, 0]), 3)
    _assert_equal(np.concatenate([second, empty_summaries(1), first]), merged)


def test_the_dot_with_the_weight_is_unknown_only_where_no_part_knows_it() -> None:
    """An unknown `weight_dot` counts as nothing beside a known one, and stays unknown alone."""
    known, unknown = summarise(np.ones(2), weight_dot=3.0), summarise(np.ones(2))
    both = merge(np.concatenate([known, unknown, known]), np.zeros(3, np.int64), 1)
    assert both["weight_dot"][0] == 6.0
    assert np.isnan(merge(unknown, np.array([0]), 1)["weight_dot"][0])


def test_a_number_formats_limits_are_edges_of_the_histogram() -> None:
    """Where a format's range ends, the histogram has an edge, so that shares under and over it are exact."""
    for limit in (-149, -133, -126, -24, -14, 16, 128):
        assert limit in EXPONENT_EDGES
    assert (np.diff(EXPONENT_EDGES) > 0).all()


def test_the_model_itself_has_a_name() -> None:
    """The site of the whole model, whose path is empty, is shown as "(model)"."""
    assert [Site("", "output", "Net", 0).name, Site("a", "output", "Linear", 1).name] == ["(model)", "a"]


def test_a_diagnosis_prints_as_compact_text() -> None:
    """Printing a diagnosis says the verdict, each finding with its causes and cures, and what was not observed."""
    finding = Finding(
        "vanishing-gradient",
        "error",
        ("a",),
        0,
        7,
        "Gradients vanish before b",
        (Evidence("gain at a", 1e-9, "", 1e-3),),
        (Cause("init-too-small", 0.8, "each Linear keeps 0.41"),),
        (Suggestion("initialization", "Use Xavier", "it keeps the variance", "..."),),
    )
    diagnosis = Diagnosis(
        "unhealthy",
        "Gradients vanish.",
        (finding,),
        (Check("non-finite", "passed"),),
        (NotObserved("emb", "integers"),),
    )
    assert str(diagnosis) == (
        "unhealthy: Gradients vanish.\n"
        "  F1 error vanishing-gradient: Gradients vanish before b\n"
        "     why: init-too-small (80 %): each Linear keeps 0.41\n"
        "     try: Use Xavier: it keeps the variance\n"
        "  not observed: emb: integers"
    )
    assert str(finding.evidence[0]) == "gain at a: 1e-09 (threshold 0.001)"
