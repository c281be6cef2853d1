"""A run as OpenTelemetry metrics: gauges of the newest numbers, into a meter provider of yours or as a JSON document.

Nothing is sent unless your provider sends it. OpenTelemetry's gauges know no NaN and no Inf: `gradscope.not_finite` is 1
for each number that is one, with its name in the attribute `metric`.
"""

from __future__ import annotations

import math
from inspect import signature
from typing import Any

from gradscope.integrations.latest import Sample, newest, samples
from gradscope.integrations.recorded import judged, needed, stretches
from gradscope.integrations.scalars import moments
from gradscope.store import resolve_run
from gradscope.store.folders import Location

_MOST = 10**6  # label sets of one gauge; by itself a reader puts all beyond 2,000 layers into one


def export(location: Location, provider: Any) -> int:
    """Sets gauges to the newest numbers of a run; gives how many numbers.

    Args:
        location: a run, or a folder of runs, of which the newest is taken.
        provider: an `opentelemetry.metrics.MeterProvider`. Its readers bound how many layers a gauge can have.

    Raises:
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.

    Example:
        >>> from opentelemetry import metrics  # doctest: +SKIP
        >>> export("runs/latest", metrics.get_meter_provider())  # doctest: +SKIP
        1234
    """
    known: dict[str, float] = {}
    location = resolve_run(location)
    for _ in newest(known, moments(stretches(location))):
        pass
    meter, gauges, count = provider.get_meter("gradscope"), dict[str, Any](), 0
    for sample in map(_finite, samples(known, *judged(location))):
        if sample.name not in gauges:
            unit = "1" if sample.unit == "ratio" else ""
            gauges[sample.name] = meter.create_gauge(sample.name, unit, sample.meaning)
        gauges[sample.name].set(sample.value, sample.labels)
        count += 1
    return count


def _finite(sample: Sample) -> Sample:
    """The sample by OpenTelemetry's name for it; one that is NaN or Inf, which its gauges ignore, says so elsewhere."""
    name = sample.name.replace("_", ".", 1)
    if math.isfinite(sample.value):
        return sample._replace(name=name)
    labels = {**sample.labels, "metric": name, "value": str(sample.value)}
    return Sample("gradscope.not_finite", "1 for each number that is NaN or Inf now", "", labels, 1.0)


def text(location: Location) -> str:
    """The metrics of a run as a JSON document, as OpenTelemetry's SDK writes it.

    Raises:
        MissingPackage: opentelemetry-sdk is not installed.
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.

    Example:
        >>> print(text("runs/latest"))  # doctest: +SKIP
        {"resource_metrics": [{"resource": …
    """
    sdk = needed("opentelemetry.sdk.metrics", "opentelemetry-sdk", "OpenTelemetry")
    readers = needed("opentelemetry.sdk.metrics.export", "opentelemetry-sdk", "OpenTelemetry")
    bounded = "cardinality_limits" in signature(readers.InMemoryMetricReader).parameters  # older ones were not
    reader = readers.InMemoryMetricReader(**({"cardinality_limits": {sdk._Gauge: _MOST}} if bounded else {}))
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False)
    export(location, provider)
    document = str(reader.get_metrics_data().to_json(indent=None))
    provider.shutdown()
    return f"{document}\n"
