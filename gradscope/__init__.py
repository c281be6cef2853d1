"""GradScope: a doctor for neural-network training.

    scope = gradscope.watch(model, optimizer)   # one line around an existing loop
    print(scope.diagnose())

Names are loaded when they are first used, so that reading a saved run imports no torch.

How large a run gets
====================

A run is a folder of Arrow IPC streams and JSON that never exceeds its budget, 512 MiB. Worked out for a large job of
1,000 ranks, 10,000 sites and 1,000,000 steps, each rank with a part of its own and, at worst, every step recorded:

    a summary row, packed                       50 bytes
    a summary row, in memory                   446 bytes
    rows of a site in a recorded step            5      looked at closely; fewer in others
    a recorded step                            2.5 MB
    the row of a step, while new               1.0 kB      one of the last 512; every step has one
    the row of a step, packed                   40 bytes

    a rank, if nothing were thinned            2.5 TB
    a rank, at most                            537 MB
    files of a rank, at most                    38 files
    all ranks, at most                         537 GB
    files of all ranks, at most             38,000 files

    recorded steps of a rank that are kept     157 steps
    of them the newest, every one               16 steps
    rows of steps that are kept            699,051 steps

What is thinned: once a series of files has used its share of the budget (summaries 7/8, steps 1/16, events 1/32), two
neighbouring files become one of the same size; which two, is so chosen that the distance between kept steps grows in
proportion to their age. The first five steps, the steps around a NaN, a warning or a finding, and the step with the
largest and the smallest norm of each quantity are kept; the newest are never touched. Thinning is done while the
training goes on, a few megabytes at each recorded step, and rewrites about half a byte for each byte recorded. Two
things do not follow from the budget: `run.json`, which describes the sites and how they are linked, and a model so
large that not even a dozen of its recorded steps fit: then a dozen are kept. A reader unpacks rows to nine times their
size on disk: 3.5 GB for this run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.autowatch import autowatch
    from gradscope.diagnosis import diagnose
    from gradscope.errors import GradScopeError
    from gradscope.records import Cause, Diagnosis, Finding, Run, Suggestion
    from gradscope.scope import Scope, watch
    from gradscope.store import read_run
    from gradscope.trials import TrialReport, trial

__version__ = "0.1.0"

__all__ = [
    "Cause",
    "Diagnosis",
    "Finding",
    "GradScopeError",
    "Run",
    "Scope",
    "Suggestion",
    "TrialReport",
    "autowatch",
    "diagnose",
    "read_run",
    "trial",
    "watch",
]

_HOMES = {
    "gradscope.diagnosis": ("diagnose",),
    "gradscope.errors": ("GradScopeError",),
    "gradscope.records": ("Cause", "Diagnosis", "Finding", "Run", "Suggestion"),
    "gradscope.scope": ("Scope", "watch"),
    "gradscope.store": ("read_run",),
    "gradscope.trials": ("TrialReport", "trial"),
}


def __getattr__(name: str) -> Any:
    if name in ("alerts", "autowatch"):  # packages; the second can be called
        return import_module(f"gradscope.{name}")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'gradscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
