"""A model that is being watched, and whether anything came of it."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gradscope.autowatch.candidates import Known, parameters_of
from gradscope.recorder import Recorder
from gradscope.scope import Scope, link_latest

MOST = 20  # runs of one program: one that makes models in a loop, for each task, would fill the disk


@dataclass(eq=False)
class Watched:
    """A model that is being watched."""

    model: weakref.ref[nn.Module]
    scope: Scope
    recorder: Recorder
    parameters: set[int]  # their ids
    optimizers: list[Known]
    own: bool = True  # not watched by the program itself
    first: int = 0  # the step that it began with
    steps: int = 0  # closed so far
    ways: set[Any] = field(default_factory=set)  # to calls of `backward`

    @property
    def folder(self) -> Path | None:
        """Where it is recorded, wherever the program has gone since."""
        return self.scope._at

    @property
    def empty(self) -> bool:
        """Whether it has ended without anything to look at: no optimizer stepped."""
        file = self.recorder.file
        stepped = any(known.stepped for known in self.optimizers) or file.step > max(1, self.first)
        return self.own and not stepped and not self.first and not file.failure and file.info.world_size == 1


def forget_empty(watched: list[Watched]) -> list[Watched]:
    """Removes the folders of those in which nothing stepped, which are no runs, and gives the others."""
    kept = [each for each in watched if not each.empty]
    for each in watched:
        folder = each.folder
        if folder is not None and each not in kept:
            shutil.rmtree(folder, ignore_errors=True)
            latest = folder.parent / "latest"
            if latest.is_symlink() and not latest.exists():
                latest.unlink(missing_ok=True)
    if len(kept) < len(watched) and kept and kept[-1].folder is not None:
        link_latest(kept[-1].folder)
    return kept


def close_earlier(watched: list[Watched], model: nn.Module, optimizers: list[Known]) -> list[Known]:
    """Closes the runs that another one of a model takes the place of; gives their optimizers that go on beside its own."""
    taken = set().union(*(known.ids for known in optimizers))
    staying: list[Known] = []
    for earlier in watched:
        over = any(known.optimizer() is None or known.ids & taken for known in earlier.optimizers)
        if earlier.model() is model or (over and earlier.parameters & parameters_of(model)):
            joint = any(known.joint for known in optimizers)
            living = [known for known in earlier.optimizers if known.optimizer() is not None]
            staying += [known for known in living if joint or not known.ids & taken]
            earlier.scope.close()
    return [known for known in dict.fromkeys(staying) if known not in optimizers]
