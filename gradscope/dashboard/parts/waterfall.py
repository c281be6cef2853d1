"""The gain budget as a card: a sentence, the waterfall by mechanism and by block, and the numbers as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from dash import Output, dcc, html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.figures.plotly import blank, graph_config
from gradscope.dashboard.figures.waterfall import Bar, By, WaterfallData, changes_nothing, waterfall_data
from gradscope.dashboard.figures.waterfall_drawing import amount, bar_colour, draw_waterfall, waterfall_height
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.how_to_read import how_to_read
from gradscope.dashboard.wording import decades, number
from gradscope.dashboard.wording import step as step_words
from gradscope.reports.numbers import HEALTHY_GAIN
from gradscope.reports.theme import LIGHT, Theme, theme
from gradscope.reports.words import count
from gradscope.signals import Signals
from gradscope.signals.trunk import trunk

HOW_TO_READ = (
    "From the top: the gradient leaves the model's output at 0 decades, and each bar is what the next part does to it. A "
    "bar to the left, in blue, eats: −1 leaves a tenth. A bar to the right, in orange, adds.",
    "The last bar is where it ends, the backward gain of the first layer. In healthy networks it ends in the shaded band, "
    "at a gain of 0.1 … 20.",
    "All numbers are measured at this one step. Along a chain they add up exactly; where ways part and join, what lies "
    "between is measured as one block.",
)
_TITLES: dict[By, str] = {"mechanism": "By kind of module", "block": "By place, from the output to the input"}
_SMALL_REST = 0.1  # decades that were not told apart and need no mention


_PROPERTIES = {
    "title": "children",
    "summary": "children",
    "body": "style",
    "legend": "children",
    "blocks": "children",
    **{f"{by}-figure": "figure" for by in _TITLES},
    **{f"{by}-size": "style" for by in _TITLES},
    **{f"{by}-table": "children" for by in _TITLES},
}  # what changes from step to step, and the property that holds it


def waterfall_card(
    signals: Signals, step: int | None, scheme: str, page: str = "overview", level: int = 2
) -> Component:
    """The card with its content; inside a section, on a level below 2, it is no card, and what is by place is folded.

    Args:
        signals: the run.
        step: the recorded step, as of the depth profile; None: the last that can be judged.
        scheme: "light" or "dark".
        page: that it stands on; no two cards on one page.
        level: of its heading.
    """
    return waterfall_frame(page, level, waterfall_values(signals, step, scheme))


def waterfall_outputs(page: str = "overview") -> dict[str, Output]:
    """Where `waterfall_values` go on a page that holds a `waterfall_frame`: nothing that is open or drawn is made anew."""
    found = _PROPERTIES.items()
    return {_name(part): Output(_id(page, part.replace("-size", "-figure")), value) for part, value in found}


def waterfall_values(signals: Signals, step: int | None, scheme: str) -> dict[str, Any]:
    """The card's content at a step, by the names of `waterfall_outputs`."""
    colours, found = theme(scheme), trunk(signals)
    shown = {by: waterfall_data(signals, step, by, found) for by in _TITLES}
    data = shown["mechanism"]
    drawn = len(data.bars) > 1
    values: dict[str, Any] = {
        "title": "Gain budget" if data.step is None else f"Gain budget at step {step_words(data.step)}",
        "summary": summary(data),
        "body": {} if drawn else {"display": "none"},
        "legend": legend(data, colours) if drawn else [],
        "blocks": _blocks(data) if drawn else [],
    }
    for by, of in shown.items():
        values[f"{by}-figure"] = draw_waterfall(of, colours) if drawn else blank(colours)
        values[f"{by}-size"] = {"height": waterfall_height(of)}
        values[f"{by}-table"] = _table(by, of)
    return {_name(part): value for part, value in values.items()}


