"""A trial's second control: as many changes as the candidate makes, drawn at random.

A remedy that does better than no change may do so because any change would: published repair tools for neural networks
did no better than random changes did. So each candidate is also held against remedies that nobody has chosen, with doses
that no run has suggested.

Source: Kim et al. 2023, Repairing DNN architecture: are we there yet? (arXiv:2301.11568), which found a random baseline as
good as the tools that it compared, AutoTrainer among them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradscope.catalogue import remedies


def draw(
    seed: int,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    avoid: Collection[str] = (),
    count: int = 1,
) -> list[tuple[str, dict[str, Any]]]:
    """Remedies that can act on this training, with doses, all drawn at random; nothing is changed when it returns.

    Each is tried on the model itself, together with those drawn before it, and taken back. torch's generators are left as
    they were.

    Args:
        seed: the same one gives the same draw for the same training.
        model: before its first training forward.
        optimizers: that update it.
        avoid: ids that are not drawn: the candidate's.
        count: how many changes: those of the candidate. "Equal size" is as many.

    Returns:
        Ids and doses for `Remedy.apply`; fewer than `count` where fewer can act here.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> drawn = draw(0, model, [optimizer], avoid=["gradient-clipping"], count=2)
        >>> len(drawn), drawn == draw(0, model, [optimizer], avoid=["gradient-clipping"], count=2)
        (2, True)
    """
    rng = Random(seed)
    candidates = [(identity, remedy) for identity, remedy in remedies().items() if not remedy.needs_edit]
    rng.shuffle(candidates)
    drawn: list[tuple[str, dict[str, Any]]] = []
    devices = {each.device.index for each in model.parameters() if each.device.type == "cuda"}
    with (
        torch.random.fork_rng(devices=sorted(index for index in devices if index is not None)),
        ExitStack() as way_back,
    ):
        for identity, remedy in candidates:
            if len(drawn) == count:
                break
            dose = remedy.random_dose(rng)
            if identity in avoid:
                continue
            try:
                applied = remedy.apply(model, optimizers, **dose)
            except Exception:  # whatever the reason, it cannot act here; what it had begun is taken back
                continue
            way_back.callback(applied.undo)
            drawn.append((identity, dose))
    return drawn
