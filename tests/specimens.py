"""Models of every kind, each with its batch and loss, and what plain torch says of their gradients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradscope
from tests.trainings import digits


@dataclass(frozen=True)
class Specimen:
    """A model, and the loss of its step number `step`."""

    make: Callable[[], nn.Module]
    loss: Callable[[Any, int], torch.Tensor]
    not_observed: tuple[str, ...] = ()  # what cannot be seen of it


def batch(step: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A few digits: `[size, 64]` and labels `[size]`."""
    images, labels = digits()
    part = slice(step * size, step * size + size)
    return images[part], labels[part]


def classified(model: Any, step: int) -> torch.Tensor:
    """The usual step."""
    images, labels = batch(step)
    return nn.functional.cross_entropy(model(images), labels)


def train(specimen: Specimen, folder: Path | None, steps: int = 3, **options: Any) -> list[torch.Tensor]:
    """Everything that a few steps leave behind, under GradScope when there is a folder for the run."""
    torch.manual_seed(0)
    model = specimen.make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    options = {"every": 1, **options}
    scope = None if folder is None else gradscope.watch(model, optimizer, run_dir=folder, **options)
    trace: list[torch.Tensor] = []
    for step in range(steps):
        loss = specimen.loss(model, step)
        if scope is not None:
            scope.loss(loss)
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        trace += [loss.detach().clone(), *(gradient.clone() for gradient in gradients)]
        optimizer.step()
        optimizer.zero_grad()
    if scope is not None:
        scope.close()
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
    return [*trace, *(value.clone() for value in model.state_dict().values()), torch.get_rng_state()]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """Bit for bit, NaN included."""
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        one, two = (value.to_dense() if value.is_sparse else value for value in (one, two))
        assert one.dtype == two.dtype
        assert torch.equal(one, two)


def gradients_by_torch(
    specimen: Specimen, steps: int = 3, modules: Callable[[str, nn.Module], bool] = lambda path, module: True
) -> dict[str, np.ndarray]:
    """The norm of the gradient at each module's output, step by step, read with plain tensor hooks.

    A module's several calls and tensors join as the root of the sum of squares.
    """
    torch.manual_seed(0)
    model = specimen.make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    squares: dict[str, np.ndarray] = {}
    now = [0]

    def listen(path: str, module: nn.Module) -> None:
        def after(_: nn.Module, __: Any, output: Any) -> None:
            for tensor in every_tensor(output):
                if tensor.requires_grad:
                    tensor.register_hook(add)

        def add(gradient: torch.Tensor) -> None:
            gradient = torch.view_as_real(gradient) if gradient.is_complex() else gradient
            squares.setdefault(path, np.zeros(steps))[now[0]] += float(gradient.double().square().sum())

        module.register_forward_hook(after)

    for path, module in model.named_modules():
        if modules(path, module):
            listen(path, module)
    for step in range(steps):
        now[0] = step
        specimen.loss(model, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {path: np.sqrt(values) for path, values in squares.items()}


def every_tensor(value: Any) -> Iterator[torch.Tensor]:
    """The different tensors of an output."""
    found: list[torch.Tensor] = []

    def look(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            if not any(part is other for other in found):
                found.append(part)
        elif isinstance(part, Mapping):
            for item in part.values():
                look(item)
        elif isinstance(part, (list, tuple)):
            for item in part:
                look(item)
        elif is_dataclass(part) and not isinstance(part, type):
            for field in fields(part):
                look(getattr(part, field.name))

    look(value)
    return iter(found)


# outputs of every shape


class Pair(NamedTuple):
    """A named tuple of tensors."""

    first: torch.Tensor
    second: torch.Tensor


@dataclass
class Output:
    """A dataclass of tensors."""

    logits: torch.Tensor
    extra: dict[str, list[torch.Tensor]]


class Box:
    """A class that nobody has heard of."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Emits(nn.Module):
    """Two layers; what the first gives is wrapped, and unwrapped again for the second."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any], unwrap: Callable[[Any], torch.Tensor]) -> None:
        super().__init__()
        self.inner = Wrapped(wrap)
        self.head = nn.Linear(32, 10)
        self.unwrap = unwrap

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.unwrap(self.inner(x)))


class Wrapped(nn.Module):
    """A layer whose output is not a plain tensor."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 32)
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(torch.tanh(self.linear(x)))


OUTPUTS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[Any], torch.Tensor]]] = {
    "tuple": (lambda x: (x, x * 2), lambda y: y[0] + y[1]),
    "named tuple": (lambda x: Pair(x, x * 2), lambda y: y.first + y.second),
    "list": (lambda x: [x, None, x * 2], lambda y: y[0] + y[2]),
    "dict": (lambda x: {"a": x, "b": {"c": x * 2}}, lambda y: y["a"] + y["b"]["c"]),
    "ordered dict": (lambda x: OrderedDict(a=x, b=(x * 2,)), lambda y: y["a"] + y["b"][0]),
    "dataclass": (lambda x: Output(x, {"more": [x * 2]}), lambda y: y.logits + y.extra["more"][0]),
}


class Keywords(nn.Module):
    """Modules called with keyword arguments alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, *, pixels: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.second(input=torch.tanh(self.first(input=pixels)) * scale)


class Several(nn.Module):
    """One layer that is called three times in a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        for _ in range(3):
            x = torch.tanh(self.again(x))
        return self.head(x)


class Siamese(nn.Module):
    """One tower that sees two images, one after the other or both at once."""

    def __init__(self, at_once: bool = False) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 16))
        self.at_once = at_once

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        both = self.tower(torch.cat([one, two])).chunk(2) if self.at_once else (self.tower(one), self.tower(two))
        return (both[0] - both[1]).square().sum(1)


def contrasted(model: Any, step: int) -> torch.Tensor:
    """A contrastive step."""
    images, labels = batch(step)
    distance = model(images, images.flip(0))
    same = (labels == labels.flip(0)).float()
    return (same * distance + (1 - same) * torch.relu(4 - distance)).mean()


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.mix(self.embed(tokens))))


def tokens(step: int, size: int = 8, length: int = 6, kinds: int = 20) -> torch.Tensor:
    """Sequences that a model can learn: each token is the one before plus three."""
    start = torch.arange(size)[:, None] * 7 + step
    return (start + 3 * torch.arange(length)) % kinds


def next_token(model: Any, step: int) -> torch.Tensor:
    """A language model's step."""
    text = tokens(step)
    return nn.functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


class Attention(nn.Module):
    """Self-attention by torch's module, which calls its output projection as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(8, 16), nn.MultiheadAttention(16, 4, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.view(-1, 8, 8))
        return self.head((x + self.attention(x, x, x)[0]).mean(1))


class Complex(nn.Module):
    """A network with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 32, dtype=torch.complex64)
        self.head = nn.Linear(32, 10, dtype=torch.complex64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.first(x.to(torch.complex64)))).abs()


