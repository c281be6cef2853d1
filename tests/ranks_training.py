"""A small training that runs on one process or, under a launcher, on many: the same global batch, shared out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gradscope

STEPS, BATCH = 4, 16


class Block(nn.Module):
    """A residual block: its input is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(16, 16), nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.act(self.linear(x))


def build() -> nn.Sequential:
    """A model whose widths 15 and 3 no number of ranks divides; over four ranks the last shard of 3 is empty."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 15), nn.Tanh(), nn.Linear(15, 16), Block(), nn.Sequential(nn.Tanh(), nn.Linear(16, 3))
    )


def shard(model: nn.Sequential, mesh: Any = None) -> nn.Sequential:
    """FSDP2 on some layers, on a container and on the root."""
    from torch.distributed.fsdp import fully_shard

    for module in (model[2], model[3], model[4]):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def weights(model: nn.Module) -> list[torch.Tensor]:
    """All parameters, whole."""
    full = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return [parameter.detach().clone() for parameter in full]


def train(
    folder: Path | None,
    *,
    wrap: Callable[[nn.Sequential], nn.Module] = lambda model: model,
    rank: int = 0,
    world: int = 1,
    steps: int = STEPS,
    watch_inner: bool = False,
    accumulate: int = 1,
    clip: float = 0.1,
    every: Any = 1,
    overhead: float = 0.03,
    disturb: Callable[[int, torch.Tensor, nn.Module], None] = lambda step, x, model: None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = lambda model: torch.optim.Adam(model.parameters(), 1e-2),
) -> list[torch.Tensor]:
    """Trains on this rank's share of each batch; watches when there is a folder; gives the final weights."""
    inner = build()
    before = inner if watch_inner else None
    model = wrap(inner)
    adam = optimizer(model)
    generator = torch.Generator().manual_seed(1)
    scope = None
    if folder is not None:
        scope = gradscope.watch(before or model, adam, run_dir=folder, every=every, overhead=overhead)
    for step in range(steps):
        x = torch.randn(accumulate, BATCH, 16, generator=generator)
        y = torch.randint(0, 3, (accumulate, BATCH), generator=generator)
        for micro in range(accumulate):
            mine, targets = x[micro].chunk(world)[rank].clone(), y[micro].chunk(world)[rank]
            disturb(step, mine, model)
            last = micro == accumulate - 1
            if hasattr(model, "set_requires_gradient_sync"):
                model.set_requires_gradient_sync(last)
            with nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
                loss = nn.functional.cross_entropy(model(mine), targets)
                if scope is not None:
                    scope.loss(loss)
                (loss / accumulate).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        adam.step()
        adam.zero_grad()
    if scope is not None:
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
        scope.close()
    return weights(model)
