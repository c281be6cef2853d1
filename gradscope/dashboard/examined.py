"""What a rule looked at: the series that it asked for when it judged a run, and how many numbers they hold."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from gradscope.records import Run
from gradscope.signals import Signals

_WORDS = {
    "unpooled_gain": "backward gain",
    "own_gain": "own gain",
    "head_norm": "gradient at the output",
    "skipped": "flags of skipped steps",
}
_OF_A_QUANTITY = ("values", "norm", "rms", "share", "exactly_zero", "non_finite", "first_non_finite")


class Looked(NamedTuple):
    """One kind of series that a rule asked for."""

    what: str  # "backward gain"
    places: int  # layers, parameters … that have any number of it
    numbers: int  # that are known: recorded, and not undefined


def examined(rule: Any, signals: Signals) -> tuple[Looked, ...]:
    """What a rule asks for when it checks a run, the largest first. It is run once more for it: rules have no memory."""
    seen: dict[str, Looked] = {}
    watched = cast(Signals, _Watched(signals, seen))
    try:
        list(rule.check(watched))
    except Exception:  # that it cannot run is said by the diagnosis
        return ()
    return tuple(sorted((each for each in seen.values() if each.numbers), key=lambda each: -each.numbers))


class _Watched:
    """Signals that note what is asked of them; what they ask of themselves is not noted twice."""

    def __init__(self, signals: Signals, seen: dict[str, Looked]) -> None:
        self._signals, self._seen = signals, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._signals, name)
        if isinstance(value, np.ndarray) and name != "steps":
            _note(self._seen, _WORDS.get(name, name.replace("_", " ")), value)
        elif isinstance(value, Run):
            return _WatchedRun(value, self._seen)
        elif callable(value):
            return self._watched_call(name, value)
        return value

    def _watched_call(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            value = function(*arguments, **named)
            if name in _OF_A_QUANTITY and arguments:
                quantity = arguments[0]
                taken = value if isinstance(value, np.ndarray) else self._signals.values(quantity, "count")
                if taken.dtype == bool:  # a flag of what was recorded
                    taken = self._signals.values(quantity, "count")
                _note(self._seen, quantity.replace("_", " "), taken)
            elif isinstance(value, np.ndarray):
                _note(self._seen, _WORDS.get(name, name.replace("_", " ")), value)
            return value

        return call


class _WatchedRun:
    """A run that notes which of its columns are asked for."""

    def __init__(self, run: Run, seen: dict[str, Looked]) -> None:
        self._run, self._seen = run, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._run, name)
        if name == "steps" and len(value):
            self._seen.setdefault("steps", Looked("steps (loss, norms, times)", 1, len(value)))
        elif name == "learning_rates":
            _note(self._seen, "learning rates", np.asarray(value).T)
        return value


def _note(seen: dict[str, Looked], what: str, values: Any) -> None:
    """Keeps the most that was seen of a kind: two fields of one quantity are the same places and steps."""
    matrix = np.atleast_2d(np.asarray(values))
    known = np.isfinite(matrix) if matrix.dtype.kind == "f" else np.ones(matrix.shape, bool)
    looked = Looked(what, int(known.any(axis=1).sum()), int(known.sum()))
    if what not in seen or looked.numbers > seen[what].numbers:
        seen[what] = looked
