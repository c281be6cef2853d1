"""Mismatches of outputs and loss that the operations between them prove, whatever the numbers are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Severity
from gradscope.signals.loss import double_softmax_floor
from gradscope.signals.output import NAMES, OutputSide, asked, output_side
from gradscope.signals.progress import Progress, progress
from gradscope.signals.series import Signals

_LOGARITHMS = {"Log", "LogSoftmax", "LogSigmoid", "Logsumexp"}
_NORMALISING = {"Softmax", "LogSoftmax", "Logsumexp", "Sigmoid", "LogSigmoid", "Hardsigmoid", "Exp"}
_POSITIVE = {
    *("cross-entropy", "binary-cross-entropy", "binary-cross-entropy-with-logits", "squared-error", "absolute-error"),
    *("root-squared-error", "huber"),
}


@dataclass(frozen=True)
class Seen:
    """What is looked at: the way from the head to the loss, and how the loss went."""

    signals: Signals
    side: OutputSide
    progress: Progress | None

    @property
    def kind(self) -> str:
        """The kind of loss, see `LossPath`."""
        return self.side.path.kind

    @property
    def learned(self) -> float:
        """The loss now over the best constant guess's; 1 where that is not known."""
        share = math.nan if self.progress is None else self.progress.against_trivial
        return 1.0 if math.isnan(share) else share

    def loss(self, healthy: str, threshold: float | None = None) -> tuple[Evidence, ...]:
        """The loss now as evidence, where it is known."""
        return () if self.progress is None else (Evidence("loss now", self.progress.now, "", threshold, healthy),)


@dataclass(frozen=True)
class Mismatch:
    """A loss that does not fit its outputs, in the words of a finding."""

    severity: Severity
    message: str
    evidence: tuple[Evidence, ...]
    causes: tuple[Cause, ...]


def look(signals: Signals) -> Seen | None:
    """Reads the output side of a run; None when it was not seen."""
    side = output_side(signals)
    return None if side is None else Seen(signals, side, progress(signals))


def structural(seen: Seen) -> Mismatch | None:
    """The most certain mismatch that the operations and shapes prove."""
    checks = (_one_unit, _wrong_axis, _broadcast, _sign, _no_probabilities, _softmax_twice, _labels_outside)
    return next((mismatch for check in checks if (mismatch := check(seen)) is not None), None)


def words(kind: str) -> str:
    """A kind of loss inside a sentence."""
    return kind.replace("binary-cross-entropy-with-logits", "binary-cross-entropy").replace("-", " ")


