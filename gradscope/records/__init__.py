"""The vocabulary: what a run, a site, a summary, a finding is. Plain numbers and numpy, no torch.

summary.py  columns of numbers, and how summaries merge
run.py      what a run is made of
finding.py  what is said of it
words.py    the words and shapes for that
html.py     the same as a notebook shows it

Example:
    >>> from gradscope.records import Cause
    >>> print(Cause("init-too-small", 0.8, "each Linear keeps 0.41 of the gradient"))
    init-too-small (80 %): each Linear keeps 0.41 of the gradient
"""

from gradscope.records.finding import (
    SEVERITIES,
    Cause,
    Check,
    Diagnosis,
    Evidence,
    Finding,
    Severity,
    Suggestion,
    VerdictName,
)
from gradscope.records.run import (
    SCHEMA_VERSION,
    Event,
    Link,
    LossPath,
    NotObserved,
    OptimizerInfo,
    Place,
    RankFact,
    Role,
    Run,
    RunInfo,
    Site,
    SourceFile,
)
from gradscope.records.summary import (
    EXPONENT_EDGES,
    HISTOGRAM_BINS,
    QUANTITIES,
    STEP,
    STEP_DEFAULTS,
    SUMMARY,
    SUMMARY_ROW,
    Rows,
    empty_summaries,
    merge,
)

__all__ = [
    "EXPONENT_EDGES",
    "HISTOGRAM_BINS",
    "QUANTITIES",
    "SCHEMA_VERSION",
    "SEVERITIES",
    "STEP",
    "STEP_DEFAULTS",
    "SUMMARY",
    "SUMMARY_ROW",
    "Cause",
    "Check",
    "Diagnosis",
    "Event",
    "Evidence",
    "Finding",
    "Link",
    "LossPath",
    "NotObserved",
    "OptimizerInfo",
    "Place",
    "RankFact",
    "Role",
    "Rows",
    "Run",
    "RunInfo",
    "Severity",
    "Site",
    "SourceFile",
    "Suggestion",
    "VerdictName",
    "empty_summaries",
    "merge",
]
