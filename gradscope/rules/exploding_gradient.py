"""Gradients that grow on their way back, or that are too large as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.before import what_changed
from gradscope.signals.expansion import expanding
from gradscope.signals.loss import squared_error
from gradscope.signals.mechanisms import is_normalised, normalised_weights, sentence, shares, totals
from gradscope.signals.progress import progress

BOUNDED = ("Tanh", "Hardtanh", "Sigmoid", "Hardsigmoid", "Softsign", "Softmax", "ReLU6")


class ExplodingGradient(Rule):
    """Flags gradients that grow on their way back, and gradients so large that a step throws the weights away.

    Why it hurts: the first layers get updates a thousand times too large for the last ones, whatever the learning
    rate is; or one step moves the weights by more than their own size, and the loss with them to infinity.

    When it is harmless: large numbers alone mean nothing. A sum over the batch, a scaled loss or a large target make
    every gradient large, evenly, and Adam does not care. A stack of BatchNorm and ReLU grows the gradient by 1.21 a
    layer at the start and trains all the same. Weights that start at zero move by more than their size at first.

    How it is measured: (1) backward gain = ‖∂L/∂h_layer‖ / ‖∂L/∂h_output‖; (2) the update ratio rms(Δw)/rms(w), with
    the loss growing after it; (3) where ‖∂L/∂h_output‖ and the loss together show a mean squared error, the root of the
    loss beside the size of the outputs and of the features that they are made of; (4) the norm of all gradients
    beside the run's own beginning, with the loss growing.

    What to do: clip the gradient norm, initialise for the activation, normalise targets, lower the learning rate.
    """

    id = "exploding-gradient"
    summary = "Gradients grow on their way back, or a step throws the weights away."
    needs_steps = 2
    gain = Threshold(
        1e3,
        "backward gain, a factor",
        "calibrated: healthy digits trainings reach 35 (tanh, 20 layers, in the middle of training), BN-ReLU stacks 46 "
        "(THEORY T10); initialisation x2 in 20 ReLU layers gives 1e6",
    )
    certain_gain = Threshold(1e4, "backward gain, a factor", "a decade above the warning")
    update = Threshold(
        0.5,
        "median over weights of rms(Δw)/rms(w)",
        "calibrated: healthy digits trainings stay below 0.03, targets x1e4 under SGD give 2.3 and more",
    )
    residual = Threshold(
        100,
        "root of a mean squared error over the size of the outputs or features, a factor",
        "calibrated: standardised targets give 1 to 30, targets x1e4 give 1e4",
    )
    growth = Threshold(1e3, "gradient norm over its median in the first 5 recorded steps, a factor", "three decades")
    sources = (
        "Pascanu et al. 2013, On the difficulty of training recurrent neural networks (arXiv:1211.5063)",
        "He et al. 2015 (arXiv:1502.01852); Poole et al. 2016 (arXiv:1606.05340)",
        "Yang et al. 2019, A mean field theory of batch normalization (arXiv:1902.08129)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds growth along the depth first; growth as a whole is then its consequence."""
        finding = self._along_depth(signals) or self._as_a_whole(signals)
        if finding is not None:
            yield finding

    def _along_depth(self, signals: Signals) -> Finding | None:
        """Growth on the way back."""
        layers = [i for i in signals.layers if any(signals.sites[p].trainable for p in signals.parameters_of(i))]
        gain = np.where(np.isfinite(signals.backward_gain[layers]), signals.backward_gain[layers], np.nan)
        size = signals.rms("activation")
        for row, layer in enumerate(layers):
            if is_normalised(signals, layer):  # what a normalisation follows has no size: small numbers, large gradient
                gain[row] *= np.fmin(1.0, np.where(np.isfinite(size[layer]), size[layer], 1.0))
        for row, layer in enumerate(layers):  # a recurrent module grows it inside, where its weights get theirs
            if signals.sites[layer].mechanism == "recurrence":
                gain[row] = np.fmax(gain[row], gain[row] * 10 ** np.nan_to_num(signals.own_gain(layer), neginf=0.0))
        usable = np.flatnonzero(~np.isnan(gain).all(axis=0)) if len(layers) else np.array([], int)
        if not len(usable):
            return None
        highest = np.nanmax(gain[:, usable], axis=0)
        sick = usable[highest > self.gain.value]
        start, end = usable[:5], usable[-3:]
        if np.isin(start, sick).mean() < 0.5 and not np.isin(end, sick).all() and not self._held_back(signals, sick):
            return None
        column = int(sick[0])
        row = int(np.nanargmax(gain[:, column]))
        worst, value = signals.sites[layers[row]], float(gain[row, column])
        severity: Severity = "error" if highest.max() > self.certain_gain.value else "warning"
        path = [layers[i] for i in np.argsort(-np.nan_to_num(gain[:, column])) if gain[i, column] > self.gain.value]
        evidence = [
            Evidence(
                f"backward gain at {worst.name}, step {signals.steps[column]:,}", value, "", self.gain.value, "0.1 … 20"
            )
        ]
        evidence += [
            Evidence(f"gain budget: {mechanism}", decades, "decades", None, "about 0 in all")
            for mechanism, decades in sorted(totals(signals, column).items(), key=lambda item: -item[1])
        ]
        return Finding(
            self.id,
            severity,
            tuple(signals.sites[layer].path for layer in path),
            int(signals.steps[column]),
            int(signals.steps[sick[-1]]),
            f"Gradients explode on their way back: {worst.title} gets {number(value)} times the output's",
            tuple(evidence),
            tuple(self._depth_causes(signals, column)),
        )

    def _held_back(self, signals: Signals, sick: np.ndarray) -> bool:
        """Whether it was so at the very first recorded step, and little has been learned since."""
        went = progress(signals)
        return bool(len(sick)) and sick[0] == 0 and went is not None and went.unlearned

    def _depth_causes(self, signals: Signals, column: int) -> list[Cause]:
        """Which mechanism grew the gradient."""
        found = shares(signals, column)
        grown = {share.kind: share for share in found if share.decades > 0.3}
        weights = [share for share in grown.values() if share.mechanism == "weights"]
        everything = sum(share.decades for share in grown.values()) or 1.0
        causes = []
        late = int(signals.steps[column]) > int(signals.steps[0])
        # weights that a normalisation follows have no scale (THEORY T28): what they grew it takes back, and the rest is its
        bound = sum(normalised_weights(signals, column))
        normalised = bound + sum(share.decades for share in found if share.mechanism == "normalisation")
        free = sum(item.decades for item in weights) - bound
        if weights and free > 0.3:
            share = max(weights, key=lambda item: item.decades)
            everything = (everything - bound) or 1.0
            part = free / everything
            name = "weight-growth" if late else "init-too-large"
            why = f"each {share.kind} multiplies the gradient by {number(share.each)} ({sentence(signals, column)})"
            causes.append(Cause(name, round(min(0.95, part), 2), why))
        for mechanism, name in (("recurrence", "long-backprop-chain"), ("normalisation", "norm-at-init")):
            amount = sum(share.decades for share in grown.values() if share.mechanism == mechanism)
            if mechanism == "normalisation":
                amount = normalised if amount > 0 or bound > 0 else 0.0
            if amount > 0.3:
                why = f"{mechanism} grew the gradient by {number(amount)} decades ({sentence(signals, column)})"
                causes.append(Cause(name, round(min(0.9, amount / everything), 2), why))
        grew = sum(
            share.decades for share in grown.values() if share.mechanism == "activation" and share.working is None
        )
        if grew > 0.3 and (expansion := expanding(signals)):
            part = round(min(0.95, grew / everything), 2)
            causes.append(Cause("activation-expands", part, f"{expansion} ({sentence(signals, column)})"))
        saturated = [
            share
            for share in found
            if share.kind in BOUNDED
            and share.working is not None
            and share.each < 0.5 * _best(share.working, share.count)
        ]
        for share in saturated:
            why = (
                f"each {share.kind} passes on only {number(share.each)} of the gradient: the large weights saturate it"
            )
            causes.append(Cause("activation-saturates", 0.4, why))
        if late:
            changed = what_changed(signals, int(signals.steps[column]))
            why = "; ".join(["it was not so at the first recorded steps: it grew", *changed])
            thrown = _largest(signals.update_ratio[_weights(signals)], column)
            confidence = 0.6 if changed else 0.5
            if thrown > self.update.value:  # no growth by itself: steps too large made it
                why = f"a step before it moved the weights by {number(thrown)} times their own size"
                confidence = 0.97
            causes.append(Cause("learning-rate-too-high", confidence, why))
        return sorted(causes, key=lambda cause: -cause.confidence)

    def _as_a_whole(self, signals: Signals) -> Finding | None:
        """Gradients that are too large everywhere."""
        error = squared_error(signals)
        residual = np.full(len(signals.steps), np.nan) if error is None else error.ratio
        found = self._thrown(signals) or self._too_far(residual) or self._grown(signals)
        if found is None:
            return None
        what, column, value = found
        step = f"step {signals.steps[column]:,}"
        severity: Severity = "error"
        evidence = []
        if what == "thrown":
            message = f"A step threw the weights away: it moved them by {number(value)} times their own size"
            evidence.append(Evidence(f"update ratio, {step}", value, "", self.update.value, "1e-4 … 0.05"))
        elif what == "grown":
            message = f"The gradients grew {number(value)}-fold, and the loss with them"
            evidence.append(Evidence(f"growth of the gradient norm, {step}", value, "", self.growth.value))
        else:
            message = f"The targets are {number(value)} times larger than anything the network puts out"
            severity = "error" if value > 10 * self.residual.value else "warning"
        unscaled = error is not None and residual[column] > self.residual.value
        causes = []
        if error is not None and unscaled:
            far = float(residual[column])
            evidence.append(
                Evidence("root of the loss over the outputs' size", far, "", self.residual.value, "0.1 … 30")
            )
            why = (
                f"‖∂L/∂h_out‖ and the loss show a mean squared error whose root is {number(error.root[column])}, while "
                f"outputs and features have size {number(error.size[column])}; its gradient grows with that distance"
            )
            causes.append(Cause("unscaled-target", 0.9, why))
        if what != "too far":
            kind = signals.run.info.optimizers[0].kind if signals.run.info.optimizers else "the optimizer"
            changed = what_changed(signals, int(signals.steps[column]))
            why = "; ".join([f"{kind}'s step was larger than the weights bear", *changed])
            causes.append(Cause("learning-rate-too-high", 0.3 if unscaled else 0.8, why))
            causes.append(Cause("no-clipping", 0.25, "nothing bounds the length of a step"))
        heads = [signals.sites[head].path for head in signals.run.info.heads]
        thrown = [signals.sites[i].path.rpartition(".")[0] for i in _weights(signals)] if what == "thrown" else []
        layers = tuple(dict.fromkeys(heads if unscaled or not thrown else thrown))
        first, last = int(signals.steps[column]), int(signals.steps[-1])
        return Finding(self.id, severity, layers, first, last, message, tuple(evidence), tuple(causes))

    def _thrown(self, signals: Signals) -> tuple[str, int, float] | None:
        """The first recorded step that moved the weights by their own size or so, and the loss up."""
        ratio = _median_rows(signals.update_ratio[_weights(signals)])
        for column in np.flatnonzero(np.nan_to_num(ratio, posinf=math.inf) > self.update.value):
            if self._loss_grew(signals, int(column)):
                return "thrown", int(column), float(ratio[column])
        return None

    def _too_far(self, residual: np.ndarray) -> tuple[str, int, float] | None:
        """Whether outputs were out of reach of the targets from the first recorded step to the last."""
        known = np.flatnonzero(np.isfinite(residual))
        if not len(known) or min(residual[known[0]], residual[known[-1]]) <= self.residual.value:
            return None
        return "too far", int(known[0]), float(residual[known[0]])

    def _loss_grew(self, signals: Signals, column: int) -> bool:
        """Whether the loss at least doubled, or stopped being a number, within three steps after a recorded one."""
        steps = signals.run.steps
        position = int(np.searchsorted(steps["step"], signals.steps[column]))
        window = steps["loss"][position : position + 4][steps["has_loss"][position : position + 4]]
        if len(window) < 2:  # the loss is not known: broken gradients show it too
            return bool(signals.non_finite("gradient")[:, column:].any())
        return bool(~np.isfinite(window[1:]).all() or window[1:].max() > 2 * window[0])

    def _grown(self, signals: Signals) -> tuple[str, int, float] | None:
        """The recorded step at which the gradient norm had left the run's beginning far behind, and how far."""
        steps = signals.run.steps[np.isin(signals.run.steps["step"], signals.steps)]
        norm, loss = steps["gradient_norm"], steps["loss"]
        if len(norm) < 6 or not np.isfinite(norm[:5]).all() or np.median(norm[:5]) == 0:
            return None
        times = np.where(np.isfinite(norm), norm, np.inf) / np.median(norm[:5])
        worse = ~np.isfinite(loss) | (loss > 3 * np.median(loss[:5]))
        sick = np.flatnonzero((times > self.growth.value) & worse & np.isfinite(times))
        return ("grown", int(sick[0]), float(times[sick[0]])) if len(sick) else None

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        fine = {"a": 1.2, "b": 1.0}
        return (
            Case("the gradient grows on its way back", run({"a": 1e6, "b": 1e4, "c": 10.0, "d": 1.0}), ("a", "b")),
            Case("large everywhere, evenly", run(fine, scale=1e6)),
            Case("a BatchNorm-ReLU stack at the start", run({"a": 46.0, "b": 1.0})),
            Case(
                "a step throws the weights away",
                run(
                    fine,
                    update={"a.weight": 20.0, "b.weight": 20.0},
                    loss=[1.0, 1e4, 1e8, 1e12, 1e16, 1e20, 1e24, 1e28],
                ),
                ("a", "b"),
            ),
            Case(
                "weights that start at zero move by their own size",
                run(fine, update={"a.weight": 1.0, "b.weight": 1.0}, loss=1.0),
            ),
        )


def _largest(ratio: np.ndarray, column: int) -> float:
    """The largest median update ratio of the recorded steps before a column; 0 when none is known."""
    medians = _median_rows(ratio)[:column]
    return float(np.nanmax(medians)) if np.isfinite(medians).any() else 0.0


def _best(working: float, count: int) -> float:
    return float(10 ** (working / count))


def _weights(signals: Signals) -> list[int]:
    """Trainable parameters that are matrices or kernels: biases and gains may start at zero or at one."""
    return [i for i in signals.parameters if len(signals.sites[i].shape) > 1 and signals.sites[i].trainable]


def _median_rows(matrix: np.ndarray) -> np.ndarray:
    """The median over rows that are known, per column; NaN where none is."""
    result = np.full(matrix.shape[1], np.nan)
    for column in range(matrix.shape[1]):
        known = matrix[~np.isnan(matrix[:, column]), column]
        if len(known):
            result[column] = np.median(known)
    return result
