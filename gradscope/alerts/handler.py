"""What every handler of findings has."""

from __future__ import annotations

from gradscope.alerts.alert import Alert
from gradscope.errors import WatchError
from gradscope.records import SEVERITIES, Finding, Severity


class Handler:
    """Is told each new finding once, in the thread that trains.

    What `tell` raises is caught and said; the training goes on.

    Args:
        least: findings that are less severe are not told.

    Attributes:
        trouble: why the last finding did not reach anybody; "" while all did.

    Example:
        >>> class Count(Handler):
        ...     told = 0
        ...
        ...     def tell(self, alert):
        ...         self.told += 1
        >>> Count(least="error").least
        'error'
    """

    # here too: a class of the user's may do without our `__init__`, and its training is not to end by that
    least: Severity = "warning"
    trouble = ""

    def __init__(self, least: Severity = "warning") -> None:
        if least not in SEVERITIES:
            raise WatchError(f'least= expected "note", "warning" or "error"; it got {least!r}.')
        self.least = least

    def __str__(self) -> str:
        return type(self).__name__

    def wants(self, finding: Finding) -> bool:
        """Whether a finding is severe enough to be told."""
        return SEVERITIES.index(finding.severity) >= SEVERITIES.index(self.least)

    def tell(self, alert: Alert) -> None:
        """Passes a finding on."""
        raise NotImplementedError(f"{type(self).__name__} has no tell(alert).")

    def close(self, seconds: float) -> None:
        """Ends what is under way, for the run is over, and takes no longer for it. Another run may tell more later."""
