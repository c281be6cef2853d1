"""TheDeepChecker (Ben Braiek & Khomh, TOSEM 2023): checks of activations, gradients, updates and loss, by period.

Its checks that need trainings of their own (one batch overfitted, the loss of batches of several sizes) are left out.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from tests.zoo.peers.seen import Alarm, Seen, broken, owner

INIT = ("initialization", "batch-norm")
ACTIVE = ("ReLU", "Sigmoid", "Tanh", "Exponential", "GELU", "SELU")


def alarm(seen: Seen) -> Alarm | None:
    """The first check that fails, period by period."""
    for number, look in enumerate(seen.looks):
        found = _activations(seen, look) or _updates(seen, look) or _gradients(seen, number)
        if found:
            return found
    return _loss(seen)


def _activations(seen: Seen, look: dict[str, Any]) -> Alarm | None:
    for layer, numbers in look["layers"].items():
        if seen.kind(layer) not in ACTIVE:
            continue
        if broken(numbers["deviation"]):
            return Alarm("numerical instability", "init-too-large", INIT, layer)
        if numbers["idle_neurons"] > 0.5:
            return Alarm("dead layer", "dead-path", ("activation-swap", *INIT), layer)
        if numbers["saturated_neurons"] > 0.5:
            return Alarm("saturated layer", "activation-saturates", INIT, layer)
        if not 0.5 <= numbers["deviation"] <= 2:
            small = numbers["deviation"] < 0.5
            return Alarm("unstable activations", "init-too-small" if small else "init-too-large", INIT, layer)
    return None


def _updates(seen: Seen, look: dict[str, Any]) -> Alarm | None:
    for name in seen.kernels:
        numbers = look["parameters"].get(name)
        if numbers is None or not numbers["weight"]:
            continue
        moved = numbers["update"] / numbers["weight"]
        size = math.log10(moved) if moved > 0 and math.isfinite(moved) else -math.inf
        if size < -4:
            return Alarm("slow updates", "learning-rate-too-low", ("raise-learning-rate",), owner(name))
        if size > -1:
            return Alarm("fast updates", "learning-rate-too-high", ("lower-learning-rate",), owner(name))
    return None


def _gradients(seen: Seen, number: int) -> Alarm | None:
    for name in seen.kernels:
        sizes = [
            look["parameters"].get(name, {}).get("gradient") for look in seen.looks[max(number - 5, 0) : number + 1]
        ]
        known = [size for size in sizes if size is not None]
        if not known:
            continue
        if broken(known[-1]) or known[-1] > 1e6 or _steadily(known, lambda before, now: now > 2 * before):
            return Alarm("exploding gradient", "init-too-large", ("gradient-clipping", *INIT), owner(name))
        if known[-1] < 1e-6 or _steadily(known, lambda before, now: now < 0.5 * before):
            return Alarm("vanishing gradient", "activation-contracts", ("activation-swap", *INIT), owner(name))
    return None


def _steadily(values: list[float], holds: Any) -> bool:
    return len(values) == 6 and all(holds(*pair) for pair in itertools.pairwise(values))


def _loss(seen: Seen) -> Alarm | None:
    losses = [epoch["loss"] for epoch in seen.epochs]
    for before, now in itertools.pairwise(losses):
        if broken(now) or now > 2 * before > 0:
            return Alarm("diverging loss", "learning-rate-too-high", ("lower-learning-rate",))
    falls = [now > 0.95 * before for before, now in itertools.pairwise(losses)]
    for end in range(5, len(falls) + 1):
        if all(falls[end - 5 : end]):
            return Alarm("loss hardly falls", "learning-rate-too-low", ("raise-learning-rate",))
    return None
