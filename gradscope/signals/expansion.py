"""Activations that give out more than they are fed: depth then grows the signal by itself, whatever the weights are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradscope.signals.budget import operation_kind
from gradscope.signals.chain import written_activation
from gradscope.signals.series import Signals

EXPANDS = 1.5  # rms of the output over the input, where that is 1 at least; torch's own activations give 1.0 at most
_GROWING = ("Exp", "Exp2", "Expm1", "Sinh", "Cosh")  # operations that no depth bears


@dataclass(frozen=True)
class Expansion:
    """The activations that expand.

    Attributes:
        modules: their sites, in execution order; none where all are called as functions.
        kind: class of the modules, or the operation: "Exp".
        each: rms of the output over that of the input (over 1 where the input is smaller), geometric mean of the finite;
            NaN where none was measured.
        overflows: whether a finite input gave an infinite output.
    """

    modules: tuple[int, ...]
    kind: str
    each: float
    overflows: bool

    def __str__(self) -> str:
        grows = "grows what it is fed"
        if math.isfinite(self.each):
            grows = f"gives {self.each:,.3g} times what it is fed"
        return f"each {self.kind} {grows}{' and then overflows' if self.overflows else ''}; a ReLU gives 0.71"


def expanding(signals: Signals) -> Expansion | None:
    """The hidden activations that expand at the first recorded step; None where none does.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> sizes = {"a": 1.0, "e": 9.0, "b": 9.0, "f": 900.0, "c": 900.0}
        >>> grown = run(dict.fromkeys(sizes, 1.0), kinds={"e": "Tanh", "f": "Tanh"}, activation=sizes)
        >>> print(expanding(Signals(grown)))
        each Tanh gives 30 times what it is fed; a ReLU gives 0.71
    """
    if not len(signals.steps):
        return None
    last = max((signals.sites[head].order for head in signals.run.info.heads), default=math.inf)
    size = signals.rms("activation")[:, 0]
    found, growth = [], []
    for i in signals.layers:
        site = signals.sites[i]
        if site.order >= last or len(site.inputs) != 1 or site.kind == "Softmax":
            continue
        if site.mechanism != "activation" and not written_activation(signals, i):
            continue
        fed = float(size[site.inputs[0]])
        if math.isfinite(fed) and not math.isnan(size[i]):
            found.append(i)
            growth.append(float(size[i]) / max(fed, 1.0))
    kinds = {signals.sites[i].kind for i, each in zip(found, growth, strict=True) if each > EXPANDS}
    finite = [math.log(each) for each in growth if 0 < each < math.inf]
    mean = math.exp(sum(finite) / len(finite)) if finite else math.nan
    overflows = math.inf in growth
    if kinds and (overflows or mean > EXPANDS):
        modules = [i for i in signals.layers if signals.sites[i].kind in kinds and signals.sites[i].order < last]
        return Expansion(tuple(modules), signals.sites[modules[0]].kind, mean, overflows)
    called = _called(signals, last)
    return Expansion((), called, math.nan, False) if called else None


def _called(signals: Signals, last: float) -> str:
    """The operation that grows what it is fed and is all that is done to what a hidden layer gives; "" where none is."""
    for link in signals.run.info.links:
        kind = operation_kind(link.operations)
        if kind in _GROWING and link.source is not None and link.target is not None:
            fed, to = signals.sites[link.source], signals.sites[link.target]
            if fed.mechanism == "weights" and fed.order < last and to.order <= last:
                return kind
    return ""
