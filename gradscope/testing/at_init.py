"""Whether a fresh model is as theory expects: the size of signal and gradient through the depth, and the first loss."""

from __future__ import annotations

import math

import numpy as np

from gradscope.numerals import number
from gradscope.records import Evidence, Finding
from gradscope.rules.exploding_gradient import ExplodingGradient
from gradscope.rules.vanishing_gradient import VanishingGradient
from gradscope.signals import Signals
from gradscope.signals.expected import expected
from gradscope.signals.loss import uniform_loss
from gradscope.signals.progress import progress
from gradscope.testing.answers import Answer
from gradscope.testing.rules_found import answer_of, first_of
from gradscope.testing.watching import Watched

SIGNAL, LOSS = "signal-at-init", "initial-loss"
SIGNAL_RULES = (
    *("poor-initialization", "vanishing-gradient", "exploding-gradient", "saturated-activation"),
    *("vanishing-through-time", "dead-units"),
)
_OF_THE_TARGETS = ("unscaled-target", "loss-mismatch")  # causes that are no matter of the depth: see `initial_loss`
# Decades between what is measured and what theory expects: the log of a norm wanders by about 1/√width a layer, so that
# a net of width 8 and 10 layers may be half a decade off.
OFF, OFF_A_LAYER = 1.0, 0.1
TIMES_UNIFORM = 3.0  # first loss over ln K; healthy fresh models start below 1.5, pixels from 0 to 255 give 10 and more
TIMES_CONSTANT = (
    100.0  # first squared error over the best constant guess's: targets ten deviations away from the outputs
)
TIMES_CONSTANT_ABSOLUTE = 10.0  # the same, of an absolute error
KNOWS = 0.5  # of what knowing nothing costs; below it the model has learned already


def signal_at_init(watched: Watched) -> Answer:
    """Whether signal and gradient keep their size, and are as large as theory expects of such weights."""
    signals = watched.signals
    layers = [i for i in signals.layers if signals.parameters_of(i)]
    if not len(signals.steps) or not layers:
        return Answer(SIGNAL, "not-applicable", "no layer with weights was recorded")
    found = first_of(watched, SIGNAL_RULES, _OF_THE_TARGETS)
    theory = expected(signals)
    backward, forward = _gaps(signals, layers, theory.backward, theory.forward)
    if found is not None:
        return answer_of(SIGNAL, found, extra=_theory(signals, layers, found, theory.backward))
    gaps = {"gradient": backward, "signal": forward}
    allowed = OFF + OFF_A_LAYER * len(layers)
    for what, gap in gaps.items():
        if np.isfinite(gap).any() and float(np.nanmax(np.abs(gap))) > allowed:
            return _off(signals, layers, what, gap, allowed)
    gains = signals.unpooled_gain[layers, 0]
    gains = gains[np.isfinite(gains) & (gains > 0)]
    if not len(gains):
        return Answer(SIGNAL, "passed", f"the signal keeps its size through {len(layers)} layers")
    known = np.concatenate([gap[np.isfinite(gap)] for gap in gaps.values()])
    said = (
        f"; theory expects that of these weights, to {number(float(np.abs(known).max()))} decades" if len(known) else ""
    )
    evidence = [_gain("smallest", gains.min()), _gain("largest", gains.max())]
    message = f"backward gains lie within {number(gains.min())} … {number(gains.max())} over {len(gains)} layers{said}"
    return Answer(SIGNAL, "passed", message, tuple(evidence))


def _gain(which: str, value: float) -> Evidence:
    limit = VanishingGradient.warning if which == "smallest" else ExplodingGradient.gain
    return Evidence(f"{which} backward gain", float(value), "", limit.value, "0.1 … 20")


def _gaps(
    signals: Signals, layers: list[int], backward: np.ndarray, forward: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measured less expected decades at the first step, backward and forward, shape `[layers]`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.log10(signals.unpooled_gain[layers, 0]) - backward[layers],
            np.log10(signals.forward_gain[layers, 0]) - forward[layers],
        )


