"""The loss scale of mixed precision: what gradients are divided by before they are judged, and skipped steps."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from gradscope.recorder.private import scale_of
from gradscope.records import NotObserved
from gradscope.stats import HostNumber


class LossScale:
    """Where the loss scale of a step comes from, the surest first: the scaler, a fused optimizer, the loss.

    A `GradScaler` counts its updates in the version of its scale's tensor, so that a step that it skipped (no hook of
    the optimizer is called then) is known without waiting for a device.

    Args:
        scaler: a `torch.amp.GradScaler`, if the user named it.
    """

    def __init__(self, scaler: Any = None) -> None:
        self._scaler = None if scaler is None else weakref.ref(scaler)
        self.unknown = False  # a half precision training whose scale no source tells
        self.reset()

    def reset(self) -> None:
        """Begins a step."""
        self._mark = -1  # updates of the scaler before this step's
        self.number: HostNumber | None = None
        self.found_inf: HostNumber | None = None  # of a fused optimizer: not 0 when it skips the step
        self._suspected = False

    def _scale(self) -> torch.Tensor | None:
        return None if self._scaler is None else scale_of(self._scaler())

    def mark(self) -> None:
        """Notes that the scaler's next update belongs to this step."""
        scale = self._scale()
        if scale is not None and self._mark < 0:
            self._mark = scale._version

    def skipped(self) -> bool:
        """Whether the scaler was updated since `mark`: asked when no optimizer has stepped, it skipped the step."""
        scale = self._scale()
        return scale is not None and 0 <= self._mark < scale._version

    def forward(self, device: str) -> None:
        """Notes in what precision a forward pass runs."""
        if self._scaler is None and torch.is_autocast_enabled(device):
            self._suspected |= torch.get_autocast_dtype(device) is torch.float16

    def backward(self) -> None:
        """Takes the scaler's scale after a backward pass."""
        scale = self._scale()
        if scale is not None:
            self.number = HostNumber(scale)

    def at_loss(self, gradient: torch.Tensor) -> None:
        """Takes the gradient at the loss that the user handed over. Below 1 it is gradient accumulation's share."""
        if self._scaler is None and self.number is None and gradient.numel() == 1:
            self.number = HostNumber(gradient.detach().clamp(min=1.0))

    def before_update(self, optimizer: torch.optim.Optimizer) -> bool:
        """Takes what a fused optimizer was handed by a scaler; says whether its gradients are still scaled."""
        scale, found = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        if isinstance(found, torch.Tensor):
            self.found_inf = HostNumber(found)
        if isinstance(scale, torch.Tensor):
            self.number = HostNumber(scale)
        return isinstance(scale, torch.Tensor)

    def closed(self) -> None:
        """Notes, at the end of a recorded step, whether a scale was to be expected and no source told it."""
        self.unknown |= self._suspected and self.number is None

    def not_observed(self) -> list[NotObserved]:
        """What cannot be told because the scale is not known."""
        if not self.unknown:
            return []
        why = "the loss scale of a float16 training is not known; hand watch() its scaler, or the loss to scope.loss"
        return [NotObserved("the size of gradients", why)]
