"""Where the tensors around a layer are recorded: its input, its output, its parameters, and why one of them is not."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.records import Link
from gradscope.signals import Signals

_SAME_NUMBERS = ("View", "UnsafeView", "Reshape", "Transpose", "Permute", "T", "Squeeze", "Unsqueeze", "Clone", "Alias")


class Source(NamedTuple):
    """A tensor of a layer: the rows that describe it, or why there are none."""

    of: str  # "input", "output", or a parameter's own name
    what: str  # "value" or "gradient"
    sites: tuple[int, ...]
    quantity: str
    missing: str = ""


def sources(signals: Signals, site: int | None, parameters: tuple[int, ...]) -> list[tuple[Source, Source]]:
    """Value and gradient of a layer's input, of its output and of each of the parameters."""
    found = [] if site is None else [_inputs(signals, site), _output(signals, site)]
    return found + [_parameter(signals, parameter) for parameter in parameters]


def _own(signals: Signals, site: int) -> int:
    """The site that a tensor's rows stand at."""
    same = signals.sites[site].same_as
    return site if same is None else same


def _output(signals: Signals, site: int) -> tuple[Source, Source]:
    at = (_own(signals, site),)
    return Source("output", "value", at, "activation"), Source("output", "gradient", at, "activation_gradient")


def _inputs(signals: Signals, site: int) -> tuple[Source, Source]:
    values, why = _fed_by(signals, site)
    inputs = tuple(_own(signals, i) for i in signals.sites[site].inputs)
    missing = "" if inputs else "not recorded: what it is fed needs no gradient, or its gradient was not seen"
    return Source("input", "value", values, "activation", why), Source(
        "input", "gradient", inputs, "activation_gradient", missing
    )


def _fed_by(signals: Signals, site: int) -> tuple[tuple[int, ...], str]:
    """The sites whose output a module is fed as it is; else why that is not known."""
    links = [link for link in signals.run.info.links if link.target == site and link.container != site]
    if not links:
        first = next(iter(signals.layers), None) == site or signals.sites[site].path == ""
        if first and signals.fed is not None:
            return (signals.fed,), ""
        return (), "not recorded: which module feeds it is not known"
    found: list[int] = []
    for link in links:
        changed = [name.partition("Backward")[0] for name in _changing(link)]
        if changed:
            return (), f"not recorded: it is made by code between the modules ({', '.join(changed)})"
        if link.source is not None:
            found.append(_own(signals, link.source))
            continue
        further, why = _fed_by(signals, link.container)
        if why:
            return (), why
        found += further
    return tuple(dict.fromkeys(found)), ""


def _changing(link: Link) -> list[str]:
    """The operations on the way that make other numbers of what they are given."""
    return [name for name in link.operations if name.partition("Backward")[0] not in _SAME_NUMBERS]


def _parameter(signals: Signals, parameter: int) -> tuple[Source, Source]:
    site = signals.sites[parameter]
    name, at = site.path.rpartition(".")[2], (_own(signals, parameter),)
    frozen = "" if site.trainable else "frozen: it gets no gradient"
    return Source(name, "value", at, "weight"), Source(name, "gradient", at, "gradient", frozen)
