"""Whether one sample's output depends on another sample of the batch.

A sample is replaced by another one, and the outputs of all others are compared. That works where a gradient from one
sample to another's output says nothing: on tokens, through argmax, through a mean that was detached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.recorder.tensors import tensors_in
from gradscope.records import Evidence
from gradscope.testing.answers import Answer
from gradscope.testing.sample import Batch, samples_along
from gradscope.testing.subject import Twin

INDEPENDENT = "batch-independence"
LEAKS = 1e-4  # of the change at the replaced sample's own output; rounding gives 1e-6, a real mix 1e-2 and more
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_independence(twin: Twin, batch: Batch, dimension: int, restart: Callable[[], None]) -> Answer:
    """Replaces a sample and looks at the outputs of all others, in eval mode.

    Args:
        twin: is put into eval mode, where BatchNorm does not take its numbers from the batch.
        batch: of two samples or more.
        dimension: along which samples lie.
        restart: sets the random numbers back before every pass, for models that draw some.
    """
    twin.model.eval()
    call = _first_call(twin, batch)
    first = _run(twin.model, call, restart)
    norms = [module for module in twin.model.modules() if isinstance(module, _NORMS)]
    size = call.size(dimension)
    if size < 2:
        return Answer(INDEPENDENT, "not-applicable", "the batch has one sample: hand over two or more")
    if any(norm.running_mean is None for norm in norms):
        why = "BatchNorm without running statistics mixes samples by design, in eval mode too"
        return Answer(INDEPENDENT, "not-applicable", why)
    outputs = [t for t in tensors_in(first) if samples_along(t, size, dimension) is not None and t.is_floating_point()]
    if not outputs:
        return Answer(INDEPENDENT, "not-applicable", f"no output has an entry for each of the {size} samples")
    worst, place, to = 0.0, 0, 0
    again = _run(twin.model, call, restart)
    if any(not torch.equal(a, b) for a, b in zip(tensors_in(first), tensors_in(again), strict=False)):
        return Answer(INDEPENDENT, "not-applicable", "the model gives another output each time, in eval mode too")
    for place_now in dict.fromkeys((0, size // 2)):
        other = call.with_other(place_now, dimension)
        if other is None:
            return Answer(INDEPENDENT, "not-applicable", "all samples of the batch are the same")
        changed = _run(twin.model, other, restart)
        share, where = _leak(list(tensors_in(first)), list(tensors_in(changed)), place_now, size, dimension)
        if share > worst:
            worst, place, to = share, place_now, where
    said = "change of another sample's output over that of the replaced sample's own"
    evidence = (Evidence(said, worst, "", LEAKS, "0"),)
    if worst <= LEAKS:
        but = "; BatchNorm mixes them in training mode, by design" if norms else ""
        return Answer(INDEPENDENT, "passed", f"replacing a sample changes no other sample's output{but}", evidence)
    message = f"sample {to} of the output changes when sample {place} of the input is replaced"
    return Answer(
        INDEPENDENT, "failed", message, evidence, _suspects(twin.model), advice=_advice(twin.model, dimension)
    )


def _first_call(twin: Twin, batch: Batch) -> Batch:
    """What the model is given first."""
    calls: list[Batch] = []

    def note(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        calls.append(Batch(arguments, keywords).copied())  # before the model writes on it

    handle = twin.model.register_forward_pre_hook(note, with_kwargs=True)
    twin.run(batch)
    handle.remove()
    return calls[0]


def _run(model: nn.Module, call: Batch, restart: Callable[[], None]) -> Any:
    restart()
    given = call.copied()
    return model(*given.arguments, **given.keywords)  # with gradients: a model may take some of its own output


def _leak(before: list[Tensor], after: list[Tensor], place: int, size: int, dimension: int) -> tuple[float, int]:
    """The largest change of another sample's output over that of the sample's own, and which sample that is."""
    change = torch.zeros(size, dtype=torch.float64)
    for old, new in zip(before, after, strict=False):
        along = samples_along(old, size, dimension)
        if along is None or not old.is_floating_point() or old.shape != new.shape:
            continue
        moved = (new.detach().double() - old.detach().double()).movedim(along, 0).reshape(size, -1).abs()
        if moved.shape[1]:
            change = torch.maximum(change, moved.nan_to_num().amax(1).cpu())
    own = float(change[place])
    change[place] = 0.0
    largest = float(change.max())
    if largest == 0:
        return 0.0, place
    return largest / own if own > 0 else float("inf"), int(change.argmax())


def _sequence_first(model: nn.Module) -> list[str]:
    """Modules that take their samples along the second dimension."""
    return [
        name or "(model)"
        for name, module in model.named_modules()
        if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and not module.batch_first
    ]


def _suspects(model: nn.Module) -> tuple[str, ...]:
    return tuple(_sequence_first(model))


def _advice(model: nn.Module, dimension: int) -> str:
    names = _sequence_first(model)
    if names and dimension == 0:
        return (
            f"{names[0]} has batch_first=False, so that it takes the batch for time: use batch_first=True. "
            "If samples do lie along the second dimension, say batch_dimension=1"
        )
    return "look at view, reshape and transpose: view keeps the order in memory, and permute is what swaps dimensions"
