"""Findings that end the training."""

from __future__ import annotations

from gradscope.alerts.alert import Alert
from gradscope.alerts.handler import Handler
from gradscope.errors import TrainingUnhealthy
from gradscope.records import Severity


class Stop(Handler):
    """Ends the training at a finding: `TrainingUnhealthy` comes out of the user's own call, and the run is closed.

    That call is the optimizer's `step`, `scope.loss` or `scope.step`; where an optimizer steps inside of `backward`, it
    is `backward`, once that is over. Only of a training in one process: others would wait for it for ever. What is found
    when a run is closed ends nothing any more, and is printed.

    Args:
        least: findings that are less severe do not end it.
    """

    def __init__(self, least: Severity = "error") -> None:
        super().__init__(least)

    def tell(self, alert: Alert) -> None:
        """Raises the error, which whoever watches keeps until it may be let out."""
        raise TrainingUnhealthy(alert.explanation, alert.finding, alert.diagnosis)
