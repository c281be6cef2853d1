"""Which of the watched models a tensor is the loss of, on which `backward` is called."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import torch

_MOST_NODES = 200_000


def reached(loss: torch.Tensor) -> set[int]:
    """The ids of the leaves whose gradient a backward from here would reach, read from the autograd graph."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [loss.grad_fn]
    while waiting and len(seen) < _MOST_NODES:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.add(id(leaf))
        waiting += [following for following, _ in node.next_functions]
    return leaves


class Objectives:
    """Learns from where `backward` is called, and from which optimizers step behind it, whose loss it is.

    A graph may reach a model that the loss does not train: a GAN's generator loss runs through the discriminator. It is
    given to the models whose optimizers were seen to step after a call from these lines, once any was.
    """

    def __init__(self) -> None:
        self._reached: dict[Hashable, tuple[int, ...]] = {}  # way to a call of backward -> models
        self._trained: dict[Hashable, set[int]] = {}
        self._since: list[Hashable] = []  # calls of backward since the last steps
        self._stepped = False

    def forget(self) -> None:
        """Forgets everything: there is another model."""
        self.__init__()  # type: ignore[misc]

    def of(self, loss: torch.Tensor, way: Hashable, models: Mapping[int, Collection[int]]) -> tuple[int, ...]:
        """The models, by their numbers, that a loss belongs to.

        Args:
            loss: that `backward` is called on.
            way: the lines that lead to the call.
            models: the ids of each one's parameters.
        """
        if way not in self._reached:
            leaves = reached(loss)
            found = tuple(number for number, parameters in models.items() if not leaves.isdisjoint(parameters))
            # a graph may end before its parameters, in a reentrant checkpoint
            self._reached[way] = found if found or leaves else tuple(models)
        if self._stepped:
            self._stepped = False
            self._since.clear()
        if way not in self._since:
            self._since.append(way)
        found = self._reached[way]
        trained = tuple(number for number in found if number in self._trained.get(way, ()))
        return trained or found

    def is_sure(self, way: Hashable) -> bool:
        """Whether it is known which models the losses from there belong to: those that they reach may be more."""
        return len(self._reached.get(way, ())) == 1 or bool(self._trained.get(way))

    def stepped(self, model: int) -> None:
        """Notes that an optimizer of a model stepped."""
        self._stepped = True
        for way in self._since:
            self._trained.setdefault(way, set()).add(model)
