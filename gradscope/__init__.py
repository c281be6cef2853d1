"""GradScope: a doctor for neural-network training.

    scope = gradscope.watch(model, optimizer)   # one line around an existing loop
    print(scope.diagnose())

Names are loaded when they are first used, so that reading a saved run imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.diagnosis import diagnose
    from gradscope.errors import GradScopeError
    from gradscope.records import Cause, Diagnosis, Finding, Run, Suggestion
    from gradscope.scope import Scope, watch
    from gradscope.store import read_run

__version__ = "0.1.0"

__all__ = [
    "Cause",
    "Diagnosis",
    "Finding",
    "GradScopeError",
    "Run",
    "Scope",
    "Suggestion",
    "diagnose",
    "read_run",
    "watch",
]

_HOMES = {
    "gradscope.diagnosis": ("diagnose",),
    "gradscope.errors": ("GradScopeError",),
    "gradscope.records": ("Cause", "Diagnosis", "Finding", "Run", "Suggestion"),
    "gradscope.scope": ("Scope", "watch"),
    "gradscope.store": ("read_run",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'gradscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
