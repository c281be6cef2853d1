"""One layer in full: what it is, how it fares, its numbers among its siblings, its parameters, what it is made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.siblings import Sibling, draw_siblings, siblings_data
from gradscope.dashboard.parts.layer_drawer import ParameterNumbers, parameter_numbers
from gradscope.dashboard.parts.layer_rows import LayerRow, LayerRows, container_row
from gradscope.dashboard.parts.layer_table import cell, state_tag
from gradscope.dashboard.parts.tag import severity_tag
from gradscope.dashboard.wording import step as step_text
from gradscope.records import Diagnosis, Finding
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.reports.theme import Theme
from gradscope.reports.words import count
from gradscope.signals import Signals

MOST_PARAMETERS = 4  # with strips of their own


@dataclass(frozen=True)
class LayerDetail:
    """What the page says of one layer.

    Attributes:
        row: its numbers at the step.
        step: the recorded step; None when nothing was recorded.
        facts: what it is: label, shape, parameters, source.
        sentence: how it fares.
        siblings: its numbers beside those of its kind.
        parameters: those it owns, by site.
        shown: the parameter sites whose strips are drawn, the one that was asked for first.
        findings: those that name it, by number.
        missing: why something of it was not observed.
    """

    row: LayerRow
    step: int | None
    facts: tuple[str, ...]
    sentence: str
    siblings: tuple[Sibling, ...]
    parameters: tuple[ParameterNumbers, ...]
    shown: tuple[int, ...]
    findings: dict[str, Finding]
    missing: tuple[str, ...]


def layer_detail_data(signals: Signals, diagnosis: Diagnosis, layers: LayerRows, name: str) -> LayerDetail | None:
    """A layer by its name, a module that holds layers, or the owner of a parameter of that name; None: no such thing."""
    row = find_row(signals, layers.rows, name) or container_row(signals, diagnosis, layers.step, name)
    if row is None:
        return None
    asked = [i for i in row.parameters if signals.sites[i].path == name]
    shown = tuple(dict.fromkeys([*asked, *row.parameters]))[:MOST_PARAMETERS]
    numbers = {f"F{i}": diagnosis.findings[i - 1] for i in (int(finding[1:]) for finding in row.state.findings)}
    paths = {row.path, row.name, *(signals.sites[i].path for i in row.parameters)}
    return LayerDetail(
        row,
        layers.step,
        _facts(signals, row),
        _sentence(row),
        siblings_data(layers.rows, row),
        () if layers.column is None else tuple(parameter_numbers(signals, i, layers.column) for i in row.parameters),
        shown,
        numbers,
        tuple(unseen.why for unseen in diagnosis.not_observed if unseen.what in paths),
    )


def find_row(signals: Signals, rows: tuple[LayerRow, ...], name: str) -> LayerRow | None:
    """The row of a layer, or of the owner of a parameter."""
    by_name = (row for row in rows if name in (row.name, row.path))
    by_parameter = (row for row in rows if any(signals.sites[i].path == name for i in row.parameters))
    return next(by_name, None) or next(by_parameter, None)


def _facts(signals: Signals, row: LayerRow) -> tuple[str, ...]:
    site = signals.sites[row.site] if row.site is not None else None
    facts = [(site.label if site and site.label else row.kind) or "module"]
    if site and site.shape:
        facts.append(f"output {'×'.join(map(str, site.shape))}{f' {site.dtype}' if site.dtype else ''}")
    entries = sum(math.prod(signals.sites[i].shape) for i in row.parameters)
    frozen = sum(not signals.sites[i].trainable for i in row.parameters)
    if row.parameters:
        facts.append(
            f"{count(entries, 'parameter')}{f' ({frozen} of {len(row.parameters)} tensors frozen)' if frozen else ''}"
        )
    if site and not site.training:
        facts.append("in eval mode")
    if site is None:
        facts.append("never ran in a recorded step")
    source = _source(signals, row)
    return (*facts, source) if source else tuple(facts)


def _source(signals: Signals, row: LayerRow) -> str:
    """Where the class of the layer, or of the nearest module around it, is defined in the user's program."""
    classes = {place.of: place for place in signals.run.info.places if place.what == "class"}
    kinds = {site.path: site.kind for site in signals.sites if site.role == "output"}
    path, kind = row.path, row.kind
    while kind not in classes:
        if not path:
            return ""
        path = path.rpartition(".")[0]
        kind = kinds.get(path, "")
    place = classes[kind]
    return f"{'' if path == row.path else 'inside '}{kind}, defined at {PurePath(place.file).name}:{place.line}"


