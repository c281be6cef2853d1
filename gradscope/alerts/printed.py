"""Findings for whoever watches the terminal."""

from __future__ import annotations

from gradscope.alerts.alert import Alert
from gradscope.alerts.handler import Handler
from gradscope.notices import say


class Print(Handler):
    """Prints a line on stderr for each new finding.

    Args:
        least: findings that are less severe are not told.
    """

    def tell(self, alert: Alert) -> None:
        """Prints the line."""
        say(alert.line)
