"""How often a run is judged while it grows, so that this stays within its share of the training's time."""

from __future__ import annotations

ALLOWANCE = 0.5  # seconds that judging may take beyond its share where something happened, even in a short training


class Pace:
    """Decides when to judge, from what it cost before.

    Args:
        share: of the training's time.
        first: recorded steps from which a run is judged, whatever that costs.
        now: seconds, of any clock that never goes back.

    Example:
        >>> pace = Pace(0.01, first=5, now=0.0)
        >>> pace.due(1.0, recorded=4), pace.due(1.0, recorded=5)
        (False, True)
        >>> pace.took(0.02, recorded=5)
        >>> pace.took(0.02, recorded=6)
        >>> pace.due(3.9, recorded=7), pace.due(4.1, recorded=7)
        (False, True)
    """

    def __init__(self, share: float, first: int, now: float) -> None:
        self._share, self._first, self._began = share, first, now
        self._spent = self._cost = 0.0
        self._recorded: int | None = None  # when it was judged last

    def due(self, now: float, recorded: int) -> bool:
        """Whether to judge a run that has so many recorded steps."""
        if self._recorded is None:
            return recorded >= self._first
        return recorded > self._recorded and self._spent + self._cost <= self._earned(now)

    def affords_alarm(self, now: float) -> bool:
        """Whether to judge it out of turn, because something happened."""
        return self._spent <= ALLOWANCE + self._earned(now)

    def took(self, seconds: float, recorded: int) -> None:
        """Books what judging took. The first time only tells what the next will cost."""
        self._spent += 0.0 if self._recorded is None else seconds
        self._cost, self._recorded = seconds, recorded

    def _earned(self, now: float) -> float:
        return self._share * (now - self._began)
