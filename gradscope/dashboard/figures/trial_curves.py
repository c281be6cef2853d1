"""The loss with a cure beside the loss without it, as a small SVG image: what a trial measured, at a glance."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _EDGE = 280, 90, 6
_COLOUR = "#6B7785"  # readable on both themes' cards: an image cannot follow the page's colours
_CONTROLS = {"no change": "6 4", "random change": "1.5 3"}  # dashes: told apart without colours
LEGEND = "Loss over the steps, the median over seeds. Solid: with it; dashed: no change; dotted: a random change."


@dataclass(frozen=True)
class Curve:
    """Losses at evenly spaced steps; NaN is a gap."""

    name: str
    values: NDArray[np.float64]  # shape `[points]`; log10 where every loss of the picture is positive
    dashes: str = ""  # as SVG says them


def trial_curves_data(trial: Mapping[str, Any]) -> tuple[Curve, ...]:
    """The curves that a trial keeps, the cure's last; none when it keeps none."""
    curves = trial.get("curves")
    if not isinstance(curves, Mapping):
        return ()
    kept = {str(name): np.array(values, np.float64) for name, values in curves.items() if len(values) > 1}
    finite = [values[np.isfinite(values)] for values in kept.values()]
    if all((values > 0).all() for values in finite):
        kept = {name: np.log10(values) for name, values in kept.items()}
    found = [Curve(name, values, _CONTROLS.get(name, "")) for name, values in kept.items()]
    return tuple(sorted(found, key=lambda curve: curve.name not in _CONTROLS))


def draw_trial_curves(curves: tuple[Curve, ...]) -> str | None:
    """The curves as a `data:` address of an SVG image; None when there is nothing to draw."""
    known = np.concatenate([curve.values[np.isfinite(curve.values)] for curve in curves] or [np.empty(0)])
    if len(known) < 2:
        return None
    low, span = known.min(), max(float(np.ptp(known)), 1e-12)
    paths = []
    for curve in curves:
        x = np.linspace(_EDGE, _WIDTH - _EDGE, len(curve.values))
        y = _HEIGHT - _EDGE - (curve.values - low) / span * (_HEIGHT - 2 * _EDGE)
        drawn = np.isfinite(y)
        pens = np.where(np.concatenate([[False], drawn[:-1]]), "L", "M")
        path = "".join(f"{pen}{a:.1f} {b:.1f}" for pen, a, b in zip(pens[drawn], x[drawn], y[drawn], strict=True))
        width = 1.5 if curve.dashes else 2.5
        paths.append(
            f'<path d="{path}" fill="none" stroke="{_COLOUR}" stroke-width="{width}" stroke-dasharray="{curve.dashes}"/>'
        )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">{"".join(paths)}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
