"""A loss that does not fit what the network puts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import number
from gradscope.records import Cause, Check, Evidence, Finding, LossPath, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.loss import bounded_logits_floor, largest_probability, uniform_loss
from gradscope.signals.mismatch import Mismatch, Seen, look, structural
from gradscope.signals.output import NAMES, asked


class OutputLossMismatch(Rule):
    """Flags a loss that cannot be small, or cannot teach, with the outputs that it is given.

    Why it hurts: a cross-entropy takes a softmax of its own; fed with probabilities it can never fall below
    ln(e + K - 1) - 1, and its gradient stays weak. A softmax over one unit is 1 whatever the weights are: no gradient at
    all. Outputs of shape (N, 1) beside targets of shape (N,) are compared each with each, and the network learns the
    mean. Where an activation cannot reach the targets, the loss cannot either.

    When it is harmless: a squared error on probabilities is no mistake while they are not saturated. A ReLU that is
    followed by pooling before the softmax leaves every class a way to fall behind the others. log-softmax twice is
    log-softmax once. A sum instead of a mean is a larger learning rate and nothing else: it counts only where the steps
    are too large.

    How it is measured: the operations between the head's output and the loss are read from the autograd graph, with
    the dimension of each softmax, the shapes at which outputs and targets met and the range of the targets. The loss
    is held against the floor that these allow, against ln K and against the best constant guess.

    What to do: hand the loss what it expects: logits to CrossEntropyLoss and BCEWithLogitsLoss, log-probabilities to
    NLLLoss, probabilities to BCELoss, outputs without an activation to MSELoss; make the shapes equal.
    """

    id = "output-loss-mismatch"
    summary = "The loss does not fit the activation, shape or scale of the outputs."
    needs_steps = 2
    reached = Threshold(
        0.3,
        "loss over that of the best constant guess, a factor",
        "calibrated: digits with ReLU on the logits either fall below 0.1 within 300 steps or stay above 0.5 because "
        "a class's unit is dead",
    )
    outside = Threshold(
        0.25,
        "share of the targets' range that the outputs cannot reach",
        "calibrated: images in [0, 1] under a sigmoid 0; standardised targets under sigmoid or ReLU 0.5, under tanh 0.6",
    )
    slope = Threshold(
        0.04,
        "gradient behind the final activation over the gradient before it, a factor",
        "derivation: a sigmoid passes 0.25 at most (THEORY T9), 0.018 at a logit of 4; calibrated: healthy digits 0.09 to "
        "0.33, weights x300 below 0.03",
    )
    summed = Threshold(
        0.3,
        "rms(Δw)/rms(w), median over weights",
        "calibrated: healthy trainings stay below 0.03; sums over 128 samples at a learning rate for means reach 1",
    )
    silent = Threshold(
        0.01,
        "loss now over ln K, a factor",
        "derivation: (1 - p)^gamma of a focal loss; with no p above 0.75 gamma 2 gives 0.03 (K = 2) and more",
    )
    sure = Threshold(
        0.75,
        "probability of one class, at most, that outputs of this size can give",
        "calibrated: digits end above 0.97 with gamma 2 to 10, at 0.85 with 20, at 0.48 to 0.59 with 50 and 100: untaught",
    )
    hot = Threshold(
        10,
        "loss at the start over ln K, a factor",
        "calibrated: temperature 0.07 gives 0.5 to 2, 0.001 gives 30 and more",
    )
    alike = Threshold(
        1e-3,
        "distance between samples over their length, a factor",
        "calibrated: healthy embeddings of digits 0.3 and more, collapsed ones 1e-5 and less",
    )
    sources = (
        "torch.nn.CrossEntropyLoss, NLLLoss, BCELoss, BCEWithLogitsLoss, KLDivLoss: what each expects as its input",
        "Bishop 1995, Neural networks for pattern recognition, 6.6-6.9: matching output activation and error function",
        "Zhang et al. 2021, AUTOTRAINER (improper activation); Humbatova et al. 2020, Taxonomy of real faults (wrong loss)",
    )

    def applies(self, signals: Signals) -> Check | None:
        """Needs the way from the head to the loss."""
        missing = super().applies(signals)
        if missing is None and not len(signals.run.steps):
            return Check(self.id, "not-applicable", "no steps were recorded")
        return missing

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Gives the most certain mismatch."""
        seen = look(signals)
        if seen is None:
            return
        checks: tuple[Callable[[Seen], Mismatch | None], ...] = (
            structural,
            self._bounded_logits,
            self._bounded_outputs,
            self._saturated,
            self._temperature,
            self._focus,
            self._collapsed,
            self._summed,
        )
        found = next((mismatch for check in checks if (mismatch := check(seen)) is not None), None)
        if found is None:
            return
        steps = signals.steps
        yield Finding(
            self.id,
            found.severity,
            seen.side.layers,
            int(steps[0]),
            int(steps[-1]),
            found.message,
            found.evidence,
            found.causes,
        )

    def _bounded_logits(self, seen: Seen) -> Mismatch | None:
        """An activation on what the loss takes for logits."""
        side, classes = seen.side, seen.side.path.classes
        binary = seen.kind == "binary-cross-entropy-with-logits"
        if side.last in ("", "Softplus") or not (
            binary or (seen.kind == "cross-entropy" and "LogSoftmax" in side.names)
        ):
            return None
        lowest, highest = side.range
        name = NAMES.get(side.last, side.last)
        if highest == math.inf:
            if seen.learned < self.reached.value:
                return None
            why = f"{name} cuts every negative logit off: a class can be ruled out no further than to 0"
            floor, severity = 0.0, _by_progress(seen)
        else:
            floor = _binary_floor(lowest, highest) if binary else bounded_logits_floor(max(classes, 2), lowest, highest)
            between = f"between {number(lowest)} and {number(highest)}"
            why = f"{name} keeps the logits {between}: the loss stays above {number(floor)}"
            severity = "error" if side.last != "Tanh" else "warning"
        loss = (
            () if seen.progress is None else (Evidence("loss now", seen.progress.now, "", floor, "near 0 in the end"),)
        )
        return Mismatch(
            severity,
            f"The loss takes the output of {name} for logits",
            loss or (Evidence("lowest loss that is possible", floor, "", None, "0"),),
            (
                Cause("output-activation", 0.9, why),
                Cause("loss-mismatch", 0.6, "the loss has an activation of its own"),
            ),
        )

    def _bounded_outputs(self, seen: Seen) -> Mismatch | None:
        """Targets that the final activation cannot reach."""
        target = asked(seen.signals)
        distance = seen.kind in ("squared-error", "root-squared-error", "absolute-error", "huber")
        if target is None or not distance or not seen.side.last or target.highest <= target.lowest:
            return None
        lowest, highest = seen.side.range
        out = (max(lowest - target.lowest, 0.0) + max(target.highest - highest, 0.0)) / (target.highest - target.lowest)
        if out <= self.outside.value:
            return None
        name = NAMES.get(seen.side.last, seen.side.last)
        top = "any height" if highest == math.inf else number(highest)
        why = (
            f"{name} gives numbers from {number(lowest)} to {top}, the targets lie between {number(target.lowest)} and "
            f"{number(target.highest)}"
        )
        causes = (Cause("output-activation", 0.9, why), Cause("unscaled-target", 0.5, "or the targets were not scaled"))
        return Mismatch(
            "error" if out > 2 * self.outside.value else "warning",
            f"The outputs cannot reach the targets: {name} stops at {number(lowest if target.lowest < lowest else highest)}",
            (Evidence("share of the targets' range out of reach", out, "", self.outside.value, "0"),),
            causes,
        )

    def _saturated(self, seen: Seen) -> Mismatch | None:
        """A squared error behind an activation that lets no gradient through, while there is much to learn."""
        passed = _passed_on(seen)
        if passed is None or seen.learned < 0.5:
            return None
        name = NAMES[seen.side.last]
        known = passed[np.isfinite(passed)]
        if len(known) < 2 or float(np.median(known)) >= self.slope.value or known[-1] >= self.slope.value:
            return None
        value = float(np.median(known))
        why = (
            f"of the squared error's gradient {name} passes on {number(value)}: it is saturated at the wrong answers; a "
            "cross-entropy cancels that factor"
        )
        return Mismatch(
            "warning",
            f"A squared error behind {name} gives no gradient where the outputs are most wrong",
            (Evidence("gradient that the final activation lets through", value, "", self.slope.value, "0.1 … 0.25"),),
            (Cause("loss-mismatch", 0.8, why), Cause("activation-saturates", 0.6, why)),
        )

    def _temperature(self, seen: Seen) -> Mismatch | None:
        """Similarities divided by too small a temperature, or embeddings of next to no length."""
        if seen.progress is None or not {"Div", "Mul"} & set(seen.side.before):
            return None
        side, classes = seen.side, seen.side.path.classes
        head = next(i for i in seen.signals.modules if seen.signals.sites[i].path == side.layers[0])
        size = seen.signals.rms("activation")[head]
        lengths = {"LinalgVectorNorm", "Norm"} & set(side.names)
        known = size[np.isfinite(size) & (size > 0)]
        if lengths and len(known) and known[0] < _TINY:
            first = _step_size(seen.signals, 1)
            if first <= self.summed.value and seen.progress.now < 0.9 * seen.progress.start:
                return None
            value = float(known[0])
            why = f"embeddings of size {number(value)} are divided by their length, and their gradient with them"
            length = Evidence("size of the embeddings at the start", value, "", _TINY, "0.01 … 100")
            message = f"Embeddings of size {number(value)} are normalised: their gradient is divided by that"
            causes = (Cause("init-too-small", 0.8, why), Cause("loss-mismatch", 0.4, why))
            return Mismatch("error", message, (length,), causes)
        if seen.kind != "cross-entropy" or classes < 2 or seen.progress.start <= self.hot.value * uniform_loss(classes):
            return None
        if seen.progress.now < uniform_loss(classes):
            return None
        times = seen.progress.start / uniform_loss(classes)
        why = (
            f"the loss starts at {number(times)} times ln {classes}: scaled logits that far apart saturate the softmax"
        )
        start = Evidence("loss at the start over ln K", times, "", self.hot.value, "0.5 … 2")
        message = "The similarities are scaled up so far that the softmax is saturated from the start"
        return Mismatch("warning", message, (start,), (Cause("loss-mismatch", 0.8, why),))

    def _focus(self, seen: Seen) -> Mismatch | None:
        """A focal loss that is next to nothing while nobody is sure yet."""
        went, classes = seen.progress, max(seen.side.path.classes, 2)
        if seen.kind != "focal" or went is None or went.count < 20 or went.start <= 0:
            return None
        size = seen.signals.rms("activation")[list(seen.signals.run.info.heads)]
        share, size = went.now / uniform_loss(classes), size[np.isfinite(size)]
        sure = largest_probability(classes, float(size[-1])) if len(size) else math.nan
        if share >= self.silent.value or not sure < self.sure.value:
            return None
        why = f"(1 - p)^gamma leaves {number(share)} of the cross-entropy, while no p can be above {number(sure)} yet"
        evidence = Evidence("loss now over ln K", share, "", self.silent.value, "0.2 … 1")
        message = "The focal loss is so strongly focused that its gradient vanishes before anything is learned"
        return Mismatch("error", message, (evidence,), (Cause("loss-mismatch", 0.85, why),))

    def _collapsed(self, seen: Seen) -> Mismatch | None:
        """Triplets of embeddings that are all one."""
        signals = seen.signals
        if seen.kind != "triplet" or seen.progress is None:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = signals.values("sample_spread", "sum") / signals.values("sample_spread", "count")
        heads = spread[list(signals.run.info.heads)]
        last = heads[np.isfinite(heads)][-3:]
        if len(last) < 3 or float(last.max()) > self.alike.value or seen.progress.now < 0.9 * seen.progress.start:
            return None
        value = float(np.median(last))
        why = (
            f"anchor, positive and negative lie {number(value)} of an embedding's length apart, the loss is the margin and "
            "its gradients cancel"
        )
        evidence = Evidence("distance between samples over their length", value, "", self.alike.value, "0.1 … 1")
        message = "All embeddings are alike: the triplet loss is its margin, and nothing pulls them apart"
        return Mismatch("error", message, (evidence,), (Cause("loss-mismatch", 0.8, why),))

    def _summed(self, seen: Seen) -> Mismatch | None:
        """A sum over the batch at a learning rate for means."""
        path, went = seen.side.path, seen.progress
        apart = uniform_loss(path.classes) if path.classes > 1 else math.inf
        counted = went is not None and path.kind == "cross-entropy" and went.trivial > 2 * apart
        samples = path.output_shape[0] if path.output_shape else 1
        if went is None or samples < 8 or not (path.reduction == "sum" or counted):
            return None
        step = _step_size(seen.signals, 5)
        worse = went.blown_up or went.now > 1.5 * went.start
        if not worse and step <= self.summed.value:
            return None
        why = f"the loss is a sum over {samples} samples: its gradient, and with it each step, is that many times a mean's"
        return Mismatch(
            "error" if worse else "warning",
            f"The loss sums over {samples} samples, and the steps are too large for it",
            (Evidence("update ratio in the first steps", step, "", self.summed.value, "1e-4 … 0.03"),),
            (Cause("loss-reduction", 0.85, why), Cause("learning-rate-too-high", 0.5, "it is one for a mean")),
        )

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        logits = ("LogSoftmaxBackward0", "NllLossBackward0")
        labels = {"kind": "cross-entropy", "classes": 10, "target_shape": (100,), "reduction": "mean"}
        distance = {"kind": "squared-error", "target_shape": (100, 10), "reduction": "mean"}
        falling = [2.3, 1.5, 1.0, 0.6, 0.4, 0.2, 0.1, 0.05]
        signed = {("(target)", "activation"): {"minimum": -1.0, "maximum": 1.0}}
        positive = {("(target)", "activation"): {"minimum": 0.0, "maximum": 1.0}}
        return (
            Case("logits", _by_hand(logits, falling, softmax_dimensions=(1,), **labels)),
            Case(
                "softmax before the softmax",
                _by_hand(("SoftmaxBackward0", *logits), 1.6, softmax_dimensions=(1, 1), **labels),
                ("b",),
            ),
            Case(
                "log-softmax twice is log-softmax once",
                _by_hand(("LogSoftmaxBackward0", *logits), falling, softmax_dimensions=(1, 1), **labels),
            ),
            Case("softmax over the batch", _by_hand(logits, 4.6, softmax_dimensions=(0,), **labels), ("b",)),
            Case("ReLU on the logits, and no progress", _by_hand(("ReluBackward0", *logits), 2.3, **labels), ("b",)),
            Case(
                "ReLU, then pooling",
                _by_hand(("ReluBackward0", "MeanBackward1", *logits), 2.3, softmax_dimensions=(1,), **labels),
            ),
            Case("probabilities for NLLLoss", _by_hand(("SoftmaxBackward0", logits[1]), -0.5, kind="nll"), ("b",)),
            Case(
                "(N, 1) beside (N,)",
                _by_hand(
                    ("MseLossBackward0",),
                    1.0,
                    **{**distance, "output_shape": (100, 1), "compared_shape": (100, 100), "target_shape": (100,)},
                ),
                ("b",),
            ),
            Case(
                "targets below 0 under a sigmoid",
                _by_hand(("SigmoidBackward0", "MseLossBackward0"), 0.4, extra=signed, **distance),
                ("b",),
            ),
            Case(
                "targets in [0, 1] under a sigmoid",
                _by_hand(("SigmoidBackward0", "MseLossBackward0"), falling, extra=positive, **distance),
            ),
            Case("targets below 0 under nothing", _by_hand(("MseLossBackward0",), falling, extra=signed, **distance)),
            Case("focal, next to nothing while nobody is sure", _focal(outputs=0.5), ("b",)),
            Case("focal, next to nothing because all are sure", _focal(outputs=5.0)),
            Case("a sum that trains", _by_hand(logits, falling, **{**labels, "reduction": "sum"})),
            Case("no loss was seen", run({"a": 1.0, "b": 1.0})),
        )


