"""The gain budget: which part of the model ate or grew the gradient on its way back, in decades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Link
from gradscope.signals.series import Signals, decades


@dataclass(frozen=True)
class Budget:
    """One part of the model and what it did to the gradient.

    Attributes:
        name: path of the module, or "between A and B" for code between two modules.
        site: its output site; None for code between modules.
        mechanism: "weights", "activation", "normalisation", "pooling", "recurrence", "dropout", "joins",
            "functional" or "container".
        decades: log10 of its backward gain per recorded step, shape `[steps]`. NaN: not measured; -inf: closed branch.
        chain: whether `parts` follow one another, so that their decades add up to this one's.
        parts: the children, in execution order.
        kind: class of the module; for code between modules of the module that would do the same, else the operation.
    """

    name: str
    site: int | None
    mechanism: str
    decades: NDArray[np.float64]
    chain: bool = False
    parts: tuple[Budget, ...] = ()
    kind: str = ""


# Mechanism of functional code, by the first of these that one of its autograd nodes is named after.
_OPERATION_MECHANISMS = {
    "activation": (
        "Tanh",
        "Sigmoid",
        "Relu",
        "Gelu",
        "Silu",
        "Softplus",
        "Elu",
        "Softmax",
        "Hardtanh",
        "Mish",
        "Exp",
    ),
    "normalisation": ("NativeLayerNorm", "NativeBatchNorm", "NativeGroupNorm", "CudnnBatchNorm", "RmsNorm"),
    "pooling": ("Pool", "Mean", "MaxBackward", "Amax"),
    "weights": ("Addmm", "Mm", "Bmm", "Convolution", "Linear"),
    "joins": ("AddBackward", "CatBackward", "StackBackward"),
}


def operation_mechanism(operations: tuple[str, ...]) -> str:
    """The mechanism that a run of autograd nodes stands for; "functional" when none is known."""
    softmax, products = (any(name in each for each in operations) for name in ("Softmax", "Bmm"))
    if (softmax and products) or any("ScaledDotProduct" in operation for operation in operations):
        return "attention"
    for mechanism, names in _OPERATION_MECHANISMS.items():
        if any(name in operation for name in names for operation in operations):
            return mechanism
    return "functional"


# Modules that do what one autograd node does.
_MODULE_OF_OPERATION = {
    "Relu": "ReLU",
    "LeakyRelu": "LeakyReLU",
    "Elu": "ELU",
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Mish": "Mish",
    "Softplus": "Softplus",
    "Tanh": "Tanh",
    "Hardtanh": "Hardtanh",
    "Hardswish": "Hardswish",
    "Sigmoid": "Sigmoid",
    "Hardsigmoid": "Hardsigmoid",
    "LogSigmoid": "LogSigmoid",
}
_RESHAPING = ("View", "UnsafeView", "Reshape", "Transpose", "Permute", "T", "Squeeze", "Unsqueeze", "Clone", "Slice")


def operation_kind(operations: tuple[str, ...]) -> str:
    """The module that code between two modules stands for, e.g. "Sigmoid" for `torch.sigmoid`; else the operation.

    Example:
        >>> operation_kind(("ReluBackward0",)), operation_kind(("MulBackward0", "SigmoidBackward0"))
        ('ReLU', 'Mul, Sigmoid')
    """
    names = [name.partition("Backward")[0] for name in operations]
    names = [name for name in names if name not in _RESHAPING] or names
    return ", ".join(_MODULE_OF_OPERATION.get(name, name) if len(names) == 1 else name for name in names)


def budget(signals: Signals, module: int | None = None) -> Budget | None:
    """The budget of a module (default: the whole model) as a tree of its parts.

    Returns:
        None when no module ran in a recorded step.

    Example:
        >>> from gradscope.store import read_run  # doctest: +SKIP
        >>> for part in budget(Signals(read_run("runs/latest"))).parts:  # doctest: +SKIP
        ...     print(f"{part.name:12} {part.decades[0]:+.2f}")
        layers.0     -0.22
    """
    if module is None:
        if not signals.modules:
            return None
        module = signals.modules[0]
    site = signals.sites[module]
    links = signals.links_in(module)
    chain = _chain(links)
    own = signals.own_gain(module)
    if chain is not None:
        parts = _chain_parts(signals, module, chain)
        measured = [part.decades for part in parts if not np.isnan(part.decades).all()]
        if np.isnan(own).all() and measured:
            own = np.sum(measured, axis=0)
        return Budget(site.name, module, site.mechanism, own, True, tuple(parts), site.kind)
    inside = sorted({end for link in links for end in (link.source, link.target) if end is not None})
    parts = [part for child in inside if (part := budget(signals, child)) is not None]
    mechanism = "joins" if parts else site.mechanism
    if site.mechanism == "container" and not parts and links:
        mechanism = operation_mechanism(tuple(name for link in links for name in link.operations))
    return Budget(site.name, module, mechanism, own, False, tuple(parts), site.kind)


def _chain(links: list[Link]) -> list[Link] | None:
    """The links in order when they lead from the container's input through every child once to its output."""
    follows = {link.source: link for link in links}
    sources, targets = [link.source for link in links], [link.target for link in links]
    inside = {end for end in (*sources, *targets) if end is not None}
    if not inside or len(follows) != len(links) or len(set(targets)) != len(targets):
        return None
    starts = [source for source in sources if source is None or source not in targets]
    if len(starts) != 1:
        return None
    ordered, here = [], starts[0]
    while here in follows:
        link = follows.pop(here)
        ordered.append(link)
        here = link.target
        if here is None:
            break
    visited = {end for link in ordered for end in (link.source, link.target) if end is not None}
    return ordered if not follows and visited == inside else None


