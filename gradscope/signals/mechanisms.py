"""Who ate or grew the gradient: the measured gain of each kind of module beside what it should have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.signals.budget import Budget, budget, mechanism_totals, operation_kind, operation_mechanism
from gradscope.signals.series import Signals, decades

# log10 of the root of E[phi'(z)^2] for z ~ N(0, 1): what an activation lets through when it works as meant. For ReLU
# sqrt(1/2), half of the units (He et al. 2015). tests/test_signals.py integrates each.
WORKING_DECADES = {
    "ReLU": -0.151,
    "ReLU6": -0.151,
    "LeakyReLU": -0.151,
    "ELU": -0.088,
    "CELU": -0.088,
    "SELU": 0.015,
    "GELU": -0.171,
    "SiLU": -0.210,
    "Mish": -0.160,
    "Softplus": -0.266,
    "Softsign": -0.321,
    "Tanh": -0.167,
    "Hardtanh": -0.083,
    "Hardswish": -0.223,
    "Sigmoid": -0.674,
    "Hardsigmoid": -0.779,
    "LogSigmoid": -0.266,
}
CONTRACTING = 0.3  # an activation that works below this factor shrinks every gradient, however it is fed


@dataclass(frozen=True)
class Share:
    """All modules of one kind that share a mechanism: how many, and what they did together.

    `decades` is the sum of the log10 gains of the `count` modules that were measured; `working` what that sum would be
    if each worked as meant; None when that is not known for the kind.
    """

    kind: str
    mechanism: str
    count: int
    decades: float
    working: float | None

    @property
    def each(self) -> float:
        """The backward gain of one of them, a factor."""
        return float(10 ** (self.decades / self.count))

    def __str__(self) -> str:
        return f"{self.count} {self.kind} × {self.decades / self.count:+.2f}".replace("-", "−")


def shares(signals: Signals, column: int) -> list[Share]:
    """What each kind of layer up to the head did to the gradient at one recorded step, the largest effect first.

    Code between the modules of a chain counts like the module that would do the same. A final activation is not
    among them: it comes before the head's gradient, on the loss side.
    """
    found: dict[tuple[str, str], list[float]] = {}
    last = _last_head(signals)
    layers = [i for i in signals.layers if signals.sites[i].order <= last]
    gains = [(*_what(signals, i), *_own(signals, i)) for i in layers]
    tree = budget(signals)
    gains += [(part.kind, part.mechanism, part.decades, 1) for part in _code_before_head(signals, tree)]
    for kind, mechanism, series, calls in gains:
        if math.isfinite(series[column]):
            found.setdefault((kind, mechanism), []).extend([float(series[column])] * calls)
    result = [
        Share(kind, mechanism, len(values), sum(values), _working(kind, len(values)))
        for (kind, mechanism), values in found.items()
    ]
    return sorted(result, key=lambda share: -abs(share.decades))


def _own(signals: Signals, module: int) -> tuple[NDArray[np.float64], int]:
    """What one call of a layer does to the gradient, in decades, and how many calls there are."""
    calls, profile = signals.calls(module), signals.time_profile(module)
    if calls > 1 and profile.shape[1] > 1:  # it feeds itself: the sums over its calls share all but the ends
        return decades(profile[:, 0], profile[:, -1]) / (calls - 1), calls - 1
    return signals.own_gain(module), calls


def _what(signals: Signals, module: int) -> tuple[str, str]:
    """Kind and mechanism of a layer; of a module written by hand without parameters those of what it computes."""
    site = signals.sites[module]
    links = signals.links_in(module)
    if site.mechanism == "container" and links:
        operations = tuple(name for link in links for name in link.operations)
        return operation_kind(operations) if len(operations) == 1 else site.kind, operation_mechanism(operations)
    return site.kind, site.mechanism


def is_normalised(signals: Signals, module: int) -> bool:
    """Whether a normalisation follows before anything else with weights or a join: then the weights have no scale."""
    been: set[int] = set()
    while module not in been and len(ways := signals.links_from(module)) == 1:
        been.add(module)
        (link,) = ways
        if operation_mechanism(link.operations) == "normalisation":
            return True
        if any(name in each for each in link.operations for name in ("Add", "Cat", "Mul")):
            return False
        if link.target is None:
            module = link.container
            continue
        module = _entry(signals, link.target)
        mechanism = signals.sites[module].mechanism
        if mechanism == "normalisation" or mechanism in ("weights", "attention", "recurrence"):
            return mechanism == "normalisation"
    return False


def _entry(signals: Signals, module: int) -> int:
    """The innermost module that what a module is fed goes to first."""
    inside = [link.target for link in signals.links_in(module) if link.source is None and link.target is not None]
    return _entry(signals, inside[0]) if len(inside) == 1 and inside[0] != module else module


def normalised_weights(signals: Signals, column: int) -> list[float]:
    """Decades of each layer of weights whose scale a normalisation takes away."""
    found = [i for i in signals.layers if signals.sites[i].mechanism == "weights" and is_normalised(signals, i)]
    gains = [float(signals.own_gain(i)[column]) for i in found]
    return [gain for gain in gains if math.isfinite(gain)]


def _last_head(signals: Signals) -> float:
    """The head's place in execution order; without one, nothing comes after it."""
    return max((signals.sites[head].order for head in signals.run.info.heads), default=math.inf)


