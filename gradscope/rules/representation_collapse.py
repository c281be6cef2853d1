"""Layers that give nearly the same for every input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.mechanisms import CONTRACTING, WORKING_DECADES, activations
from gradscope.signals.progress import progress
from gradscope.signals.units import (
    earliest,
    hidden_activations,
    latest,
    learned_share,
    onset,
    silent_share,
    spread,
    weight_gain,
)


class RepresentationCollapse(Rule):
    """Flags networks that tell their inputs apart no more: what they give is nearly the same for every sample.

    Why it hurts: an output that does not depend on the input can only learn the mean of the targets. Embeddings that fall
    together make a triplet loss equal to its margin, with no gradient to part them again.

    When it is harmless: outputs start close together where the last layer starts at zero, and a deep ReLU network brings
    its samples closer, slowly. A layer beside a skip connection may give nearly nothing. Attention that looks at one
    token is sharp, not collapsed, while the loss falls. A network that learns is left alone.

    How it is measured: per layer, the distance of the samples from their mean over their length, at the last hidden layer
    and at the output, beside that of the first layer. For attention: the entropy over ln(keys), for all queries at once,
    with the largest logit.

    What to do: normalise, add skip connections or initialise larger where depth took the difference away; lower the
    learning rate where a step did; normalise queries and keys where logits grew.
    """

    id = "representation-collapse"
    summary = "The network gives nearly the same for every input."
    alike = Threshold(
        1e-5,
        "distance of the samples from their mean over their length",
        "calibrated: healthy digits trainings start above 0.05, those with sigmoids (1 to 5 layers) above 1e-3; 20 sigmoid "
        "or default-initialised ReLU layers give 1e-7 and less",
    )
    stuck = Threshold(
        1e-3, "the same at the output, in a network that does not learn", "healthy trainings are above 0.2 by then"
    )
    differs = Threshold(1e-2, "the same at the first layer", "ten times that: else the inputs themselves are alike")
    shrink = Threshold(0.4, "rms(W)·√fan_in, geometric mean", "torch's own default gives 0.58, He 1.41")
    sharp = Threshold(0.02, "mean attention entropy over ln(keys)", "one key takes 99 % of nearly every query")
    logit = Threshold(30.0, "rms over queries of the largest attention logit", "unit queries and keys give 1 to 4")
    shut = Threshold(0.15, "the same at the first step, in every attention", "a fresh network starts above 0.8")
    together = Threshold(0.02, "spread at the output", "healthy trainings are above 0.2")
    fold = Threshold(5.0, "spread at the first step over that now, a factor", "training spreads samples, if anything")
    still = Threshold(0.02, "share of the loss that is gone", "none, to noise")
    learned = Threshold(0.1, "share of the loss", "a network that learned this much tells its inputs apart")
    patience = Threshold(50, "steps", "outputs may start alike; by then they have moved")
    sources = (
        "Poole et al. 2016 (arXiv:1606.05340); Schoenholz et al. 2017 (arXiv:1611.01232)",
        "Dong et al. 2021, Attention is not all you need (arXiv:2103.03404)",
        "Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy collapse (arXiv:2303.06296)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds outputs that are alike, then attention that looks at one key."""
        learned, steps = learned_share(signals)
        finding = self._shut_at_start(signals)
        if finding is None and not learned > self.learned.value:
            finding = (
                self._alike(signals, learned, steps)
                or self._sharp(signals, learned, steps)
                or self._fell_together(signals, learned, steps)
            )
        if finding is not None:
            yield finding

    def _alike(self, signals: Signals, learned: float, steps: int) -> Finding | None:
        """Samples that differ at the first layer and are alike at the last hidden one or at the output."""
        spreads = spread(signals)
        heads = signals.run.info.heads
        last = max((signals.sites[head].order for head in heads), default=math.inf)
        measured = [i for i in signals.layers if np.isfinite(spreads[i]).any() and signals.sites[i].order <= last]
        if len(measured) < 2 or not latest(spreads[measured[0]]) > self.differs.value:
            return None
        late = steps >= self.patience.value and learned <= self.learned.value
        limit = self.stuck.value if late else self.alike.value
        alike = {}
        for i in measured:
            begun = onset(spreads[i] < limit, np.isfinite(spreads[i]))
            if begun is not None and np.isfinite(spreads[i][begun:]).sum() >= self.needs_steps:
                alike[i] = begun
        hidden = [i for i in measured if i not in heads]
        outputs = [i for i in measured if i in heads]
        if not (all(i in alike for i in outputs) and (late or (hidden and hidden[-1] in alike))):
            return None
        # the first layer from which on everything is alike
        path = [i for place, i in enumerate(measured) if all(j in alike for j in measured[place:])]
        if not path:
            return None
        first = path[0]
        end = outputs[0] if outputs else hidden[-1]
        value, begin = latest(spreads[end]), latest(spreads[measured[0]])
        start = alike[end]
        where = signals.sites[first].title
        message = (
            f"From {where} on all samples look the same: they differ by {number(value)} of their length at the end"
        )
        evidence = [
            Evidence(f"spread of the samples at {signals.sites[end].name}", value, "", limit, "0.05 … 1"),
            Evidence(f"spread of the samples at {signals.sites[measured[0]].name}", begin, "", self.differs.value),
        ]
        if math.isfinite(learned):
            evidence.append(Evidence("share of the loss that was learned", learned, "", self.learned.value))
        layers = tuple(signals.sites[i].path for i in path)
        return Finding(
            self.id,
            "warning",
            layers,
            int(signals.steps[start]),
            int(signals.steps[-1]),
            message,
            tuple(evidence),
            tuple(self._causes(signals, first, start)),
        )

    def _causes(self, signals: Signals, first: int, start: int) -> list[Cause]:
        """Which of a dead layer, contracting activations, small weights or a step took the difference away."""
        causes = []
        silent = silent_share(signals, "lasting_slope")
        dead = [item for item in hidden_activations(signals) if latest(silent[item.site]) == 1]
        if dead:
            why = f"all units of {signals.sites[dead[0].layer].title} are dead, and what is behind them is constant"
            causes.append(Cause("dead-path", 0.85, why))
        gains = [float(gain[0]) for i in signals.layers if (gain := weight_gain(signals, i)).size and gain[0] > 0]
        mean = math.exp(float(np.mean(np.log(gains)))) if gains else math.nan
        if start > 0:
            since = (
                f"samples differed until step {signals.steps[start - 1]:,} and are alike since {signals.steps[start]:,}"
            )
            causes.append(Cause("learning-rate-too-high", 0.5 if mean < self.shrink.value else 0.7, since))
        else:
            causes += self._contracting(signals)
        if mean < (self.shrink.value if start > 0 else 1.0):
            why = f"weights pass on {number(mean)} of a difference on average, and biases stay: He keeps 1.41 before a ReLU"
            causes.append(Cause("init-too-small", 0.6, why))
        if not causes:
            causes.append(
                Cause("depth-without-skip", 0.4, "each layer brings the samples closer, and depth multiplies that")
            )
        return sorted(causes, key=lambda cause: -cause.confidence)

    def _contracting(self, signals: Signals) -> list[Cause]:
        """Activations that bring any two inputs closer."""
        kinds = [kind for kind in activations(signals) if 10 ** WORKING_DECADES.get(kind, 0.0) < CONTRACTING]
        if not kinds:
            return []
        passes = number(10 ** WORKING_DECADES[kinds[0]])
        why = f"{len(kinds)} {kinds[0]} each pass on {passes} of a difference: depth multiplies it"
        return [Cause("activation-contracts", 0.8, why)]

    def _sharp(self, signals: Signals, learned: float, steps: int) -> Finding | None:
        """Attention that gives one key everything, for all queries of all layers, in a network that does not learn."""
        with np.errstate(invalid="ignore", divide="ignore"):
            entropy = signals.values("attention_entropy", "sum") / signals.values("attention_entropy", "count")
        attention = [i for i in signals.modules if np.isfinite(entropy[i]).any()]
        logits = signals.rms("attention_logit")
        sick = [i for i in attention if latest(entropy[i]) < self.sharp.value and latest(logits[i]) > self.logit.value]
        if not attention or len(sick) * 2 < len(attention) or steps < self.patience.value or math.isnan(learned):
            return None
        worst = max(sick, key=lambda i: latest(logits[i]))
        begun = onset(entropy[worst] < self.sharp.value, np.isfinite(entropy[worst])) or 0
        value, largest = latest(entropy[worst]), latest(logits[worst])
        grown = largest / float(logits[worst][np.isfinite(logits[worst])][0])
        message = f"Attention of {signals.sites[worst].title} looks at one key only: logits of {number(largest)}"
        why = f"the largest logits are {number(largest)}, {number(grown)} times what they were at first"
        evidence = [
            Evidence("mean attention entropy over ln(keys)", value, "", self.sharp.value, "0.2 … 1"),
            Evidence("largest attention logit", largest, "", self.logit.value, "1 … 10"),
        ]
        layers = tuple(signals.sites[i].path for i in sorted(sick, key=lambda i: -latest(logits[i])))
        causes = (Cause("attention-logit-growth", 0.85, why),)
        first, last = int(signals.steps[begun]), int(signals.steps[-1])
        return Finding(self.id, "warning", layers, first, last, message, tuple(evidence), causes)

    def _shut_at_start(self, signals: Signals) -> Finding | None:
        """Attention that is shut in all layers before anything is learned: its logits are far too large."""
        with np.errstate(invalid="ignore", divide="ignore"):
            entropy = signals.values("attention_entropy", "sum") / signals.values("attention_entropy", "count")
        logits = signals.rms("attention_logit")
        attention = [i for i in signals.modules if np.isfinite(entropy[i]).any() and np.isfinite(logits[i]).any()]
        known = [(earliest(entropy[i]), earliest(logits[i])) for i in attention]
        if not known or not all(value < self.shut.value and size > self.logit.value for value, size in known):
            return None
        if any(np.isfinite(entropy[i]).sum() < self.needs_steps for i in attention):
            return None
        worst = max(attention, key=lambda i: earliest(logits[i]))
        value, largest = earliest(entropy[worst]), earliest(logits[worst])
        message = f"Attention is saturated from the start: logits of {number(largest)} let one key take all"
        evidence = (
            Evidence("mean attention entropy over ln(keys), first step", value, "", self.shut.value, "0.8 … 1"),
            Evidence("largest attention logit, first step", largest, "", self.logit.value, "1 … 4"),
        )
        why = "queries and keys of unit variance over √d give logits of variance 1"
        causes = (
            Cause("init-too-large", 0.7, f"logits begin at {number(largest)}; {why}"),
            Cause("attention-logit-growth", 0.5, "a softmax of such logits has next to no slope"),
        )
        layers = tuple(signals.sites[i].path for i in attention)
        return Finding(
            self.id, "warning", layers, int(signals.steps[0]), int(signals.steps[-1]), message, evidence, causes
        )

    def _fell_together(self, signals: Signals, learned: float, steps: int) -> Finding | None:
        """Outputs that have come together since the start under a loss that does not move: a constant satisfies it."""
        heads, spreads, went = signals.run.info.heads, spread(signals), progress(signals)
        if went is None or went.trivial > 0:
            return None  # a constant guess is known: whether the loss is better than that is loss-stalled's question
        if len(heads) != 1 or steps < 2 * self.patience.value or not abs(learned) < self.still.value:
            return None
        series = spreads[heads[0]]
        begin, end = earliest(series), latest(series)
        if not end < self.together.value or not begin > self.fold.value * end:
            return None
        began = onset(series < self.together.value, np.isfinite(series)) or 0
        path = signals.sites[heads[0]].path
        message = (
            f"All outputs came together: samples differ by {number(end)} of their length, at first by {number(begin)}"
        )
        evidence = (
            Evidence("spread of the samples at the output", end, "", self.together.value, "0.05 … 1"),
            Evidence("spread of the samples at the output, at first", begin),
        )
        why = f"the loss stays where a constant output leaves it, {number(learned)} of it is gone"
        causes = (Cause("loss-mismatch", 0.7, why), Cause("learning-rate-too-high", 0.5, "steps carried them together"))
        first, last = int(signals.steps[began]), int(signals.steps[-1])
        return Finding(self.id, "warning", (path,), first, last, message, evidence, causes)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}

        def spreads(*rms: float | list[float]) -> dict[tuple[str, str], dict[str, Any]]:
            return {(path, "sample_spread"): {"rms": value} for path, value in zip(chain, rms, strict=False)}

        def attention(entropy: float, logit: float) -> dict[tuple[str, str], dict[str, Any]]:
            return {
                ("b", "attention_entropy"): {"sum": 1000 * entropy},
                ("b", "attention_logit"): {"rms": logit},
            }

        fallen: dict[str, Any] = {"loss": list(np.linspace(2.3, 0.1, 60)), "steps": 60}
        flat: dict[str, Any] = {"loss": 2.3, "steps": 60}
        fell = [0.5] * 20 + [1e-6] * 40
        return (
            Case("depth takes the difference away", run(chain, extra=spreads(0.8, 0.01, 1e-6, 1e-7)), ("c", "d")),
            Case("embeddings fall together", run(chain, extra=spreads(0.8, 0.4, fell, fell), **flat), ("c", "d")),
            Case(
                "attention looks at one key and nothing is learned",
                run(chain, extra=attention(0.003, 80.0), **flat),
                ("b",),
            ),
            Case("a last layer that starts at zero", run(chain, extra=spreads(0.8, 0.6, 0.5, 0.0))),
            Case("a deep ReLU network brings samples closer", run(chain, extra=spreads(0.8, 0.2, 0.05, 0.03), **flat)),
            Case(
                "a layer beside a skip connection gives nearly nothing",
                run(chain, extra=spreads(0.8, 1e-6, 0.5, 0.5), **flat),
            ),
            Case("inputs that are alike", run(chain, extra=spreads(1e-4, 1e-4, 1e-4, 1e-4), **flat)),
            Case("sharp attention in a network that learns", run(chain, extra=attention(0.2, 80.0), **fallen)),
            Case("attention that is shut from the start", run(chain, extra=attention(0.003, 80.0), **fallen), ("b",)),
        )
