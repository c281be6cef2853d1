"""DeepDiagnosis (Wardat et al., ICSE 2022): eight symptoms, then a tree that says what to change."""

from __future__ import annotations

import statistics
from typing import Any

from tests.zoo.peers.seen import Alarm, Seen, broken, owner

BOUNDED = ("Sigmoid", "Tanh")


def alarm(seen: Seen) -> Alarm | None:
    """The first symptom, step by step, and the cure that its tree gives."""
    for number, look in enumerate(seen.looks):
        if found := _symptom(seen, look, number):
            symptom, layer = found
            cause, remedy = _tree(seen, look)
            return Alarm(symptom, cause, (remedy,), layer)
    return _over_time(seen)


def _symptom(seen: Seen, look: dict[str, Any], number: int) -> tuple[str, str] | None:
    for layer, numbers in look["layers"].items():
        if broken(numbers["mean"]) or numbers["mean"] == 0:
            return "numerical error", layer
        if number == len(seen.looks) - 1 and seen.kind(layer) == "ReLU" and numbers["at_most_zero"] >= 0.7:
            return "dead node", layer
        if seen.kind(layer) in BOUNDED and numbers.get("fed_beyond_5", 0) > 0.5:
            return "saturated activation", layer
    for name in seen.kernels:
        gradient = look["parameters"].get(name, {}).get("gradient", 1.0)
        if broken(gradient) or gradient < 1e-7:
            return "vanishing gradient", owner(name)
    recent = seen.looks[max(number - 4, 0) : number + 1]
    for layer in look["layers"] if len(recent) == 5 else ():
        means = [each["layers"].get(layer, {}).get("mean") for each in recent]
        if None not in means and len(set(means)) == 1:
            return "unchanged weight", layer
    return None


def _tree(seen: Seen, look: dict[str, Any]) -> tuple[str, str]:
    weights = [look["parameters"][name] for name in seen.kernels if name in look["parameters"]]
    if any(not 1e-5 <= numbers["variance"] <= 10 for numbers in weights):
        return "init-too-small" if weights[0]["variance"] < 1e-5 else "init-too-large", "initialization"
    if not -1 <= seen.fed[0] <= seen.fed[1] <= 1:
        return "unscaled-input", "standardize-inputs"
    steps = [numbers["update_norm"] / numbers["weight_norm"] for numbers in weights if numbers["weight_norm"]]
    if steps and statistics.median(steps) > 0.1:
        return "learning-rate-too-high", "lower-learning-rate"
    if steps and statistics.median(steps) < 1e-5:
        return "learning-rate-too-low", "raise-learning-rate"
    return "activation-contracts", "activation-swap"


def _over_time(seen: Seen) -> Alarm | None:
    losses, accuracies = [epoch["loss"] for epoch in seen.epochs], seen.accuracies()
    for values, length, name in ((losses, 5, "loss not decreasing"), (accuracies, 20, "accuracy not increasing")):
        for end in range(length, len(values) + 1):
            if len({round(value, 6) for value in values[end - length : end]}) == 1:
                cause, remedy = _tree(seen, seen.looks[-1]) if seen.looks else ("", "")
                return Alarm(name, cause, (remedy,))
    return None
