"""What reaches what: modules that ran without gradients, whose output no loss uses, or that take turns with others."""

from __future__ import annotations

import numpy as np

from gradscope.signals.series import Signals

_FIRST_STEPS = 5  # are always recorded


def ran_without_gradients(signals: Signals, parameter: int) -> bool:
    """Whether the module of a parameter ran under no_grad inside of the training forward."""
    path = signals.sites[parameter].module
    return any(
        missing.why.startswith("it ran under no_grad") and (path == missing.what or path.startswith(f"{missing.what}."))
        for missing in signals.run.info.not_observed
    )


def leads_to_output(signals: Signals, parameter: int) -> bool:
    """Whether the graph leads from a parameter's module to a head of the model, so that it is nowhere cut."""
    owner = signals.owner(parameter)
    heads = {signals.sites[head].path for head in signals.run.info.heads}
    waiting, met = [owner], set()
    while waiting:
        site = waiting.pop()
        if site is None or site in met:
            continue
        met.add(site)
        path = signals.sites[site].path
        if any(head == path or (path and head.startswith(f"{path}.")) for head in heads):
            return True
        for link in signals.run.info.links:
            if link.source == site:
                waiting.append(link.container if link.target is None else link.target)
    return False


def has_parallel_twin(signals: Signals, parameter: int) -> bool:
    """Whether another module of the same kind, beside it and fed from the same place, gets a gradient: experts, say.

    A step gives its samples to some of such modules; others get none.
    """
    parts = signals.sites[parameter].module.split(".")
    for length in range(1, len(parts) + 1):
        path, parent = ".".join(parts[:length]), ".".join(parts[: length - 1])
        twins = [
            site.path
            for site in signals.sites
            if site.role == "output" and site.path != path and site.path.rpartition(".")[0] == parent
        ]
        kinds = {site.path: site.kind for site in signals.sites if site.role == "output"}
        unknown = path not in kinds  # it never ran
        for twin in twins:
            alike = unknown or (kinds[twin] == kinds[path] and _sources(signals, path) == _sources(signals, twin))
            if alike and parts[length - 1].isdigit() and _learns(signals, twin):
                return True
    return False


def _sources(signals: Signals, path: str) -> set[tuple[int, int | None]]:
    """Where a module is fed from: container and source of each link into it."""
    site = signals.site(path)
    return {(link.container, link.source) for link in signals.run.info.links if link.target == site}


def _learns(signals: Signals, path: str) -> bool:
    """Whether any parameter of a module or of what is in it ever got a gradient other than zero."""
    rms = signals.rms("gradient")
    inside = [i for i in signals.parameters if f"{signals.sites[i].path}.".startswith(f"{path}.")]
    return bool((rms[inside] > 0).any())


def module_name(signals: Signals, parameter: int) -> str:
    """The module of a parameter inside a sentence."""
    path = signals.sites[parameter].module
    return f"layer {path}" if path.isdigit() else path or "the model"


def loss_reaches_nothing(signals: Signals) -> bool:
    """Whether losses were handed over and steps taken, and no parameter had a gradient in any of the first steps."""
    rows = signals.run.steps
    if len(signals.steps) or len(rows) < _FIRST_STEPS or signals.run.info.parallel:
        return False
    first = rows[:_FIRST_STEPS]
    return bool(first["has_loss"].all() and not first["skipped"].any() and first["step"][0] == 0)


def never_stepped(signals: Signals) -> int:
    """How many backward passes ended in no step of the optimizer at all; 0 when it stepped, or may yet."""
    rows, info = signals.run.steps, signals.run.info
    if len(rows) != 1 or not info.optimizers or info.state != "ended":
        return 0
    moved = signals.rms("update")
    return 0 if bool((moved[np.isfinite(moved)] > 0).any()) else int(rows["backwards"][0])
