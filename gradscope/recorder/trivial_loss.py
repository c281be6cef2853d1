"""The loss of the best constant output, over the targets of all recorded steps so far.

cross-entropy       entropy of the class shares
binary-cross-entropy  entropy of each output's share of ones, mean over outputs
squared-error       variance of each output's targets, mean over outputs
absolute-error      mean distance to each output's median, over a bounded number of targets

A network that gives the same output for every sample reaches it; one that has learned anything is below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradscope.recorder.loss_path import Reading
from gradscope.stats import Pending, to_host

_MOST_ENTRIES = 65_536  # targets of one step that are read; of more, evenly spaced rows
_MOST_COLUMNS = 4_096  # outputs that are told apart; of more, evenly spaced ones
_MOST_CLASSES = 262_144
_MOST_UNSEEN = 0.02  # share of an entropy that may be missing: ten classes need 98 samples
_FEWEST = 10  # samples that a variance is taken of
_MOST_KEPT = 16_384  # targets that a median is taken of


@dataclass
class Targets:
    """The targets of one loss on their way from the device."""

    kind: str
    values: Pending  # a copy
    weight: float  # what a loss of 1 at every target would give
    averaged: bool  # by the loss itself, over the entries that count and by their weights
    classes: int = 0
    ignored: int | None = None
    class_weight: torch.Tensor | None = None

    def ready(self) -> bool:
        """Whether reading them would not wait."""
        return self.values.ready()


def targets_of(reading: Reading) -> Targets | None:
    """Copies what is needed of a loss's targets; None where no constant output's loss is known."""
    path, target = reading.path, reading.target
    soft = path.kind == "cross-entropy" and target is not None and target.is_floating_point()
    known = path.kind in ("cross-entropy", "squared-error", "root-squared-error", "absolute-error")
    known |= path.kind.startswith("binary-cross-entropy")
    if target is None or not known or target.layout is not torch.strided or target.is_complex() or not target.numel():
        return None
    if path.kind == "cross-entropy" and not 1 < path.classes <= _MOST_CLASSES:
        return None
    if soft and target.shape[1:] != (path.classes,):
        return None  # class probabilities along an axis that the graph does not show
    with torch.no_grad():
        flat = target.detach().reshape(-1) if path.kind == "cross-entropy" and not soft else _rows(target.detach())
        step = max(1, -(-flat.numel() // _MOST_ENTRIES))
        flat = flat[::step]
        events: list[Any] = []
        host = to_host(flat, events)
        host = host.clone() if host.data_ptr() == flat.data_ptr() else host
        weights = reading.class_weight
        if weights is not None and (weights.numel() > _MOST_CLASSES or not weights.is_cpu):
            return None
        return Targets(
            "soft cross-entropy" if soft else path.kind,
            Pending(lambda: host.to(torch.float64).numpy(), events),
            reading.weight,
            reading.averaged,
            path.classes,
            reading.ignored,
            None if weights is None else weights.detach().clone(),
        )


def _rows(target: torch.Tensor) -> torch.Tensor:
    """Targets as a matrix of samples and outputs."""
    rows = target.reshape(len(target), -1) if target.dim() > 1 else target.reshape(-1, 1)
    return rows[:, :: max(1, -(-rows.shape[1] // _MOST_COLUMNS))]


class TrivialLoss:
    """Running sums over the targets seen so far."""

    def __init__(self) -> None:
        self._kind: tuple[str, int] = ("", 0)
        self._count = 0.0
        self._sums: NDArray[np.float64] = np.zeros(0)
        self._squares: NDArray[np.float64] = np.zeros(0)
        self._base: NDArray[np.float64] = np.zeros(0)
        self._kept: list[NDArray[np.float64]] = []

    def add(self, targets: Targets) -> float:
        """Takes the targets of a loss in and says what the best constant output would have cost it; NaN: not known."""
        values = targets.values.rows()
        if not np.isfinite(values).all():
            return math.nan
        if targets.kind == "cross-entropy":
            return targets.weight * self._entropy(targets, values.astype(np.int64))
        kind = (targets.kind, values.shape[1])
        if kind != self._kind:
            columns = values.shape[1]
            self._kind, self._count, self._kept = kind, 0.0, []
            self._sums, self._squares, self._base = np.zeros(columns), np.zeros(columns), values.mean(axis=0)
        if targets.kind == "absolute-error":
            return targets.weight * self._deviation(values)
        self._count += len(values)
        self._sums += (values - self._base).sum(axis=0)
        self._squares += ((values - self._base) ** 2).sum(axis=0)
        if self._count < _FEWEST or (targets.kind.endswith("cross-entropy") and not self._are_shares(targets, values)):
            return math.nan
        mean = self._sums / self._count
        if targets.kind.endswith("squared-error"):
            variance = float(np.maximum(self._squares / self._count - mean**2, 0.0).mean())
            return (
                targets.weight * variance if targets.kind == "squared-error" else math.sqrt(targets.weight * variance)
            )
        weight = 1.0 if targets.class_weight is None else targets.class_weight.double().numpy().reshape(-1)
        if np.size(weight) not in (1, len(mean)):
            return math.nan
        if targets.kind == "soft cross-entropy":
            share = (mean + self._base).clip(0.0) * weight
            certain = share.sum()  # more or less than 1 with weights
            return targets.weight * float(-(share * np.log((share / max(certain, 1e-300)).clip(1e-300))).sum())
        share = (mean + self._base).clip(0.0, 1.0)
        ones = share * weight
        total = ones + 1 - share
        return targets.weight * float((total * _binary_entropy(ones / np.maximum(total, 1e-300))).mean())

    @staticmethod
    def _are_shares(targets: Targets, values: NDArray[np.float64]) -> bool:
        """Whether the targets can be what outputs are to be: weights that were multiplied in can make them more."""
        most = math.inf if targets.kind.startswith("soft") else 1.0
        return bool(((values >= 0) & (values <= most)).all())

    def _entropy(self, targets: Targets, labels: NDArray[np.int64]) -> float:
        kind = (targets.kind, targets.classes)
        if kind != self._kind:
            self._kind, self._sums = kind, np.zeros(targets.classes)
        read = len(labels)
        labels = labels[(labels != targets.ignored) & (labels >= 0) & (labels < targets.classes)]
        counts = np.bincount(labels, minlength=targets.classes)
        self._sums += counts
        per_class = np.ones(targets.classes)
        if targets.class_weight is not None:
            if targets.class_weight.numel() != targets.classes:
                return math.nan
            per_class = targets.class_weight.double().numpy().reshape(-1)
        weights = self._sums * per_class
        total = weights.sum()
        if total <= 0:
            return math.nan
        share = weights[weights > 0] / total
        each = 1.0 if targets.averaged else float((counts * per_class).sum()) / read  # what entries of the step count
        unseen = (len(share) - 1) / (
            2 * self._sums.sum()
        )  # what few samples make the entropy too small by (Miller 1955)
        entropy = float(-(share * np.log(share)).sum())
        return float(each * entropy) if unseen <= _MOST_UNSEEN * entropy or len(share) == 1 else math.nan

    def _deviation(self, values: NDArray[np.float64]) -> float:
        if sum(part.size for part in self._kept) < _MOST_KEPT:
            self._kept.append(values)
        together = np.concatenate(self._kept)
        return float(np.abs(together - np.median(together, axis=0)).mean())


def _binary_entropy(share: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = share.clip(1e-300, 1.0)
    other = (1 - share).clip(1e-300, 1.0)
    entropy: NDArray[np.float64] = -(share * np.log(inside) + (1 - share) * np.log(other))
    return entropy
