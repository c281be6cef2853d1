"""What the address asks for, so that a link leads to the same view."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

from gradscope.dashboard.figures.metrics import DEFAULT_METRIC, METRICS


@dataclass(frozen=True)
class View:
    """A run, a metric, a step, and what is open in the drawer; None: the default."""

    run: str | None = None
    metric: str = DEFAULT_METRIC
    step: int | None = None
    finding: str | None = None  # "F1"
    layer: str | None = None


def parse_view(search: str | None) -> View:
    """The view of an address' query; what cannot be understood is ignored.

    Example:
        >>> parse_view("?run=a&finding=F1&step=12")
        View(run='a', metric='backward-gain', step=12, finding='F1', layer=None)
    """
    asked = {key: values[0] for key, values in parse_qs((search or "").lstrip("?")).items()}
    step, metric = asked.get("step", ""), asked.get("metric", "")
    return View(
        asked.get("run"),
        metric if metric in METRICS else DEFAULT_METRIC,
        int(step) if step.isascii() and step.isdigit() else None,
        asked.get("finding"),
        asked.get("layer"),
    )
