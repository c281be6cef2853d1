"""What each layer with weights is followed by, as the run's links show it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from gradscope.records import Link
from gradscope.signals.budget import operation_kind
from gradscope.signals.mechanisms import WORKING_DECADES, activations
from gradscope.signals.series import Signals

_WEIGHTED = ("weights", "attention", "recurrence")
_NORMALISING = ("BatchNorm", "LayerNorm", "GroupNorm", "RmsNorm")
_BY_NUMBER = (  # operations that bend each number by itself, beside those of torch's own activations
    *("Exp", "Exp2", "Expm1", "Sinh", "Cosh", "Pow", "Square", "Sin", "Cos", "Abs", "Erf", "Atan", "Asinh", "Log1p"),
    *WORKING_DECADES,
)


@dataclass(frozen=True)
class Follows:
    """What lies between a layer and the next one with weights.

    Attributes:
        activation: the kind of the first activation; "" where there is none, None where paths part before one is met.
        module: the site of that activation; None where it is a function.
        normalised: whether a normalisation lies in between.
        joined: whether another way is added, or ways part, before the activation.
        next: the next layer with weights, where the way there neither parts nor joins another; else None.
    """

    activation: str | None = ""
    module: int | None = None
    normalised: bool = False
    joined: bool = False
    next: int | None = None


def follows(signals: Signals, layer: int) -> Follows:
    """Walks on from a layer, given its output site.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> follows(Signals(run({"a": 1.0, "s": 1.0, "b": 1.0}, kinds={"s": "Tanh"})), 1).activation
        'Tanh'
    """
    found, alone, here, been = Follows(), True, layer, set[int]()
    while here not in been and (ways := signals.links_from(here)):
        been.add(here)
        if not found.activation and any(_joins_first(signals, link) for link in ways):
            found = replace(found, joined=True)
        kinds = {activation_in(link.operations) for link in ways}
        if not found.activation and len(kinds) == 1:
            found = replace(found, activation=kinds.pop())
        if any(name in each for link in ways for each in link.operations for name in _NORMALISING):
            found = replace(found, normalised=True)
        alone = alone and len(ways) == 1 and len(joined(signals, ways[0])) < 2
        if len({link.target for link in ways}) > 1:
            return replace(found, activation=found.activation or None)
        target = ways[0].target
        if target is None:
            here = ways[0].container
            continue
        here = _entry(signals, target)
        site, inside = signals.sites[here], signals.links_in(here)
        if site.mechanism in _WEIGHTED or (site.mechanism == "container" and any(link.target for link in inside)):
            whole = site.mechanism in _WEIGHTED
            unknown = not whole and not found.activation
            return replace(
                found, next=here if alone and whole else None, activation=None if unknown else found.activation
            )
        kind = site.kind if site.mechanism == "activation" else ""
        kind = kind or next((name for link in inside if (name := activation_in(link.operations))), "")
        kind = kind or written_activation(signals, here)
        if kind and not found.activation:
            found = replace(found, activation=kind, module=here)
        found = replace(found, normalised=found.normalised or site.mechanism == "normalisation")
    return found


def written_activation(signals: Signals, module: int) -> str:
    """The class of a module written by hand that applies one function to each number, `x.exp()` say; "" for any other.

    Such a module has neither weights nor modules, and makes one operation of autograd that is not linear.
    """
    site, inside = signals.sites[module], signals.links_in(module)
    if site.mechanism != "container" or signals.parameters_of(module) or len(inside) != 1:
        return ""
    alone = inside[0].source is None and inside[0].target is None
    return site.kind if alone and operation_kind(inside[0].operations) in _BY_NUMBER else ""


def activation_in(operations: tuple[str, ...]) -> str:
    """The kind of the activation that is applied first among the operations of a link; "" where there is none.

    Example:
        >>> activation_in(("AddBackward0", "SigmoidBackward0"))  # as the graph has them, the last one first
        'Sigmoid'
    """
    kinds = [operation_kind((name,)) for name in reversed(operations)]
    return next((kind for kind in kinds if kind in WORKING_DECADES), "")


def _joins_first(signals: Signals, link: Link) -> bool:
    """Whether a link is added to another before an activation is applied to it."""
    ahead = link.operations[::-1]  # the graph has the last one first
    place = next((n for n, name in enumerate(ahead) if name.startswith("AddBackward")), len(ahead))
    return len(joined(signals, link)) > 1 and not activation_in(ahead[:place])


def joined(signals: Signals, link: Link) -> list[Link]:
    """The links that are added up with this one, itself among them; it alone where nothing joins."""
    if not any(name.startswith("AddBackward") for name in link.operations):
        return [link]
    return [
        other
        for other in signals.links_in(link.container)
        if other.target == link.target and any(name.startswith("AddBackward") for name in other.operations)
    ]


def weighted_layers(signals: Signals) -> list[int]:
    """The layers whose weights multiply what they are fed, up to the head, which is the last; no embeddings."""
    heads = [signals.sites[head].order for head in signals.run.info.heads if head in signals.layers]
    found = [
        i
        for i in signals.layers
        if signals.sites[i].mechanism in ("weights", "recurrence") and "Embedding" not in signals.sites[i].kind
    ]
    return [i for i in found if signals.sites[i].order <= max(heads)] if heads else found


def hidden_activation(signals: Signals, layer: int) -> str:
    """The kind of activation after a hidden layer; where it cannot be told, the one that the model uses most."""
    kind = follows(signals, layer).activation
    if kind is not None:
        return kind
    kinds = Counter(activations(signals))
    return kinds.most_common(1)[0][0] if kinds else ""


def _entry(signals: Signals, module: int) -> int:
    """The innermost module that what a module is fed goes to first."""
    inside = [link.target for link in signals.links_in(module) if link.source is None and link.target is not None]
    return _entry(signals, inside[0]) if len(inside) == 1 and inside[0] != module else module


def places_for_norms(signals: Signals, kind: str) -> list[list[str]]:
    """Where a normalisation can be put: `[path, kind]` of hidden layers before an activation and without one.

    Behind a Linear that gives sequences of vectors the kind is "layer".
    """
    found = []
    for i in weighted_layers(signals)[:-1]:
        site, after = signals.sites[i], follows(signals, i)
        if site.mechanism == "weights" and after.activation and not after.normalised and not after.joined:
            found.append([site.path, "layer" if site.kind == "Linear" and len(site.shape) > 2 else kind])
    return found


def numbers_together(signals: Signals, paths: list[str]) -> int:
    """How many numbers of a batch one feature or channel has at the outputs of these layers, at least."""
    shapes = [site.shape for site in signals.sites if site.role == "output" and site.path in paths and site.shape]
    return min((shape[0] * math.prod(shape[2:]) for shape in shapes), default=0)


def branch_ends(signals: Signals) -> list[int]:
    """The module at whose output each residual branch joins, in execution order.

    Where ways join in a sum, the branch is the one that most layers with weights lead to; the others are shortcuts, or
    what was there before. Equal ones are no residual branches.
    """
    found: set[int] = set()
    before: dict[int, int] = {}
    for link in signals.run.info.links:
        ways = joined(signals, link)
        if len(ways) < 2 or ways[0] is not link:
            continue
        sources = {way.source for way in ways if way.source is not None}
        for source in sources - set(before):
            before[source] = _weights_before(signals, source)
        ordered = sorted(sources, key=lambda source: before[source])
        if ordered and before[ordered[-1]] and (len(ordered) < 2 or before[ordered[-1]] > before[ordered[-2]]):
            found.add(ordered[-1])
    return sorted(found, key=lambda i: signals.sites[i].order)


def _weights_before(signals: Signals, module: int) -> int:
    """How many layers with weights lead to what a module gives, its own among them."""
    container = next((link.container for link in signals.links_from(module)), None)
    into: dict[int, list[int]] = {}
    for link in [] if container is None else signals.links_in(container):
        if link.source is not None and link.target is not None:
            into.setdefault(link.target, []).append(link.source)
    reached, ahead = {module}, [module]
    while ahead:
        new = set(into.get(ahead.pop(), ())) - reached
        reached |= new
        ahead += new
    paths = {signals.sites[i].path for i in reached}
    own = [i for i in signals.layers if signals.parameters_of(i) or signals.sites[i].mechanism in _WEIGHTED]
    return sum(any(_holds(path, signals.sites[i].path) for path in paths) for i in own)


def _holds(container: str, path: str) -> bool:
    return path == container or path.startswith(f"{container}.")
