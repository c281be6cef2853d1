"""The model's trunk: what the gradient passes, one after the other, between the model's output and its first layer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gradscope.records import Link
from gradscope.signals.budget import Budget, budget, operation_kind, operation_mechanism
from gradscope.signals.series import Signals, decades


@dataclass(frozen=True)
class Stretch:
    """One piece of the trunk: a layer, code between two modules, or a block in which ways part and join.

    Attributes:
        part: what it is and what it did to the gradient.
        inside: names of the containers that hold it, the outermost below the model first.
        operations: autograd nodes of code between modules, the last one first.
    """

    part: Budget
    inside: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()

    @property
    def is_block(self) -> bool:
        """Whether ways part and join in it, so that it is measured as one."""
        return self.part.mechanism == "joins" and not self.operations


@dataclass(frozen=True)
class Trunk:
    """The pieces behind the first layer, up to the head, in execution order.

    Attributes:
        first: the first layer whose gradient was recorded; None where there is none.
        head: the model's output, the last of several; None where none was found.
        stretches: what lies between the first layer's output and the head's.
    """

    first: int | None
    head: int | None
    stretches: tuple[Stretch, ...]


def trunk(signals: Signals) -> Trunk:
    """The trunk of a run's model. Its decades add up to the first layer's backward gain, pooling included.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> found = trunk(Signals(run({"a": 1e-3, "s": 1e-2, "b": 1.0}, kinds={"s": "Sigmoid"})))
        >>> [(each.part.name, round(float(each.part.decades[0]), 3)) for each in found.stretches]
        [('s', -1.0), ('b', -2.0)]
    """
    seen = np.asarray(~np.isnan(signals.values("activation_gradient", "count")).all(axis=1))
    first = next((i for i in signals.layers if seen[i]), None)
    head = max((i for i in signals.run.info.heads), key=lambda i: signals.sites[i].order, default=None)
    tree = budget(signals)
    if tree is None or first is None or head is None:
        return Trunk(first, head, ())
    found = _Walk(signals, first, head).stretches(tree, ())
    places = [each.part.site for each in found]
    start = places.index(first) + 1 if first in places else 0
    stop = places.index(head) + 1 if head in places else len(places)
    return Trunk(first, head, tuple(found[start:stop]))


def pieces(signals: Signals, part: Budget) -> list[Stretch]:
    """The pieces of one part of a budget, as far as they follow one another."""
    return _Walk(signals, None, None).stretches(part, ())


class _Walk:
    """Lays the tree of a budget out, from the first layer to the head."""

    def __init__(self, signals: Signals, first: int | None, head: int | None) -> None:
        self.signals, self.first, self.head = signals, first, head
        self.squares = signals.values("activation_gradient", "sum_squares")

    def stretches(self, part: Budget, inside: tuple[str, ...]) -> list[Stretch]:
        """The pieces of one part; of a block only when the first layer or the head is in it."""
        below = (*inside, part.name) if part.site is not None and self.signals.sites[part.site].path else inside
        if part.chain and part.site is not None:
            links = {_ends(self.signals, link): link.operations for link in self.signals.links_in(part.site)}
            found = []
            for each in part.parts:
                if each.site is None:
                    found.append(Stretch(each, below, links.get(each.name, ())))
                else:
                    found += self.stretches(each, below)
            return found
        if part.parts and part.site is not None and any(self._holds(part.site, end) for end in (self.first, self.head)):
            return self._cut(part, part.site, below)
        return [Stretch(part, inside)]

    def _holds(self, container: int, module: int | None) -> bool:
        if module is None:
            return False
        path = self.signals.sites[container].path
        return not path or self.signals.sites[module].path.startswith(f"{path}.")

    def _cut(self, part: Budget, container: int, inside: tuple[str, ...]) -> list[Stretch]:
        """A container whose ways part and join, cut where all ways go through one module."""
        links, children = self.signals.links_in(container), {each.site: each for each in part.parts}
        start = next((i for i in children if i is not None and self._on(i, self.first)), None)
        end = next((i for i in children if i is not None and self._on(i, self.head)), None)
        if start is not None and start == end:
            return self.stretches(children[start], inside)
        passed = [start, *_passed_by_all(self.signals, links, start, end), end]
        found: list[Stretch] = []
        for place, (before, after) in enumerate(pairwise(passed)):
            if place == 0 and before is not None:
                found += self.stretches(children[before], inside)
            found += self._between(part, container, before, after, inside)
            if after is not None:
                found += self.stretches(children[after], inside)
        return found

    def _on(self, child: int, module: int | None) -> bool:
        return child == module or self._holds(child, module)

    def _between(
        self, part: Budget, container: int, before: int | None, after: int | None, inside: tuple[str, ...]
    ) -> list[Stretch]:
        """What lies between two modules that all ways go through: nothing, code, or a block of its own."""
        links = self.signals.links_in(container)
        direct = [link for link in links if link.source == before]
        alone = len(direct) == 1 and direct[0].target == after
        if alone and not direct[0].operations:
            return []
        over = self._at_input(container) if before is None else np.sqrt(self.squares[before])
        under = np.sqrt(self.squares[container]) if after is None else self._at_input(after)
        name = _between_name(self.signals, before, after)
        if alone:
            operations = direct[0].operations
            code = Budget(
                name,
                None,
                operation_mechanism(operations),
                decades(over, under),
                kind=operation_kind(operations),
            )
            return [Stretch(code, inside, operations)]
        first, last = (self.signals.sites[i].order if i is not None else None for i in (before, after))
        held = tuple(
            each
            for each in part.parts
            if each.site is not None
            and (first is None or self.signals.sites[each.site].order > first)
            and (last is None or self.signals.sites[each.site].order < last)
        )
        return [
            Stretch(Budget(name, None, "joins", decades(over, under), False, held, "ways that part and join"), inside)
        ]

    def _at_input(self, module: int) -> NDArray[np.float64]:
        inputs = list(self.signals.sites[module].inputs)
        if not inputs:
            return np.full(len(self.signals.steps), np.nan)
        total: NDArray[np.float64] = np.sqrt(self.squares[inputs].sum(axis=0))
        return total


def _between_name(signals: Signals, before: int | None, after: int | None) -> str:
    names = [
        "the input" if before is None else signals.sites[before].name,
        "the output" if after is None else signals.sites[after].name,
    ]
    return f"between {names[0]} and {names[1]}"


def _ends(signals: Signals, link: Link) -> str:
    return _between_name(signals, link.source, link.target)


def _passed_by_all(signals: Signals, links: list[Link], start: int | None, end: int | None) -> list[int]:
    """The modules that every way from start to end goes through, in execution order, the two ends left out.

    In execution order no link may lead over such a module, from one before it to one behind it.
    """
    ways = [(link.source, link.target) for link in links if (link.source, link.target) != (None, None)]
    ahead = _reached(start, [*ways])
    back = _reached(end, [(target, source) for source, target in ways])
    inner = sorted((ahead & back) - {start, end} - {None}, key=lambda i: signals.sites[i].order if i is not None else 0)
    place: dict[int | None, int] = {module: number for number, module in enumerate(inner, 1)}
    place_of_start, place_of_end = 0, len(inner) + 1
    over = np.zeros(len(inner) + 3, np.int64)
    for link in links:
        source = place_of_start if link.source == start else place.get(link.source)
        target = place_of_end if link.target == end else place.get(link.target)
        if source is None or target is None:
            continue
        low, high = (source + 1, target) if source < target else (target, source + 1)  # back: around in a circle
        if low < high:
            over[low] += 1
            over[high] -= 1
    free = np.cumsum(over)[1 : len(inner) + 1] == 0
    return [module for module, is_free in zip(inner, free, strict=True) if is_free and module is not None]


def _reached(start: int | None, ways: list[tuple[int | None, int | None]]) -> set[int | None]:
    into: dict[int | None, list[int | None]] = {}
    for source, target in ways:
        into.setdefault(source, []).append(target)
    found, waiting = {start}, [start]
    while waiting:
        for target in into.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found
