"""The tables behind the charts, by name: the same data that the charts draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.depth import depth_data
from gradscope.dashboard.figures.map import map_data, step_span
from gradscope.dashboard.figures.map_marks import window
from gradscope.dashboard.figures.strips import EDGES, strips_data
from gradscope.dashboard.parts.layer_detail import layer_detail_data
from gradscope.dashboard.parts.layer_rows import layer_rows
from gradscope.dashboard.parts.layer_table import selected
from gradscope.dashboard.runs import Snapshot
from gradscope.reports.cells import MEASURED, NON_FINITE, NOT_RECORDED, ZERO
from gradscope.reports.metrics import METRICS

_STATES = {NOT_RECORDED: "", ZERO: "zero", NON_FINITE: "non-finite"}


@dataclass(frozen=True)
class Table:
    """Columns and rows of text, numbers and None; `about` says what they are."""

    columns: tuple[str, ...]
    rows: Iterable[Sequence[Any]]
    about: dict[str, Any] = field(default_factory=dict)


def _map(snapshot: Snapshot, address: Address) -> Table:
    """The map of a metric, of the steps and the block that are shown: a row and a column for each of the map."""
    metric = METRICS[address.metric]
    shown = window(step_span(snapshot.signals), None, address.first, address.last)
    data = map_data(snapshot.signals, metric, shown, address.block)
    steps = tuple(f"step {step}" for step in data.steps.tolist())
    return Table(
        ("layer", *steps),
        ([name, *_map_cells(data.decades[i], data.states[i])] for i, name in enumerate(data.rows)),
        {
            "run": snapshot.name,
            "data": "map",
            "metric": metric.id,
            "unit": metric.symbol,
            "steps_per_column": data.per_column,
            "layers_per_row": data.per_row,
            "block": data.block,
        },
    )


def _map_cells(decades: NDArray[np.float32], states: NDArray[np.uint8]) -> list[Any]:
    values = np.round(decades.astype(np.float64), 4).tolist()
    return [
        value if state == MEASURED else _STATES[state] for value, state in zip(values, states.tolist(), strict=True)
    ]


def _loss(snapshot: Snapshot, address: Address) -> Table:
    """Every step's loss and gradient norm; a step whose loss was not observed has none."""
    rows = snapshot.run.steps
    names = ("step", "loss", "gradient_norm", "clipped_gradient_norm", "skipped")
    loss = [
        value if seen else None for value, seen in zip(rows["loss"].tolist(), rows["has_loss"].tolist(), strict=True)
    ]
    columns = [rows["step"].tolist(), loss, *(_known(rows[name]) for name in names[2:4]), rows["skipped"].tolist()]
    return Table(names, zip(*columns, strict=True), {"run": snapshot.name, "data": "loss"})


def _known(values: NDArray[Any]) -> list[float | None]:
    """NaN is "not recorded" here."""
    return [None if value != value else value for value in values.tolist()]


def _depth(snapshot: Snapshot, address: Address) -> Table:
    """The depth profile at a step."""
    data = depth_data(snapshot.signals, address.step)
    state = [
        "non-finite" if bad else "zero" if zero else "" for bad, zero in zip(data.non_finite, data.zero, strict=True)
    ]
    columns = (data.layers, _known(data.backward), _known(data.forward), state)
    about = {"run": snapshot.name, "data": "depth", "step": data.step}
    return Table(("layer", "backward_gain", "forward_gain", "state"), zip(*columns, strict=True), about)


def _layers(snapshot: Snapshot, address: Address) -> Table:
    """The layer table at a step, with the filters and the order of the address, all its pages."""
    layers = layer_rows(snapshot.signals, snapshot.diagnosis, address.step)
    rows = selected(layers.rows, address)
    names = ("gain", "gradient_norm", "update_ratio", "activation_rms", "zeros", "dead")
    return Table(
        ("layer", "kind", "state", "findings", *names, "non_finite_steps"),
        (
            [row.name, row.kind, row.state.word, " ".join(row.state.findings)]
            + [None if value != value else "non-finite" if value == np.inf else value for value in row.measures]
            + [row.non_finite_steps]
            for row in rows
        ),
        {"run": snapshot.name, "data": "layers", "step": layers.step},
    )


def _layer(snapshot: Snapshot, address: Address) -> Table | None:
    """The histograms of one layer: a row for each tensor and column of its strip, a column a bin."""
    signals = snapshot.signals
    layers = layer_rows(signals, snapshot.diagnosis, address.step)
    detail = layer_detail_data(signals, snapshot.diagnosis, layers, address.layer or "")
    if detail is None:
        return None
    data = strips_data(signals, detail.row.site, detail.shown, detail.step)
    bins = ["below 2^-149", *(f"from 2^{round(edge / np.log10(2))}" for edge in EDGES[1:-1])]
    rows = [
        [strip.of, strip.what, int(np.ceil(begin)), zeros, broken, *np.nan_to_num(shares).tolist()]
        for pair in data.strips
        for strip in pair
        for begin, zeros, broken, shares in zip(
            strip.steps[: strip.share.shape[1]].tolist(),
            strip.zeros.tolist(),
            strip.non_finite.tolist(),
            strip.share.T,
            strict=True,
        )
    ]
    about = {"run": snapshot.name, "data": "layer", "layer": detail.row.name, "unit": "share of entries"}
    return Table(("tensor", "what", "step", "zeros", "non_finite", *bins), rows, about)


TABLES: dict[str, Callable[[Snapshot, Address], Table | None]] = {
    "map": _map,
    "loss": _loss,
    "depth": _depth,
    "layers": _layers,
    "layer": _layer,
}
