"""Every error that GradScope raises on purpose.

    GradScopeError
    ├── WatchError              what was handed to watch() cannot be watched
    │   ├── NothingToWatch          the model has no parameters, or none that hold numbers yet
    │   ├── AnotherModel            the run to resume is of another model
    │   └── ForeignOptimizer        the optimizer updates none of the model's parameters
    ├── TrainingUnhealthy       on_finding="raise" ended a sick training
    ├── RunError                a run folder cannot be used
    │   ├── RunNotFound             nothing is there
    │   ├── RunUnreachable          the filesystem at its URL cannot be asked
    │   ├── NotARun                 something is there, but no run
    │   ├── UnsupportedSchema       written by a version that this one cannot read
    │   ├── RunExists               the folder already holds another run
    │   └── RunNotWritable          the folder cannot be written
    ├── NotApplicable           a remedy cannot be applied to this model or optimizer
    ├── PatchError              a suggestion cannot be written into the user's program
    │   ├── NoPatch                 nobody can say it as a change of these lines
    │   └── FileChanged             the file is no longer as it was when it was run
    ├── ProgramError            a program cannot be run under observation, or tried
    │   ├── ProgramNotFound         there is no such script or module
    │   └── NothingToTry            no program is named, or no suggestion can act from outside
    ├── UsageError              what was typed is no command of ours
    ├── CheckError              what `gradscope.testing` was handed, or found
    │   ├── UnusableSample          the model cannot be copied, or not run on what was handed over
    │   ├── UnhealthyModel          `check_model` found a fault, and was told to raise
    │   └── UnhealthyTraining       `assert_healthy` found a sickness
    ├── CatalogueError          two rules or remedies share one id
    ├── UnknownId               no rule, demo, table, layer or step is called so
    ├── ReportNotWritable       the report's file cannot be written
    ├── OutputExists            what would be exported to is there already
    ├── BaselineError           a file of known findings cannot be read or written
    ├── MissingPackage          an optional part needs a package that is not installed
    └── AddressInUse            the dashboard's port is taken

Each text says what was expected, what came and what to do. `exit_code` is what the command line returns.
"""

from __future__ import annotations

from typing import Any


class GradScopeError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 2


class WatchError(GradScopeError, ValueError):
    """What was handed to `watch()` cannot be watched."""


class NothingToWatch(WatchError):
    """The model has no parameters, or none that hold numbers yet."""


class AnotherModel(WatchError):
    """The run to resume is of another model."""


class ForeignOptimizer(WatchError):
    """The optimizer updates none of the model's parameters."""


class TrainingUnhealthy(GradScopeError):
    """A sick training was ended, as `on_finding="raise"` asks for; `finding` says why, of this `diagnosis`."""

    def __init__(self, text: str, finding: Any = None, diagnosis: Any = None) -> None:
        super().__init__(text)
        self.finding, self.diagnosis = finding, diagnosis


class RunError(GradScopeError):
    """A run folder cannot be used."""


class RunNotFound(RunError, FileNotFoundError):
    """Nothing is at the path."""


class RunUnreachable(RunError, ConnectionError):
    """The filesystem at the run's URL cannot be asked."""


class NotARun(RunError):
    """Something is at the path, but no run."""


class UnsupportedSchema(RunError):
    """The run was written by a version that this one cannot read."""


class RunExists(RunError, FileExistsError):
    """The folder already holds another run."""


class RunNotWritable(RunError, PermissionError):
    """The folder cannot be written."""


class NotApplicable(GradScopeError):
    """A remedy cannot be applied to this model or optimizer."""


class PatchError(GradScopeError):
    """A suggestion cannot be written into the user's program."""


class NoPatch(PatchError):
    """Nobody can say the suggestion as a change of these lines."""


class FileChanged(PatchError):
    """The file is no longer as it was when it was run."""


class ProgramError(GradScopeError):
    """A program cannot be run under observation, or tried."""


class ProgramNotFound(ProgramError, FileNotFoundError):
    """There is no such script or module."""


class NothingToTry(ProgramError):
    """No program is named, or no suggestion can act from outside."""


class UsageError(GradScopeError):
    """What was typed is no command of ours, or its options are not as they should be."""


class CheckError(GradScopeError):
    """What `gradscope.testing` raises."""


class UnusableSample(CheckError, ValueError):
    """The model cannot be copied, or cannot be run on what was handed over."""


class UnhealthyModel(CheckError, AssertionError):
    """A model that was to be healthy before its training is not."""


class UnhealthyTraining(CheckError, AssertionError):
    """A training that was to be healthy is not."""


class CatalogueError(GradScopeError):
    """Two rules or two remedies share one id."""


class UnknownId(GradScopeError, KeyError):
    """No rule, demo, table, layer or step is called so."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the text in quotes


class ReportNotWritable(GradScopeError, OSError):
    """The report's file cannot be written."""


class OutputExists(GradScopeError, FileExistsError):
    """What would be exported to is there already."""


class BaselineError(GradScopeError):
    """A file of known findings cannot be read or written."""


class MissingPackage(GradScopeError, ImportError):
    """An optional part needs a package that is not installed."""


class AddressInUse(GradScopeError):
    """The dashboard's port is taken."""