def half(dtype: torch.dtype) -> Specimen:
    """A network in another precision."""

    def loss(model: Any, step: int) -> torch.Tensor:
        images, labels = batch(step)
        return nn.functional.cross_entropy(model(images.to(dtype)).float(), labels)

    return Specimen(lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).to(dtype), loss)


class Checkpointed(nn.Module):
    """A stack of blocks with dropout, whose activations are kept or made again in the backward."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 32)
        blocks = [nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Dropout(0.2)) for _ in range(3)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(32, 10)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = self._run(block, x)
        return self.head(x)

    def _run(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.how == "kept":
            return block(x)
        if self.how.startswith("nested"):
            reentrant = self.how == "nested reentrant"

            def inner(y: torch.Tensor) -> torch.Tensor:
                return checkpoint(block, y, use_reentrant=reentrant)

            return checkpoint(inner, x, use_reentrant=reentrant)
        return checkpoint(block, x, use_reentrant=self.how == "reentrant")


def penalised(model: Any, step: int) -> torch.Tensor:
    """A critic's step with a gradient penalty (Gulrajani et al. 2017)."""
    real, fake = batch(step)[0], batch(step + 50)[0]
    mixed = (real * 0.3 + fake * 0.7).requires_grad_()
    (slope,) = torch.autograd.grad(model(mixed).sum(), mixed, create_graph=True)
    return model(fake).mean() - model(real).mean() + 10 * (slope.norm(dim=1) - 1).square().mean()


class Cell(nn.Module):
    """A recurrent cell in a loop written by hand."""

    def __init__(self, kind: type[nn.Module] | None) -> None:
        super().__init__()
        self.cell = OwnCell() if kind is None else kind(8, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = None
        for row in x.view(-1, 8, 8).unbind(1):
            hidden = self.cell(row, hidden)
        return self.head(hidden[0] if isinstance(hidden, tuple) else hidden)


class OwnCell(nn.Module):
    """A recurrent cell made of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.remember = nn.Linear(8, 16), nn.Linear(16, 16, bias=False)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        return torch.tanh(self.see(x) + (0 if hidden is None else self.remember(hidden)))
