"""What a published rule set sees of a training up to some moment, and what it says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Numbers = dict[str, float]


@dataclass(frozen=True)
class Alarm:
    """What a rule set says: the symptom in its own words, and, mapped to our ids, cause, cures and the layer it names.

    Attributes:
        layer: None where the rule set names none.
    """

    symptom: str
    cause: str = ""
    remedies: tuple[str, ...] = ()
    layer: str | None = None


@dataclass(frozen=True)
class Seen:
    """A trace up to a moment.

    Attributes:
        modules: the layers by path: their class, and the rate of a dropout.
        looks: steps that were looked at: `step`, `rate`, `layers`, `parameters`.
        epochs: twentieths of the training: `step`, `loss`, `error`, `held_error`, `held_loss`.
        trivial: error rate of the best constant answer; 0: no classes.
    """

    modules: dict[str, dict[str, Any]]
    fed: tuple[float, float]
    looks: list[dict[str, Any]]
    epochs: list[Numbers]
    trivial: float
    loss: str

    @property
    def kernels(self) -> list[str]:
        """Names of the parameters that are matrices or more, in the order of the model."""
        if not self.looks:
            return []
        return [name for name, numbers in self.looks[-1]["parameters"].items() if numbers["dimensions"] >= 2]

    def accuracies(self, *, held: bool = False) -> list[float]:
        """Accuracy after each epoch; NaN where there are no classes."""
        name = "held_error" if held else "error"
        return [1 - epoch[name] * self.trivial if self.trivial else math.nan for epoch in self.epochs]

    def kind(self, layer: str) -> str:
        """A layer's class."""
        return str(self.modules[layer]["kind"])


def seen(folder: Path, last: int) -> Seen:
    """The trace of a kept training up to step `last`."""
    trace = json.loads((folder / "trace.json").read_text(encoding="utf-8"))
    return Seen(
        trace["modules"],
        tuple(trace["input"]),
        [look for look in trace["looks"] if look["step"] <= last],
        [epoch for epoch in trace["epochs"] if epoch["step"] <= last],
        trace["trivial"],
        trace["loss"],
    )


def owner(parameter: str) -> str:
    """The path of the module that a parameter belongs to."""
    return parameter.rpartition(".")[0]


def broken(*values: float) -> bool:
    """Whether any of them is NaN or infinite."""
    return not all(map(math.isfinite, values))
