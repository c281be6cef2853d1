"""Everything around one step for some layers, as one plain document: what `show` prints, in a terminal or as JSON.

As in a report, a null has words beside it that say why: see `reports.document`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import UnknownId
from gradscope.records import Diagnosis, Rows
from gradscope.reports.envelope import Document, envelope
from gradscope.reports.layer_window.names import LayerPlace, find_layers, layer_places
from gradscope.reports.layer_window.series import Quantity, output_quantities, parameter_quantities
from gradscope.reports.layer_window.sizes import sizes
from gradscope.reports.layer_window.training import events_in, training
from gradscope.reports.page_words import layer_label
from gradscope.reports.strips import Strip, strip_of, strips
from gradscope.signals import Signals

MOST_LAYERS = 20  # that a pattern shows
MOST_DEFAULT = 3  # without a name
MOST_PARAMETERS = 32  # of a layer


@dataclass(frozen=True)
class Around:
    """Which recorded steps are shown.

    Attributes:
        step: the one in the middle; None when nothing was recorded.
        asked: what was asked for.
        why: why this one.
        steps: all that are shown, shape `[steps]`.
        span: the first and the last step that belongs to them, those between that were not recorded included.
    """

    step: int | None
    asked: int | None
    why: str
    steps: NDArray[np.int64]
    span: tuple[int, int]


def chosen_layers(signals: Signals, diagnosis: Diagnosis, names: Sequence[str]) -> list[LayerPlace]:
    """The layers of these names; without a name the worst that findings name, else those with the extreme gains.

    Raises:
        UnknownId: no layer has one of the names.
    """
    if names:
        found = [place for name in names for place in find_layers(signals, name)]
    else:
        found = _named_by_findings(signals, diagnosis) or _extremes(signals, diagnosis)
    return list({place.name: place for place in found}.values())


def _named_by_findings(signals: Signals, diagnosis: Diagnosis) -> list[LayerPlace]:
    places = layer_places(signals)
    owners = {signals.sites[i].path: place for place in places for i in place.parameters}
    by_path = {place.path: place for place in places}
    named = [layer for finding in diagnosis.findings for layer in finding.layers[:2]]
    found = {place.name: place for layer in named if (place := by_path.get(layer, owners.get(layer))) is not None}
    return list(found.values())[:MOST_DEFAULT]


def _extremes(signals: Signals, diagnosis: Diagnosis) -> list[LayerPlace]:
    known = {strip.layer for strip in strips(signals, replace(diagnosis, findings=()))}
    return [place for place in layer_places(signals) if place.name in known][:MOST_DEFAULT]


def around(
    recorded: NDArray[np.int64],
    run_span: tuple[int, int] | None,
    diagnosis: Diagnosis,
    layers: Sequence[LayerPlace],
    signals: Signals,
    asked: int | None,
    window: int,
) -> Around:
    """The recorded steps around a step; the one asked for, else where the first finding that names a layer begins.

    Args:
        recorded: all recorded steps, in order.
        run_span: the first and the last step of the run.
        diagnosis: of the run.
        layers: that are shown.
        signals: of the run.
        asked: the step that was asked for.
        window: how many recorded steps to show on either side.

    Raises:
        UnknownId: the step is not in the run.
    """
    if not len(recorded):
        if asked is not None:
            raise UnknownId(f"no step {asked:,} in this run: nothing of it was recorded yet.")
        return Around(None, None, "nothing was recorded yet", recorded, (0, -1))
    first, last = int(recorded[0]), int(recorded[-1])
    if run_span is not None:
        first, last = min(first, run_span[0]), max(last, run_span[1])
    if asked is not None and not first <= asked <= last:
        raise UnknownId(f"no step {asked:,} in this run: it has the steps {first:,} to {last:,}.")
    step, why = (asked, "asked for") if asked is not None else _onset(diagnosis, layers, signals, int(recorded[-1]))
    column = max(0, int(np.searchsorted(recorded, step, side="right")) - 1)
    if asked is not None and int(recorded[column]) != asked:
        why = f"the recorded one before step {asked:,}" if recorded[column] < asked else "the first recorded one"
    begin, end = max(0, column - window), min(len(recorded), column + window + 1)
    steps = recorded[begin:end]
    until = int(recorded[end]) - 1 if end < len(recorded) else last
    return Around(int(recorded[column]), asked, why, steps, (int(steps[0]), until))


def _onset(diagnosis: Diagnosis, layers: Sequence[LayerPlace], signals: Signals, newest: int) -> tuple[int, str]:
    """Where the first finding that names one of the layers begins, else the last recorded step."""
    for number, finding in enumerate(diagnosis.findings, 1):
        if any(_names(signals, place) & set(finding.layers) for place in layers):
            return int(finding.first_step), f"F{number} begins here"
    return newest, "the last recorded step"


def _names(signals: Signals, place: LayerPlace) -> set[str]:
    """The paths by which a finding may name a layer: its own and those of its parameters."""
    return {
        place.path,
        *(name for i in place.parameters for name in (signals.sites[i].path, *signals.sites[i].aliases)),
    }


def window_document(
    signals: Signals,
    diagnosis: Diagnosis,
    rows: Rows,
    shown: Around,
    layers: Sequence[LayerPlace],
    run: Document,
    next_command: str,
) -> Document:
    """Everything around the step.

    Args:
        signals: of the run, or of the part of it that was read.
        diagnosis: of the run.
        rows: the summaries of the steps that are shown.
        shown: which these are.
        layers: to show.
        run: what is said of the run: "name", "folder" …
        next_command: what to type next.
    """
    near = Signals(replace(signals.run, summaries=rows))
    near.steps = shown.steps  # also those at which no summary of a layer was taken
    return {
        **envelope(),
        "run": run,
        **(
            {"step": shown.step} if shown.step is not None else {"step": None, "step_words": "nothing was recorded yet"}
        ),
        **(
            {"asked": shown.asked}
            if shown.asked is not None
            else {"asked": None, "asked_words": "no step was asked for"}
        ),
        "why": shown.why,
        "steps": shown.steps.tolist(),
        "span": list(shown.span),
        "training": training(signals.run, near, shown.steps, shown.span),
        "events": events_in(signals, diagnosis, shown.span),
        "matched": len(layers),
        "layers": [_layer(signals, near, diagnosis, place, shown) for place in layers[:MOST_LAYERS]],
        "next_command": next_command,
    }


def _layer(signals: Signals, near: Signals, diagnosis: Diagnosis, place: LayerPlace, shown: Around) -> Document:
    names = _names(signals, place)
    site = signals.sites[place.parameters[0] if place.module is None else place.module]
    outputs = list(output_quantities(near, place.module)) if place.module is not None else []
    weights = list(parameter_quantities(near, place.parameters)) if place.parameters else []
    known = [each for each in (*outputs, *weights) if each.is_known]
    missing = [each.title for each in (*outputs, *weights) if not each.is_known and not _is_optional(each)]
    return {
        "name": place.name,
        "label": _label(signals, place),
        "kind": site.kind,
        "findings": [f"F{i}" for i, finding in enumerate(diagnosis.findings, 1) if names & set(finding.layers)],
        "quantities": [_said(each) for each in known],
        "not_recorded": missing,
        "not_observed": [each.why for each in diagnosis.not_observed if each.what in names | {place.name}],
        "parameters": [_parameter(near, i) for i in place.parameters[:MOST_PARAMETERS]],
        "parameters_owned": len(place.parameters),
        "sizes": []
        if shown.step is None
        else [each._asdict() for each in sizes(near, place.module, place.parameters, shown.step)],
        "whole_run": None if place.module is None else _strip(strip_of(signals, place.module)),
        **({"whole_run_words": "no output of it was recorded"} if place.module is None else {}),
    }


def _is_optional(quantity: Quantity) -> bool:
    """Shares that only some layers have."""
    return quantity.share and quantity.id != "activation_zeros"


def _label(signals: Signals, place: LayerPlace) -> str:
    if place.module is not None:
        site = signals.sites[place.module]
        return site.label or site.kind or layer_label(site)
    if len(place.parameters) == 1 and signals.sites[place.parameters[0]].path == place.path:
        return f"a parameter of {signals.sites[place.parameters[0]].kind}"
    return f"{signals.sites[place.parameters[0]].kind}, which never ran in a recorded step"


def _parameter(near: Signals, site: int) -> Document:
    where = near.sites[site]
    known = [each for each in parameter_quantities(near, (site,)) if each.is_known]
    return {
        "name": where.path,
        "shape": list(where.shape),
        "trainable": where.trainable,
        "quantities": [_said(each) for each in known],
    }


def _said(quantity: Quantity) -> Document:
    words = {str(place): word for place, word in enumerate(quantity.words) if word}
    content: Document = {
        "id": quantity.id,
        "title": quantity.title,
        "meaning": quantity.meaning,
        "share": quantity.share,
        "values": list(quantity.values),
    }
    return {**content, "values_words": words} if words else content


def _strip(strip: Strip) -> Document:
    words = {str(place): word for place, word in enumerate(strip.words) if word}
    content: Document = {"quantity": "backward gain", "steps": list(strip.steps), "values": list(strip.values)}
    return {**content, "values_words": words} if words else content
