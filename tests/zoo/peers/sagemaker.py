"""Amazon SageMaker Debugger's built-in rules, with their default thresholds."""

from __future__ import annotations

from typing import Any

from tests.zoo.peers.seen import Alarm, Seen, broken, owner


def alarm(seen: Seen) -> Alarm | None:
    """The first rule that fires, look by look."""
    for look in seen.looks:
        if found := _parameters(seen, look) or _layers(seen, look):
            return found
    return _initialization(seen) or _loss(seen)


def _parameters(seen: Seen, look: dict[str, Any]) -> Alarm | None:
    for name, numbers in look["parameters"].items():
        gradient = numbers.get("gradient")
        if gradient is not None and broken(gradient):
            return Alarm("exploding tensor", "learning-rate-too-high", ("lower-learning-rate",), owner(name))
        if gradient is not None and gradient < 1e-7:
            return Alarm("vanishing gradient", "activation-contracts", ("activation-swap",), owner(name))
        ratio = numbers["update"] / numbers["weight"] if numbers["weight"] and numbers["dimensions"] >= 2 else 1.0
        if ratio > 10:
            return Alarm("weight update ratio", "learning-rate-too-high", ("lower-learning-rate",), owner(name))
        if ratio < 1e-8:
            return Alarm("weight update ratio", "learning-rate-too-low", ("raise-learning-rate",), owner(name))
    return None


def _layers(seen: Seen, look: dict[str, Any]) -> Alarm | None:
    for layer, numbers in look["layers"].items():
        kind, low, high = seen.kind(layer), numbers.get("fed_low", 0.0), numbers.get("fed_high", 0.0)
        if not numbers["finite"]:
            return Alarm("exploding tensor", "learning-rate-too-high", ("lower-learning-rate",), layer)
        if kind == "ReLU" and numbers["silent_neurons"] > 0.5:
            return Alarm("dead ReLU", "dead-path", ("activation-swap", "initialization"), layer)
        if (kind == "Tanh" and max(-low, high) > 9.4999) or (kind == "Sigmoid" and (low < -23 or high > 16.99999)):
            return Alarm("saturated activation", "activation-saturates", ("activation-swap", "initialization"), layer)
    return None


def _initialization(seen: Seen) -> Alarm | None:
    if not seen.looks or not seen.kernels:
        return None
    variances = [seen.looks[0]["parameters"][name]["variance"] for name in seen.kernels]
    if min(variances) > 0 and max(variances) / min(variances) > 10:
        return Alarm("poor weight initialization", "init-too-small", ("initialization",))
    narrow = [
        [look["parameters"].get(name, {}).get("gradient_spread", 1.0) < 1e-3 for name in seen.kernels]
        for look in seen.looks[:10]
    ]
    if len(narrow) == 10 and all(any(each) for each in narrow):
        return Alarm("poor weight initialization", "init-too-small", ("initialization",))
    return None


def _loss(seen: Seen) -> Alarm | None:
    for before, now in zip(seen.epochs, seen.epochs[1:], strict=False):
        if not now["loss"] < before["loss"] * 0.999:
            return Alarm("loss not decreasing", "learning-rate-too-low", ("raise-learning-rate",))
        if now["held_loss"] > 1.1 * now["loss"] > 0:
            return Alarm("overfit", "", ("lower-dropout",))
    return None
