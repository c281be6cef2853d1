"""Runs written by hand, for the rules' cases and for tests: a chain of layers with the numbers you name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.records import (
    QUANTITIES,
    STEP,
    SUMMARY_ROW,
    Link,
    OptimizerInfo,
    Role,
    Rows,
    Run,
    RunInfo,
    Site,
    empty_summaries,
)

Values = float | Sequence[float]  # one number for all steps, or one a step

_MECHANISMS = {
    "Linear": "weights",
    "ReLU": "activation",
    "Tanh": "activation",
    "Sigmoid": "activation",
    "AdaptiveAvgPool2d": "pooling",
    "BatchNorm1d": "normalisation",
}
_COUNT = 1000.0  # entries of every tensor in a run written by hand


def run(
    gain: Mapping[str, Values],
    *,
    kinds: Mapping[str, str] | None = None,
    scale: Values = 1.0,
    gradient: Mapping[str, Values] | None = None,
    update: Mapping[str, Values] | None = None,
    activation: Mapping[str, Values] | None = None,
    loss: Values | None = None,
    zeros: float = 0.0,
    optimized: Mapping[str, bool] | None = None,
    trainable: Mapping[str, bool] | None = None,
    optimizer: str = "SGD",
    criterion: str = "",
    skipped: Sequence[int] = (),
    extra: Mapping[tuple[str, str], Mapping[str, Values]] | None = None,
    info: Mapping[str, Any] | None = None,
    columns: Mapping[str, Values] | None = None,
    steps: int = 8,
) -> Run:
    """A run of layers that follow one another; the last one is the head.

    Args:
        gain: the backward gain at each layer's output, by path, first layer first. NaN stands for NaN in the gradient.
        kinds: class names, "Linear" where not said.
        scale: ‖∂L/∂h_out‖.
        gradient: rms of each parameter's gradient, by parameter path ("a.weight"); None: 1e-3 times the layer's gain.
        update: rms(Δw)/rms(w) by parameter path; 1e-3 where not said. All weights have rms 1.
        activation: rms of each layer's output; 1 where not said.
        loss: the loss, when it is observed.
        zeros: the share of exact zeros in every gradient, said from exact counts.
        optimized, trainable: by parameter path; True where not said.
        optimizer, criterion: class names.
        skipped: steps that a gradient scaler skipped.
        extra: more summaries, by path and quantity ("(fed)" is what the model is fed, "(target)" what the loss compares
            with): columns of `SUMMARY`, or "rms" for the sum of squares; "zeros", "nans" … count out of 1,000 entries.
            They replace the columns of a summary that is there.
        info: fields of `RunInfo`.
        columns: of the steps, dtype `STEP`, e.g. `{"gradient_norm": [...]}`.
        steps: how many recorded steps.

    Example:
        >>> from gradscope.signals import Signals
        >>> float(Signals(run({"a": 1e-9, "b": 1.0}, scale=1e-8)).backward_gain[1, 0])
        1e-09
    """
    kinds, gradient, update, activation = kinds or {}, gradient or {}, update or {}, activation or {}
    sites, rows = _Sites(), []
    root = sites.add("", "output", "Sequential", 0, "container")
    layers: list[int] = []
    for order, path in enumerate(gain, 1):
        kind = kinds.get(path, "Linear")
        previous = (layers[-1],) if layers else ()
        layer = sites.add(path, "output", kind, order, _MECHANISMS.get(kind, "weights"), inputs=previous)
        layers.append(layer)
        delta = _series(gain[path], steps) * _series(scale, steps)
        rows += _rows(layer, "activation_gradient", delta / np.sqrt(_COUNT), zeros)
        rows += _rows(layer, "activation", _series(activation.get(path, 1.0), steps))
        if sites.items[layer].mechanism != "weights":
            continue
        name = f"{path}.weight"
        learns, held = (trainable or {}).get(name, True), (optimized or {}).get(name, True)
        weight = sites.add(name, "parameter", kind, order, "weights", trainable=learns, optimized=held)
        rows += _rows(weight, "weight", _series(1.0, steps))
        rows += _rows(weight, "gradient", _series(gradient.get(name, 1e-3 * delta), steps), zeros)
        rows += _rows(weight, "update", _series(update.get(name, 1e-3), steps))
    sites.items[root] = Site("", "output", "Sequential", 0, "container", same_as=layers[-1])
    for (path, quantity), fields in (extra or {}).items():
        rows.append(_extra(sites, path, quantity, fields, rows, steps))
    description = replace(
        _info(sites.items, root, layers),
        optimizers=(OptimizerInfo(optimizer, {"lr": 0.01}),),
        criterion=criterion,
        **(info or {}),
    )
    table = np.concatenate(rows)
    table = table[np.argsort(table["step"], kind="stable")]
    return Run(description, _steps(loss, steps, skipped, columns or {}), np.full((steps, 1), 0.01), table)


def _info(sites: list[Site], root: int, layers: list[int]) -> RunInfo:
    """The facts of a chain of layers."""
    links = tuple(Link(root, *ends) for ends in zip(layers, [*layers[1:], None], strict=True))
    return RunInfo("by-hand", "Sequential", 0.0, sites=tuple(sites), links=links, heads=(layers[-1],), state="ended")


class _Sites:
    def __init__(self) -> None:
        self.items: list[Site] = []

    def add(
        self,
        path: str,
        role: Role,
        kind: str,
        order: int,
        mechanism: str,
        *,
        inputs: tuple[int, ...] = (),
        trainable: bool = True,
        optimized: bool = True,
    ) -> int:
        site = Site(
            path,
            role,
            kind,
            order,
            mechanism,
            label=kind,
            shape=(10, int(_COUNT) // 10),
            dtype="float32",
            trainable=trainable,
            optimized=optimized,
            inputs=inputs,
        )
        self.items.append(site)
        return len(self.items) - 1


_MADE_UP: dict[str, Role] = {"(fed)": "input", "(target)": "target"}


def _extra(sites: _Sites, path: str, quantity: str, fields: Mapping[str, Values], rows: list[Rows], steps: int) -> Rows:
    """Rows of another quantity, or the changed rows of one that is there, which are taken out of `rows`."""
    role = _MADE_UP.get(path)
    found = [
        i for i, site in enumerate(sites.items) if (site.path, site.role) == ("" if role else path, role or site.role)
    ]
    site = found[0] if found else sites.add("" if role else path, role or "output", "Sequential", 0, "container")
    number = QUANTITIES.index(quantity)
    there = [each for each in rows if each["site"][0] == site and each["quantity"][0] == number]
    for each in there:
        rows[:] = [kept for kept in rows if kept is not each]
    table = there[0].copy() if there else _rows(site, quantity, _series(1.0, steps))[0]
    for name, values in fields.items():
        if name == "rms":
            table["sum_squares"] = _series(values, steps) ** 2 * table["count"]
        elif name == "histogram":
            table[name] = np.asarray(values, dtype=np.float64)
        else:
            table[name] = _series(values, steps)
    return table


def _series(values: Values | NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (steps,))


def _rows(site: int, quantity: str, rms: NDArray[np.float64], zeros: float = 0.0) -> list[Rows]:
    """One row a step for a tensor of `_COUNT` entries with this rms."""
    table = np.zeros(len(rms), SUMMARY_ROW)
    for name in empty_summaries(0).dtype.names or ():
        table[name] = empty_summaries(1)[name][0]
    table["step"], table["site"] = np.arange(len(rms)), site
    table["quantity"] = QUANTITIES.index(quantity)
    table["count"] = table["sample_size"] = _COUNT
    table["sum_squares"] = rms**2 * _COUNT
    table["non_finite"] = ~np.isfinite(rms)
    table["nans"] = np.isnan(rms)
    table["positive_infs"] = np.isinf(rms)
    finite = np.nan_to_num(np.abs(rms), nan=0.0, posinf=0.0)
    table["minimum"], table["maximum"] = -finite, finite
    table["zeros"] = np.where(rms == 0, _COUNT, zeros * _COUNT)
    return [table]


def _steps(loss: Values | None, steps: int, skipped: Sequence[int], columns: Mapping[str, Values]) -> Rows:
    table = np.zeros(steps, STEP)
    table["step"] = np.arange(steps)
    table["time"] = np.arange(steps) * 0.01
    table["seconds"] = 0.01
    table["loss"] = np.nan if loss is None else _series(loss, steps)
    table["has_loss"] = loss is not None
    table["gradient_norm"] = table["clipped_gradient_norm"] = 1.0
    table["forwards"] = table["backwards"] = 1
    table["recorded"] = table["training_mode"] = True
    table["scale"] = 1.0
    table["trivial_loss"] = np.nan
    table["skipped"][list(skipped)] = True
    for name, values in columns.items():
        table[name] = _series(values, steps)
    return table
