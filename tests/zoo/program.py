"""What a program of the zoo is: a training, and what may be said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradscope.records import Site
from tests.zoo.data import Task

if TYPE_CHECKING:
    from tests.zoo.train import Session

Where = Callable[[str, Sequence[Site]], bool]  # a path, all layers in the order in which they run


@dataclass
class Training:
    """Things to train, fresh for one seed.

    Attributes:
        loss: outputs and targets -> the loss.
        validates: tests on held-out data now and then, in eval mode, as most loops do.
        options: more for `gradscope.watch`.
        examine: the model's error, where the task does not know how to take it.
    """

    task: Task
    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor]
    batch: Callable[[int], tuple[Tensor, Tensor]]
    steps: int
    loop: Callable[[Training, Session], None]
    validates: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    examine: Callable[[nn.Module], float] | None = None
    schedule: Callable[[int], float] | None = None  # factor on the learning rate at a step
    others: dict[str, Any] = field(default_factory=dict)  # what only the program's own loop needs

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The first optimizer."""
        return self.optimizers[0]


@dataclass(frozen=True)
class Blame:
    """What may be said of a sick program: any of these is right.

    Attributes:
        rules: which may lead.
        causes: which may come first; none: the design has no id for it.
        layers: where the leading finding may point first; None: no layer is to blame.
        remedies: which cure it; none: the design has no id for one.
    """

    rules: frozenset[str] = frozenset()
    causes: frozenset[str] = frozenset()
    layers: Where | None = None
    remedies: frozenset[str] = frozenset()

    def at(self, layers: Where | None) -> Blame:
        """The same elsewhere."""
        return replace(self, layers=layers)

    def __or__(self, other: Blame) -> Blame:
        return Blame(
            self.rules | other.rules,
            self.causes | other.causes,
            self.layers or other.layers,
            self.remedies | other.remedies,
        )


def blame(rules: str, causes: str, remedies: str, layers: Where | None = None) -> Blame:
    """A `Blame` from words: `blame("vanishing-gradient", "init-too-small", "initialization")`."""
    return Blame(frozenset(rules.split()), frozenset(causes.split()), layers, frozenset(remedies.split()))


@dataclass(frozen=True)
class Program:
    """A training of the zoo.

    Attributes:
        id: its first letter is the group.
        build: makes it anew; torch's random numbers are seeded before.
        blame: what may be said; None: it is healthy.
        twin: id of the healthy program that it is compared with.
        certain: sick by construction, however well the numbers look in the end: it is not compared.
        fast: part of `make test`.
    """

    id: str
    title: str
    build: Callable[[int], Training]
    blame: Blame | None = None
    twin: str = ""
    certain: bool = False
    fast: bool = False

    @property
    def sick(self) -> bool:
        """Whether something should be found."""
        return self.blame is not None

    @property
    def group(self) -> str:
        """S: the basics, C: AutoTrainer's networks, D: one line changed, H: healthy controls."""
        return self.id[0]


# Where a finding may point first.


def first(count: int) -> Where:
    """One of the first layers, or a module that holds one."""
    return lambda path, layers: any(_meets(path, layer.path) for layer in layers[:count])


def last(count: int) -> Where:
    """One of the last layers, or a module that holds one."""
    return lambda path, layers: any(_meets(path, layer.path) for layer in layers[-count:])


def among(*names: str) -> Where:
    """One of these modules, or a part of one."""
    return lambda path, layers: any(_within(path, name) for name in names)


def of_kind(*words: str) -> Where:
    """A layer whose class has one of these words in its name, or a module that holds one."""

    def right(path: str, layers: Sequence[Site]) -> bool:
        return any(_meets(path, layer.path) for layer in layers if any(word in layer.kind for word in words))

    return right


def first_half(path: str, layers: Sequence[Site]) -> bool:
    """A layer in the first half of the network."""
    return first(max((len(layers) + 1) // 2, 1))(path, layers)


def hidden(path: str, layers: Sequence[Site]) -> bool:
    """Any layer but the last ones, from the head on."""
    heads = [number for number, layer in enumerate(layers) if layer.kind in ("Linear", "Conv2d")]
    return any(_meets(path, layer.path) for layer in layers[: heads[-1]]) if heads else path != ""


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _meets(path: str, layer: str) -> bool:
    return _within(path, layer) or (path != "" and layer.startswith(f"{path}."))
