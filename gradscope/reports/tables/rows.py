"""A run as rows of its tables: Arrow batches, each of one stretch of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.records import EXPONENT_EDGES, QUANTITIES, Diagnosis, Rows, Run, Site
from gradscope.reports.tables import TABLES, Column
from gradscope.reports.tables.layer_signals import LAYER_SIGNALS, readings
from gradscope.signals import Signals

_TYPES: dict[str, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
}
_Columns = dict[str, Any]  # by name: an Arrow array, a numpy array or a list


def table_batches(
    tables: Sequence[str], stretches: Iterable[Run], diagnosis: Diagnosis | None = None
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of some tables, with the table's name; each table comes at least once, if only without rows.

    Args:
        tables: keys of `TABLES`.
        stretches: see `store.stream.RunStream.read`; gone through once.
        diagnosis: needed for findings, evidence and checks.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> rows = dict(table_batches(["steps"], [run({"a": 1.0}, loss=0.5, steps=2)]))["steps"]
        >>> rows.column("loss").to_pylist()
        [0.5, 0.5]
    """
    run: Run | None = None
    for run in stretches:
        for name in tables:
            if name in _OF_STRETCHES:
                yield name, _batch(name, _OF_STRETCHES[name](run))
    for name in tables:
        if run is not None and name in _OF_RUN:
            more, columns = _OF_RUN[name](run)
            yield name, _batch(name, columns, more)
        elif diagnosis is not None and name in _OF_DIAGNOSIS:
            yield name, _batch(name, _OF_DIAGNOSIS[name](diagnosis))


def _batch(name: str, columns: _Columns, more: Sequence[Column] = ()) -> pa.RecordBatch:
    expected = [*TABLES[name].columns, *more]
    fields = [_field(column) for column in expected]
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, field.type)
        for field, values in zip(fields, (columns[column.name] for column in expected), strict=True)
    ]
    return pa.record_batch(arrays, schema=pa.schema(fields, metadata={"table": name, "row": TABLES[name].meaning}))


def _field(column: Column) -> pa.Field:
    told = {"meaning": column.meaning, **({"unit": column.unit} if column.unit else {})}
    return pa.field(column.name, _TYPES[column.type], metadata=told)


def _known(values: NDArray[np.float64], known: NDArray[np.bool_]) -> pa.Array:
    """Numbers, null where nothing is known: NaN is not null."""
    return pa.array(np.asarray(values, np.float64), pa.float64(), mask=~known)


# places


def layer_of(site: Site) -> str:
    """The path of the module that a place belongs to.

    Example:
        >>> layer_of(Site("a.weight", "parameter", "Linear", 1)), layer_of(Site("lstm[0:4]", "time", "LSTM", 1))
        ('a', 'lstm')
    """
    if site.role == "parameter":
        return site.module or "(model)"
    return site.path.rpartition("[")[0] if site.role == "time" else site.name


def _places(run: Run, indices: NDArray[Any]) -> _Columns:
    """What the rows of some sites have in common."""
    sites = run.info.sites
    texts: dict[str, list[str]] = {
        "layer": [layer_of(site) for site in sites],
        "place": [site.name for site in sites],
        "role": [site.role for site in sites],
        "kind": [site.kind for site in sites],
    }
    taken: _Columns = {name: _taken(values, indices) for name, values in texts.items()}
    return {**taken, "order": np.array([site.order for site in sites], np.int64)[indices]}


def _taken(texts: Sequence[str], indices: NDArray[Any]) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(np.asarray(indices, np.int64)))


# tables that grow with the recorded steps


def _known_rows(run: Run) -> Rows:
    """The rows whose sites are known."""
    rows = run.summaries
    return rows[rows["site"] < len(run.info.sites)]


