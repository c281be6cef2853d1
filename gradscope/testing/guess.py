"""What the best constant output would cost on one batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradscope.records import LossPath

_IGNORED = -100  # a label that torch's cross-entropy leaves out


def constant_guess(path: LossPath | None, target: object) -> float:
    """The loss of the best constant output on one batch; NaN where it is not known.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1])
        >>> round(constant_guess(LossPath(kind="cross-entropy", reduction="mean", classes=2), labels), 4)
        0.5623
    """
    if path is None or not isinstance(target, Tensor) or not target.numel() or path.reduction not in ("mean", "sum"):
        return math.nan
    values = target.detach().double()
    if path.kind in ("cross-entropy", "nll") and not target.is_floating_point():
        values = values[(values != _IGNORED) & (values >= 0)]
        shares = torch.unique(values, return_counts=True)[1].double() / max(values.numel(), 1)
        cost = -(shares * shares.log()).sum()
    elif path.kind.startswith("binary-cross-entropy"):
        share = values.mean(0).clamp(1e-12, 1 - 1e-12)
        cost = -(share * share.log() + (1 - share) * (1 - share).log()).mean()
    elif path.kind == "squared-error":
        cost = values.var(0, correction=0).mean()
    elif path.kind == "absolute-error":
        cost = (values - values.median(0, keepdim=True).values).abs().mean()
    else:
        return math.nan
    return float(cost) * (values.numel() if path.reduction == "sum" else 1)
