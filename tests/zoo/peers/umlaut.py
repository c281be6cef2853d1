"""UMLAUT (Schoop et al., CHI 2021): heuristics on hyperparameters, data, layers and learning curves."""

from __future__ import annotations

import itertools

from tests.zoo.peers.seen import Alarm, Seen

ACTIVATIONS = ("ReLU", "Sigmoid", "Tanh", "Exponential", "GELU", "SELU", "Softmax")
WEIGHTED = ("Linear", "Conv2d")
ON_PROBABILITIES = ("keras_crossentropy", "clipped_log", "summed_entropy")


def alarm(seen: Seen) -> Alarm | None:
    """The first heuristic that speaks, errors before warnings, as it lists them."""
    return _static(seen) or _curves(seen)


def _static(seen: Seen) -> Alarm | None:
    kinds = [seen.kind(layer) for layer in seen.modules]
    layers = list(seen.modules)
    if not -1 <= seen.fed[0] <= seen.fed[1] <= 1:
        return Alarm("input exceeds its range", "unscaled-input", ("standardize-inputs",))
    if seen.loss in ON_PROBABILITIES and kinds[-1] != "Softmax":
        return Alarm("missing softmax", "output-activation", ("change-output-activation",), layers[-1])
    if kinds[-1] in ("ReLU", "Tanh", "Exponential", "GELU", "SELU"):
        return Alarm("activation on the last layer", "output-activation", ("change-output-activation",), layers[-1])
    if any(kind in ACTIVATIONS for kind in kinds):  # else they are functions, which it cannot see
        weighted = [kind for kind in kinds if kind in WEIGHTED or kind in ACTIVATIONS]
        for one, next_one in itertools.pairwise(weighted):
            if one in WEIGHTED and next_one in WEIGHTED:
                return Alarm("missing activation", "activation-contracts", ("activation-swap",))
    strong = [layer for layer, module in seen.modules.items() if module["kind"] == "Dropout" and module["rate"] > 0.5]
    if strong:
        return Alarm("high dropout", "dead-path", ("lower-dropout",), strong[0])
    rates = [look["rate"] for look in seen.looks]
    if rates and max(rates) > 0.01:
        return Alarm("high learning rate", "learning-rate-too-high", ("lower-learning-rate",))
    if rates and min(rates) < 1e-7:
        return Alarm("low learning rate", "learning-rate-too-low", ("raise-learning-rate",))
    return None


def _curves(seen: Seen) -> Alarm | None:
    for train, held in zip(seen.accuracies(), seen.accuracies(held=True), strict=True):
        if held > 0.95 or held > train + 0.05:
            return Alarm("held-out accuracy is suspiciously high")
    for before, now in zip(seen.epochs, seen.epochs[1:], strict=False):
        if now["held_loss"] > before["held_loss"] and now["loss"] < before["loss"]:
            return Alarm("overfitting", "", ("lower-dropout",))
    return None
