"""What nobody can observe here, each with the reason: said before a training, not after it."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """Something that is not seen.

    Attributes:
        here: whether it follows from this machine; else it holds everywhere.
    """

    what: str
    why: str
    here: bool


EVERYWHERE = (
    Limit("modules inside a compiled region", "hooks would split the compiled code; see watch(compiled='full')", False),
    Limit("steps inside a captured CUDA graph", "a replayed graph runs no Python", False),
    Limit("FSDP1, tensor and pipeline parallel models", "they are recorded in part, which the diagnosis says", False),
    Limit("processes that a script starts by itself", "`gradscope run` watches the one that it was given", False),
)


def limits() -> tuple[Limit, ...]:
    """Those of this machine first."""
    return (*_here(), *EVERYWHERE)


def _here() -> list[Limit]:
    import torch
    import torch.distributed as distributed

    found = []
    if not torch.cuda.is_available():
        found.append(Limit("trainings on a GPU", "torch finds none here", True))
    if not distributed.is_available():
        found.append(Limit("trainings on several processes", "this torch was built without torch.distributed", True))
    if sys.platform == "win32":
        found.append(Limit("the page beside a training, watch(dashboard=True)", "Windows hands no socket over", True))
    if sys.flags.optimize >= 2:
        found.append(Limit("the pages of rules and remedies", "python -OO strips the docstrings that they are", True))
    return found