def _layers(run: Run) -> _Columns:
    rows = _known_rows(run)
    count, bad = rows["count"], rows["non_finite"]
    finite = count - rows["nans"] - rows["positive_infs"] - rows["negative_infs"]
    with np.errstate(invalid="ignore", divide="ignore"):
        rms, zeros, mean = np.sqrt(rows["sum_squares"] / count), rows["zeros"] / count, rows["sum"] / finite
    there = np.isfinite(rows["minimum"])
    gain, ratio = _of_rows(run, rows)
    plain = ("nans", "positive_infs", "negative_infs", "non_finite", "step")
    return {
        **{name: np.ascontiguousarray(rows[name]) for name in plain},
        **_places(run, rows["site"]),
        "quantity": _taken(QUANTITIES, rows["quantity"]),
        "entries": np.ascontiguousarray(count),
        "exact": rows["sample_size"] == count,
        "norm": np.sqrt(rows["sum_squares"]),
        "rms": _known(rms, count > 0),
        "mean": _known(mean, there & (finite > 0)),
        "minimum": _known(rows["minimum"], there),
        "maximum": _known(rows["maximum"], there),
        "zero_fraction": _known(zeros, count > 0),
        "dot": _known(rows["weight_dot"], ~np.isnan(rows["weight_dot"])),
        "backward_gain": _known(gain, (~np.isnan(gain) | bad) & _is(rows, "activation_gradient")),
        "update_ratio": _known(ratio, (~np.isnan(ratio) | bad) & _is(rows, "update")),
    }


def _is(rows: Rows, quantity: str) -> NDArray[np.bool_]:
    return np.asarray(rows["quantity"] == QUANTITIES.index(quantity))