def _code_before_head(signals: Signals, tree: Budget | None) -> Iterator[Budget]:
    """Code between modules, up to the head."""
    parts = [tree] if tree is not None else []
    while parts:
        part = parts.pop(0)
        if part.site in signals.run.info.heads:
            return
        if part.site is None:
            yield part
        parts = [*part.parts, *parts]


def activations(signals: Signals) -> list[str]:
    """The kinds of all hidden activations, modules and functions alike, one entry each time one is used."""
    last, leaves = _last_head(signals), set(signals.layers)
    kinds = [
        signals.sites[i].kind
        for i in signals.layers
        if signals.sites[i].mechanism == "activation" and signals.sites[i].order < last
    ]
    for link in signals.run.info.links:
        before = link.container if link.source is None else link.source
        kind = operation_kind(link.operations)
        if link.container not in leaves and signals.sites[before].order < last and kind in WORKING_DECADES:
            kinds.append(kind)
    return kinds


def _working(kind: str, count: int) -> float | None:
    return WORKING_DECADES[kind] * count if kind in WORKING_DECADES else None


def totals(signals: Signals, column: int) -> dict[str, float]:
    """Decades by mechanism at one recorded step: of the whole chain where the budget is one, else of all layers."""
    tree = budget(signals)
    if tree is not None and tree.chain:
        return {name: float(values[column]) for name, values in mechanism_totals(tree).items()}
    found: dict[str, float] = {}
    for share in shares(signals, column):
        found[share.mechanism] = found.get(share.mechanism, 0.0) + share.decades
    return found


def longest_chain(signals: Signals) -> int:
    """Layers with weights that follow one another without a skip connection, along the model's own chain."""
    tree = budget(signals)
    longest = run = 0
    parts = list(tree.parts) if tree is not None and tree.chain else []
    while parts:
        part = parts.pop(0)
        if part.chain:
            parts = [*part.parts, *parts]
        elif part.mechanism == "joins":
            run = 0
        elif part.mechanism in ("weights", "recurrence", "attention"):
            run += 1
            longest = max(longest, run)
    return longest


def sentence(signals: Signals, column: int) -> str:
    """The budget in one line, e.g. "-17.1 decades = 20 Sigmoid × -0.61 + 20 Linear × -0.24"."""
    parts = [share for share in shares(signals, column) if abs(share.decades) >= 0.1][:4]
    total = sum(share.decades for share in parts)
    whole = f"{total:+.1f} decades".replace("-", "−")
    return f"{whole} = " + " + ".join(str(share) for share in parts) if parts else ""
