"""What changed just before something went wrong: the learning rate, the loss scale, clipping."""

from __future__ import annotations

import numpy as np

from gradscope.numerals import number
from gradscope.signals.series import Signals

_JUST_BEFORE = 20  # steps
_A_CHANGE = 1.5  # factor of a learning rate from which it is one: a schedule that moves a little at every step is none


def what_changed(signals: Signals, step: int) -> list[str]:
    """What was changed in the last steps up to this one, a clause each, without a full stop.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> scale = [1024.0] * 6 + [65536.0] * 2
        >>> what_changed(Signals(run({"a": 1.0}, columns={"scale": scale})), 7)
        ['the loss scale went from 1,020 to 65,500 at step 6']
    """
    steps = signals.run.steps
    position = np.searchsorted(steps["step"], [step - _JUST_BEFORE, step + 1])
    near = slice(*position.tolist())
    numbers = steps["step"][near]
    found = [*_rates(signals.run.learning_rates[near], numbers), *_scales(steps["scale"][near], numbers)]
    clipped = _clipped(signals)
    if len(clipped) and numbers.size and numbers[0] < clipped[0] <= step:
        found.append(f"gradients were clipped for the first time at step {clipped[0]:,}")
    return found


def _rates(rates: np.ndarray, numbers: np.ndarray) -> list[str]:
    """The largest leap of a learning rate between two steps."""
    if len(rates) < 2 or not rates.shape[1]:
        return []
    rate = rates[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(rate[:-1] > 0, rate[1:] / rate[:-1], np.nan)
    if not np.isfinite(factor).any():
        return []
    place = int(np.nanargmax(np.abs(np.log(np.where(factor > 0, factor, np.nan))))) if (factor > 0).any() else 0
    if not factor[place] > _A_CHANGE and not factor[place] < 1 / _A_CHANGE:
        return []
    before, after = (number(float(value)) for value in rate[place : place + 2])
    return [f"the learning rate went from {before} to {after} at step {numbers[place + 1]:,}"]


def _scales(scale: np.ndarray, numbers: np.ndarray) -> list[str]:
    changed = np.flatnonzero(scale[1:] != scale[:-1])
    if not len(changed):
        return []
    place = int(changed[-1])
    before, after = (number(float(value)) for value in scale[place : place + 2])
    return [f"the loss scale went from {before} to {after} at step {numbers[place + 1]:,}"]


def _clipped(signals: Signals) -> np.ndarray:
    """The numbers of the steps whose gradients were clipped, as far as that is known."""
    steps = signals.run.steps
    before, after = steps["gradient_norm"], steps["clipped_gradient_norm"]
    known = np.isfinite(before) & np.isfinite(after) & ~steps["skipped"]
    clipped: np.ndarray = steps["step"][known & (after < 0.999 * before)]
    return clipped
