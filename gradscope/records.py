"""The vocabulary: what a run, a site, a summary, a finding is. Plain numbers and numpy, no torch.

Example:
    >>> from gradscope.records import Cause
    >>> print(Cause("init-too-small", 0.8, "each Linear keeps 0.41 of the gradient"))
    init-too-small (80 %): each Linear keeps 0.41 of the gradient
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1

Role = Literal["output", "input", "parameter", "time"]
Severity = Literal["note", "warning", "error"]  # as in SARIF, least first
VerdictName = Literal["healthy", "watch", "unhealthy", "broken", "not-enough-data"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")

QUANTITIES = (
    "activation",
    "activation_gradient",
    "weight",
    "gradient",
    "update",
    "first_moment",
    "second_moment",
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
        ("weight_dot", "f8"),  # <w, gradient>, exact; NaN for every quantity but a parameter's gradient
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
    ]
)
STEP_DEFAULTS = {"scale": 1.0}  # of columns that older runs lack; others are 0

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


@dataclass(frozen=True)
class Site:
    """A place in the model where numbers are taken: a module's output or input, a parameter, or a bin of time steps."""

    path: str  # "layers.3.linear"; a parameter's own name "layers.3.linear.weight"; "lstm[0:4]"; "" is the model itself
    role: Role
    kind: str  # class name of the module, for a parameter of its owner
    order: int  # position in execution order; -1 when it never ran in a recorded step
    mechanism: str = "container"  # what it does to a gradient, see recorder/sites.py
    label: str = ""  # "Linear(64, 64)"
    shape: tuple[int, ...] = ()  # of the tensor seen first
    dtype: str = ""
    trainable: bool = True  # parameters: requires_grad
    optimized: bool = True  # parameters: in an optimizer
    sharded: bool = False  # parameters: each rank holds its own share of the entries
    same_as: int | None = None  # index of the site whose tensor this one is, so that it has no rows of its own
    aliases: tuple[str, ...] = ()  # other names of the same parameter
    inputs: tuple[int, ...] = ()  # sites that hold the gradient that left through this module's inputs

    @property
    def name(self) -> str:
        """The path as shown to people: the model itself is "(model)"."""
        return self.path or "(model)"

    @property
    def module(self) -> str:
        """The path of the module that a parameter belongs to; what makes its weights (weight norm) is none."""
        path = f".{self.path}"
        before, made, _ = path.partition(".parametrizations.")
        return (before if made else path.rpartition(".")[0])[1:]

    @property
    def title(self) -> str:
        """The path inside a sentence: a bare number becomes "layer 3"."""
        return f"layer {self.path}" if self.path.isdigit() else self.name


