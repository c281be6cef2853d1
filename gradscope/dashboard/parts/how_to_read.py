"""The question mark beside a chart's heading, which opens how the chart is read; `--expert` leaves it out."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.rich_text import rich_text
from gradscope.dashboard.parts.term import opener, picture

THE_MAP = (
    "A row is a layer, from the input at the top to the output below; a column is a step, or a few that share it.",
    "The page's own colour is healthy, blue is too small, orange and red too large; black (white in the dark) is NaN or "
    "Inf. The scale is the same for every run.",
    "The bars above say from when to when each finding holds. Click a cell for its numbers, drag to zoom, double-click for "
    "all steps.",
)


def how_to_read(chart: str, *sentences: str, image: str = "") -> Component:
    """Not for use inside a heading's own text, but beside it.

    Args:
        chart: what is explained, for people who do not see where the question mark stands: "the map".
        sentences: how to read it, in the lessons' markup but without `[[terms]]`.
        image: name of one of the lessons' pictures, or "".

    Example:
        >>> how_to_read("the map", "A row is a layer.").children[0].children
        '?'
    """
    card = [
        html.Span(f"How to read {chart}", className="term-title"),
        *(html.Span(rich_text(sentence), className="term-sentence") for sentence in sentences),
        picture(image) if image else None,
    ]
    return html.Span(
        [opener("?", "how-to-read", f"How to read {chart}"), html.Span(card, className="term-card", role="note")],
        className="termed learner",
    )