def _sentence(row: LayerRow) -> str:
    gain, (low, high) = row.measures.gain, HEALTHY_GAIN
    if row.non_finite_steps:
        return f"NaN or Inf at {count(row.non_finite_steps, 'recorded step')} of the run."
    if math.isnan(gain):
        return "Its backward gain is not known at this step."
    if gain == 0:
        return "No gradient arrives here at this step."
    if gain < low:
        return f"Too little gradient arrives: healthy layers get {low:g} … {high:g} of the output's."
    if gain > high:
        return f"Too much gradient arrives: healthy layers get {low:g} … {high:g} of the output's."
    return f"The gradient that arrives is within the healthy band, {low:g} … {high:g} of the output's."


def detail_head(data: LayerDetail, address: Address) -> list[Component]:
    """The layer's name, what it is and how it fares."""
    close = html.A(
        "✕ Close", href=address.at(layer=None).href, id="layers-close", className="button", title="Close (Esc)"
    )
    facts = [part for fact in data.facts for part in (html.Span(fact), " · ")][:-1]
    step = html.Span(f" at step {step_text(data.step)}", className="dimmed")
    parts: list[Component] = [
        html.Div([html.H2([html.Span(data.row.name, className="mono"), step]), close], className="figure-head"),
        html.P(facts, className="dimmed layer-facts"),
        html.P([state_tag(data.row.state), html.Span(f"  {data.sentence}")]),
    ]
    parts += [html.P(f"Not observed: {why}", className="dimmed") for why in data.missing]
    if data.findings:
        links = [
            html.Li(
                html.A(
                    [severity_tag(finding.severity), f" {number} · {finding.message}"],
                    href=address.of_run("finding", finding=number).href,
                )
            )
            for number, finding in data.findings.items()
        ]
        parts += [html.H3("Findings that name it"), html.Ul(links, className="plain layer-findings")]
    return parts


def numbers_and_siblings(data: LayerDetail, theme: Theme) -> list[Component]:
    """The numbers at the step, each with its place among the layers of the same kind."""
    rows = []
    for sibling in data.siblings:
        picture = draw_siblings(sibling, theme)
        image = html.Img(src=picture, alt="", className="siblings") if picture else None
        words = html.Span(sibling.words, className="dimmed")
        rows.append(
            html.Tr(
                [
                    html.Th(sibling.title, scope="row"),
                    html.Td(sibling.value, className="value"),
                    html.Td([image, words]),
                ]
            )
        )
    for title, column in (("Zeros in its output", "zeros"), ("Dead units", "dead"), ("NaN or Inf", "non_finite")):
        rows.append(
            html.Tr([html.Th(title, scope="row"), html.Td(cell(data.row, column), className="value"), html.Td()])
        )
    heads = ("Number", "Here", f"Among {data.row.kind} layers at other depths")
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in heads]))
    return [html.Div(html.Table([head, html.Tbody(rows)], className="table numbers-table"), className="table-frame")]


def parameter_table(signals: Signals, data: LayerDetail, address: Address) -> list[Component]:
    """Its parameters; a link on a name shows the strips of one that has none."""
    if not data.parameters:
        return [html.P("It owns no parameters." if data.row.site is not None else "", className="dimmed")]
    names = ("Parameter", "Shape", "‖gradient‖", "rms", "Update ratio")
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in names]))
    body = []
    for site, parameter in zip(data.row.parameters, data.parameters, strict=True):
        hidden = site not in data.shown
        target = address.at(layer=signals.sites[site].path).href
        name: Component | str = html.A(parameter.name, href=target) if hidden else parameter.name
        cells = [html.Th(name, scope="row", className="mono")]
        body.append(html.Tr([*cells, *(html.Td(value, className="value") for value in parameter[1:])]))
    table = html.Table([head, html.Tbody(body)], className="table")
    more = len(data.row.parameters) - len(data.shown)
    hint = [html.P(f"Histograms of {more} more: follow a name.", className="dimmed help")] if more else []
    return [html.H3("Its parameters"), html.Div(table, className="table-frame"), *hint]


def strip_legend(theme: Theme, scaled: bool, broken: bool) -> list[Component]:
    """What the colours and the lanes of the strips mean."""
    empty, full = theme.diverging[len(theme.diverging) // 2], theme.first_line
    wash = html.Span(className="swatch wide", style={"background": f"linear-gradient(90deg, {empty}, {full})"})
    parts: list[Component] = [
        html.Span([wash, "share of the entries, few to half or more"]),
        html.Span([html.Span(className="swatch", style={"background": theme.dimmed}), "lane “0”: exactly 0"]),
    ]
    if broken:
        swatch = html.Span(className="swatch", style={"background": theme.non_finite})
        parts.append(html.Span([swatch, "lane on top: NaN or Inf"]))
    if scaled:
        parts.append(html.Span("Gradients as held in memory, the loss scale included."))
    return parts


def not_found(name: str, address: Address) -> list[Component]:
    """Instead of a layer that the run does not have."""
    return [
        html.H2("No such layer"),
        html.P(
            [f"This run has no layer {name!r}. ", html.A("Close", href=address.at(layer=None).href, id="layers-close")]
        ),
    ]
