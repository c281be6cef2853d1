"""Watches a program that was not written for it: finds its models, optimizers and losses by itself.

    with gradscope.autowatch():
        train()                     # a loop that knows nothing of GradScope

program.py     runs a script as Python would, under observation
session.py     what is being observed; waits until the program imports torch
watcher.py     torch's global hooks: when a model's first training forward begins, it is watched
watched.py     a model that is being watched
candidates.py  which module and which optimizers belong together
objectives.py  which model the tensor that `backward` was called on is the loss of
wrapping.py    functions of torch that tell us when they are called, and the way back
summary.py     what was found, in a few lines

`gradscope.autowatch` is this package and can be called, as the function `autowatch` in it. It imports no torch before
the program does: variables such as OMP_NUM_THREADS that a script sets before its imports have to count.
"""

import sys
from types import ModuleType

from gradscope.autowatch.program import Target, run_program
from gradscope.autowatch.session import Session, autowatch

__all__ = ["Session", "Target", "autowatch", "run_program"]


class _Callable(ModuleType):
    """A package that has the name of its one function."""

    __call__ = staticmethod(autowatch)


sys.modules[__name__].__class__ = _Callable
