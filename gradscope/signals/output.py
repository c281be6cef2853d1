"""The output side of a run: what the head's output goes through before it is compared with targets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.records import LossPath
from gradscope.signals.series import Signals

# What changes no number, or picks some of them.
_RESHAPES = frozenset(
    {
        *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Alias", "Clone", "ToCopy", "Select", "Slice"),
        *("Transpose", "T", "Permute", "Expand", "Split", "Unbind", "Narrow", "Contiguous", "Stack", "Cat", "Gather"),
        *("Index", "MaskedSelect", "IndexSelect", "Detach"),
    }
)
# Where outputs meet targets, or are made ready for it: all before the first of these was done to the output itself.
_MEETING = frozenset(
    {
        *("LogSoftmax", "Logsumexp", "Log", "NllLoss", "NllLoss2D", "NllLossNd", "BinaryCrossEntropy", "KlDiv"),
        *("BinaryCrossEntropyWithLogits", "MseLoss", "HuberLoss", "SmoothL1Loss", "Sub", "LogSigmoid", "Rsub"),
        *("SoftMarginLoss", "MultiMarginLoss", "MultilabelMarginLoss"),
    }
)
# The numbers that an activation can give.
RANGES = {
    "Sigmoid": (0.0, 1.0),
    "Hardsigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Hardtanh": (-1.0, 1.0),
    "Relu": (0.0, math.inf),
    "Softplus": (0.0, math.inf),
}
NAMES = {"Relu": "ReLU", "Softmax": "softmax", "Sigmoid": "sigmoid", "Tanh": "tanh", "": "no activation"}


@dataclass(frozen=True)
class OutputSide:
    """What lies between the head and the loss.

    Attributes:
        path: as it was recorded.
        names: the operations without reshapes and without what autograd adds, the head's end first.
        before: those of `names` that were done to the output itself.
        last: the activation whose result the loss is given, "" where there is none or something came after it.
        layers: the head's path, then those of the modules behind it.
    """

    path: LossPath
    names: tuple[str, ...]
    before: tuple[str, ...]
    last: str
    layers: tuple[str, ...]

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and highest number that the loss can be given."""
        return RANGES.get(self.last, (-math.inf, math.inf))


def output_side(signals: Signals) -> OutputSide | None:
    """Reads the way from the head to the loss; None when it was not seen."""
    info = signals.run.info
    if info.loss_path is None or not info.heads:
        return None
    names = [re.sub(r"Backward\d*$", "", operation) for operation in info.loss_path.operations]
    names = [name for name in names if name not in _RESHAPES]
    meeting = next((place for place, name in enumerate(names) if name in _MEETING), len(names))
    before = [name for name in names[:meeting] if name not in ("Clamp", "ClampMin", "ClampMax")]
    last = before[-1] if before and before[-1] in RANGES else ""
    head = max(info.heads, key=lambda site: signals.sites[site].order)
    behind = [i for i in signals.layers if signals.sites[i].order > signals.sites[head].order]
    layers = dict.fromkeys(signals.sites[i].path for i in (head, *(i for i in behind if _is_activation(signals, i))))
    return OutputSide(info.loss_path, tuple(names), tuple(before), last, tuple(layers))


def _is_activation(signals: Signals, site: int) -> bool:
    return signals.sites[site].mechanism == "activation"


@dataclass(frozen=True)
class Asked:
    """What the targets ask for, over all recorded steps."""

    lowest: float
    highest: float
    mean: float
    rms: float

    @property
    def deviation(self) -> float:
        """Their standard deviation."""
        return math.sqrt(max(self.rms**2 - self.mean**2, 0.0))


def asked(signals: Signals, role: str = "target") -> Asked | None:
    """The range and size of the targets, or of what the model is fed (role "input"); None when it was not seen."""
    site = next((i for i, site in enumerate(signals.sites) if site.path == "" and site.role == role), None)
    if site is None:
        return None
    fields: dict[str, NDArray[np.float64]] = {}
    for name in ("count", "sample_size", "sum", "sum_squares", "minimum", "maximum"):
        fields[name] = signals.values("activation", name)[site]
    seen = np.isfinite(fields["sum_squares"]) & (fields["count"] > 0) & np.isfinite(fields["sum"])
    if not seen.any():
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        count = fields["count"][seen].sum()
        mean = float(fields["sum"][seen].sum() / count)
        rms = float(np.sqrt(fields["sum_squares"][seen].sum() / count))
        lowest, highest = float(fields["minimum"][seen].min()), float(fields["maximum"][seen].max())
    if not all(map(math.isfinite, (mean, rms, lowest, highest))):
        return None
    return Asked(lowest, highest, mean, rms)
