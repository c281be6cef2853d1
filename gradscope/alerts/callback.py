"""Findings for a function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from gradscope.alerts.alert import Alert
from gradscope.alerts.handler import Handler
from gradscope.errors import WatchError
from gradscope.records import Finding, Severity


class Callback(Handler):
    """Calls a function with each new finding. The training waits for it.

    Args:
        function: takes the finding; the diagnosis that it is part of is `scope.diagnose()`.
        least: findings that are less severe are not told.

    Example:
        >>> import tempfile, torch, gradscope
        >>> layers = [part for _ in range(20) for part in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())]
        >>> model = torch.nn.Sequential(*layers, torch.nn.Linear(16, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> found = []
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with gradscope.watch(model, optimizer, run_dir=f"{folder}/run", on_finding=found.append) as scope:
        ...         for _ in range(8):
        ...             scope.loss((model(torch.ones(8, 16)) - 1).square().mean()).backward()
        ...             optimizer.step()
        ...             optimizer.zero_grad()
        >>> found[0].rule
        'vanishing-gradient'
    """

    def __init__(self, function: Callable[[Finding], object], least: Severity = "warning") -> None:
        super().__init__(least)
        if not callable(function) or inspect.iscoroutinefunction(function):
            what = "a coroutine function" if callable(function) else type(function).__name__
            raise WatchError(f"expected a plain function of one finding; it got {what}: {function!r:.80}.")
        self._function = function

    def __str__(self) -> str:
        return str(getattr(self._function, "__qualname__", type(self._function).__name__))

    def tell(self, alert: Alert) -> None:
        """Calls the function."""
        self._function(alert.finding)
