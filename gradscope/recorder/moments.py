"""What an optimizer keeps of earlier gradients, as it is before a step: its moments, and the gradient over their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gradscope.recorder.shards import local
from gradscope.stats import Sample, take_sample

# Of Adam and its kin; of SGD with momentum (RMSprop's buffer of that name holds steps, not gradients).
_FIRST = ("exp_avg", "momentum_buffer")
# Of Adam and its kin, of RMSprop, of Adagrad.
_SECOND = ("exp_avg_sq", "square_avg", "sum")


class Moments(NamedTuple):
    """Fixed samples of a parameter's moments, shape `[sample]` each; None where the optimizer has none."""

    first: Sample | None = None
    second: Sample | None = None
    unbiased: Any = None  # dividing `second` by it gives a mean square: a number or a tensor; None: `second` is no mean


def read_moments(state: Mapping[str, Any] | None, group: Mapping[str, Any], parameter: torch.Tensor) -> Moments:
    """Reads the moments of one parameter; none before its first step.

    Args:
        state: the optimizer's, of this parameter.
        group: the parameter group that it is in.
        parameter: its shape tells moments from other state.
    """
    if not state:
        return Moments()
    second = next((name for name in _SECOND if _is_like(state.get(name), parameter)), None)
    first = next((name for name in _FIRST if _is_like(state.get(name), parameter)), None)
    if first == "momentum_buffer" and second is not None:
        first = None
    return Moments(
        None if first is None else take_sample(local(state[first])),
        None if second is None else take_sample(local(state[second])),
        _correction(second, state.get("step"), group),
    )


def _is_like(value: Any, parameter: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.layout is torch.strided


def _correction(second: str | None, step: Any, group: Mapping[str, Any]) -> Any:
    """1 - β2^t after t steps; on a device a tensor, which nobody waits for."""
    beta = {"exp_avg_sq": group.get("betas", (None, None))[1], "square_avg": group.get("alpha")}.get(second or "")
    if beta is None or step is None:
        return None
    if any(isinstance(number, torch.Tensor) and not number.is_cpu for number in (beta, step)):
        return 1.0 - beta**step
    return 1.0 - float(beta) ** float(step) or None


def normalised(gradient: Sample, moments: Moments) -> Sample | None:
    """Gradient / √v with v unbiased, shape `[sample]`; 0 where v is 0, None without such a v."""
    second, unbiased = moments.second, moments.unbiased
    if second is None or unbiased is None or len(second) != len(gradient):
        return None
    if isinstance(second, torch.Tensor):
        over = torch.as_tensor(gradient) / second.sqrt() * unbiased**0.5
        return torch.where(second > 0, over, 0.0)
    with np.errstate(all="ignore"):  # in the samples' own precision: √v cannot underflow
        ratio: NDArray[Any] = np.asarray(gradient) / np.sqrt(second) * second.dtype.type(unbiased**0.5)
    ratio[second == 0] = 0
    return ratio


def weighted(update: Sample, moments: Moments) -> Sample | None:
    """Update times √v with v unbiased, shape `[sample]`: the metric in which Adam goes down. None without such a v."""
    second, unbiased = moments.second, moments.unbiased
    if second is None or unbiased is None or len(second) != len(update):
        return None
    if isinstance(second, torch.Tensor):
        on_device: torch.Tensor = torch.as_tensor(update) * second.sqrt() / unbiased**0.5
        return on_device
    with np.errstate(all="ignore"):
        product: NDArray[Any] = np.asarray(update) * np.sqrt(second) / second.dtype.type(unbiased**0.5)
    return product
