"""Columns of numbers: the summary of a tensor, the row of a step, and how summaries merge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTITIES = (
    "activation",
    "activation_gradient",
    "weight",
    "gradient",
    "update",
    "first_moment",
    "second_moment",
    # of a parameter, on its fixed sample
    "gradient_change",  # since the step before, where that was recorded too; its dot is with the update in between
    "normalised_gradient",  # gradient / √v with the second moment v of before the step, unbiased: what Adam divides
    # one number a unit (channel or feature), of what an activation gave; of one that is a function and no module it
    # stands at the output of the module that the function is applied to
    "slope",  # rms over the batch of the activation's derivative: 0 where a unit is silent, small where it is saturated
    "lasting_slope",  # the largest slope of the last looks, 8 at most: a unit that is dead stays at 0
    # one number a feature of what the model is fed
    "feature_mean",
    "feature_deviation",  # standard deviation over the batch
    "feature_gradient",  # of the first weights: the norm of the gradient of all that one feature feeds
    # one number a sample of a layer's output
    "sample_spread",  # distance from the mean over the samples, over the rms length of a sample: 0 when all are alike
    # of normalisation, one number a group of entries that are normalised together
    "group_variance",  # share of the variance in variance + eps: near 0 the output is eps's, not the data's
    "running_gap",  # |mean - running mean| / deviation + |ln(deviation / running deviation)|, one number a channel
    # of attention, one number a query
    "attention_entropy",  # over ln(keys), in [0, 1]: 0 when one key takes all
    "attention_logit",  # the largest |logit|
)

# Edges of the log2-magnitude histogram. Every number format's limits are edges: float32 denormals start at
# -149 and normals at -126, bfloat16 denormals at -133, float16 denormals at -24, normals at -14, overflow at 16.
EXPONENT_EDGES: NDArray[np.int64] = np.array(
    [-149, -133, -126, -104, -80, -56, -48, *range(-40, 17, 2), 20, 24, 32, 64, 96, 128]
)
HISTOGRAM_BINS = len(EXPONENT_EDGES) + 1  # one below the first edge, one above the last

# One summary: a small, mergeable description of one tensor (DESIGN §2).
SUMMARY = np.dtype(
    [
        ("count", "f8"),  # entries, exact
        ("sum_squares", "f8"),  # exact; NaN or Inf where an entry is
        ("non_finite", "?"),  # whether any entry is NaN or Inf, exact
        (
            "sample_size",
            "f8",
        ),  # entries that the fields below were taken from; equal to count when they are exact
        ("sum", "f8"),  # of the finite entries
        ("minimum", "f8"),  # of the finite entries; +Inf when there is none
        ("maximum", "f8"),  # of the finite entries; -Inf when there is none
        ("zeros", "f8"),  # entries that are exactly 0
        ("nans", "f8"),
        ("positive_infs", "f8"),
        ("negative_infs", "f8"),
        (
            "weight_dot",
            "f8",
        ),  # gradient: <weight, gradient>, exact. update: <gradient before, update>. gradient_change:
        # <update before, change>. second_moment: <update, √v update>. NaN for every other quantity
        (
            "histogram",
            "f8",
            (HISTOGRAM_BINS,),
        ),  # finite non-zero entries by floor(log2|x|) as held in memory, a loss scale included, see EXPONENT_EDGES
    ]
)

# A row of a run: where and when a summary was taken.
SUMMARY_ROW = np.dtype([("step", "i8"), ("site", "i4"), ("quantity", "i1"), *SUMMARY.descr])

STEP = np.dtype(
    [
        ("step", "i8"),
        ("time", "f8"),  # seconds since 1970, when the step closed
        ("seconds", "f8"),  # since the previous step closed
        ("recorder_seconds", "f8"),  # of them, spent by GradScope
        ("loss", "f8"),  # mean over the step's forwards; NaN when not observed, see `has_loss`
        ("has_loss", "?"),
        ("gradient_norm", "f8"),  # L2 over all parameters before clipping; NaN when not recorded
        ("clipped_gradient_norm", "f8"),  # the same as the optimizer saw it
        ("forwards", "i4"),  # training forwards
        ("backwards", "i4"),
        ("recorded", "?"),  # whether summaries were taken
        ("training_mode", "?"),  # the model's `training` flag in its forward
        ("scale", "f8"),  # loss scale that gradients had in memory; the norms here and all summaries are without it
        ("skipped", "?"),  # by a gradient scaler, because gradients were not finite
        (
            "carried",
            "f8",
        ),  # norm of the gradients that were there before the first backward, over the step's; NaN: unknown
        ("trivial_loss", "f8"),  # of the best constant output, over the targets seen so far; NaN: the loss is not known
    ]
)
STEP_DEFAULTS = {"scale": 1.0}  # of columns that older runs lack; others are 0, or NaN where they are numbers

Rows = NDArray[Any]


def empty_summaries(length: int) -> Rows:
    """Summaries of nothing, the identity of `merge`: an array of dtype `SUMMARY`, shape `[length]`."""
    rows = np.zeros(length, SUMMARY)
    rows["minimum"], rows["maximum"], rows["weight_dot"] = np.inf, -np.inf, np.nan
    return rows


def merge(rows: Rows, groups: NDArray[np.int64], count: int) -> Rows:
    """Merges summaries so that each result is what summarising its tensors together would have given.

    Calls, micro-batches, ranks and time windows all merge here.

    Args:
        rows: dtype `SUMMARY`, shape `[N]`.
        groups: for each row the index of the result it belongs to, shape `[N]`.
        count: how many results.

    Returns:
        dtype `SUMMARY`, shape `[count]`; a result without rows is `empty_summaries`.

    Example:
        >>> import numpy as np
        >>> two = empty_summaries(2)
        >>> two["count"], two["maximum"] = [3, 4], [1.0, 5.0]
        >>> one = merge(two, np.array([0, 0]), 1)
        >>> float(one["count"][0]), float(one["maximum"][0])
        (7.0, 5.0)
    """
    merged = empty_summaries(count)
    if not len(rows):
        return merged
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    there = groups[order][starts]
    for name in SUMMARY.names or ():
        values = rows[name][order]
        if name == "minimum":
            merged[name][there] = np.minimum.reduceat(values, starts)
        elif name == "maximum":
            merged[name][there] = np.maximum.reduceat(values, starts)
        elif name == "non_finite":
            merged[name][there] = np.logical_or.reduceat(values, starts)
        elif name == "weight_dot":
            known = ~np.isnan(values)
            total = np.add.reduceat(np.where(known, values, 0.0), starts)
            merged[name][there] = np.where(np.logical_or.reduceat(known, starts), total, np.nan)
        else:
            merged[name][there] = np.add.reduceat(values, starts, axis=0)
    return merged
