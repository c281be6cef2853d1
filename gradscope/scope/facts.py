"""What is known of a training before it begins."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from gradscope import __version__
from gradscope.recorder.compiled import model_name
from gradscope.recorder.options import Options
from gradscope.recorder.places import class_places
from gradscope.recorder.ranks import Rank
from gradscope.records import OptimizerInfo, RunInfo


def facts_of(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], folder: Path, options: Options, rank: Rank
) -> RunInfo:
    """What `run.json` says at first."""
    return RunInfo(
        id=folder.name,
        model=model_name(model),
        created=time.time(),
        versions={
            "gradscope": __version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        },
        script=" ".join(sys.argv),
        device=str(next(model.parameters()).device),
        optimizers=tuple(
            OptimizerInfo(
                type(optimizer).__name__,
                _options(optimizer),
                _foreign(model, optimizer),
            )
            for optimizer in optimizers
        ),
        places=class_places(model),
        settings={"every": options.every, "overhead": options.overhead, "exact": options.exact},
        process=os.getpid(),
        rank=rank.number,
        world_size=rank.world,
    )


def _options(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The optimizer's options that are numbers; pairs of betas as beta1 and beta2."""
    options: dict[str, float] = {}
    for name, value in optimizer.defaults.items():
        if isinstance(value, (int, float)):
            options[name] = float(value)
        elif name == "betas":
            options |= {f"beta{number}": float(beta) for number, beta in enumerate(value, 1)}
    return options


def _foreign(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """How many of the optimizer's tensors are none of the model's parameters."""
    known = {id(parameter) for parameter in model.parameters()}
    return sum(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"])
