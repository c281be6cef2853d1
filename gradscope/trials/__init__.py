"""Trials: a cure is tried on the user's own training, short, beside no change and a random change (DESIGN §8).

`trial` tries a callable, `try_program` a script or module as `gradscope trial` does. Each training is a process of its
own (`child`), with a seed that its arms share (`seeding`); the losses are compared pair by pair (`statistics`).

The package is not named after its function because a package is an attribute of the one that it lies in.
"""

from gradscope.trials.report import TrialReport
from gradscope.trials.start import trial, try_program

__all__ = ["TrialReport", "trial", "try_program"]