def waterfall_frame(page: str = "overview", level: int = 2, values: dict[str, Any] | None = None) -> Component:
    """The card before its first content, or with it."""
    empty: dict[str, Any] = {f"{by}-figure": blank(LIGHT) for by in _TITLES}
    content = {part: (values or {}).get(_name(part), empty.get(part, {})) for part in _PROPERTIES}

    def with_id(made: Callable[..., Component], part: str, **more: Any) -> Component:
        return made(content[part] or [], id=_id(page, part), **more)

    def column(by: By) -> list[Component]:
        graph = dcc.Graph(
            id=waterfall_id(page, by),
            figure=content[f"{by}-figure"],
            config=graph_config(),
            style=content[f"{by}-size"],
            responsive=True,
            animate=False,
        )
        caption = [] if by == "block" and level > 2 else [html.Figcaption(_TITLES[by])]
        figure = html.Figure([*caption, graph], className="budget-figure")
        table = html.Details([html.Summary("Data table"), with_id(html.Div, f"{by}-table")], className="help")
        return [figure, table]

    left, right = column("mechanism"), column("block")
    left[1:1] = [with_id(html.Div, "legend", className="legend"), with_id(html.Div, "blocks")]
    if level > 2:
        right = [html.Details([html.Summary(_TITLES["block"]), *right], className="help")]
    heading = with_id({2: html.H2, 3: html.H3}.get(level, html.H4), "title")
    title = html.Div([heading, how_to_read("the gain budget", *HOW_TO_READ)], className="titled")
    columns = html.Div([html.Div(left), html.Div(right)], className="budget-columns")
    return html.Section(
        [
            html.Div(title, className="figure-head"),
            with_id(html.P, "summary", className="budget-summary"),
            html.Div(columns, id=_id(page, "body"), style=content["body"]),
        ],
        className="budget card figure" if level == 2 else "budget",
        **aria(label="Gain budget"),
    )


def waterfall_id(page: str, by: By) -> str:
    """The id of one of the card's two graphs."""
    return _id(page, f"{by}-figure")


def _name(part: str) -> str:
    return f"budget_{part.replace('-', '_')}"


def _id(page: str, part: str) -> str:
    return ids.of(page, f"budget-{part}")


def summary(data: WaterfallData) -> str:
    """What ate or grew the gradient, in a sentence."""
    if data.problem:
        return data.problem
    if len(data.bars) < 2:
        return "The first layer is the model's output too: there is nothing between them to break down."
    said = [_closed(data) if data.total == -math.inf else _whole(data)]
    pooled = -sum(bar.decades for bar in data.bars if bar.state == "not-counted")
    if pooled >= _SMALL_REST:
        said.append(f"Pooling's {number(pooled)} are arithmetic, no sickness, and are not counted.")
    untold = sum(bar.decades for bar in data.bars if bar.state == "untold" and math.isfinite(bar.decades))
    if abs(untold) >= _SMALL_REST:
        said.append(f"{decades(untold)} could not be told apart: it went ways that no part's numbers cover.")
    return " ".join(said)


def _closed(data: WaterfallData) -> str:
    shut = next((bar.name for bar in data.bars if bar.state == "closed"), "")
    where = f"{_capital(shut)} is closed: exactly 0 of the gradient comes through it" if shut else "The way is closed"
    return f"{where}, so that none reaches the first layer, {data.first}."


def _whole(data: WaterfallData) -> str:
    parts = [bar for bar in data.bars if bar.state in ("part", "block")]
    total, size = data.total, number(abs(data.total))
    low, high = (math.log10(gain) for gain in HEALTHY_GAIN)
    top = max(parts, key=lambda bar: -bar.decades if total < 0 else bar.decades, default=None)
    way = f"on its way from the model's output to the first layer, {data.first}"
    if low <= total <= high or top is None:
        said = f"The gradient keeps its size {way}: {decades(total)} decades (−1 to +1.3 are healthy)."
        changes = "loses" if total < 0 else "grows by"
        return said if low <= total <= high else f"The gradient {changes} {size} decades {way}."
    mine, name, rest = abs(top.decades), _capital(top.name), number(abs(total - top.decades))
    loses = f"the gradient {'loses' if total < 0 else 'grows by'}"
    verb = "took" if total < 0 else "added"
    if mine <= abs(total) + 0.05:
        return f"{name} {verb} {number(mine)} of the {size} decades that {loses} {way}."
    undone = f"gave {rest} back" if total < 0 else f"took {rest} away"
    return f"{name} {verb} {number(mine)} decades and the others {undone}: {loses} {size} decades {way}."


