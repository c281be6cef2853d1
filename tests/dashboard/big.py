"""A run as large as they come, as the store leaves it: 3,000 layers, 100,000 steps, what is kept of their summaries.

Written by hand, for nobody waits for such a training; the planted events are where `Planted` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradscope.records import (
    EXPONENT_EDGES,
    QUANTITIES,
    STEP,
    SUMMARY_ROW,
    Link,
    LossPath,
    OptimizerInfo,
    Rows,
    RunInfo,
    Site,
)
from gradscope.store import RunWriter

_OF_LAYERS = ("activation", "activation_gradient", "sample_spread")
_OF_ACTIVATIONS = ("slope", "lasting_slope")
_TYPICAL = {
    "activation": 1.0, "activation_gradient": 1e-4, "sample_spread": 0.9, "slope": 0.7, "lasting_slope": 0.95,
    "weight": 0.1, "gradient": 1e-4, "update": 1e-4, "first_moment": 1e-4, "second_moment": 1e-8,
}  # rms of a tensor  # fmt: skip
_OF_PARAMETERS = ("weight", "gradient", "update", "first_moment", "second_moment")


@dataclass(frozen=True)
class Planted:
    """What is wrong with the run, and where: layers by number, recorded steps by their own."""

    vanishing_layers: tuple[int, int]  # first, and the one after the last
    vanishing_steps: tuple[int, int]  # likewise
    spike_layer: int
    spike_step: int
    broken_from: int  # the first step of the NaN at the end


@dataclass(frozen=True)
class Size:
    """How large the run is."""

    layers: int = 3_000
    steps: int = 100_000
    kept: int = 340  # recorded steps that the store's thinning has left; with 3,000 layers they fill its budget

    @property
    def planted(self) -> Planted:
        """Where the events are."""
        layers, steps = self.layers, self.steps
        vanishing = steps * 40 // 100, steps * 55 // 100
        return Planted((0, layers // 3), vanishing, layers * 2 // 3, steps * 7 // 10 + 3, steps - steps // 200 - 1)

    @property
    def recorded(self) -> NDArray[np.int64]:
        """The steps whose summaries are kept: the first ones, those around what went wrong, the rest evenly."""
        planted, last = self.planted, self.steps - 1
        special = [0, 1, 2, 3, 4, planted.spike_step, planted.broken_from - 1, planted.broken_from, last]
        special = [step for step in special if step <= last]
        return np.unique([*special, *np.linspace(0, last, max(self.kept - len(special), 2)).astype(int)])


def write_big(folder: Path, size: Size) -> Path:
    """Writes the run."""
    writer = begin(folder, size)
    for rows in summaries(size):
        writer.write_summaries(rows)
    writer.close()
    return folder


def begin(folder: Path, size: Size, *, live: bool = False) -> RunWriter:
    """A writer of the run that has written everything but the summaries; of one that goes on, if `live`."""
    said = info(size)
    writer = RunWriter(folder, replace(said, state="recording", ended=None) if live else said)
    writer.write_steps(steps(size), [[1e-3]] * size.steps)
    return writer


def info(size: Size) -> RunInfo:
    """Blocks of ten: Linear and ReLU in turns; each Linear with its weight."""
    sites = [Site("", "output", "Deep", 0, label="Deep", shape=(32, 64), dtype="float32")]
    layers = [_layer(number, 1 + number) for number in range(size.layers)]
    sites += layers
    sites += [_parameter(layer) for layer in layers if layer.kind == "Linear"]
    ends = range(1, size.layers + 1)
    links = tuple(Link(0, *pair) for pair in zip([None, *ends], [*ends, None], strict=True))
    path = LossPath(
        ("LogSoftmaxBackward0", "NllLossBackward0"), "cross-entropy", "mean", (32, 64), (32, 64), (32,), "int64", 64
    )
    return RunInfo(
        "big", "Deep", 1.7e9, sites=tuple(sites), links=links, heads=(size.layers,), loss_path=path,
        optimizers=(OptimizerInfo("Adam", {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),),
        criterion="CrossEntropyLoss", state="ended", ended=1.7e9 + size.steps,
    )  # fmt: skip


def _layer(number: int, site: int) -> Site:
    linear = number % 2 == 0
    return Site(
        f"blocks.{number // 10}.layers.{number % 10}", "output", "Linear" if linear else "ReLU", site,
        "weights" if linear else "activation", label="Linear(64, 64)" if linear else "ReLU()",
        shape=(32, 64), dtype="float32", inputs=(site - 1,) if number else (),
    )  # fmt: skip


def _parameter(layer: Site) -> Site:
    name = f"{layer.path}.weight"
    return Site(name, "parameter", "Linear", layer.order, "weights", shape=(64, 64), dtype="float32")


def steps(size: Size) -> Rows:
    """All closed steps: a loss that falls, until it is NaN."""
    table, number = np.zeros(size.steps, STEP), np.arange(size.steps)
    noise = np.random.default_rng(1).normal(0, 0.03, size.steps)
    broken = number >= size.planted.broken_from
    table["step"], table["time"], table["seconds"] = number, 1.7e9 + 0.1 * number, 0.1
    table["recorder_seconds"] = 0.002
    table["loss"] = np.where(broken, np.nan, 0.3 + 3.8 * np.exp(-number / (0.2 * size.steps)) + noise)
    table["gradient_norm"] = table["clipped_gradient_norm"] = np.where(broken, np.nan, 0.5 * np.exp(noise))
    table["gradient_norm"][size.planted.spike_step] = table["clipped_gradient_norm"][size.planted.spike_step] = 3e4
    table["has_loss"] = table["recorded"] = table["training_mode"] = True
    table["forwards"] = table["backwards"] = 1
    table["scale"], table["trivial_loss"] = 1.0, 4.16
    return table


def summaries(size: Size) -> Iterator[Rows]:
    """The rows of each recorded step."""
    random, frame = np.random.default_rng(0), _frame(size)
    entries = np.where(frame["site"] > size.layers, 4096.0, 2048.0)
    for step in size.recorded:
        rows = frame.copy()
        rms = _rms(size, rows, int(step), random)
        rows["step"], rows["count"] = step, entries
        with np.errstate(invalid="ignore"):
            rows["sum_squares"] = rms**2 * entries
        rows["non_finite"] = ~np.isfinite(rms)
        rows["nans"] = np.where(rows["non_finite"], entries, 0.0)
        finite = np.nan_to_num(rms, nan=0.0, posinf=0.0).astype(np.float32)
        rows["minimum"], rows["maximum"] = -finite * random.normal(3, 0.2), finite * random.normal(3, 0.2)
        rows["sample_size"], rows["sum"] = 512.0, finite * random.normal(size=len(rows))
        _fill_histograms(rows, finite, random)
        yield rows


def _frame(size: Size) -> Rows:
    """Which site and quantity each row of a recorded step is of."""
    layers = np.arange(1, size.layers + 1)
    parameters = np.arange(size.layers + 1, size.layers + 1 + (size.layers + 1) // 2)
    pairs = [(site, QUANTITIES.index(name)) for site in layers for name in _OF_LAYERS]
    pairs += [(site, QUANTITIES.index(name)) for site in layers[1::2] for name in _OF_ACTIVATIONS]
    pairs += [(site, QUANTITIES.index(name)) for site in parameters for name in _OF_PARAMETERS]
    frame = np.zeros(len(pairs), SUMMARY_ROW)
    frame["site"], frame["quantity"] = np.array(pairs).T
    frame["weight_dot"] = np.nan
    return frame


def _rms(size: Size, rows: Rows, step: int, random: np.random.Generator) -> NDArray[np.float64]:
    """The rms of every tensor at one step."""
    planted, typical = size.planted, np.zeros(len(QUANTITIES))
    for name, value in _TYPICAL.items():
        typical[QUANTITIES.index(name)] = value
    rms: NDArray[np.float64] = typical[rows["quantity"]] * np.exp(random.normal(0, 0.1, len(rows)))
    backward = np.isin(rows["quantity"], [QUANTITIES.index(name) for name in ("activation_gradient", "gradient")])
    # layers by number: a parameter stands with the layer that owns it
    layer = np.where(rows["site"] > size.layers, 2 * (rows["site"] - size.layers - 1), rows["site"] - 1)
    low, high = planted.vanishing_layers
    if planted.vanishing_steps[0] <= step < planted.vanishing_steps[1]:
        rms[backward & (layer >= low) & (layer < high)] *= 1e-8
    if step == planted.spike_step:
        rms[backward & (layer == planted.spike_layer)] *= 1e7
    if step >= planted.broken_from:
        rms[backward] = np.nan
    return rms


def _fill_histograms(rows: Rows, rms: NDArray[np.float32], random: np.random.Generator) -> None:
    """About what a sample of 512 normally distributed numbers gives."""
    with np.errstate(divide="ignore"):
        exponent = np.where(rms > 0, np.log2(rms), -200.0)
    middle = np.searchsorted(EXPONENT_EDGES, exponent).clip(8, rows["histogram"].shape[1] - 4)
    for offset, share in enumerate((2, 5, 14, 40, 100, 180, 140, 31), -6):
        rows["histogram"][np.arange(len(rows)), middle + offset] = 4.0 * random.poisson(share, len(rows))