@dataclass(frozen=True)
class Link:
    """A way that the signal takes between two modules of one container, in forward direction.

    Indices are those of `output` sites. `source` None is the container's own input, `target` None its output.
    `operations` names the autograd nodes in between, e.g. `("TanhBackward0",)`.
    """

    container: int
    source: int | None
    target: int | None
    operations: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotObserved:
    """Something that GradScope could not see, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class OptimizerInfo:
    """What is known about one optimizer: its class and its first group's options that are plain numbers."""

    kind: str
    options: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunInfo:
    """Everything about a run that does not grow with its steps (`run.json`)."""

    id: str
    model: str  # class name
    created: float  # seconds since 1970
    schema_version: int = SCHEMA_VERSION
    versions: dict[str, str] = field(default_factory=dict)
    script: str = ""  # the command that trains, as typed
    device: str = "cpu"
    optimizers: tuple[OptimizerInfo, ...] = ()
    criterion: str = ""  # class name of the loss, when it was seen
    settings: dict[str, str | float | bool] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    links: tuple[Link, ...] = ()
    heads: tuple[int, ...] = ()  # output sites
    not_observed: tuple[NotObserved, ...] = ()
    state: Literal["recording", "stopped", "ended"] = "recording"
    process: int = 0  # the training's process id
    rank: int = 0  # of the process that wrote this
    world_size: int = 1  # how many processes train together
    parallel: str = ""  # what keeps their models together: "DDP", "FSDP2", "tensor parallel" ...
    averaged: int = 1  # ranks whose gradients the wrapper averages: each one's activation gradients count 1/averaged
    shards: int = 1  # ranks that a sharded parameter is spread over
    replica: int = 0  # which copy of the sharded parameters this rank has a share of
    not_merged: str = ""  # why the parts of other ranks cannot be put together with this one
    ended: float | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened once: a mark, a logged value, a warning."""

    step: int
    time: float
    kind: str  # "value", "warning", "ended"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RankFact:
    """Something that holds for some of the ranks only, since `step`."""

    kind: Literal["non-finite", "differs"]
    step: int  # the first recorded one
    site: int  # -1 for the loss
    quantity: str  # one of `QUANTITIES`, or "loss"
    ranks: tuple[int, ...]
    by: float = 0.0  # how far the norms lie from the median over ranks, as a share of it; for "differs"


@dataclass(frozen=True)
class Run:
    """Everything recorded from one training: columns of numbers.

    Attributes:
        info: what does not grow.
        steps: dtype `STEP`, one row a step, in order.
        learning_rates: shape `[steps, parameter groups]`, NaN where there is no such group.
        summaries: dtype `SUMMARY_ROW`, ordered by step.
        events: in order.
        rank_facts: what merging the ranks' parts would have hidden; empty for a training in one process.
    """

    info: RunInfo
    steps: Rows
    learning_rates: NDArray[np.float64]
    summaries: Rows
    events: tuple[Event, ...] = ()
    rank_facts: tuple[RankFact, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """One number that speaks for a finding, beside what it is judged against."""

    name: str  # "backward gain at layers.0"
    value: float
    unit: str = ""
    threshold: float | None = None
    healthy: str = ""  # "0.1 … 20"

    def __str__(self) -> str:
        against = "" if self.threshold is None else f" (threshold {self.threshold:.3g})"
        return f"{self.name}: {self.value:.3g}{' ' + self.unit if self.unit else ''}{against}"


@dataclass(frozen=True)
class Cause:
    """Why, as an id with a confidence in [0, 1] and the numbers that speak for it."""

    id: str
    confidence: float
    explanation: str

    def __str__(self) -> str:
        return f"{self.id} ({self.confidence:.0%}): {self.explanation}".replace("%)", " %)", 1)


@dataclass(frozen=True)
class Suggestion:
    """A remedy aimed at one finding."""

    remedy: str
    title: str
    why: str
    code: str
    location: str | None = None  # "train.py:42"
    trial: dict[str, Any] | None = None  # what a trial measured; None: an estimate

    def __str__(self) -> str:
        return f"{self.title}: {self.why}"


@dataclass(frozen=True)
class Finding:
    """One sickness, where and since when, why, and what to do."""

    rule: str
    severity: Severity
    layers: tuple[str, ...]  # the worst first
    first_step: int
    last_step: int
    message: str
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[Cause, ...] = ()  # most likely first
    suggestions: tuple[Suggestion, ...] = ()
    follows: str | None = None  # id of the rule whose finding leads to this one

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}"


@dataclass(frozen=True)
class Check:
    """A rule that found nothing: `passed`, or `needs-data` or `not-applicable` with the reason."""

    rule: str
    outcome: Literal["passed", "needs-data", "not-applicable"]
    reason: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What GradScope says of a run.

    `findings` lead with the most likely root cause. `passed` holds every rule that found nothing.
    """

    verdict: VerdictName
    headline: str
    findings: tuple[Finding, ...] = ()
    passed: tuple[Check, ...] = ()
    not_observed: tuple[NotObserved, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.headline}"]
        for number, finding in enumerate(self.findings, 1):
            lines.append(f"  F{number} {finding}")
            lines += [f"     why: {cause}" for cause in finding.causes[:2]]
            lines += [f"     try: {suggestion}" for suggestion in finding.suggestions[:2]]
        lines += [f"  not observed: {missing}" for missing in self.not_observed]
        return "\n".join(lines)
