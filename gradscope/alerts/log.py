"""Findings for Python's logging."""

from __future__ import annotations

import logging

from gradscope.alerts.alert import Alert
from gradscope.alerts.handler import Handler
from gradscope.records import Severity

_LEVELS = {"note": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Log(Handler):
    """Logs a line for each new finding, as an error, a warning or an info. The record has the finding as `finding`.

    Args:
        logger: its name.
        least: findings that are less severe are not told.
    """

    def __init__(self, logger: str = "gradscope", least: Severity = "warning") -> None:
        super().__init__(least)
        self._logger = logging.getLogger(logger)

    def tell(self, alert: Alert) -> None:
        """Logs the line."""
        self._logger.log(_LEVELS[alert.finding.severity], "%s", alert.line, extra={"finding": alert.finding})
