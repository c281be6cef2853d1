"""A run as Prometheus reads it: the newest numbers, the verdict as a state set and the findings, as a text.

A file of it is what node_exporter's textfile collector serves; it is always replaced in one move.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradscope.errors import ReportNotWritable
from gradscope.integrations.latest import Sample, newest, samples
from gradscope.integrations.recorded import Judge, needed, stretches
from gradscope.integrations.scalars import moments
from gradscope.store import resolve_run
from gradscope.store.folders import Location

EVERY = 15.0  # seconds between two texts of a run that is followed: as often as Prometheus asks


def export(location: Location, file: str, *, follow: bool = False) -> str:
    """Writes the text into a file, `*.prom` for node_exporter; gives a sentence that says so.

    Args:
        location: a run, or a folder of runs, of which the newest is taken.
        file: replaced if it is there.
        follow: write it again every 15 seconds, until the training has ended.

    Raises:
        MissingPackage: prometheus-client is not installed.
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.
        ReportNotWritable: the file cannot be written.

    Example:
        >>> export("runs/latest", "/var/lib/node_exporter/gradscope.prom", follow=True)  # doctest: +SKIP
        '1,234 numbers written to /var/lib/node_exporter/gradscope.prom'
    """
    client = _client()
    location = resolve_run(location)
    judge, known, written = Judge(location), dict[str, float](), time.monotonic()
    for _ in newest(known, moments(stretches(location, follow))):
        if follow and time.monotonic() - written > EVERY:
            _write(client, file, samples(known, *judge.now()))
            written = time.monotonic()
    count = _write(client, file, samples(known, *judge.now()))
    return f"{count:,} numbers written to {file}"


def text(location: Location) -> str:
    """The run as it is now, in Prometheus' text format.

    Raises:
        MissingPackage: prometheus-client is not installed.
        RunNotFound, NotARun, UnsupportedSchema: see `store.read_info`.

    Example:
        >>> print(text("runs/latest"))  # doctest: +SKIP
        # HELP gradscope_backward_gain norm of the loss gradient at the layer's output over …
    """
    client, known = _client(), dict[str, float]()
    location = resolve_run(location)
    for _ in newest(known, moments(stretches(location))):
        pass
    collector = _Collector(client.core, samples(known, *Judge(location).now()))
    return str(client.generate_latest(collector).decode())


def _client() -> Any:
    needed("prometheus_client.core", "prometheus-client", "Prometheus")
    return needed("prometheus_client", "prometheus-client", "Prometheus")


class _Collector:
    """Samples as Prometheus' own writer asks for them."""

    def __init__(self, client: Any, found: Iterable[Sample]) -> None:
        self.count = 0
        self._families: dict[str, Any] = {}
        for sample in found:
            family = self._families.get(sample.name)
            if family is None:
                family = client.GaugeMetricFamily(sample.name, sample.meaning, labels=list(sample.labels))
                self._families[sample.name] = family
            family.add_metric(list(sample.labels.values()), sample.value)
            self.count += 1

    def collect(self) -> list[Any]:
        """The metrics, each with its samples."""
        return list(self._families.values())


def _write(client: Any, file: str, found: Iterable[Sample]) -> int:
    collector, written = _Collector(client.core, found), Path(file)
    try:
        written.parent.mkdir(parents=True, exist_ok=True)
        client.write_to_textfile(str(written), collector)
    except OSError as error:
        raise ReportNotWritable(f"cannot write to {file}: {error.strerror}. Give -o another file.") from error
    return collector.count