def _theory(signals: Signals, layers: list[int], found: Finding, backward: np.ndarray) -> tuple[Evidence, ...]:
    """What theory expects at the layer that is worst: it tells weights of a wrong size from everything else."""
    known = [i for i in layers if math.isfinite(backward[i])]
    if not known or not found.rule.endswith("-gradient"):
        return ()
    worst = max(known, key=lambda i: abs(backward[i]))
    name = signals.sites[worst].name
    return (Evidence(f"backward gain that theory expects of these weights at {name}", float(10 ** backward[worst])),)


def _off(signals: Signals, layers: list[int], what: str, gap: np.ndarray, allowed: float) -> Answer:
    row = int(np.nanargmax(np.abs(gap)))
    site, value = signals.sites[layers[row]], float(gap[row])
    more = "larger" if value > 0 else "smaller"
    return Answer(
        SIGNAL,
        "failed",
        f"the {what} at {site.title} is {number(abs(value))} decades {more} than independent weights of this size make it",
        (Evidence(f"measured less expected {what} at {site.name}", value, "decades", allowed, "within 0.2"),),
        (site.path,),
        advice="draw weights independently and around 0, for example by nn.init.kaiming_normal_",
    )


def initial_loss(watched: Watched, guess: float = math.nan) -> Answer:
    """Whether the first loss is that of a model that knows nothing: ln K, or what the best constant output costs.

    Args:
        watched: the first steps.
        guess: what that costs on their batch, as far as it is known from outside.
    """
    signals = watched.signals
    steps, path = signals.run.steps, signals.run.info.loss_path
    if path is None or not len(steps) or not steps["has_loss"][0]:
        return Answer(LOSS, "not-applicable", "no loss is known: pass criterion= and a target, or loss=")
    first = float(steps["loss"][0])
    if not math.isfinite(first):
        return Answer(LOSS, "failed", f"the first loss is {number(first)}", (Evidence("first loss", first),))
    entries = math.prod(path.target_shape) if path.reduction == "sum" and path.target_shape else 1
    averaged = path.reduction in ("mean", "sum")
    if averaged and path.kind in ("cross-entropy", "nll") and path.classes > 1:
        return _against(first / entries, uniform_loss(path.classes), f"ln {path.classes:,}", TIMES_UNIFORM)
    if averaged and path.kind.startswith("binary-cross-entropy"):
        return _against(first / entries, math.log(2), "ln 2", TIMES_UNIFORM)
    went = progress(signals)
    recorded = math.nan if went is None else went.trivial  # over all steps, which have the same batch
    trivial = guess if guess > 0 else recorded
    if trivial > 0:
        times = TIMES_CONSTANT if path.kind == "squared-error" else TIMES_CONSTANT_ABSOLUTE
        times = TIMES_UNIFORM if path.kind.endswith("cross-entropy") else times
        return _against(first, trivial, "the best constant guess's", times)
    kind = f"of {path.kind.replace('-', ' ')}" if path.kind else "of this kind"
    why = "a few samples more may help" if path.kind else "GradScope does not know this loss"
    return Answer(LOSS, "not-applicable", f"what a loss {kind} is before training is not known: {why}")


def _against(first: float, nothing: float, name: str, most: float) -> Answer:
    ratio = first / nothing
    evidence = (Evidence(f"first loss over {name}", ratio, "", most, "about 1"),)
    where = f"the first loss is {number(first)}, {number(ratio)} times {name} ({number(nothing)})"
    if ratio > most and name.startswith("ln "):
        advice = "make the outputs small at the start: scale the last layer's weights down, feed inputs of unit scale"
        return Answer(LOSS, "failed", f"{where}: the model is sure before it has seen data", evidence, advice=advice)
    if ratio > most:
        advice = "subtract the targets' mean and divide by their deviation, or set the last bias to their mean"
        return Answer(LOSS, "failed", f"{where}: targets lie far from what it gives out", evidence, advice=advice)
    if ratio < KNOWS:
        where = f"{where}: the model knows something already, or its inputs give the targets away"
    return Answer(LOSS, "passed", where, evidence)