def _of_rows(run: Run, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The backward gain and the update ratio that stand beside each row."""
    signals = Signals(run)
    if not len(rows):
        return np.empty(0), np.empty(0)
    at = np.searchsorted(signals.steps, rows["step"])
    gains = np.where(np.isfinite(signals.head_norm), signals.unpooled_gain, np.nan)
    return gains[rows["site"], at], signals.update_ratio[rows["site"], at]


def _signals(run: Run) -> _Columns:
    found = list(readings(run))
    sites = np.concatenate([np.empty(0, np.int64), *(each.sites for each in found)]).astype(np.int64)
    which = [np.full(len(each.sites), LAYER_SIGNALS.index(each.signal)) for each in found]
    return {
        **_places(run, sites),
        "step": np.concatenate([np.empty(0, np.int64), *(each.steps for each in found)]),
        "signal": _taken([each.name for each in LAYER_SIGNALS], np.concatenate([np.empty(0, np.int64), *which])),
        "value": np.concatenate([np.empty(0), *(each.values for each in found)]),
    }


def _histograms(run: Run) -> _Columns:
    rows = _known_rows(run)
    histogram = rows["histogram"]
    at, bins = np.nonzero(histogram)
    edges = np.array([-np.inf, *EXPONENT_EDGES, np.inf])
    return {
        **_places(run, rows["site"][at]),
        "step": rows["step"][at],
        "quantity": _taken(QUANTITIES, rows["quantity"][at]),
        "log2_from": edges[bins],
        "log2_to": edges[bins + 1],
        "entries": histogram[at, bins].astype(np.float64),
    }


_OF_STRETCHES: dict[str, Callable[[Run], _Columns]] = {
    "layers": _layers,
    "signals": _signals,
    "histograms": _histograms,
}


# tables of the whole run


def steps_known(run: Run) -> dict[str, NDArray[np.bool_]]:
    """Of each number of the steps, where it was recorded, be it NaN.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> steps_known(run({"a": 1.0}, steps=2))["loss"].tolist()
        [False, False]
    """
    rows = run.steps
    known: dict[str, NDArray[np.bool_]] = {
        name: ~np.isnan(rows[name])
        for name in ("seconds", "recorder_seconds", "gradient_norm", "clipped_gradient_norm", "trivial_loss", "carried")
    }
    # a norm that is NaN was measured where summaries were taken; elsewhere NaN is "not recorded"
    for name in ("gradient_norm", "clipped_gradient_norm"):
        known[name] |= rows["recorded"]
    return {**known, "loss": rows["has_loss"].copy()}


def _steps(run: Run) -> tuple[list[Column], _Columns]:
    rows, rates = run.steps, run.learning_rates
    names = [f"learning_rate_{group}" for group in range(rates.shape[1])]
    more = [Column(name, "number", f"of parameter group {group}") for group, name in enumerate(names)]
    columns: _Columns = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
    columns |= {name: _known(rows[name], mask) for name, mask in steps_known(run).items()}
    columns |= {name: _known(rates[:, group], ~np.isnan(rates[:, group])) for group, name in enumerate(names)}
    return more, {**columns, "loss_scale": columns["scale"]}


def _sites(run: Run) -> tuple[list[Column], _Columns]:
    sites = run.info.sites
    columns: _Columns = {
        **_places(run, np.arange(len(sites))),
        **{name: [getattr(site, name) or None for site in sites] for name in ("label", "mechanism", "dtype")},
        "shape": ["x".join(map(str, site.shape)) or None for site in sites],
        "same_as": [None if site.same_as is None else sites[site.same_as].name for site in sites],
        "aliases": [list(site.aliases) for site in sites],
    }
    for name in ("trainable", "optimized"):
        columns[name] = [getattr(site, name) if site.role == "parameter" else None for site in sites]
    return [], columns


def _values(run: Run) -> tuple[list[Column], _Columns]:
    told = [event for event in run.events if event.kind == "value"]
    return [], {
        "step": [event.step for event in told],
        "time": [event.time for event in told],
        "name": [str(event.data.get("name", "")) for event in told],
        "value": [number_of(event.data.get("value")) for event in told],
    }


def number_of(value: object) -> float:
    """A logged value as a number: JSON has no NaN, and a null stands for it."""
    return float(value) if isinstance(value, (int, float)) else float("nan")


_OF_RUN: dict[str, Callable[[Run], tuple[list[Column], _Columns]]] = {
    "steps": _steps,
    "sites": _sites,
    "values": _values,
}


# tables of the diagnosis


def _findings(diagnosis: Diagnosis) -> _Columns:
    findings = diagnosis.findings
    plain = ("rule", "severity", "message", "first_step", "last_step")
    return {
        "finding": [f"F{number}" for number, _ in enumerate(findings, 1)],
        **{name: [getattr(finding, name) for finding in findings] for name in plain},
        "follows": [finding.follows for finding in findings],
        "layers": [[layer or "(model)" for layer in finding.layers] for finding in findings],
        "causes": [[cause.id for cause in finding.causes] for finding in findings],
        "remedies": [[suggestion.remedy for suggestion in finding.suggestions] for finding in findings],
    }


def _evidence(diagnosis: Diagnosis) -> _Columns:
    told = [
        (f"F{number}", finding.rule, each)
        for number, finding in enumerate(diagnosis.findings, 1)
        for each in finding.evidence
    ]
    return {
        "finding": [number for number, _, _ in told],
        "rule": [rule for _, rule, _ in told],
        "name": [each.name for _, _, each in told],
        "value": [float(each.value) for _, _, each in told],
        "threshold": [None if each.threshold is None else float(each.threshold) for _, _, each in told],
        "unit": [each.unit or None for _, _, each in told],
        "healthy": [each.healthy or None for _, _, each in told],
    }


def _checks(diagnosis: Diagnosis) -> _Columns:
    checks = diagnosis.passed
    return {
        "rule": [check.rule for check in checks],
        "outcome": [check.outcome for check in checks],
        "reason": [check.reason or None for check in checks],
    }


_OF_DIAGNOSIS: dict[str, Callable[[Diagnosis], _Columns]] = {
    "findings": _findings,
    "evidence": _evidence,
    "checks": _checks,
}
NEED_SUMMARIES, NEED_A_DIAGNOSIS = frozenset(_OF_STRETCHES), frozenset(_OF_DIAGNOSIS)
