"""What a remedy has changed, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any


class Applied:
    """Changes to a training in words, and how to take them back, the last one first.

    Attributes:
        changes: what was done, e.g. "8 Linear layers drawn anew: He, for the ReLU that follows".

    Example:
        >>> applied, rate = Applied(), {"lr": 0.1}
        >>> applied.change("the learning rate is 0.01, was 0.1", rate.update, {"lr": 0.1})
        >>> rate["lr"] = 0.01
        >>> applied.undo()
        >>> rate
        {'lr': 0.1}
    """

    def __init__(self) -> None:
        self.changes: list[str] = []
        self._way_back = ExitStack()

    def change(self, said: str, back: Callable[..., Any] | None = None, *arguments: Any) -> None:
        """Says a change, and what takes it back."""
        self.changes.append(said)
        if back is not None:
            self.back(back, *arguments)

    def back(self, back: Callable[..., Any], *arguments: Any) -> None:
        """Notes what takes a part of a change back."""
        self._way_back.callback(back, *arguments)

    def undo(self) -> None:
        """Takes everything back; twice does no harm."""
        self._way_back.close()

    def __str__(self) -> str:
        return "; ".join(self.changes)