def _capital(name: str) -> str:
    """A sentence's first word, where it is one of ours."""
    return name[:1].upper() + name[1:] if name.startswith(("layer ", "layers ", "between ")) else name


_LEGEND = {
    "eats": "eats",
    "adds": "adds",
    "block": "one measured block: ways part and join in it",
    "not-counted": "pooling, not counted",
    "closed": "closed: exactly 0 comes through",
    "untold": "not told apart",
}


def legend(data: WaterfallData, colours: Theme) -> list[Component]:
    """What the colours and patterns of the bars mean, of those that are there."""
    there: dict[str, str] = {}
    for bar in data.bars[:-1]:
        if not changes_nothing(bar):
            there.setdefault("eats" if bar.decades < 0 else "adds", bar_colour(bar, colours))
        if bar.state != "part":
            there.setdefault(bar.state, bar_colour(bar, colours))
    found: list[Component] = []
    for kind, words in _LEGEND.items():
        if kind in there and not (kind in ("eats", "adds") and there[kind] == colours.non_finite):
            swatch = html.Span(className=f"swatch swatch-{kind}", style={"--swatch": there[kind]})
            found.append(html.Span([swatch, words]))
    band = html.Span(className="swatch", style={"background": colours.band})
    return [*found, html.Span([band, "healthy end: gain 0.1 … 20"])]


def _blocks(data: WaterfallData) -> list[Component]:
    """Which containers are one measured block, and what is in the one that did most."""
    if not data.blocks:
        return []
    shown = ", ".join(_piece(name) for name in data.blocks[:6])
    shown += f" and {len(data.blocks) - 6} more" if len(data.blocks) > 6 else ""
    each = "it is" if len(data.blocks) == 1 else "each is"
    said = html.P(f"Ways part and join in {shown}: {each} measured as one block.", className="dimmed help")
    name, parts = data.inside
    if len(parts) < 2:
        return [said]
    kinds = Counter(kind for _, kind, _ in parts)
    head = f"In {_piece(name)}: {count(len(parts), 'part')}, measured one by one"
    rows = [[path, kind, _plain_decades(value)] for path, kind, value in parts[:40]]
    note = "Side by side they do not add up." + (f" The first 40 of {len(parts)} are shown." if len(parts) > 40 else "")
    body = _rows(("Part", "Kind", "Decades"), rows, f"Parts of {name}")
    return [said, html.Details([html.Summary(head), html.P(note), body], className="help", title=", ".join(kinds))]


def _piece(name: str) -> str:
    return f"what lies {name}" if name.startswith("between ") else name


def _plain_decades(value: float) -> str:
    if value == -math.inf:
        return "closed: exactly 0"
    return "not measured" if math.isnan(value) else decades(value)


def _table(by: By, data: WaterfallData) -> Component:
    names = ("What" if by == "mechanism" else "Where", "Effect", "Parts", "Decades", "Sum so far")
    rows = [[bar.label, bar.effect, str(bar.count or ""), amount(bar), _so_far(bar)] for bar in data.bars]
    return _rows(names, rows, f"Gain budget, {_TITLES[by].lower()}")


def _so_far(bar: Bar) -> str:
    return decades(bar.end) if bar.state in ("part", "block", "untold") else ""


def _rows(names: tuple[str, ...], rows: list[list[str]], label: str) -> Component:
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in names]))
    numbers = ("Decades", "Sum so far")
    body = [
        html.Tr([html.Th(row[0], scope="row"), *(html.Td(cell, **_value(name in numbers)) for name, cell in rest)])
        for row in rows
        if (rest := list(zip(names[1:], row[1:], strict=True)))
    ]
    frame: dict[str, Any] = {"tabIndex": 0, "role": "group", **aria(label=label)}
    return html.Div(html.Table([head, html.Tbody(body)], className="table"), className="table-frame", **frame)


def _value(is_number: bool) -> dict[str, Any]:
    return {"className": "value"} if is_number else {}
