"""Series over the recorded steps of a run, one row a site, NaN where nothing was recorded."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.records import QUANTITIES, Link, Run

Series = NDArray[np.float64]  # shape [sites, recorded steps]
_Places = tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.intp]]


class Signals:
    """What a run says, in numbers that do not depend on the scale of loss, data or width.

    All matrices have shape `[sites, recorded steps]`; rows follow `run.info.sites`, columns follow `steps`.

    Example:
        >>> from gradscope.records import Run, RunInfo, STEP, SUMMARY_ROW
        >>> run = Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
        >>> Signals(run).backward_gain.shape
        (0, 0)
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.sites = run.info.sites
        self.steps: NDArray[np.int64] = np.unique(run.summaries["step"])
        # no lru_cache: one around a method of this object would keep it until the garbage collector comes
        self._fields: dict[tuple[str, str], Series] = {}
        self._places: dict[str, _Places] = {}

    # what was recorded

    @cached_property
    def modules(self) -> list[int]:
        """Output sites that ran, in execution order."""
        ran = [i for i, site in enumerate(self.sites) if site.role == "output" and site.order >= 0]
        return sorted(ran, key=lambda i: self.sites[i].order)

    @cached_property
    def layers(self) -> list[int]:
        """The modules that hold no other module: those a person calls layers, in execution order."""
        inner = {""} if len(self.modules) > 1 else set()
        for module in self.modules:
            parts = self.sites[module].path.split(".")
            inner.update(".".join(parts[:length]) for length in range(1, len(parts)))
        return [i for i in self.modules if self.sites[i].path not in inner]

    @cached_property
    def weighted_layers(self) -> list[int]:
        """The layers with weights of their own, recurrent ones included, in execution order."""
        return [i for i in self.layers if self.sites[i].mechanism in ("weights", "recurrence")]

    @cached_property
    def parameters(self) -> list[int]:
        """Parameter sites in the order in which their modules run."""
        found = [i for i, site in enumerate(self.sites) if site.role == "parameter"]
        return sorted(found, key=lambda i: (self.sites[i].order < 0, self.sites[i].order, i))

    def parameters_of(self, module: int) -> list[int]:
        """The parameter sites that the module itself owns, those that it shares with others included."""
        return self._parameters_of.get(self.sites[module].path, [])

    @cached_property
    def _parameters_of(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for parameter in self.parameters:
            site = self.sites[parameter]
            names = {site.module: None, **{replace(site, path=name).module: None for name in site.aliases}}
            for path in names:
                found.setdefault(path, []).append(parameter)
        return found

    def owner(self, parameter: int) -> int | None:
        """The output site of the module that owns a parameter; None when that module never ran."""
        index = self._index.get((self.sites[parameter].module, "output"))
        return index if index is not None and self.sites[index].order >= 0 else None

    def site(self, path: str, role: str = "output") -> int:
        """The index of a site by its path.

        Raises:
            KeyError: no such site.
        """
        index = self._index.get((path, role))
        if index is None:
            raise KeyError(f"no {role} site {path!r} in this run")
        return index

    @cached_property
    def _index(self) -> dict[tuple[str, str], int]:
        return {(site.path, site.role): index for index, site in enumerate(self.sites)}

    def values(self, quantity: str, field: str) -> Series:
        """One field of the summaries of one quantity, see `records.SUMMARY`; a site without rows shows the rows of
        the site whose tensor it shares.
        """
        if (quantity, field) not in self._fields:
            self._fields[quantity, field] = self._read_field(quantity, field)
        return self._fields[quantity, field]

    def _read_field(self, quantity: str, field: str) -> Series:
        if quantity not in self._places:
            self._places = {quantity: self._find_places(quantity)}  # several fields of one are asked for in a row
        here, sites, columns = self._places[quantity]
        matrix = np.full((len(self.sites), len(self.steps)), np.nan)
        matrix[sites, columns] = self.run.summaries[field][here]
        for index, same_as in self._shared:
            missing = np.isnan(matrix[index])
            matrix[index, missing] = matrix[same_as, missing]
        return matrix

    def _find_places(self, quantity: str) -> _Places:
        """Which rows are of a quantity, and their sites and columns: a row is long, so none is copied whole."""
        here = np.flatnonzero(self._quantities == QUANTITIES.index(quantity))
        return here, self.run.summaries["site"][here], np.searchsorted(self.steps, self.run.summaries["step"][here])

    @cached_property
    def _quantities(self) -> NDArray[np.int8]:
        return np.ascontiguousarray(self.run.summaries["quantity"])

    @cached_property
    def _shared(self) -> list[tuple[int, int]]:
        """Sites whose tensor is another site's."""
        return [(i, site.same_as) for i, site in enumerate(self.sites) if site.same_as is not None]

    # plain readings

    def norm(self, quantity: str) -> Series:
        """L2 norm over the whole tensor (the whole batch)."""
        return np.sqrt(self.values(quantity, "sum_squares"))

    def rms(self, quantity: str) -> Series:
        """Root mean square over the entries."""
        if (quantity, "rms") not in self._fields:
            with np.errstate(invalid="ignore", divide="ignore"):
                rms = np.sqrt(self.values(quantity, "sum_squares") / self.values(quantity, "count"))
            self._fields[quantity, "rms"] = rms
        return self._fields[quantity, "rms"]

    def share(self, quantity: str, field: str) -> Series:
        """A count of the summary as a share of the entries, in [0, 1], e.g. `share("activation", "zeros")`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.values(quantity, field) / self.values(quantity, "count")

    def exactly_zero(self, quantity: str) -> NDArray[np.bool_]:
        """Where every entry is 0, said from exact counts only."""
        count = self.values(quantity, "count")
        exact = self.values(quantity, "sample_size") == count
        zero: NDArray[np.bool_] = (self.values(quantity, "zeros") == count) & exact & (count > 0)
        return zero

    def non_finite(self, quantity: str) -> NDArray[np.bool_]:
        """Where any entry is NaN or Inf."""
        flags: NDArray[np.bool_] = np.nan_to_num(self.values(quantity, "non_finite")) > 0
        return flags

    # signals

    @cached_property
    def head_norm(self) -> NDArray[np.float64]:
        """‖∂L/∂h_out‖ per recorded step; several heads join as the root of the sum of squares."""
        heads = list(self.run.info.heads)
        if not heads:
            return np.full(len(self.steps), np.nan)
        squares = self.values("activation_gradient", "sum_squares")[heads]
        total = np.sqrt(np.nansum(squares, axis=0))
        missing: NDArray[np.float64] = np.where(np.isnan(squares).all(axis=0), np.nan, total)
        return missing

    @cached_property
    def backward_gain(self) -> Series:
        """‖∂L/∂h_i‖ / ‖∂L/∂h_out‖; NaN (undefined) where the head's gradient is exactly 0 or was not seen."""
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = self.norm("activation_gradient") / np.where(self.head_norm > 0, self.head_norm, np.nan)
        return np.asarray(gain)

    @cached_property
    def unpooled_gain(self) -> Series:
        """The backward gain without what pooling took on the way: that is arithmetic (L^-1/2), never a sickness.

        Pooling that the gradient has a way around (squeeze and excitation, a shortcut) takes nothing from it.
        """
        correction = np.zeros((len(self.sites), len(self.steps)))
        modules = np.array(self.modules, np.intp)
        order = np.array([self.sites[i].order for i in self.modules])
        for pool in self.modules:
            if self.sites[pool].mechanism != "pooling" or self._is_bypassed(pool):
                continue
            taken = np.nan_to_num(self.own_gain(pool))
            taken = np.where(np.isfinite(taken), np.minimum(taken, 0.0), 0.0)
            correction[modules[order < self.sites[pool].order]] += taken
            parts = self.sites[pool].path.split(".")
            around = [".".join(parts[:length]) for length in range(len(parts))]  # begun before it, but fed later
            correction[[self._index[path, "output"] for path in around if (path, "output") in self._index]] -= taken
        gain: Series = self.backward_gain * 10.0**-correction
        return gain

    def _is_bypassed(self, module: int) -> bool:
        """Whether what a module is fed is used elsewhere too, so that the gradient has another way back."""
        into = self._links_into.get(module, [])
        sources = {(link.container, link.source) for link in into}
        near = [link for container, _ in sources for link in self.links_in(container)]
        shared = any((link.container, link.source) in sources and link.target != module for link in near)
        return shared or any(link.source is None and self._is_bypassed(link.container) for link in into)

    def links_in(self, container: int) -> list[Link]:
        """The links between the children of a module, given its output site."""
        return self._links_in.get(container, [])

    def links_from(self, module: int) -> list[Link]:
        """The links that lead on from a module's output, given its site."""
        return self._links_from.get(module, [])

    @cached_property
    def _links_from(self) -> dict[int, list[Link]]:
        found: dict[int, list[Link]] = {}
        for link in self.run.info.links:
            if link.source is not None:
                found.setdefault(link.source, []).append(link)
        return found

    @cached_property
    def _links_in(self) -> dict[int, list[Link]]:
        found: dict[int, list[Link]] = {}
        for link in self.run.info.links:
            found.setdefault(link.container, []).append(link)
        return found

    @cached_property
    def _links_into(self) -> dict[int, list[Link]]:
        found: dict[int, list[Link]] = {}
        for link in self.run.info.links:
            if link.target is not None:
                found.setdefault(link.target, []).append(link)
        return found

    @cached_property
    def fed(self) -> int | None:
        """The site of the numbers that the model is fed; None when that are indices."""
        return next((i for i, site in enumerate(self.sites) if site.role == "input" and site.path == ""), None)

    @cached_property
    def forward_gain(self) -> Series:
        """rms(h_i) over the rms of what the model was fed (of its first layer's output, when that are indices)."""
        rms = self.rms("activation")
        base = np.full(len(self.steps), np.nan) if self.fed is None else rms[self.fed]
        if np.isnan(base).all() and self.layers:
            base = rms[self.layers[0]]
        with np.errstate(invalid="ignore", divide="ignore"):
            gain: Series = rms / np.where(base > 0, base, np.nan)
        return gain

    @cached_property
    def update_ratio(self) -> Series:
        """rms(Δw) / rms(w) per parameter; NaN where the weights are all 0."""
        weights = self.rms("weight")
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio: Series = self.rms("update") / np.where(weights > 0, weights, np.nan)
        return ratio

    def own_gain(self, module: int) -> NDArray[np.float64]:
        """log10(‖δ_in‖ / ‖δ_out‖) of one module in decades, shape `[recorded steps]`; NaN: not measured."""
        squares = self.values("activation_gradient", "sum_squares")
        inputs = list(self.sites[module].inputs)
        if not inputs:
            return np.full(len(self.steps), np.nan)
        return decades(np.sqrt(squares[inputs].sum(axis=0)), np.sqrt(squares[module]))

    def calls(self, module: int) -> int:
        """How often a module is called in one forward pass, from how many numbers it gave when its shape was seen."""
        each = math.prod(self.sites[module].shape) * self.run.info.world_size
        count, steps = self.values("activation", "count")[module], self.run.steps
        known = np.flatnonzero(np.isfinite(count))
        if not each or not len(known) or not len(steps):
            return 1
        at = np.searchsorted(steps["step"], self.steps[known[0]]).clip(max=len(steps) - 1)
        times = round(float(count[known[0]]) / (each * max(int(steps["forwards"][at]), 1)))
        ways = max(len(self._links_into.get(module, ())), self.time_profile(module).shape[1])
        return int(max(1, min(times, ways)))  # the shape may be of another batch; two inputs are two ways into one call

    @cached_property
    def skipped(self) -> NDArray[np.bool_]:
        """Which recorded steps a gradient scaler skipped, as it does when gradients overflow; shape `[recorded steps]`."""
        steps = self.run.steps
        return np.isin(self.steps, steps["step"][steps["skipped"]])

    @cached_property
    def skipped_in_a_row(self) -> int:
        """How many steps, up to the last one, a gradient scaler has skipped without one between that it let pass."""
        taken = np.flatnonzero(~self.run.steps["skipped"])
        return len(self.run.steps) - (int(taken[-1]) + 1 if len(taken) else 0)

    @cached_property
    def clipped_share(self) -> float:
        """The share of steps, among those whose gradient norm is known before and after, whose gradients were clipped."""
        before, after = self.run.steps["gradient_norm"], self.run.steps["clipped_gradient_norm"]
        known = np.isfinite(before) & np.isfinite(after) & ~self.run.steps["skipped"]
        return float(np.mean(after[known] < 0.999 * before[known])) if known.any() else float("nan")

    def time_profile(self, module: int) -> Series:
        """The norm of the gradient at each time step, shape `[recorded steps, bins]`, first time step first.

        Of an RNN, LSTM or GRU it is taken at its input; of a module that feeds its own next call (a cell, a loop written
        by hand) at its output, call by call. More than 64 time steps are joined by twos, fours and so on to bins of one
        width. Without a profile there are no bins; NaN: not measured.
        """
        bins = self._time_bins.get(self.sites[module].path, [])
        width = max((stop - start for start, stop, _ in bins), default=1)
        squares = self.values("activation_gradient", "sum_squares")
        total = np.zeros((len(self.steps), -(-max((stop for _, stop, _ in bins), default=0) // width)))
        seen = np.zeros(total.shape, bool)
        for start, _, site in bins:
            known = ~np.isnan(squares[site])
            total[known, start // width] += squares[site][known]
            seen[known, start // width] = True
        profile: Series = np.sqrt(np.where(seen, total, np.nan))
        return profile

    @cached_property
    def _time_bins(self) -> dict[str, list[tuple[int, int, int]]]:
        """Of each recurrent module, by path: first time step, the one after the last, site."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        for index, site in enumerate(self.sites):
            if site.role == "time":
                path, _, span = site.path.removesuffix("]").rpartition("[")
                start, _, stop = span.partition(":")
                found.setdefault(path, []).append((int(start), int(stop), index))
        return found

    def first_non_finite(self, quantity: str, excused: NDArray[np.bool_] | None = None) -> tuple[int, list[int]] | None:
        """The first recorded step at which the quantity holds NaN or Inf, and the sites where it does, in execution order.

        A tensor that several sites share is said once. Steps that are `excused`, shape `[recorded steps]`, do not count.
        """
        flags = self.non_finite(quantity)
        if excused is not None:
            flags[:, excused] = False
        repeated = [i for i, site in enumerate(self.sites) if site.same_as is not None or site.role == "time"]
        flags[repeated] = False  # said once a tensor
        columns = np.flatnonzero(flags.any(axis=0))
        if not len(columns):
            return None
        found = np.flatnonzero(flags[:, columns[0]])
        return int(self.steps[columns[0]]), sorted((int(i) for i in found), key=lambda i: self.sites[i].order)


def decades(over: NDArray[Any], under: NDArray[Any]) -> NDArray[np.float64]:
    """log10(over / under); -inf for a closed branch (over is exactly 0), NaN where `under` is 0 or unknown."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.log10(over / np.where(under > 0, under, np.nan)), dtype=np.float64)
