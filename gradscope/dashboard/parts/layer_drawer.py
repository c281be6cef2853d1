"""One layer (or parameter's owner) at one step, in numbers."""

from __future__ import annotations

from typing import NamedTuple

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.figures.depth import latest, nearest
from gradscope.dashboard.parts.tag import severity_tag
from gradscope.dashboard.wording import decades, number, percent, step
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


def layer_numbers(signals: Signals, path: str, at: int | None) -> LayerNumbers | None:
    """The numbers of a layer, by its path or by that of one of its parameters; None when there is none."""
    site = _find(signals, path)
    column = latest(signals) if at is None else nearest(signals.steps, at)
    if site is None:
        return None
    place = signals.sites[site]
    if column is None:
        return LayerNumbers(place.name, place.label or place.kind, None, "Nothing was recorded yet.", (), ())

    def read(matrix: object) -> float:
        return float(matrix[site, column])  # type: ignore[index]

    numbers = (
        ("Backward gain", number(read(signals.unpooled_gain))),
        ("Own gain, decades", decades(float(signals.own_gain(site)[column]))),
        ("Gradient norm at its output", number(read(signals.norm("activation_gradient")))),
        ("Activation rms", number(read(signals.rms("activation")))),
        ("Forward gain", number(read(signals.forward_gain))),
        (
            "Activation range",
            f"{number(read(signals.values('activation', 'minimum')))} … "
            f"{number(read(signals.values('activation', 'maximum')))}",
        ),
        ("Activation zeros", percent(read(signals.share("activation", "zeros")))),
        ("Gradient zeros", percent(read(signals.share("activation_gradient", "zeros")))),
    )
    shown = tuple((name, "not recorded" if value in ("NaN", "NaN … NaN") else value) for name, value in numbers)
    return LayerNumbers(
        place.name,
        place.label or place.kind,
        int(signals.steps[column]),
        _state(signals, site, column),
        shown,
        tuple(_parameter(signals, parameter, column) for parameter in signals.parameters_of(site)),
    )


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


def _parameter(signals: Signals, site: int, column: int) -> ParameterNumbers:
    def read(matrix: object) -> str:
        value = float(matrix[site, column])  # type: ignore[index]
        return "—" if value != value else number(value)

    def flagged(quantity: str, text: str) -> str:
        return "NaN or Inf" if signals.non_finite(quantity)[site, column] else text

    place = signals.sites[site]
    return ParameterNumbers(
        place.path.rpartition(".")[2],
        "×".join(map(str, place.shape)) or "scalar",
        flagged("gradient", read(signals.norm("gradient"))),
        flagged("weight", read(signals.rms("weight"))),
        flagged("update", read(signals.update_ratio)),
    )


def layer_title(data: LayerNumbers) -> Component:
    """The drawer's title."""
    return html.Span(
        [html.Span(data.path, className="mono"), html.Span(f" · step {step(data.step)}", className="dimmed")]
    )


def layer_body(data: LayerNumbers, diagnosis: Diagnosis) -> list[Component]:
    """The drawer's content."""
    rows = [html.Tr([html.Th(name, scope="row"), html.Td(value, className="value")]) for name, value in data.numbers]
    parts: list[Component] = [
        html.P(html.Span(data.label, className="mono dimmed")),
        html.P(data.state),
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
    about = [
        html.Li(
            html.Button(
                [severity_tag(finding.severity), f" F{i} · {finding.message}"],
                id=ids.opener(f"F{i}", "layer"),
                className="link",
                n_clicks=0,
            )
        )
        for i, finding in enumerate(diagnosis.findings, 1)
        if data.path in finding.layers or any(f"{data.path}.{p.name}" in finding.layers for p in data.parameters)
    ]
    return [*parts, html.H3("Findings that name it"), html.Ul(about, className="plain")] if about else parts