def shape_in_words(shape: tuple[int, ...]) -> str:
    """A shape as Python writes it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _one_unit(seen: Seen) -> Mismatch | None:
    """A softmax over a single unit."""
    path = seen.side.path
    dimensions = [d for d in path.softmax_dimensions if d < len(path.output_shape) and path.output_shape[d] == 1]
    norm = seen.signals.head_norm[np.isfinite(seen.signals.head_norm)]
    largest = float(norm.max()) if len(norm) else 0.0
    if not dimensions or largest > 1e-12:
        return None
    why = "the outputs are normalised over an axis of one entry: each is 1 whatever the weights are"
    return Mismatch(
        "error",
        "The softmax runs over a single unit, so that its output is always 1 and no gradient comes back",
        (Evidence("‖∂L/∂h_out‖, largest", largest, "", None, "above 0"),),
        (Cause("output-activation", 0.95, why),),
    )


def _wrong_axis(seen: Seen) -> Mismatch | None:
    """A softmax along the batch."""
    path = seen.side.path
    shape = path.output_shape
    products = {"Mm", "Bmm", "Matmul", "Einsum"} & set(seen.side.names)
    if len(shape) < 2 or shape[0] < 2 or shape[1] < 2 or products or 0 not in path.softmax_dimensions:
        return None
    why = (
        f"of outputs of shape {shape_in_words(shape)} the softmax makes each column of {shape[0]} samples sum to 1, "
        f"not each sample's {shape[1]} classes"
    )
    return Mismatch(
        "error",
        "The softmax runs over the batch, not over the classes",
        (Evidence("dimension of the softmax", 0.0, "", None, "that of the classes, 1 or -1"),),
        (Cause("output-activation", 0.9, why), Cause("loss-mismatch", 0.3, "samples compete with one another")),
    )


def _broadcast(seen: Seen) -> Mismatch | None:
    """(N, 1) beside (N,)."""
    path = seen.side.path
    outputs = math.prod(path.output_shape)
    if outputs < 2 or max(path.output_shape) != outputs or path.compared_shape != (outputs, outputs):
        return None
    target = f" and targets of shape {shape_in_words(path.target_shape)}" if path.target_shape else ""
    why = (
        f"outputs of shape {shape_in_words(path.output_shape)}{target} were broadcast to "
        f"{shape_in_words(path.compared_shape)}: every output is compared with every target, and the mean of the targets "
        "is the best answer for all"
    )
    count = Evidence("comparisons", float(outputs**2), "", float(outputs), "one a sample")
    return Mismatch(
        "error",
        f"Outputs and targets are broadcast against each other: {outputs} samples make {outputs**2:,} comparisons",
        (count,),
        (Cause("loss-mismatch", 0.95, why),),
    )


def _sign(seen: Seen) -> Mismatch | None:
    """A loss that is made larger, or is negative where it cannot be."""
    went = seen.progress
    if went is None or seen.kind not in _POSITIVE:
        return None
    if went.trivial < 0:
        why = f"a {words(seen.kind)} counts with a minus: each step makes it worse on purpose"
        message = "The loss has the wrong sign, so that training makes the error larger"
    elif went.now < -1e-6 and went.now < went.start and seen.kind.startswith("binary"):
        target = asked(seen.signals)
        between = "" if target is None else f": they lie between {number(target.lowest)} and {number(target.highest)}"
        why = f"a binary cross-entropy below 0 needs targets outside [0, 1]{between}"
        message = "The loss is negative, which it cannot be for targets in [0, 1]"
    elif _ascends(seen.signals) and went.now > went.start:
        why = "the updates point along the gradient, not against it: gradients are negated, or maximize=True"
        message = "Training climbs: its updates point along the gradient of the loss"
    else:
        return None
    loss = Evidence("loss now", went.now, "", 0.0, "0 or more")
    return Mismatch("error", message, (loss,), (Cause("loss-mismatch", 0.9, why),))


def _no_probabilities(seen: Seen) -> Mismatch | None:
    """A logarithm of outputs that are no probabilities, or none where one is needed."""
    names, before, kind = set(seen.side.names), seen.side.before, seen.kind
    said = "probabilities" if "Softmax" in names else "raw outputs"
    loss = seen.loss("0 or more")
    if kind in ("nll", "kl-divergence") and not names & _LOGARITHMS and (kind == "nll" or "Softmax" in names):
        name = "NLLLoss" if kind == "nll" else "KLDivLoss"
        why = f"{name} expects log-probabilities and is given {said}: it only shifts the loss, which has no lower end"
        return Mismatch(
            "error",
            f"The loss expects log-probabilities and is given {said}",
            loss or (Evidence("logarithms before the loss", 0.0, "", 1.0, "1"),),
            (Cause("loss-mismatch", 0.9, why), Cause("output-activation", 0.6, "a log-softmax is missing")),
        )
    plain = set(before) <= {"Relu", "Tanh", "Hardtanh"} and not names & _NORMALISING
    if plain and kind in ("cross-entropy", "binary-cross-entropy"):
        activation = NAMES.get(seen.side.last, seen.side.last)
        expected = "softmax" if kind == "cross-entropy" else "sigmoid"
        why = (
            f"the logarithm is taken of outputs behind {activation}; what lies outside (0, 1) is cut off, and with it "
            f"the gradient. A {expected} belongs in between"
        )
        causes = [Cause("output-activation", 0.9, why), Cause("loss-mismatch", 0.5, "it is a loss for probabilities")]
        target = asked(seen.signals)
        if target is not None and (target.highest > 1 + 1e-6 or target.lowest < -1e-6):
            why = f"targets between {number(target.lowest)} and {number(target.highest)} are no probabilities"
            causes.insert(0, Cause("loss-mismatch", 0.92, why))
            del causes[2]
        return Mismatch(
            "error",
            f"A {words(kind)} is taken of outputs that are no probabilities: {activation} lies before it",
            loss or (Evidence("activations that give probabilities", 0.0, "", 1.0, "1"),),
            tuple(causes),
        )
    return None


def _softmax_twice(seen: Seen) -> Mismatch | None:
    """Probabilities taken for logits."""
    names, path = seen.side.names, seen.side.path
    twice = any(pair in (("Softmax", "LogSoftmax"), ("Softmax", "Softmax")) for pair in pairwise(names))
    if not twice or seen.kind not in ("cross-entropy", "nll", "focal"):
        return None
    classes = path.classes or (path.output_shape[-1] if path.output_shape else 0)
    if classes < 2:
        return None
    floor = double_softmax_floor(classes)
    evidence = [Evidence("lowest loss that is possible", floor, "", None, "0")]
    if seen.progress is not None:
        evidence.insert(0, Evidence("loss now", seen.progress.now, "", floor, "near 0 in the end"))
    why = (
        f"the outputs go through softmax, and the loss takes another one: with {classes} classes it cannot fall "
        f"below {number(floor)}, and its gradient is that of nearly equal logits"
    )
    return Mismatch(
        "error",
        f"Softmax is taken twice: the loss cannot fall below {number(floor)}",
        tuple(evidence),
        (Cause("output-activation", 0.9, why), Cause("loss-mismatch", 0.7, "the loss expects logits")),
    )


def _labels_outside(seen: Seen) -> Mismatch | None:
    """A cross-entropy whose targets are no labels."""
    target = asked(seen.signals)
    floating = seen.side.path.target_dtype.startswith(("float", "bfloat"))
    if target is None or not floating or not seen.kind.startswith(("cross-entropy", "binary-cross-entropy")):
        return None
    if target.lowest >= -1e-6 and (target.highest <= 1 + 1e-6):
        return None
    why = (
        f"its targets must be probabilities, and lie between {number(target.lowest)} and {number(target.highest)}: "
        "a squared error is the loss for them"
    )
    return Mismatch(
        "error",
        f"A {words(seen.kind)} is given targets that are no probabilities",
        (Evidence("largest target", target.highest, "", 1.0, "0 … 1"),),
        (Cause("loss-mismatch", 0.9, why), Cause("unscaled-target", 0.4, "or labels were left unconverted")),
    )


def _ascends(signals: Signals) -> bool:
    """Whether the first updates of most weights went along their gradient."""
    dots = signals.values("update", "weight_dot")[signals.parameters][:, :10]
    known = dots[np.isfinite(dots) & (dots != 0)]
    return len(known) >= 6 and float(np.mean(known > 0)) > 0.9
