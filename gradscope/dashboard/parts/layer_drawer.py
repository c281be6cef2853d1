"""One layer (or parameter's owner) at one step, in numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.depth import latest, nearest
from gradscope.dashboard.figures.siblings import siblings_data
from gradscope.dashboard.parts.layer_rows import layer_rows
from gradscope.dashboard.parts.tag import severity_tag
from gradscope.dashboard.wording import ABSENT, decades, number, percent, step
from gradscope.records import Diagnosis
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.signals import Signals


class ParameterNumbers(NamedTuple):
    """One parameter of the layer."""

    name: str
    shape: str
    gradient_norm: str
    weight_rms: str
    update_ratio: str


class LayerNumbers(NamedTuple):
    """What the drawer says of a layer."""

    path: str
    label: str  # "Linear(64, 64)"
    step: int | None  # the recorded step shown
    state: str  # one sentence
    numbers: tuple[tuple[str, str], ...]  # name, value
    parameters: tuple[ParameterNumbers, ...]
    siblings: tuple[tuple[str, str], ...] = ()  # name of a number, its place among the layers of the same kind


def layer_numbers(signals: Signals, path: str, at: int | None) -> LayerNumbers | None:
    """The numbers of a layer, by its path or by that of one of its parameters; None when there is none."""
    site = _find(signals, path)
    column = latest(signals) if at is None else nearest(signals.steps, at)
    if site is None:
        return None
    place = signals.sites[site]
    if column is None:
        return LayerNumbers(place.name, place.label or place.kind, None, "Nothing was recorded yet.", (), ())

    def read(quantity: str, field: str) -> float:
        return float(signals.values(quantity, field)[site, column])

    def per_entry(quantity: str, field: str) -> float:
        count = read(quantity, "count")
        return read(quantity, field) / count if count else math.nan

    lowest, highest = read("activation", "minimum"), read("activation", "maximum")
    numbers = (
        ("Backward gain", number(float(signals.unpooled_gain[site, column]))),
        ("Own gain, decades", decades(float(signals.own_gain(site)[column]))),
        ("Gradient norm at its output", number(math.sqrt(read("activation_gradient", "sum_squares")))),
        ("Activation rms", number(math.sqrt(per_entry("activation", "sum_squares")))),
        ("Forward gain", number(float(signals.forward_gain[site, column]))),
        ("Activation range", f"{number(lowest)} … {number(highest)}"),
        ("Activation zeros", percent(per_entry("activation", "zeros"))),
        ("Gradient zeros", percent(per_entry("activation_gradient", "zeros"))),
    )
    shown = tuple((name, "not recorded" if value in ("NaN", "NaN … NaN", ABSENT) else value) for name, value in numbers)
    return LayerNumbers(
        place.name,
        place.label or place.kind,
        int(signals.steps[column]),
        _state(signals, site, column),
        shown,
        tuple(parameter_numbers(signals, parameter, column) for parameter in signals.parameters_of(site)),
        _siblings(signals, place.path, int(signals.steps[column])),
    )


def _siblings(signals: Signals, path: str, at: int) -> tuple[tuple[str, str], ...]:
    rows = layer_rows(signals, Diagnosis("healthy", ""), at).rows
    row = next((row for row in rows if row.path == path), None)
    return () if row is None else tuple((one.title, one.words) for one in siblings_data(rows, row))


def _find(signals: Signals, path: str) -> int | None:
    for site in signals.modules:
        if signals.sites[site].name == path:
            return site
    owners = (signals.owner(i) for i in signals.parameters if signals.sites[i].path == path)
    return next(owners, None)


def _state(signals: Signals, site: int, column: int) -> str:
    if signals.non_finite("activation")[site, column]:
        return "Its activations hold NaN or Inf."
    if signals.non_finite("activation_gradient")[site, column]:
        return "Its gradient holds NaN or Inf."
    gain = float(signals.unpooled_gain[site, column])
    low, high = HEALTHY_GAIN
    if gain != gain:
        return "Its backward gain is not known at this step."
    if gain == 0:
        return "No gradient arrives here."
    if gain < low:
        return f"Too little gradient arrives: healthy layers get {low:g} … {high:g} of the output's."
    if gain > high:
        return f"Too much gradient arrives: healthy layers get {low:g} … {high:g} of the output's."
    return f"Within the healthy band, {low:g} … {high:g}."


def parameter_numbers(signals: Signals, site: int, column: int) -> ParameterNumbers:
    """One parameter at one recorded step."""

    def read(quantity: str, field: str) -> float:
        return float(signals.values(quantity, field)[site, column])

    def rms(quantity: str) -> float:
        count = read(quantity, "count")
        return math.sqrt(read(quantity, "sum_squares") / count) if count else math.nan

    def said(quantity: str, value: float) -> str:
        if read(quantity, "non_finite") > 0:
            return "NaN or Inf"
        return ABSENT if math.isnan(value) else number(value)

    place, weight = signals.sites[site], rms("weight")
    return ParameterNumbers(
        place.path.rpartition(".")[2],
        "×".join(map(str, place.shape)) or "scalar",
        said("gradient", math.sqrt(read("gradient", "sum_squares"))),
        said("weight", weight),
        said("update", rms("update") / weight if weight > 0 else math.nan),
    )


def layer_title(data: LayerNumbers) -> Component:
    """The drawer's title."""
    return html.Span(
        [html.Span(data.path, className="mono"), html.Span(f" · step {step(data.step)}", className="dimmed")]
    )


def layer_body(data: LayerNumbers, diagnosis: Diagnosis, address: Address) -> list[Component]:
    """The drawer's content."""
    rows = [html.Tr([html.Th(name, scope="row"), html.Td(value, className="value")]) for name, value in data.numbers]
    parts: list[Component] = [
        html.P(html.Span(data.label, className="mono dimmed")),
        html.P(data.state),
        html.P(
            html.A(
                "Open in Layers: its histograms over the steps",
                className="open-layer",
                href=address.of_run("layers", layer=data.path, step=address.step).href,
            )
        ),
        html.Table(html.Tbody(rows), className="table"),
    ]
    if data.parameters:
        names = ("Parameter", "Shape", "‖gradient‖", "rms", "Update ratio")
        head = html.Thead(html.Tr([html.Th(name, scope="col") for name in names]))
        body = [
            html.Tr([html.Td(value, className="mono" if i == 0 else "value") for i, value in enumerate(parameter)])
            for parameter in data.parameters
        ]
        parts += [
            html.H3("Its parameters"),
            html.Div(html.Table([head, html.Tbody(body)], className="table"), className="table-frame"),
        ]
    if data.siblings:
        places = [html.Li([f"{name}: ", html.Span(words, className="dimmed")]) for name, words in data.siblings]
        parts += [html.H3("Beside the layers of its kind"), html.Ul(places, className="plain")]
    about = [
        html.Li(
            html.A(
                [severity_tag(finding.severity), f" F{i} · {finding.message}"],
                href=address.at(finding=f"F{i}", layer=None).href,
                className="link",
            )
        )
        for i, finding in enumerate(diagnosis.findings, 1)
        if data.path in finding.layers or any(f"{data.path}.{p.name}" in finding.layers for p in data.parameters)
    ]
    return [*parts, html.H3("Findings that name it"), html.Ul(about, className="plain")] if about else parts
