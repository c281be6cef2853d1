"""What the user hands over, as one batch that can be run, doubled, and of which one sample can be replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gradscope.errors import UnusableSample
from gradscope.recorder.tensors import tensors_in

NOTHING: Any = object()  # no target: None may be one


@dataclass(frozen=True)
class Batch:
    """Arguments of the model, and what its output is compared with.

    Attributes:
        arguments, keywords: of the model's forward.
        target: `NOTHING` where the criterion is given the output alone, or the model computes its loss itself.
    """

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    target: Any = NOTHING

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        return Batch(*(mapped(part, change) for part in (self.arguments, self.keywords, self.target)))

    def copied(self) -> Batch:
        """The batch with tensors of its own: a model may write on what it is given."""
        return self.mapped(lambda t: t.detach().clone().requires_grad_(t.requires_grad))

    def on(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return self.mapped(lambda t: t if t.device == device else t.detach().to(device))

    def inputs(self) -> list[Tensor]:
        """The tensors that the model is given, those with samples in them first."""
        return list(tensors_in((self.arguments, self.keywords)))

    def size(self, dimension: int) -> int:
        """How many samples it has, which lie along this dimension; 0 when nothing shows it."""
        return next((t.shape[dimension] for t in self.inputs() if t.dim() > dimension), 0)

    def twice(self, dimension: int) -> Batch:
        """The batch with every sample in it once more."""
        size = self.size(dimension)

        def doubled(tensor: Tensor) -> Tensor:
            along = samples_along(tensor, size, dimension)
            return tensor if along is None else torch.cat([tensor, tensor], along)

        return self.mapped(doubled)

    def with_other(self, place: int, dimension: int) -> Batch | None:
        """The batch with another sample's inputs at a place, so that whatever is there stays possible.

        Returns:
            None when all samples are the same and no number in them can be changed.
        """
        size = self.size(dimension)
        parts = [t for t in self.inputs() if samples_along(t, size, dimension) is not None]
        for other in (each for each in range(size) if each != place):
            if any(not torch.equal(t.select(dimension, place), t.select(dimension, other)) for t in parts):
                return self._inputs_mapped(lambda t, other=other: _put(t, place, other, size, dimension))  # type: ignore[misc]
        if not any(t.is_floating_point() for t in parts):
            return None
        return self._inputs_mapped(lambda t: _moved(t, place, size, dimension))

    def _inputs_mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(self, arguments=mapped(self.arguments, change), keywords=mapped(self.keywords, change))


def samples_along(tensor: Tensor, size: int, dimension: int) -> int | None:
    """The dimension along which a tensor holds that many samples; None: it holds something else."""
    places = dict.fromkeys((dimension, 0))
    return next((each for each in places if tensor.dim() > each and tensor.shape[each] == size), None)


def _put(tensor: Tensor, place: int, other: int, size: int, dimension: int) -> Tensor:
    if samples_along(tensor, size, dimension) != dimension:
        return tensor
    made = tensor.detach().clone()
    made.select(dimension, place).copy_(tensor.detach().select(dimension, other))
    return made


def _moved(tensor: Tensor, place: int, size: int, dimension: int) -> Tensor:
    if samples_along(tensor, size, dimension) != dimension or not tensor.is_floating_point():
        return tensor
    made = tensor.detach().clone()
    made.select(dimension, place).mul_(1.5).add_(0.5)
    return made


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested containers with every tensor changed; everything else as it is.

    Example:
        >>> mapped({"a": [torch.zeros(1), "text"]}, lambda t: t + 1)
        {'a': [tensor([1.]), 'text']}
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        made = {name: mapped(item, change) for name, item in value.items()}
        return made if type(value) is dict or not hasattr(value, "copy") else _filled(value.copy(), made)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(item, change) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(item, change) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            each.name: mapped(getattr(value, each.name), change) for each in dataclasses.fields(value) if each.init
        }
        return replace(value, **fields)
    return value


def _filled(mapping: Any, items: dict[str, Any]) -> Any:
    for name, item in items.items():
        mapping[name] = item
    return mapping


def batch_of(sample: Any, target: Any, *, has_criterion: bool, whole: bool) -> Batch:
    """What the user handed over as a batch.

    Args:
        sample: a tensor; a tuple or list; a dict of keyword arguments.
        target: its target; with a dict, the name of one of its entries; `NOTHING`: the last of a tuple, with a criterion.
        has_criterion: whether the output is compared with a target.
        whole: whether the user's own function takes the sample as it is.

    Raises:
        UnusableSample: there are no tensors in it, or no entry of that name.

    Example:
        >>> batch = batch_of((torch.zeros(2, 3), torch.ones(2)), NOTHING, has_criterion=True, whole=False)
        >>> len(batch.arguments), batch.target
        (1, tensor([1., 1.]))
    """
    if not any(True for _ in tensors_in(sample)):
        raise UnusableSample(
            "sample= expected a tensor, a tuple such as (inputs, targets), a dict of keyword arguments or a DataLoader "
            f"with tensors in it; it got {type(sample).__name__}."
        )
    if whole:
        return Batch((sample,))
    if isinstance(sample, Mapping):
        if isinstance(target, str):
            if target not in sample:
                raise UnusableSample(f"target= names no entry of the sample; it has {', '.join(map(str, sample))}.")
            rest = {name: item for name, item in sample.items() if name != target}
            return Batch((), rest, sample[target])
        return Batch((), dict(sample.items()), target)
    if isinstance(sample, (tuple, list)):
        if target is NOTHING and has_criterion and len(sample) > 1:
            return Batch(tuple(sample[:-1]), {}, sample[-1])
        return Batch(tuple(sample), {}, target)
    return Batch((sample,), {}, target)


def is_loader(sample: Any) -> bool:
    """Whether something gives batches, rather than being one."""
    return isinstance(sample, DataLoader) or (
        not isinstance(sample, (Tensor, Mapping, tuple, list)) and hasattr(sample, "__iter__")
    )


def batches(loader: Any) -> Iterator[Any]:
    """The batches of a loader, over and over.

    Raises:
        UnusableSample: it gives none.
    """
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise UnusableSample("the loader gives no batch; it is empty, or has been read to its end already.")


def generators_of(loader: Any) -> list[torch.Generator]:
    """The random generators that a loader draws from."""
    holders = (loader, *(getattr(loader, name, None) for name in ("sampler", "batch_sampler", "dataset")))
    holders = (*holders, getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())
