"""What watching costs: the same training with and without GradScope, in turns in one process.

    make bench

A and B run in turns, some steps each, so that a noisy machine hits both; the ratio is that of their median step times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

import gradscope


@dataclass
class Subject:
    """A training that can take a step."""

    model: nn.Module
    batch: tuple[torch.Tensor, torch.Tensor]

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.criterion = nn.CrossEntropyLoss()
        self.scope: gradscope.Scope | None = None

    def step(self) -> float:
        """Takes one step and gives its seconds."""
        started = time.perf_counter()
        loss = self.criterion(self.model(self.batch[0]), self.batch[1])
        if self.scope is not None:
            self.scope.loss(loss)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - started


def tanh_mlp() -> Subject:
    """20 tanh layers of 256 at batch 256."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(256, 256), nn.Tanh()]
    data = torch.randn(256, 256), torch.randint(0, 10, (256,))
    return Subject(nn.Sequential(*layers, nn.Linear(256, 10)), data)


def compare(make: Callable[[], Subject], every: int | Literal["auto"], turns: int, steps: int) -> float:
    """The median step time watched over the median step time unwatched."""
    plain, watched = make(), make()
    times: dict[str, list[float]] = {"plain": [], "watched": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):
            # a scope for each turn: while it lives its hooks cost every model of the process something
            scope = gradscope.watch(watched.model, watched.optimizer, run_dir=Path(folder) / str(turn), every=every)
            watched.scope = scope
            with_us = [watched.step() for _ in range(steps)]
            scope.close()
            without = [plain.step() for _ in range(steps)]
            if turn:  # the first is for warming up
                times["watched"] += with_us[5:]  # of "auto" the first five are recorded
                times["plain"] += without[5:]
    return statistics.median(times["watched"]) / statistics.median(times["plain"])


def main() -> None:
    """Prints a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="a turn")
    options = parser.parse_args()
    print("step time with GradScope over without (medians, in turns A B A B in one process)")
    for every in (1, "auto"):
        ratio = compare(tanh_mlp, every, options.turns, options.steps)
        print(f"  MLP 20x256 tanh, batch 256, every={every!r:6}  {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
