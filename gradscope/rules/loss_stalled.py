"""A loss that does not fall, or fell and came back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, LossPath, OptimizerInfo, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.decay import Decay, decay, unexplained
from gradscope.signals.loss import uniform_loss
from gradscope.signals.mismatch import look, structural
from gradscope.signals.output import asked
from gradscope.signals.progress import Progress, progress


class LossStalled(Rule):
    """Flags a training whose loss is no better than that of a network that gives the same answer to everything.

    Why it hurts: it is the one thing that a training is for. Most sicknesses end here: a dead path, a learning rate
    that is too high or too low, an output that cannot reach the targets, labels that do not belong to the inputs.

    When it is harmless: at the beginning; then it says nothing. A loss that is low from the start (a resumed or
    pretrained network) has nowhere to go. Losses of players against each other and of agents that make their own data
    rise and fall with no meaning of this kind: several optimizers, losses that change their sign and targets that the
    model itself computes are left alone.

    How it is measured: the loss's median over the last tenth of the steps, beside that of the first steps, its noise,
    and the trivial loss: what the best constant output would have cost over the targets seen so far (the entropy of the
    class shares, the variance of the targets). Where that is not known, only a loss that has not moved at all counts.
    A loss that is higher than it should be, while the weights shrink under weight decay or a penalty in the loss that
    pulls as strongly as the data do, counts from further away: there the reason is measured.

    What to do: what the causes say; they are ranked by what was measured: how far the weights moved, whether layers are
    dead, what the loss is given, the scale of the data. Then take ten samples and see whether they can be learned by
    heart.
    """

    id = "loss-stalled"
    summary = "The loss is no better than a constant guess, long after the start."
    needs_steps = 5
    share = Threshold(
        0.95,
        "loss over that of the best constant guess, a factor",
        "calibrated: healthy digits, iris and diabetes trainings are below 0.8 after 200 steps, networks with dead paths, "
        "decoupled labels or saturated outputs at 0.99 to 1.1",
    )
    patience = Threshold(
        200, "steps with a loss", "calibrated: healthy trainings of up to 20 layers leave the guess within 100"
    )
    hardly = Threshold(
        0.85,
        "loss over that of the best constant guess, a factor, once it falls no more",
        "as for the share; the noisiest of the healthy data sets, diabetes, comes to 0.5",
    )
    measured = Threshold(
        0.6,
        "confidence of the first cause",
        "without a measured cause, a loss near the guess may be all there is to learn",
    )
    rest = Threshold(300, "steps with a loss", "half as much again as the patience: the second half must be flat")
    certain = Threshold(1000, "steps with a loss", "five times the patience")
    flat = Threshold(
        0.01, "share of the loss at the start that is gone", "where no constant guess's loss is known: next to none"
    )
    long = Threshold(500, "steps with a loss", "where no constant guess's loss is known, more of them are needed")
    learned = Threshold(
        0.7,
        "lowest level over the best constant guess's loss",
        "calibrated: healthy trainings stay below once they are there",
    )
    moved = Threshold(
        0.03,
        "steps times the median update ratio: the farthest that weights can have come, in their own size",
        "calibrated: healthy digits trainings are at 0.1 and more when their loss has halved",
    )
    faded = Threshold(
        1e-3, "smallest backward gain, a factor", "as in vanishing-gradient: healthy trainings stay above 0.02"
    )
    pulled = Threshold(
        0.4,
        "pull of the decay over itself and what the data do, median over weights and over steps 1, 2, 4, 8 …",
        "calibrated: the decay that generalises best has 0.28 (noisy digits, 0.03), three times that 0.42 to 0.56; healthy "
        "zoo 0.14; on all data at once (0.5 is rest) the best may have more, and its loss is below what counts as held",
    )
    shrunk = Threshold(
        0.7,
        "weights' norm now over that at the start, geometric mean over weights",
        "calibrated: usual decays leave 0.82 and more in a short training, too strong ones 0.02 to 0.47",
    )
    paid = Threshold(
        1.0,
        "penalty at the start over the best constant guess's loss, or half of the loss at the start",
        "smaller weights gain more than all that can be learned; calibrated: sick trainings 16 and more",
    )
    held = Threshold(
        0.6,
        "loss over that of the best constant guess, a factor, where the weights are held small",
        "the noisiest of the healthy data sets, diabetes, comes to 0.5",
    )
    gone = Threshold(1e-3, "learning rate now over its highest, a share", "a cosine ends there when all is learned")
    thrown = Threshold(0.05, "rms(Δw)/rms(w), median over weights", "calibrated: healthy trainings stay below 0.03")
    sources = (
        "Goodfellow et al. 2016, Deep learning, 11.5: debugging strategies",
        "Karpathy 2019, A recipe for training neural networks: verify the loss at init, overfit one batch",
        "Krogh & Hertz 1991, A simple weight decay can improve generalization: how much is best, and that more is worse",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Compares the loss's level with the guess's, and asks why."""
        went = progress(signals)
        if went is None or went.count < 50 or self._is_another_game(signals, went):
            return
        pull = self._pull(signals, went)
        found = self._fell_back(went) or (self._no_better(went) if went.trivial > 0 else self._unmoved(signals, went))
        found = found or (None if pull is None else self._held_small(signals, went, pull))
        if found is None:
            return
        severity, message, evidence, first = found
        lost = first > 0 and went.best < self.learned.value * went.trivial
        causes, layers = self._causes(signals, went, pull, lost)
        close = went.trivial > 0 and went.against_trivial < self.share.value + went.error / went.trivial
        if close and severity == "warning" and causes[0].confidence < self.measured.value:
            severity = "note"  # where the inputs tell little of the targets, a healthy training ends there too
        yield Finding(self.id, severity, layers, first, int(went.steps[-1]), message, evidence, causes)

    def _is_another_game(self, signals: Signals, went: Progress) -> bool:
        """Whether the loss is one that need not fall: of adversaries, of agents, or one with signs."""
        info, steps = signals.run.info, signals.run.steps
        if len(info.optimizers) > 1 or (went.losses <= 0).any():
            return True
        kind = "" if info.loss_path is None else info.loss_path.kind
        turns = float(np.median(steps["forwards"])) if len(steps) else 1.0
        if kind.startswith("binary") and turns > 1:  # real ones, then made up ones
            return True
        own_targets = info.tested_in_training_mode + info.tested_in_eval_mode >= 0.5 * len(signals.steps)
        return own_targets and kind in ("squared-error", "huber", "absolute-error") and len(signals.steps) > 0

    def _fell_back(self, went: Progress) -> tuple[Severity, str, tuple[Evidence, ...], int] | None:
        """A training that had learned something and lost all of it."""
        if not went.trivial > 0 or not went.best < self.learned.value * went.trivial:
            return None
        if went.now - went.error <= went.trivial * self.share.value:
            return None
        level = np.array([np.median(went.losses[max(0, i - went.window) : i + 1]) for i in range(went.count)])
        low = np.flatnonzero(level < self.learned.value * went.trivial)
        first = int(went.steps[min(int(low[-1]) + 1, went.count - 1)])
        message = (
            f"What had been learned was lost: the loss had come down to {number(went.best)} and is back at "
            f"{number(went.now)}, where a constant guess costs {number(went.trivial)}"
        )
        return "error", message, self._evidence(went), max(first, 1)

    def _no_better(self, went: Progress) -> tuple[Severity, str, tuple[Evidence, ...], int] | None:
        """A loss that never got below the constant guess's."""
        share = went.against_trivial
        slack = went.error / went.trivial
        if went.count < self.patience.value:
            return None
        if share - slack < self.share.value or went.best < 0.9 * went.trivial:
            return self._hardly_better(went)
        certain = went.count >= self.certain.value
        falling = went.still_falling() and went.now < went.start
        if falling and not (certain and share > 1.05):
            return None
        message = (
            f"After {went.count:,} steps the loss is {number(went.now)}, no better than the {number(went.trivial)} of a "
            "network that gives the same answer to everything"
        )
        return ("error" if certain or share > 1.5 else "warning"), message, self._evidence(went), 0

    def _hardly_better(self, went: Progress) -> tuple[Severity, str, tuple[Evidence, ...], int] | None:
        """A loss that came to rest a little below the guess's."""
        if went.count < self.rest.value or went.against_trivial < self.hardly.value or went.still_falling():
            return None
        message = (
            f"After {went.count:,} steps the loss has come to rest at {number(went.now)}, near the "
            f"{number(went.trivial)} of a network that gives the same answer to everything"
        )
        share = Evidence(
            "loss over the best constant guess's", went.against_trivial, "", self.hardly.value, "below 0.8"
        )
        return "warning", message, (share, *self._evidence(went)[1:]), int(went.steps[went.count // 2])

    def _unmoved(self, signals: Signals, went: Progress) -> tuple[Severity, str, tuple[Evidence, ...], int] | None:
        """A loss of an unknown kind that has not moved since the start."""
        path = signals.run.info.loss_path
        if path is None or not path.kind or went.count < self.long.value or not went.start > 0:
            return None
        if path.classes > 1 and path.kind == "cross-entropy" and went.start < 0.8 * uniform_loss(path.classes):
            return None  # it knew something before it began
        if (
            abs(went.fallen) > self.flat.value
            or went.error > self.flat.value * went.start
            or went.best < 0.97 * went.start
        ):
            return None
        moving = signals.update_ratio[np.isfinite(signals.update_ratio)]
        if not len(moving) or not (moving > 0).any():
            return None
        message = f"After {went.count:,} steps the loss is where it was at the start, at {number(went.now)}"
        gone = Evidence("share of the loss at the start that is gone", went.fallen, "", self.flat.value, "0.5 and more")
        return "warning", message, (gone,), 0

    def _pull(self, signals: Signals, went: Progress) -> Decay | None:
        """A decay that decides where the weights go; None where it does not."""
        pull, worth = decay(signals), went.trivial if went.trivial > 0 else went.start / 2
        if pull is None or pull.share < self.pulled.value or pull.left > self.shrunk.value:
            return None
        return pull if pull.penalty >= self.paid.value * worth else None

    def _held_small(
        self, signals: Signals, went: Progress, pull: Decay
    ) -> tuple[Severity, str, tuple[Evidence, ...], int] | None:
        """A loss that stays high because the weights are held small."""
        left = unexplained(signals) if math.isnan(went.against_trivial) else went.against_trivial
        falling = went.trivial > 0 and went.still_falling(0.05 * went.trivial)  # a penalty in the loss falls by itself
        if went.count < self.patience.value or falling or not left >= self.held.value:
            return None
        message = (
            f"After {went.count:,} steps {number(left)} of what a constant guess costs is left, and the weights have shrunk "
            f"to {number(pull.left)} of their size"
        )
        evidence = (
            Evidence("loss over the best constant guess's", left, "", self.held.value, "below 0.5"),
            Evidence("weights' size over that at the start", pull.left, "", self.shrunk.value, "0.8 and more"),
            Evidence("decay's share beside the data's", pull.share, "", self.pulled.value, "below 0.14"),
        )
        return "warning", message, evidence, 0

    def _evidence(self, went: Progress) -> tuple[Evidence, ...]:
        return (
            Evidence("loss over the best constant guess's", went.against_trivial, "", self.share.value, "below 0.8"),
            Evidence("steps", float(went.count), "", self.patience.value),
            Evidence("noise of the loss", went.noise),
        )

    def _causes(
        self, signals: Signals, went: Progress, pull: Decay | None, lost: bool
    ) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
        """What was measured that can keep a loss where it is, and the layers to look at first."""
        head = max(signals.run.info.heads, key=lambda i: signals.sites[i].order, default=None)
        layers = () if head is None else (signals.sites[head].path,)
        found: list[Cause] = []
        seen = look(signals)
        mismatch = None if seen is None else structural(seen)
        if mismatch is not None:
            found += mismatch.causes
        elif seen is not None and math.isfinite(seen.side.range[0]) and seen.side.last not in ("", "Softmax"):
            why = (
                f"{seen.side.last} lies between the last weights and the loss: {number(seen.side.range[0])} is its end"
            )
            found.append(Cause("output-activation", 0.4, why))
        dead = self._dead(signals)
        if dead is not None:
            found.append(
                Cause(
                    "dead-path", 0.85, f"all that {dead or 'the model'} gives is 0: nothing of the input gets through"
                )
            )
            layers = (dead,)
        elif pull is not None:
            found.append(Cause("regularization-too-strong", 0.85, pull.in_words))
        found += self._faded(signals)
        found += self._pace(signals, went, lost=lost)
        found += self._data(signals)
        if self._symmetric(signals):
            found.append(
                Cause("symmetric-init", 0.8, "all weights of a layer were equal at the start, and so are its units")
            )
        if not found:
            why = (
                "the weights move, gradients are there and the outputs fit the loss: the labels may not belong to these "
                "inputs, or the inputs do not tell them apart"
            )
            found.append(Cause("loss-mismatch", 0.4, why))
        best: dict[str, Cause] = {}
        for cause in sorted(found, key=lambda cause: -cause.confidence):
            best.setdefault(cause.id, cause)
        return tuple(best.values()), layers or ("",)

    def _pace(self, signals: Signals, went: Progress, *, lost: bool) -> Iterator[Cause]:
        """Steps that are too small to come anywhere, or too large to stay."""
        weights = [i for i in signals.parameters if len(signals.sites[i].shape) > 1 and signals.sites[i].trainable]
        ratio = signals.update_ratio[weights] if weights else np.zeros((0, 0))
        ratio = ratio[np.isfinite(ratio)]
        if not len(ratio):
            return
        step = float(np.median(ratio))
        rates = signals.run.learning_rates
        highest, last = (
            (float(np.nanmax(rates)), float(np.nanmax(rates[-1])))
            if np.isfinite(rates).all() and rates.size
            else (0.0, 0.0)
        )
        if highest > 0 and last < self.gone.value * highest:
            why = f"the schedule took the learning rate from {number(highest)} to {number(last)} before anything was learned"
            yield Cause("learning-rate-too-low", 0.85, why)
        elif step > self.thrown.value or lost or went.now > 1.5 * max(went.start, went.trivial):
            levels = f"the loss is {number(went.now)}, after {number(went.start)} at the start"
            why = f"a step moves the weights by {number(step)} of their size; {levels}"
            yield Cause("learning-rate-too-high", 0.75 if step > self.thrown.value else 0.5, why)
        elif 0 < step * went.count < self.moved.value:
            why = (
                f"{went.count:,} steps of {number(step)} of the weights' size cannot have moved them by more than "
                f"{number(step * went.count)}"
            )
            yield Cause("learning-rate-too-low", 0.8, why)

    def _faded(self, signals: Signals) -> Iterator[Cause]:
        """Gradients that do not reach the first layers."""
        gain = signals.backward_gain[signals.layers]
        known = np.isfinite(gain) & (gain > 0)
        if not known.any() or float(gain[known].min()) > self.faded.value:
            return
        smallest = float(gain[known].min())
        kinds = [signals.sites[i].kind for i in signals.layers]
        contracting = sum(kind in ("Sigmoid", "Softsign", "Hardsigmoid", "LogSigmoid") for kind in kinds)
        why = f"the first layers get {number(smallest)} of the output's gradient"
        yield Cause("activation-contracts" if contracting > 2 else "init-too-small", 0.6, why)

    def _dead(self, signals: Signals) -> str | None:
        """The first layer whose output was all 0 in the last recorded steps."""
        zero = signals.exactly_zero("activation")
        for layer in signals.layers:
            if (
                zero[layer].any()
                and zero[layer, np.flatnonzero(np.isfinite(signals.rms("activation")[layer]))[-3:]].all()
            ):
                return signals.sites[layer].path
        return None

    def _data(self, signals: Signals) -> Iterator[Cause]:
        """Inputs that are too large or too small."""
        fed = asked(signals, "input")
        if fed is not None and fed.rms > 0 and not 0.01 <= fed.rms <= 20:
            why = f"the inputs have rms {number(fed.rms)}, between {number(fed.lowest)} and {number(fed.highest)}"
            yield Cause("unscaled-input", 0.6, why)

    def _symmetric(self, signals: Signals) -> bool:
        """Whether the weights of some layer all had one value at the first recorded step."""
        weights = [i for i in signals.parameters if len(signals.sites[i].shape) > 1]
        low, high = (signals.values("weight", name)[weights][:, :1] for name in ("minimum", "maximum"))
        count, rms = signals.values("weight", "count")[weights][:, :1], signals.rms("weight")[weights][:, :1]
        return bool(((low == high) & (count > 4) & (rms > 0)).any())

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        falling = np.geomspace(2.3, 0.05, 300).tolist()
        lost = [*np.geomspace(2.3, 0.5, 100).tolist(), *[2.4] * 200]
        shrinking = np.geomspace(1.0, 0.2, 300)
        noisy = (2.3 + 0.1 * np.sin(np.arange(300) * 7.0)).tolist()
        return (
            Case("no better than a constant guess", _by_hand(noisy), ("b",)),
            Case("it falls", _by_hand(falling)),
            Case("it fell, and came back", _by_hand(lost), ("b",)),
            Case("early", _by_hand(noisy[:100])),
            Case("low from the start", _by_hand([0.1] * 300)),
            Case("slowly, and steadily", _by_hand(np.linspace(2.33, 2.25, 300).tolist())),
            Case("a loss of an unknown kind", _by_hand(noisy, trivial=math.nan, kind="")),
            Case("flat, and no guess's loss is known", _by_hand([0.5] * 600, trivial=math.nan, kind="triplet"), ("b",)),
            Case("weights shrink under a strong decay", _by_hand([1.7] * 300, decay=0.2, weights=shrinking), ("b",)),
            Case("weights shrink under a usual decay", _by_hand([1.7] * 300, decay=5e-4, weights=shrinking)),
            Case("a strong decay under which weights keep their size", _by_hand([1.7] * 300, decay=0.2)),
            Case("a strong decay, and the loss is low", _by_hand([0.5] * 300, decay=0.2, weights=shrinking)),
            Case("two players", _by_hand(noisy, players=2)),
            Case("a loss with signs", _by_hand([1.0, -1.0] * 150)),
        )


def _by_hand(
    loss: list[float],
    *,
    trivial: float = 2.302585,
    kind: str = "cross-entropy",
    players: int = 1,
    decay: float = 0.0,
    weights: float | NDArray[np.float64] = 1.0,
) -> Run:
    """A run of two layers and 10 classes under SGD, with weights of this rms and gradients of 0.001."""
    path = LossPath(("LogSoftmaxBackward0", "NllLossBackward0"), kind=kind, output_shape=(100, 10), classes=10)
    made = run(
        {"a": 1.0, "b": 1.0},
        loss=loss,
        gradient={"a.weight": 1e-3, "b.weight": 1e-3},
        extra={(f"{layer}.weight", "weight"): {"rms": weights} for layer in "ab"},  # type: ignore[dict-item]
        info={"loss_path": path},
        columns={"trivial_loss": trivial},
        steps=len(loss),
    )
    optimizer = OptimizerInfo("SGD", {"lr": 0.01, "weight_decay": decay})
    return replace(made, info=replace(made.info, optimizers=(optimizer,) * players))
