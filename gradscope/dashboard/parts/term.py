"""A word with a dotted line below it, which opens what it means: three sentences and a picture.

assets/learn.js opens and closes the card; `--expert` leaves the plain word.
"""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.learning.glossary import anchor, find
from gradscope.dashboard.learning.pictures import PICTURES
from gradscope.dashboard.learning.topics import TOPICS
from gradscope.dashboard.parts.aria import aria


def term(word: str, text: str | None = None) -> Component:
    """A term of the glossary. Not for use inside a link or a button.

    Args:
        word: as in the glossary, or another word for the same.
        text: what the page says instead.

    Example:
        >>> term("backward gain").children[0].children
        'backward gain'
    """
    entry = find(word)
    if entry is None:  # a word that nobody explained stays a word
        return html.Span(text or word)
    topic = TOPICS.get(entry.topic)
    more = Address("learn", topic=topic.id).href if topic else f"/learn#{anchor(entry.word)}"
    card = [
        html.Span(entry.word, className="term-title"),
        *(html.Span(sentence, className="term-sentence") for sentence in entry.sentences),
        picture(entry.picture),
        html.A(f"Learn: {topic.title if topic else 'the glossary'}", href=more, className="term-more"),
    ]
    return html.Span(
        [opener(text or word, "term"), html.Span(card, className="term-card", role="note")], className="termed"
    )


def opener(text: str, kind: str, label: str | None = None) -> Component:
    """The button that opens the card behind it."""
    attributes = {"data-opens": "card", **aria(expanded="false", **({"label": label} if label else {}))}
    button: Component = html.Button(text, type="button", className=kind, **attributes)
    return button


def picture(name: str, view: str = "") -> Component:
    """A picture in both colour schemes; the page shows the one that fits. `view`: the part of it, as an SVG fragment."""
    said = PICTURES[name].alt
    images = [
        html.Img(src=f"/learn/picture/{name}-{scheme}.svg{view}", alt=said, className=f"lesson-picture only-{scheme}")
        for scheme in ("light", "dark")
    ]
    return html.Span(images, className="pictured")
