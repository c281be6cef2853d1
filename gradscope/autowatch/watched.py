"""A model that is being watched, and whether anything came of it."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gradscope.autowatch.candidates import Known
from gradscope.recorder import Recorder
from gradscope.scope import Scope, link_latest


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
    def empty(self) -> bool:
        """Whether it has ended without anything to look at: no optimizer stepped."""
        file = self.recorder.file
        stepped = any(known.stepped for known in self.optimizers) or file.step > max(1, self.first)
        return self.own and not stepped and not self.first and not file.failure and file.info.world_size == 1


def forget_empty(watched: list[Watched]) -> list[Watched]:
    """Removes the folders of those in which nothing stepped, which are no runs, and gives the others."""
    kept = [each for each in watched if not each.empty]
    for each in watched:
        folder = each.scope.run_dir
        if folder is not None and each not in kept:
            shutil.rmtree(folder, ignore_errors=True)
            latest = folder.parent / "latest"
            if latest.is_symlink() and not latest.exists():
                latest.unlink(missing_ok=True)
    if len(kept) < len(watched) and kept and kept[-1].scope.run_dir is not None:
        link_latest(kept[-1].scope.run_dir)
    return kept
