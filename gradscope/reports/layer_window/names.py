"""Which layers a name means: a path, a pattern, or what is said of a name that no layer has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gradscope.errors import UnknownId
from gradscope.reports.words import harmless
from gradscope.signals import Signals

_MOST_NAMED = 8  # in an error


@dataclass(frozen=True)
class LayerPlace:
    """A layer, or one parameter alone."""

    name: str  # as shown to people
    path: str
    module: int | None  # its output site; None when it never ran, and of a parameter
    parameters: tuple[int, ...]  # sites of those that it owns


def layer_places(signals: Signals) -> list[LayerPlace]:
    """What a person calls layers: modules without modules and those with parameters of their own; never run, last.

    Example:
        >>> from gradscope.rules.handwritten import run
        >>> [place.name for place in layer_places(Signals(run({"a": 1.0, "b": 1.0})))]
        ['a', 'b']
    """
    layers = set(signals.layers)
    found = [
        _module(signals, module) for module in signals.modules if module in layers or signals.parameters_of(module)
    ]
    there = {place.path for place in found}
    lone: dict[str, list[int]] = {}
    for parameter in signals.parameters:
        if signals.sites[parameter].module not in there:
            lone.setdefault(signals.sites[parameter].module, []).append(parameter)
    return found + [LayerPlace(path or "(model)", path, None, tuple(sites)) for path, sites in lone.items()]


def _module(signals: Signals, module: int) -> LayerPlace:
    site = signals.sites[module]
    return LayerPlace(site.name, site.path, module, tuple(signals.parameters_of(module)))


def find_layers(signals: Signals, typed: str) -> list[LayerPlace]:
    """The layers of a name: of one path, of a pattern such as `blocks.*.fc1`, or the parameter of that path.

    Raises:
        UnknownId: there is none; the text names those that are close.
    """
    layers = layer_places(signals)
    outer = [_module(signals, module) for module in signals.modules]
    inner = [LayerPlace(signals.sites[i].path, signals.sites[i].path, None, (i,)) for i in signals.parameters]
    for places in (layers, outer, inner):
        if exact := [place for place in places if typed in _names(signals, place)]:
            return exact[:1]
    if any(sign in typed for sign in "*?["):
        for places in (layers, outer, inner):
            if alike := [place for place in places if fnmatchcase(place.name, typed)]:
                return alike
    raise UnknownId(_unknown(typed, layers, [place.name for place in (*outer, *inner)]))


def _names(signals: Signals, place: LayerPlace) -> set[str]:
    """What the place may be called: "3" is also the "layer 3" of a finding's sentence."""
    also = {f"layer {place.path}"} if place.path.isdigit() else set()
    if place.module is None and len(place.parameters) == 1:
        also |= set(signals.sites[place.parameters[0]].aliases)
    return {place.name, place.path, *also} - {""}


def _unknown(typed: str, layers: list[LayerPlace], others: list[str]) -> str:
    names = [harmless(place.name) for place in layers]
    if not names:
        return f"no layer is called {typed!r}: nothing of the model was recorded yet."
    ends = [name for name in dict.fromkeys([*names, *map(harmless, others)]) if name.endswith(f".{typed}")]
    close = list(dict.fromkeys([*ends, *difflib.get_close_matches(typed, [*names, *map(harmless, others)], 3)]))[:3]
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    shown = ", ".join(names[:_MOST_NAMED])
    kind = "layer matches" if any(sign in typed for sign in "*?[") else "layer is called"
    return f"no {kind} {typed!r}{hint} The run has {shown}{more}."