def _chain_parts(signals: Signals, container: int, chain: list[Link]) -> list[Budget]:
    """The children of a chain with the code between them, first to last."""
    squares = signals.values("activation_gradient", "sum_squares")

    def at_input(module: int) -> NDArray[np.float64]:
        inputs = list(signals.sites[module].inputs)
        if not inputs:
            return np.full(len(signals.steps), np.nan)
        total: NDArray[np.float64] = np.sqrt(squares[inputs].sum(axis=0))
        return total

    parts: list[Budget] = []
    for number, link in enumerate(chain):
        if number == 0 and link.source is not None and (first := budget(signals, link.source)):
            parts.append(first)  # the data need no gradient: the first child was not reached through a link
        if link.operations:
            before = at_input(container) if link.source is None else np.sqrt(squares[link.source])
            after = np.sqrt(squares[container]) if link.target is None else at_input(link.target)
            ends = [
                "the input" if link.source is None else signals.sites[link.source].name,
                "the output" if link.target is None else signals.sites[link.target].name,
            ]
            name = f"between {ends[0]} and {ends[1]}"
            mechanism, kind = operation_mechanism(link.operations), operation_kind(link.operations)
            parts.append(Budget(name, None, mechanism, decades(before, after), kind=kind))
        if link.target is not None and (part := budget(signals, link.target)):
            parts.append(part)
    return parts


def mechanism_totals(tree: Budget) -> dict[str, NDArray[np.float64]]:
    """Decades by mechanism along the chain of a budget, shape `[steps]` each; they add up to the whole.

    A part where paths branch and join counts as one block, under "joins". Parts that were not measured and closed
    branches count nothing.
    """
    if tree.chain:
        totals: dict[str, NDArray[np.float64]] = {}
        for part in tree.parts:
            for mechanism, amount in mechanism_totals(part).items():
                totals[mechanism] = totals.get(mechanism, np.zeros_like(amount)) + amount
        return totals
    if not np.isfinite(tree.decades).any():
        return {}
    return {tree.mechanism: np.where(np.isfinite(tree.decades), tree.decades, 0.0)}