def _by_hand(operations: tuple[str, ...], loss: float | list[float], **facts: Any) -> Run:
    """A run of two layers, 10 outputs and 100 samples, whose best constant guess costs ln 10."""
    extra = facts.pop("extra", None)
    path = LossPath(operations, **{"output_shape": (100, 10), "compared_shape": (100, 10), **facts})
    return run(
        {"a": 1.0, "b": 1.0},
        loss=loss,
        extra=extra,
        info={"loss_path": path},
        columns={"trivial_loss": uniform_loss(10)},
    )


def _focal(outputs: float) -> Run:
    """A focal loss of 0.001 all along, outputs of this rms."""
    path = LossPath(("LogSoftmaxBackward0", "PowBackward0", "MulBackward0"), kind="focal", classes=10)
    return run({"a": 1.0, "b": 1.0}, activation={"b": outputs}, loss=1e-3, info={"loss_path": path}, steps=40)


_TINY = 1e-6  # of embeddings whose length is divided by; torch's own floor for it is 1e-12


def _step_size(signals: Signals, first: int | None) -> float:
    """The median update ratio of weights, of the first steps or of all; 0 where none is known."""
    weights = [i for i in signals.parameters if len(signals.sites[i].shape) > 1]
    ratio = signals.update_ratio[weights][:, :first]
    ratio = ratio[np.isfinite(ratio)]
    return float(np.median(ratio)) if len(ratio) else 0.0


