"""The layers of a run in numbers, at one recorded step: what the layer table, the tree and the downloads show."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.depth import latest, nearest
from gradscope.records import EXPONENT_EDGES, QUANTITIES, SEVERITIES, Diagnosis, Site
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.reports.words import SHAPES
from gradscope.signals import Signals

_SMOOTH = ("GELU", "SiLU", "Mish", "Softplus", "ELU", "CELU", "SELU")  # activations whose derivative is never quite 0
_SILENT = -12  # log2 of a derivative that is as good as 0, see signals/units.py
_TAKEN_FROM_TENSORS = QUANTITIES.index("gradient_change")  # the quantities before it; the rest is derived from them


_Owner = tuple[str, int | None, tuple[int, ...]]  # a module's path, output site and parameters


class LayerState(NamedTuple):
    """How a layer fares, as a shape and a word, never a colour alone."""

    shape: str
    word: str
    tone: str  # "error", "warning", "note", "outside", "ok", "unknown": the end of a CSS class
    findings: tuple[str, ...] = ()  # that name it, "F1"

    @property
    def rank(self) -> int:
        """Larger is worse."""
        return ("unknown", "ok", "note", "outside", "warning", "error").index(self.tone)

    @property
    def is_unhealthy(self) -> bool:
        """Whether it needs a look: a finding that is more than a note, or a gradient outside of the healthy band."""
        return self.tone in ("error", "warning", "outside")


class Measures(NamedTuple):
    """The numbers of one layer at one step; NaN: not recorded, or undefined; Inf: the tensor holds NaN or Inf."""

    gain: float  # backward gain, without what pooling took
    gradient_norm: float  # L2 over all its parameters
    update_ratio: float  # rms(Δw) / rms(w) over all its parameters
    activation_rms: float  # of its output
    zeros: float  # share of its output that is exactly 0, in [0, 1]
    dead: float  # share of its units that let nothing through for all samples of the last looks, in [0, 1]


@dataclass(frozen=True)
class LayerRow:
    """One layer at one step."""

    name: str  # the path as shown to people
    path: str
    kind: str  # class name
    depth: int  # place in the order of execution
    site: int | None  # index of its output site; None when it never ran in a recorded step
    parameters: tuple[int, ...]  # indices of the parameter sites that it owns
    state: LayerState
    measures: Measures
    non_finite_steps: int  # recorded steps of the whole run at which any of its tensors held NaN or Inf


@dataclass(frozen=True)
class LayerRows:
    """Every layer at one step, in the order of execution; `step` is None when nothing was recorded."""

    step: int | None
    column: int | None  # the step's place among the recorded ones
    rows: tuple[LayerRow, ...]


class _At:
    """The summaries of one recorded step: reading a row of the run costs less than a matrix of all its steps."""

    def __init__(self, signals: Signals, column: int | None) -> None:
        rows = signals.run.summaries
        step = None if column is None else signals.steps[column]
        start, stop = (0, 0) if step is None else np.searchsorted(rows["step"], [step, step + 1])
        self._rows = rows[start:stop]
        self._sites = len(signals.sites)
        self._shared = [(i, site.same_as) for i, site in enumerate(signals.sites) if site.same_as is not None]

    def read(self, quantity: str, field: str) -> NDArray[np.float64]:
        """One field by site; a site without rows shows those of the site whose tensor it shares."""
        rows = self._rows[self._rows["quantity"] == QUANTITIES.index(quantity)]
        values = np.full(self._sites, np.nan)
        values[rows["site"]] = rows[field]
        for index, owner in self._shared:
            if np.isnan(values[index]):
                values[index] = values[owner]
        return values

    def is_broken(self, quantity: str) -> NDArray[np.bool_]:
        """Where a tensor holds NaN or Inf."""
        return np.asarray(self.read(quantity, "non_finite") > 0)

    def squares(self, quantity: str) -> NDArray[np.float64]:
        """The sum of squares by site; Inf where the tensor holds NaN or Inf."""
        return np.where(self.is_broken(quantity), np.inf, self.read(quantity, "sum_squares"))

    def tiny(self, quantity: str) -> NDArray[np.float64]:
        """How many entries are 0 or as good as 0, by site."""
        rows = self._rows[self._rows["quantity"] == QUANTITIES.index(quantity)]
        values = np.full(self._sites, np.nan)
        bins = int(np.searchsorted(EXPONENT_EDGES, _SILENT)) + 1
        values[rows["site"]] = rows["zeros"] + rows["histogram"][:, :bins].sum(axis=1)
        return values


def layer_rows(signals: Signals, diagnosis: Diagnosis, step: int | None) -> LayerRows:
    """The layers at a recorded step: the nearest one at or before `step`, or the last with most gains when None."""
    return _rows(signals, diagnosis, step, _owners(signals))


def container_row(signals: Signals, diagnosis: Diagnosis, step: int | None, name: str) -> LayerRow | None:
    """A module that holds layers, as if it were one itself; None when there is none of that name."""
    found = [module for module in signals.modules if signals.sites[module].name == name]
    owners: list[_Owner] = [(signals.sites[module].path, module, ()) for module in found]
    return next(iter(_rows(signals, diagnosis, step, owners).rows), None)


def _rows(signals: Signals, diagnosis: Diagnosis, step: int | None, owners: list[_Owner]) -> LayerRows:
    column = latest(signals) if step is None else nearest(signals.steps, step)
    at, named = _At(signals, column), findings_by_layer(diagnosis)
    numbers = _numbers(signals, at, column, owners)
    broken = _non_finite_steps(signals, owners)
    rows = []
    for depth, (path, site, parameters) in enumerate(owners):
        module = signals.sites[site] if site is not None else _module_of(signals.sites[parameters[0]])
        names = [path, *(name for i in parameters for name in (signals.sites[i].path, *signals.sites[i].aliases))]
        finds = sorted({number for name in names for number in named.get(name, ())})
        state = _state(diagnosis, finds, numbers[depth].gain, broken[depth])
        about = (module.name, path, module.kind, depth, site, parameters, state, numbers[depth], broken[depth])
        rows.append(LayerRow(*about))
    return LayerRows(None if column is None else int(signals.steps[column]), column, tuple(rows))


def findings_by_layer(diagnosis: Diagnosis) -> dict[str, list[int]]:
    """The findings that name a layer or a parameter, by its path: 1 for F1."""
    named: dict[str, list[int]] = {}
    for number, finding in enumerate(diagnosis.findings, 1):
        for layer in finding.layers:
            named.setdefault(layer, []).append(number)
    return named


def _owners(signals: Signals) -> list[_Owner]:
    """What a person calls layers: modules without modules, and those with parameters of their own; never run, last."""
    layers = set(signals.layers)
    found: list[_Owner] = []
    for module in signals.modules:
        parameters = tuple(signals.parameters_of(module))
        if module in layers or parameters:
            found.append((signals.sites[module].path, module, parameters))
    there = {path for path, _, _ in found}
    lone: dict[str, list[int]] = {}
    for parameter in signals.parameters:
        if signals.sites[parameter].module not in there:
            lone.setdefault(signals.sites[parameter].module, []).append(parameter)
    return found + [(path, None, tuple(parameters)) for path, parameters in lone.items()]


def _module_of(parameter: Site) -> Site:
    """The module of a parameter, for one that never ran."""
    return replace(parameter, path=parameter.module, role="output", label="", shape=(), order=-1)


def _numbers(signals: Signals, at: _At, column: int | None, owners: list[_Owner]) -> list[Measures]:
    gains = np.full(len(signals.sites), np.nan) if column is None else signals.unpooled_gain[:, column]
    if column is not None and not np.isfinite(signals.head_norm[column]):
        gains = np.full(len(signals.sites), np.nan)  # x / Inf would read as 0
    gains = np.where(at.is_broken("activation_gradient"), np.inf, gains)
    count, entries = at.read("activation", "count"), at.read("weight", "count")
    units = at.read("lasting_slope", "count")
    with np.errstate(invalid="ignore", divide="ignore"):
        rms = np.sqrt(at.squares("activation") / count)
        zeros = at.read("activation", "zeros") / count
        dead, nearly = at.read("lasting_slope", "zeros") / units, at.tiny("lasting_slope") / units
        moved = entries * at.squares("update") / at.read("update", "count")
    gradient, weight = at.squares("gradient"), at.squares("weight")
    own = [_at_sites(owners, values) for values in (gains, rms, zeros, dead, nearly)]
    sums = [_over_parameters(owners, values) for values in (gradient, moved, weight)]
    smooth = [site is not None and signals.sites[site].kind in _SMOOTH for _, site, _ in owners]
    return [
        Measures(
            own[0][i],
            math.sqrt(sums[0][i]),
            _ratio(sums[1][i], sums[2][i]),
            own[1][i],
            own[2][i],
            own[3 + smooth[i]][i],
        )
        for i in range(len(owners))
    ]


def _at_sites(owners: list[_Owner], values: NDArray[np.float64]) -> list[float]:
    """For each layer the number at its output; NaN when it never ran."""
    every = values.tolist()
    return [math.nan if site is None else every[site] for _, site, _ in owners]


def _over_parameters(owners: list[_Owner], values: NDArray[np.float64]) -> list[float]:
    """For each layer the sum over its parameters of what was recorded; NaN when nothing was."""
    every = values.tolist()
    known = [[every[i] for i in parameters if not math.isnan(every[i])] for _, _, parameters in owners]
    return [sum(each) if each else math.nan for each in known]


def _ratio(over: float, under: float) -> float:
    if math.inf in (over, under):
        return math.inf
    return math.sqrt(over / under) if under > 0 and over >= 0 else math.nan


def _non_finite_steps(signals: Signals, owners: list[_Owner]) -> list[int]:
    """For each layer at how many recorded steps its output, its gradient or a parameter held NaN or Inf."""
    rows = signals.run.summaries
    bad = rows[rows["non_finite"]]
    bad = bad[bad["quantity"] < _TAKEN_FROM_TENSORS]
    if not len(bad):
        return [0] * len(owners)
    steps: dict[int, set[int]] = {}
    for site, step in zip(bad["site"].tolist(), bad["step"].tolist(), strict=True):
        steps.setdefault(site, set()).add(step)
    found = []
    for _, site, parameters in owners:
        tensor = None if site is None else signals.sites[site].same_as
        sites = [*(() if site is None else (site,)), *(() if tensor is None else (tensor,)), *parameters]
        found.append(len(set().union(*(steps.get(i, set()) for i in sites))))
    return found


def _state(diagnosis: Diagnosis, findings: list[int], gain: float, broken: int) -> LayerState:
    names = tuple(f"F{number}" for number in findings)
    if findings:
        worst = max((diagnosis.findings[number - 1].severity for number in findings), key=SEVERITIES.index)
        if worst != "note":
            return LayerState(SHAPES[worst][0], worst.capitalize(), worst, names)
    low, high = HEALTHY_GAIN
    if broken:
        return LayerState("✕", "NaN or Inf", "outside", names)
    if gain < low or gain > high:
        return LayerState("▽" if gain < low else "△", "Low gain" if gain < low else "High gain", "outside", names)
    if findings:
        return LayerState(SHAPES["note"][0], "Note", "note", names)
    if math.isnan(gain):
        return LayerState("○", "Not known", "unknown")
    return LayerState(SHAPES[None][0], "Healthy", "ok")
