"""AUTOTRAINER (Zhang et al., ICSE 2021): looks every three epochs, as long as the accuracy is below 0.6."""

from __future__ import annotations

import itertools

from tests.zoo.peers.seen import Alarm, Seen, broken

ENOUGH = 0.6  # accuracy from which on nothing is looked for

LOSS = Alarm("loss", "loss-mismatch", ("change-loss", "change-output-activation"))
DATA = Alarm("data", "unscaled-input", ("standardize-inputs",))
VANISH = Alarm("vanish", "activation-contracts", ("batch-norm", "activation-swap", "initialization"))
EXPLODE = Alarm("explode", "init-too-large", ("batch-norm", "activation-swap", "initialization"))
NO_NUMBER = Alarm("nan loss", "learning-rate-too-high", ("lower-learning-rate", "gradient-clipping"))
DYING = Alarm("dying relu", "dead-path", ("batch-norm", "activation-swap", "initialization"))
OSCILLATES = Alarm(
    "oscillating loss", "learning-rate-too-high", ("optimizer-swap", "lower-learning-rate", "larger-batch")
)
SLOW = Alarm("slow convergence", "learning-rate-too-low", ("raise-learning-rate", "optimizer-swap"))


def alarm(seen: Seen) -> Alarm | None:
    """The first issue that any of its checks finds."""
    for end in range(3, len(seen.epochs) + 1, 3):
        if found := _check(seen, end):
            return found
    return None


def _check(seen: Seen, end: int) -> Alarm | None:
    epochs, accuracies = seen.epochs[:end], seen.accuracies()[:end]
    looks = [look for look in seen.looks if look["step"] <= epochs[-1]["step"]]
    if accuracies[-1] >= ENOUGH or not looks or not seen.kernels:
        return None
    loss, look = epochs[-1]["loss"], looks[-1]
    hidden = [numbers["size"] for numbers in list(look["layers"].values())[:-1]]
    if hidden and max(hidden) >= 10:
        return DATA
    if loss < 0:
        return LOSS
    if broken(loss) or loss >= 1e3:
        return NO_NUMBER
    return _gradients(seen, look) or _progress(accuracies)


def _gradients(seen: Seen, look: dict) -> Alarm | None:  # type: ignore[type-arg]
    of = [look["parameters"][name] for name in seen.kernels if "gradient" in look["parameters"].get(name, {})]
    if not of:
        return None
    first, last = of[0]["gradient_norm"], of[-1]["gradient_norm"]
    if any(broken(numbers["gradient_norm"], numbers["weight_norm"]) for numbers in of):
        return EXPLODE
    ratio = first / last if last else float("inf")
    if ratio < 1e-3 and first < 1e-4:
        return VANISH
    if ratio > 70:
        return EXPLODE
    zeros = sum(numbers["gradient_zeros"] * numbers["gradient_count"] for numbers in of)
    return DYING if zeros / sum(numbers["gradient_count"] for numbers in of) >= 0.7 else None


def _progress(accuracies: list[float]) -> Alarm | None:
    turns = [
        abs(after - now) >= 0.03 and (now - before) * (after - now) < 0
        for before, now, after in zip(accuracies, accuracies[1:], accuracies[2:], strict=False)
    ]
    if turns and sum(turns) / len(turns) >= 0.2:
        return OSCILLATES
    rises = [after - before for before, after in itertools.pairwise(accuracies)]
    return SLOW if rises and max(rises) < 0.01 else None