def _by_progress(seen: Seen) -> Severity:
    """Worse where a hundred steps have brought nothing."""
    return "error" if seen.progress is not None and seen.progress.count >= 100 and seen.learned > 0.95 else "warning"


def _binary_floor(lowest: float, highest: float) -> float:
    """The lowest binary cross-entropy of logits in a range, over as many ones as zeros."""
    return 0.5 * (math.log1p(math.exp(-highest)) + math.log1p(math.exp(lowest)))


def _passed_on(seen: Seen) -> NDArray[np.float64] | None:
    """What a final activation lets through of a mean squared error's gradient, 2 √(L / N), shape `[recorded steps]`."""
    path, signals = seen.side.path, seen.signals
    if path.kind != "squared-error" or path.reduction != "mean" or seen.side.last not in ("Sigmoid", "Softmax", "Tanh"):
        return None
    if seen.progress is None or math.isnan(seen.progress.trivial):
        return None  # other terms may be in the loss
    steps = signals.run.steps
    place = np.searchsorted(steps["step"], signals.steps).clip(max=len(steps) - 1)
    count = signals.values("activation_gradient", "count")[list(signals.run.info.heads)].sum(axis=0)
    with np.errstate(all="ignore"):
        expected = 2 * np.sqrt(steps["loss"][place] / count)
        return np.asarray(signals.head_norm / np.where(expected > 0, expected, np.nan), np.float64)
